"""How long the jobs of a run took, and their tokens per second, by model."""

import dataclasses
from collections.abc import Mapping

from rest_jax.artifacts import run_paths
from rest_jax.reporting import run_data

# The order in which the plan runs the jobs of a model.
_STAGES = (
  'sample',
  'score',
  'select',
  'train',
  'sample_difficulty',
  'score_difficulty',
  'sample_eval',
  'score_eval',
  'evaluate',
)
_FIRST = ('prepare', run_paths.BASE, run_paths.SFT_HUMAN)


@dataclasses.dataclass(frozen=True)
class JobTimes:
  """A table of seconds, and one of tokens per second.

  Attributes:
    stages: the columns but the last one, which is the total.
    rows: (model, seconds per column); None where there was no such job. The
      last row is the total.
    rated: the columns of the second table.
    rates: (model, tokens per second per column), likewise.
  """

  stages: list[str]
  rows: list[tuple[str, list[float | None]]]
  rated: list[str]
  rates: list[tuple[str, list[float | None]]]


def job_times(
  seconds: Mapping[str, float], rates: Mapping[str, float]
) -> JobTimes:
  """Arranges the times and rates of jobs such as `iteration_01/train`.

  Args:
    seconds: by the job's name; a name without a slash is one of no model.
    rates: tokens per second, likewise.
  """
  by_model, stages = _by_model(seconds)
  rows = [
    (model, [*(row.get(s) for s in stages), sum(row.values())])
    for model, row in by_model
  ]
  if rows:
    columns = zip(*(row for _, row in rows), strict=True)
    rows.append(('total', [sum(filter(None, column)) for column in columns]))
  by_model, rated = _by_model(rates)
  rates = [(model, [row.get(s) for s in rated]) for model, row in by_model]
  return JobTimes(stages, rows, rated, rates)


def _by_model(
  values: Mapping[str, float],
) -> tuple[list[tuple[str, dict[str, float]]], list[str]]:
  """(model, {stage: value}) in order, and the stages in order."""
  by_model = {}
  for job, value in values.items():
    model, _, stage = job.rpartition('/')
    by_model.setdefault(model or job, {})[stage if model else ''] = value
  known = {stage for row in by_model.values() for stage in row} - {''}
  stages = [s for s in _STAGES if s in known] + sorted(known - {*_STAGES})
  return sorted(by_model.items(), key=_rank), stages


def _rank(item: tuple[str, Mapping[str, float]]) -> tuple:
  name = item[0]
  place = _FIRST.index(name) if name in _FIRST else len(_FIRST)
  return (place, run_data.natural(name))
