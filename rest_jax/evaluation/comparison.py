"""Two models on the same problems: the difference and its paired interval."""

import numpy as np

from rest_jax.artifacts import manifests, storage
from rest_jax.config import configuration
from rest_jax.evaluation import intervals, metrics


def paired_difference(
  verdicts_dir_a: storage.PathLike,
  verdicts_dir_b: storage.PathLike,
  stream: str,
  *,
  resamples: int = 10_000,
  seed: int = 0,
) -> dict[str, float | int | str]:
  """pass@1 of model a minus that of model b, on the problems both were given.

  Args:
    verdicts_dir_a: the verdicts of one model.
    verdicts_dir_b: the verdicts of the other, on the same problems.
    stream: such as 'eval/greedy'.
    resamples: of the bootstrap over problems.
    seed: of the bootstrap.

  Returns:
    {difference, ci_low, ci_high, n, value_a, value_b, only_a, only_b, stream}:
    n problems are in both; only_a and only_b are counted, not compared.

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
  return {
    'difference': difference,
    'ci_low': low,
    'ci_high': high,
    'n': len(both),
    'value_a': float(values_a.mean()),
    'value_b': float(values_b.mean()),
    'only_a': len(set(a) - set(b)),
    'only_b': len(set(b) - set(a)),
    'stream': stream,
  }


def _pass_at_1(folder: storage.PathLike, stream: str) -> dict[str, float]:
  table = manifests.load(folder, stage='score').table(columns=metrics.COLUMNS)
  found = metrics.outcomes(table, stream)
  values = metrics.pass_at_k(found.num_samples, found.num_correct, 1)
  return {
    problem_id: float(value)
    for problem_id, value in zip(found.problem_ids, values, strict=True)
    if not np.isnan(value)
  }
