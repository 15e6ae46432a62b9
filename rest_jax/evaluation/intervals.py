"""95 % confidence intervals over problems: of means, ratios and differences.

The problems are what is drawn at random, not the samples: an interval says how
far the number would move on another test set of the same size.

The usual interval is the percentile bootstrap over problems (Efron 1979). It
fails where the problems say little of how much they vary, and `means` and
`paired_bootstrap` then take another one, so that no interval has zero width:

* Every problem has the same value v. The bootstrap would be [v, v]. Of n
  problems none has another value, so that at most a share z² / (n + z²) of all
  problems has one (the upper end of the Wilson interval of 0 of n, z = 1.96).
  Those could have any value in the range of the metric. For shares of 0 or 1
  this is the Wilson interval itself; for a difference of 0 between two models
  it is the score interval of Tango (1998) for paired proportions.
* Every value is 0 or 1, and there are at most 40 problems: the Wilson score
  interval, as Brown, Cai and DasGupta (2001, Interval Estimation for a Binomial
  Proportion) advise for n <= 40.
"""

from collections.abc import Iterator, Sequence

import numpy as np

LEVEL = 0.95
FEW = 40  # problems; up to here a proportion has the Wilson interval
_Z = 1.959963984540054  # of the normal law, at 0.975
_CHUNK = 4_000_000  # draws held at once


def wilson(share: float, n: int) -> tuple[float, float]:
  """The Wilson score interval of a proportion (Wilson 1927), 95 %.

  Args:
    share: the observed proportion, from 0 to 1.
    n: of how many; at least 1.

  Returns:
    (low, high), with 0 <= low <= share <= high <= 1 and low < high.
  """
  shrunk = n / (n + _Z**2)
  centre = shrunk * share + (1 - shrunk) / 2
  spread = share * (1 - share) / n + _Z**2 / (4 * n**2)
  half = shrunk * _Z * spread**0.5
  # Rounding must not put the share itself outside.
  return max(0.0, min(share, centre - half)), min(
    1.0, max(share, centre + half)
  )


def all_equal(value: float, n: int, least: float) -> tuple[float, float]:
  """The 95 % interval of a mean where all n problems have the same value.

  Args:
    value: of every problem.
    n: the number of problems, at least 1.
    least: the lower end of the range of values, whose upper end is 1: 0 for a
      metric, -1 for the difference of two.

  Returns:
    (low, high); see the module.
  """
  _, others = wilson(0.0, n)
  return value - others * (value - least), value + others * (1 - value)


def means(
  values: np.ndarray, resamples: int, seed: int
) -> tuple[np.ndarray, np.ndarray]:
  """95 % intervals of column means over problems; none has zero width.

  Args:
    values: (P, M) a row per problem, a column per metric, from 0 to 1; NaN has
      no value and is left out of the mean.
    resamples: of the bootstrap; at least 1.
    seed: of the bootstrap.

  Returns:
    (low, high), each (M,); NaN for a column without any value.
  """
  low_M, high_M = bootstrap(values, resamples, seed)
  for column, values_P in enumerate(np.asarray(values, np.float64).T):
    values_P = values_P[~np.isnan(values_P)]
    n = len(values_P)
    if not n:
      continue
    if _are_equal(values_P):
      pair = all_equal(values_P.mean(), n, 0.0)
    elif n <= FEW and np.isin(values_P, (0.0, 1.0)).all():
      pair = wilson(values_P.mean(), n)
    else:
      continue
    low_M[column], high_M[column] = pair
  return low_M, high_M


def bootstrap(
  values: np.ndarray, resamples: int, seed: int
) -> tuple[np.ndarray, np.ndarray]:
  """Percentile bootstrap intervals of column means.

  All columns share the resampled rows, so that metrics of the same problems
  move together. The interval has zero width where all values are equal; `means`
  is for results that are shown.

  Args:
    values: (P, M) a row per problem, a column per metric; NaN has no value
      and is left out of the mean.
    resamples: at least 1.
    seed: of the Philox generator.

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
  tail = (1 - LEVEL) / 2
  means_RM = np.concatenate(means)
  means_RM[:, nothing] = 0.0  # nanquantile warns of columns without a value
  low, high = np.nanquantile(means_RM, [tail, 1 - tail], axis=0)
  return np.where(nothing, np.nan, low), np.where(nothing, np.nan, high)


def ratio_bootstrap(
  parts: np.ndarray,
  wholes: np.ndarray,
  resamples: int,
  seed: int,
) -> tuple[float, float, float]:
  """sum(parts) / sum(wholes) over problems, with its bootstrap interval.

  Where every problem has the same ratio, the interval is that of `all_equal`.

  Args:
    parts: (P,) such as the points of each problem; P at least 1.
    wholes: (P,) such as the most that it gives; positive.
    resamples: at least 1.
    seed: of the Philox generator.

  Returns:
    (ratio, low, high).
  """
  ratios_R = np.concatenate(
    [
      (counts_RP @ parts) / (counts_RP @ wholes)
      for counts_RP in _resampled(len(parts), resamples, seed)
    ]
  )
  tail = (1 - LEVEL) / 2
  low, high = np.quantile(ratios_R, [tail, 1 - tail])
  ratio = float(parts.sum() / wholes.sum())
  if _are_equal(parts / wholes):
    low, high = all_equal(ratio, len(parts), 0.0)
  return ratio, float(low), float(high)


def _are_equal(values: np.ndarray) -> bool:
  """Whether values are equal but for rounding."""
  return bool(np.ptp(values) < 1e-9)


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
) -> tuple[float, float, float]:
  """The unweighted mean of the groups' means, with its bootstrap interval.

  Problems are resampled within their group, because the groups are fixed. A
  group whose problems all have the same value adds nothing to the width of the
  bootstrap. Where this is true of every group, the widths of the groups' own
  intervals (`all_equal`) are added in squares instead (Zou and Donner 2008).

  Args:
    groups: (P_g,) values each; none empty, no NaN.
    resamples: at least 1.
    seed: of the Philox generator.

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
  tail = (1 - LEVEL) / 2
  low, high = np.quantile(total_R / len(groups), [tail, 1 - tail])
  means_G = np.array([values_P.mean() for values_P in groups])
  if all(map(_are_equal, groups)):
    ends_G2 = np.array([all_equal(v.mean(), len(v), 0.0) for v in groups])
    widths_2 = np.linalg.norm(ends_G2 - means_G[:, None], axis=0) / len(groups)
    low, high = means_G.mean() - widths_2[0], means_G.mean() + widths_2[1]
  return float(means_G.mean()), float(low), float(high)


def paired_bootstrap(
  a: np.ndarray,
  b: np.ndarray,
  resamples: int,
  seed: int,
) -> tuple[float, float, float]:
  """The mean of a - b over the same problems, with its bootstrap interval.

  Where all differences are equal, the interval is that of `all_equal`.

  Args:
    a: (P,) one model's value per problem, from 0 to 1.
    b: (P,) another's, in the same order of problems; NaN on either side
      leaves the problem out.
    resamples: at least 1.
    seed: of the Philox generator.

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
  if _are_equal(difference):
    low, high = all_equal(difference.mean(), difference.size, -1.0)
  else:
    [low], [high] = bootstrap(difference[:, None], resamples, seed)
  return float(difference.mean()), float(low), float(high)
