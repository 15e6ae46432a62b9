"""What the figures have in common: names, numbers and colours."""

import re
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from rest_jax.evaluation import intervals
from rest_jax.reporting import plots, run_results

# Styles of plots.Series: the same thing has the same colour in each figure.
TEST, SFT, TRAIN, BASE = 0, 1, 2, 6
NBSP = '\u00a0'  # an interval is not broken between lines
# The classes of rewards.verdicts, which lies above; a test compares them.
OUTCOME_STYLES = {
  'correct': 2,
  'wrong': 1,
  'no_answer': 4,
  'truncated': 5,
  'timeout': 3,
  'crashed': 7,
  'harness_error': 6,
  'ungraded': 0,
}


def label(model: str) -> str:
  """A model's name for a person."""
  if found := re.fullmatch(r'iteration_(\d+)', model):
    return f'iteration {int(found[1])}'
  return {'sft_human': 'SFT on human solutions'}.get(model, model)


def title(run: run_results.Run, text: str) -> str:
  """A figure's title; without its number where the figures before are not."""
  short = text.partition(': ')[2]
  named = short if '@' in short else short.capitalize()
  return named if run.is_batch else text


def sampler(model: run_results.Model) -> str:
  """The model that iteration i's E-step samples from, that of i - 1."""
  if model.iteration == 1:
    return 'base'
  return label(f'iteration_{model.iteration - 1:02d}')


def percent(value: float | None, digits: int = 1) -> str:
  """A fraction as a percentage."""
  return '–' if value is None else f'{100 * value:.{digits}f}%'


def span(row: Mapping[str, Any] | None, key: str = 'value') -> str:
  """A value with its interval, such as `70.0% [66.0, 74.0]`."""
  if row is None:
    return '–'
  text = percent(row[key])
  if row.get('ci_low') is None or row.get('ci_high') is None:
    return text
  low, high = 100 * row['ci_low'], 100 * row['ci_high']
  return f'{text} [{low:.1f},{NBSP}{high:.1f}]'


def sets(run: run_results.Run) -> list[tuple[str, str]]:
  """The evaluated (task, split) pairs: those of training tasks first."""
  pairs = {(r['task'], r['split']) for m in run.models for r in m.rows}
  ours = run.training_tasks
  return sorted(
    pairs,
    key=lambda p: (
      ours.index(p[0]) if p[0] in ours else len(ours),
      p[1] != 'test',
      p,
    ),
  )


def in_order(
  run: run_results.Run, graded: Sequence[run_results.Graded]
) -> list[run_results.Graded]:
  """Verdicts in the order of `sets`; by stream within a set."""
  order = {pair: i for i, pair in enumerate(sets(run))}
  return sorted(
    graded,
    key=lambda g: (order.get((g.task, g.split), len(order)), g.stream, g.key),
  )


def role(run: run_results.Run, task: str) -> str:
  """What an evaluated task is to this run."""
  return 'trained task' if task in run.training_tasks else 'transfer'


def points(row: Mapping[str, Any]) -> str:
  """A difference in percentage points with its interval."""
  value, low, high = (100 * row[k] for k in ('difference', 'ci_low', 'ci_high'))
  return f'{value:+.1f} [{low:+.1f},{NBSP}{high:+.1f}]'


def mean(
  values: Sequence[float], bootstrap: Mapping[str, int]
) -> dict[str, Any]:
  """A mean over problems with its bootstrap interval, as a results row."""
  values = np.asarray(values, float)
  low, high = intervals.bootstrap(values[:, None], **bootstrap)
  return {
    'value': float(np.mean(values)),
    'ci_low': float(low[0]),
    'ci_high': float(high[0]),
    'n': len(values),
  }


def point(x: float, row: Mapping[str, Any]) -> plots.Point:
  """A results row as a point of a chart."""
  return plots.Point(
    x=x,
    y=row['value'],
    low=row.get('ci_low'),
    high=row.get('ci_high'),
    note=f'n = {row["n"]}',
  )


def at(*temperatures: float | None) -> str:
  """Temperatures for a person."""
  known = sorted(t for t in temperatures if t is not None)
  if not known:
    return 'temperature not recorded'
  return 'T = ' + ', '.join(f'{t:g}' for t in known)
