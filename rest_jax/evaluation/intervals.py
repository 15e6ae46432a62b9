"""Bootstrap intervals over problems: of a mean, and of a paired difference.

The problems are what is drawn at random, not the samples: the interval says
how far the number would move on another test set of the same size. It is the
percentile interval; where every problem has the same value it has no width.
"""

from collections.abc import Iterator, Sequence

import numpy as np

LEVEL = 0.95
_CHUNK = 4_000_000  # draws held at once


def bootstrap(
  values: np.ndarray, resamples: int, seed: int, *, level: float = LEVEL
) -> tuple[np.ndarray, np.ndarray]:
  """Percentile intervals of column means, over resampled rows.

  All columns share the resampled rows, so that metrics of the same problems
  move together.

  Args:
    values: (P, M) a row per problem, a column per metric; NaN has no value
      and is left out of the mean.
    resamples: at least 1.
    seed: of the Philox generator.
    level: of the interval.

  Returns:
    (low, high), each (M,); NaN for a column without any value.
  """
  values = np.asarray(values, np.float64)
  if values.ndim != 2:
    raise ValueError(f'values: got shape {values.shape}; expected (P, M).')
  if resamples < 1:
    raise ValueError(f'resamples: got {resamples}; allowed: at least 1.')
  problems, _ = values.shape
  nothing = np.isnan(values).all(axis=0)
  if problems == 0:
    return np.full_like(nothing, np.nan, float), np.full_like(
      nothing, np.nan, float
    )
  sums_PM, there_PM = np.nan_to_num(values), (~np.isnan(values)).astype(float)
  means = []
  for counts_RP in _resampled(problems, resamples, seed):
    with np.errstate(invalid='ignore'):
      means.append((counts_RP @ sums_PM) / (counts_RP @ there_PM))
  tail = (1 - level) / 2
  means_RM = np.concatenate(means)
  means_RM[:, nothing] = 0.0  # nanquantile warns of columns without a value
  low, high = np.nanquantile(means_RM, [tail, 1 - tail], axis=0)
  return np.where(nothing, np.nan, low), np.where(nothing, np.nan, high)


def ratio_bootstrap(
  parts: np.ndarray,
  wholes: np.ndarray,
  resamples: int,
  seed: int,
  *,
  level: float = LEVEL,
) -> tuple[float, float, float]:
  """sum(parts) / sum(wholes) over problems, with its interval.

  Args:
    parts: (P,) such as the points of each problem; P at least 1.
    wholes: (P,) such as the most that it gives; positive.
    resamples: at least 1.
    seed: of the Philox generator.
    level: of the interval.

  Returns:
    (ratio, low, high).
  """
  ratios_R = np.concatenate(
    [
      (counts_RP @ parts) / (counts_RP @ wholes)
      for counts_RP in _resampled(len(parts), resamples, seed)
    ]
  )
  tail = (1 - level) / 2
  low, high = np.quantile(ratios_R, [tail, 1 - tail])
  return float(parts.sum() / wholes.sum()), float(low), float(high)


def _resampled(
  problems: int, resamples: int, seed: int
) -> Iterator[np.ndarray]:
  """How often each problem is drawn: (R, P) counts, a chunk of resamples."""
  generator = np.random.Generator(np.random.Philox(key=seed))
  for start in range(0, resamples, step := max(1, _CHUNK // problems)):
    rows = min(step, resamples - start)
    drawn = generator.integers(problems, size=(rows, problems))
    drawn += np.arange(rows)[:, None] * problems
    counts = np.bincount(drawn.ravel(), minlength=rows * problems)
    yield counts.reshape(rows, problems).astype(np.float64)


def macro_bootstrap(
  groups: Sequence[np.ndarray],
  resamples: int,
  seed: int,
  *,
  level: float = LEVEL,
) -> tuple[float, float, float]:
  """The unweighted mean of the groups' means, with its interval.

  Problems are resampled within their group: the groups are what they are.

  Args:
    groups: (P_g,) values each; none empty, no NaN.
    resamples: at least 1.
    seed: of the Philox generator.
    level: of the interval.

  Returns:
    (mean, low, high).
  """
  generator = np.random.Generator(np.random.Philox(key=seed))
  total_R = np.zeros(resamples)
  for values_P in groups:
    size = len(values_P)
    for start in range(0, resamples, step := max(1, _CHUNK // size)):
      rows = min(step, resamples - start)
      drawn_RP = generator.integers(size, size=(rows, size))
      total_R[start : start + rows] += values_P[drawn_RP].mean(axis=1)
  tail = (1 - level) / 2
  low, high = np.quantile(total_R / len(groups), [tail, 1 - tail])
  mean = float(np.mean([values_P.mean() for values_P in groups]))
  return mean, float(low), float(high)


def paired_bootstrap(
  a: np.ndarray,
  b: np.ndarray,
  resamples: int,
  seed: int,
  *,
  level: float = LEVEL,
) -> tuple[float, float, float]:
  """The mean of a - b over the same problems, with its interval.

  Args:
    a: (P,) one model's value per problem.
    b: (P,) another's, in the same order of problems; NaN on either side
      leaves the problem out.
    resamples: at least 1.
    seed: of the Philox generator.
    level: of the interval.

  Returns:
    (difference, low, high).

  Raises:
    ValueError: the shapes differ, or no problem has both values.
  """
  a, b = np.asarray(a, np.float64), np.asarray(b, np.float64)
  if a.shape != b.shape or a.ndim != 1:
    raise ValueError(
      f'a, b: got shapes {a.shape} and {b.shape}; expected the same (P,).'
    )
  difference = a - b
  difference = difference[~np.isnan(difference)]
  if not difference.size:
    raise ValueError('a, b: no problem has a value on both sides.')
  low, high = bootstrap(difference[:, None], resamples, seed, level=level)
  return float(difference.mean()), float(low[0]), float(high[0])
