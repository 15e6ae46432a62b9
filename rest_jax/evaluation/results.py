"""The rows of results.json, as evaluate writes and report reads them.

docs/evaluation.md describes the file for its readers.
"""

import dataclasses
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from rest_jax.evaluation import intervals

GREEDY = 'pass@1_greedy'


@dataclasses.dataclass(frozen=True, kw_only=True)
class Estimate:
  """A mean over problems.

  Attributes:
    value: the mean; None where no problem has a value.
    ci_low: the lower end of its 95 % interval (intervals.means), or None.
    ci_high: the upper end, or None.
    n: the number of problems that have a value.
  """

  value: float | None
  ci_low: float | None
  ci_high: float | None
  n: int


@dataclasses.dataclass(frozen=True, kw_only=True)
class Result(Estimate):
  """A row of results.json, as far as the report reads it.

  Attributes:
    task: the evaluated task.
    split: of its problems.
    metric: pass@1_greedy, pass@1, pass@k or maj@k.
    k: samples per problem that the metric looks at.
    temperature: of the samples.
    num_samples: per problem.
    stream: eval/<name>.
    by: 'level' or 'type' in a row about some of the problems, else None.
    group: that level or type; None in the average over all groups.
    rates: the row's rates, such as {'timeout_rate': 0.01}.
  """

  task: str
  split: str
  metric: str
  k: int | None = None
  temperature: float | None = None
  num_samples: int | None = None
  stream: str | None = None
  by: str | None = None
  group: str | None = None
  rates: Mapping[str, float] = dataclasses.field(default_factory=dict)

  @classmethod
  def of(cls, row: Mapping[str, Any]) -> 'Result':
    """Reads a row."""
    names = {field.name for field in dataclasses.fields(cls)}
    known = {name: value for name, value in row.items() if name in names}
    rates = {name: v for name, v in row.items() if name.endswith('_rate')}
    return cls(**known, rates=rates)

  @property
  def problems(self) -> str:
    """Task and split of its problems, such as `gsm8k/test`."""
    return f'{self.task}/{self.split}'


@dataclasses.dataclass(frozen=True, kw_only=True)
class Comparison:
  """pass@1 of a model minus that of a baseline, on the same problems.

  Attributes:
    model: the name of the model.
    baseline: the name of the other.
    task: of the problems.
    split: of the problems.
    metric: what is compared.
    difference: a fraction.
    ci_low: the lower end of its 95 % interval.
    ci_high: the upper end.
    n: problems that both were graded on.
  """

  model: str
  baseline: str
  task: str
  split: str
  metric: str
  difference: float
  ci_low: float
  ci_high: float
  n: int


def estimate_columns(
  values_PM: np.ndarray, resamples: int, seed: int
) -> list[Estimate]:
  """The mean of each column with its interval.

  Args:
    values_PM: (P, M) a row per problem, a column per metric, from 0 to 1; NaN
      where a problem has no value.
    resamples: of the bootstrap over problems.
    seed: of the bootstrap.
  """
  low_M, high_M = intervals.means(values_PM, resamples, seed)
  there_M = (~np.isnan(values_PM)).sum(axis=0)
  sum_M = np.nansum(values_PM, axis=0)
  return [
    Estimate(
      value=float(total / n) if n else None,
      ci_low=float(low) if n else None,
      ci_high=float(high) if n else None,
      n=int(n),
    )
    for total, n, low, high in zip(sum_M, there_M, low_M, high_M, strict=True)
  ]


def estimate(values: Sequence[float], resamples: int, seed: int) -> Estimate:
  """The mean of one value per problem; see `estimate_columns`."""
  column = np.asarray(values, float)[:, None]
  return estimate_columns(column, resamples, seed)[0]
