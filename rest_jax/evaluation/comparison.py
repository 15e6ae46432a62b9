"""Two models on the same problems: the difference and its paired interval."""

import dataclasses

import numpy as np

from rest_jax.artifacts import manifests, storage
from rest_jax.config import configuration
from rest_jax.evaluation import intervals, metrics


@dataclasses.dataclass(frozen=True, kw_only=True)
class PairedDifference:
  """pass@1 of model a minus that of model b.

  Attributes:
    difference: on the problems that both were graded on.
    ci_low: the lower end of its 95 % interval.
    ci_high: the upper end.
    n: the number of these problems.
    value_a: pass@1 of model a on them.
    value_b: pass@1 of model b on them.
    only_a: problems that only model a was graded on; they are left out.
    only_b: problems that only model b was graded on.
  """

  difference: float
  ci_low: float
  ci_high: float
  n: int
  value_a: float
  value_b: float
  only_a: int
  only_b: int


def paired_difference(
  verdicts_dir_a: storage.PathLike,
  verdicts_dir_b: storage.PathLike,
  stream: str,
  *,
  resamples: int = 10_000,
  seed: int = 0,
) -> PairedDifference:
  """Compares two models on the problems that both were graded on.

  Args:
    verdicts_dir_a: the verdicts of one model.
    verdicts_dir_b: the verdicts of the other, on the same problems.
    stream: such as 'eval/greedy'.
    resamples: of the bootstrap over problems.
    seed: of the bootstrap.

  Raises:
    ConfigurationError: no problem is in both.
  """
  a = _pass_at_1(verdicts_dir_a, stream)
  b = _pass_at_1(verdicts_dir_b, stream)
  both = sorted(set(a) & set(b))
  if not both:
    raise configuration.ConfigurationError(
      f'{verdicts_dir_a} and {verdicts_dir_b}: no problem of the stream '
      f'{stream} has a verdict in both. Evaluate both models on one task.'
    )
  values_a = np.array([a[problem_id] for problem_id in both])
  values_b = np.array([b[problem_id] for problem_id in both])
  difference, low, high = intervals.paired_bootstrap(
    values_a, values_b, resamples, seed
  )
  return PairedDifference(
    difference=difference,
    ci_low=low,
    ci_high=high,
    n=len(both),
    value_a=float(values_a.mean()),
    value_b=float(values_b.mean()),
    only_a=len(set(a) - set(b)),
    only_b=len(set(b) - set(a)),
  )


def _pass_at_1(folder: storage.PathLike, stream: str) -> dict[str, float]:
  """{problem id: the share of its samples that are correct}."""
  table = manifests.load(folder, stage='score').table(columns=metrics.COLUMNS)
  found = metrics.outcomes(table, stream)
  values = metrics.pass_at_k(found.num_samples, found.num_correct, 1)
  return {
    problem_id: float(value)
    for problem_id, value in zip(found.problem_ids, values, strict=True)
    if not np.isnan(value)
  }
