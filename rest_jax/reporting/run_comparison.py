"""Several runs on one page: results, differences, curves, dials."""

import dataclasses
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np

from rest_jax.artifacts import run_paths
from rest_jax.evaluation import intervals, results
from rest_jax.reporting import (
  accuracy_charts,
  charts,
  formatting,
  run_data,
  run_facts,
  training_charts,
)

_NOT_COMPARED = ('RUN_DIR',)  # differs in any two runs


@dataclasses.dataclass(frozen=True, kw_only=True)
class ComparedRun:
  """A run that is compared.

  Attributes:
    name: that tells it from the others.
    run: what was read.
    found: the manifests that it was read from.
  """

  name: str
  run: run_data.Run
  found: run_data.Manifests

  def label(self, model: run_data.Model) -> str:
    """A model's name beside those of other runs, such as `x: iteration 3`."""
    return f'{self.name}: {formatting.model_name(model.name)}'


@dataclasses.dataclass(frozen=True, kw_only=True)
class RunDifference(results.Estimate):
  """A difference of greedy pass@1 between models of two runs.

  Attributes:
    value: model minus baseline, on the problems that are the same.
    problems: the set, such as gsm8k/test.
    model: of the later run.
    baseline: of the first run.
    left_out: problems that only one of them was graded on, or that differ.
  """

  problems: str
  model: str
  baseline: str
  left_out: int


def names(run_dirs: Sequence[str]) -> list[str]:
  """A short name for each path: its last part, or as many as are needed."""
  parts = [path.rstrip('/').split('/') for path in run_dirs]
  count = 1
  while True:
    made = ['/'.join(one[-count:]) for one in parts]
    if len(set(made)) == len(made) or count > max(map(len, parts)):
      return made
    count += 1


def values(
  runs: Sequence[ComparedRun], bootstrap: Mapping[str, int]
) -> dict[str, Any]:
  """What the page shows.

  Args:
    runs: at least two.
    bootstrap: {resamples, seed} of the intervals of the differences.
  """
  facts = [dict(run_facts.run_facts(one.run, one.found)) for one in runs]
  return dict(
    runs=runs,
    facts_of_runs=[
      (name, [of_run.get(name, formatting.NONE) for of_run in facts])
      for name in dict.fromkeys(name for of_run in facts for name in of_run)
    ],
    evaluated=list(dict.fromkeys(p for one in runs for p in one.run.evaluated)),
    run_differences=list(_differences(runs, bootstrap)),
    progress=_by_iteration(runs),
    training=_m_steps(runs),
    dials=_dials(runs),
  )


def _differences(
  runs: Sequence[ComparedRun], bootstrap: Mapping[str, int]
) -> Iterator[RunDifference]:
  """Each later run minus the first one: last models, then base models."""
  first, *others = runs
  for other in others:
    for task, split in first.run.evaluated:
      same = None
      for a, b in zip(_ends(other.run), _ends(first.run), strict=False):
        rates_a, rates_b = _rates(a, task, split), _rates(b, task, split)
        if not rates_a or not rates_b:
          continue
        if same is None:
          key = f'problems/{task}/{split}'
          texts = [_texts(one.found.get(key)) for one in (other, first)]
          same = {i for i, text in texts[0].items() if texts[1].get(i) == text}
        both = sorted(same & rates_a.keys() & rates_b.keys())
        if not both:
          continue
        difference, low, high = intervals.paired_bootstrap(
          np.array([rates_a[i] for i in both]),
          np.array([rates_b[i] for i in both]),
          **bootstrap,
        )
        yield RunDifference(
          problems=f'{task}/{split}',
          model=other.label(a),
          baseline=first.label(b),
          value=difference,
          ci_low=low,
          ci_high=high,
          n=len(both),
          left_out=len(rates_a.keys() | rates_b.keys()) - len(both),
        )


def _ends(run: run_data.Run) -> list[run_data.Model]:
  """The last model and the first one; one where the run has no other."""
  if run.ends:
    return list(reversed(run.ends))
  return run.compared[-1:]


def _rates(model: run_data.Model, task: str, split: str) -> dict[str, float]:
  graded = model.graded(task, split, run_paths.GREEDY)
  return graded.rates() if graded else {}


def _texts(manifest: Any) -> dict[str, tuple]:
  """{problem id: what is asked and what is right}."""
  if manifest is None:
    return {}
  table = manifest.table(columns=['id', 'question', 'answer', 'tests'])
  columns = [column.to_pylist() for column in table.columns]
  return {row[0]: row[1:] for row in zip(*columns, strict=True)}


def _by_iteration(runs: Sequence[ComparedRun]) -> list[charts.Chart]:
  """Greedy pass@1 by iteration: a chart per test set, a curve per run."""
  made = []
  for task, split in dict.fromkeys(
    p for one in runs for p in one.run.evaluated
  ):
    series = []
    for style, one in enumerate(runs):
      points = [
        accuracy_charts.point(model.iteration, found)
        for model in one.run.policies
        if (found := model.result(task, split))
      ]
      if points:
        series.append(charts.Series(name=one.name, points=points, style=style))
    if series:
      last = int(max(p.x for one in series for p in one.points))
      ticks = [(i, str(i) if i else 'base') for i in range(last + 1)]
      made.append(
        charts.Chart(
          title=f'{task}/{split}',
          detail='greedy',
          series=series,
          x=charts.Axis(label='iteration', ticks=ticks),
          y=charts.Axis(label='pass@1', percent=True),
        )
      )
  return made


def _m_steps(runs: Sequence[ComparedRun]) -> list[charts.Chart]:
  """Losses and rewards on D_val: two charts per model, a curve per run."""
  curves = {}
  for style, one in enumerate(runs):
    for model in one.run.models:
      if model.m_step and model.m_step.chosen:
        found = (model.m_step, model.m_step.chosen, style)
        curves.setdefault(model.name, {})[one.name] = found
  shares = all(training_charts.rewards_are_shares(one.run) for one in runs)
  return [
    chart
    for name in sorted(curves, key=run_data.natural)
    for chart in training_charts.pair(
      f'{formatting.model_name(name)}: ', curves[name], shares
    )
  ]


def _dials(runs: Sequence[ComparedRun]) -> list[tuple[str, list[str]]]:
  """(dial, its value in each run) of those that differ."""
  found = [run_facts.dials(one.run.config) for one in runs]
  rows = [
    (name, [of_run.get(name, formatting.NONE) for of_run in found])
    for name in sorted({name for of_run in found for name in of_run})
    if name not in _NOT_COMPARED
  ]
  return [(name, row) for name, row in rows if len(set(row)) > 1]
