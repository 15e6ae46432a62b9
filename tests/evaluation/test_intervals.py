"""Intervals against SciPy, and against laws known without a simulation."""

import itertools
import math

import numpy as np
import pytest
from scipy import optimize, stats

from rest_jax.evaluation import intervals


def binomial_quantile(n, p, level):
  total = 0.0
  for v in range(n + 1):
    total += math.comb(n, v) * p**v * (1 - p) ** (n - v)
    if total >= level:
      return v / n
  return 1.0


def test_of_a_zero_one_metric_it_is_the_binomial_interval():
  # Resampling c ones among n rows is the binomial law of n and c / n.
  for n, c in ((60, 20), (200, 150), (500, 250)):
    values = np.repeat([1.0, 0.0], [c, n - c])[:, None]
    low, high = intervals.bootstrap(values, 20_000, 0)
    # One step of the lattice: the estimated quantile may fall beside it.
    assert low[0] == pytest.approx(
      binomial_quantile(n, c / n, 0.025), abs=1.01 / n
    )
    assert high[0] == pytest.approx(
      binomial_quantile(n, c / n, 0.975), abs=1.01 / n
    )


def test_of_three_rows_it_is_the_quantile_of_all_resamples():
  values = np.array([0.1, 0.5, 0.9])
  means = [np.mean(draw) for draw in itertools.product(values, repeat=3)]
  low, high = intervals.bootstrap(values[:, None], 50_000, 3)
  # 1 of 27 draws is the lowest one (0.037 > 0.025), likewise the highest.
  assert (low[0], high[0]) == pytest.approx((min(means), max(means)))


def test_the_interval_covers_the_truth_about_as_often_as_it_says():
  generator = np.random.default_rng(0)
  p, n, trials = 0.4, 200, 600
  covered = 0
  for trial in range(trials):
    values = (generator.random(n) < p).astype(float)[:, None]
    low, high = intervals.bootstrap(values, 400, trial)
    covered += low[0] <= p <= high[0]
  # Coverage is 0.94 to 0.95 here: 600 trials leave [0.90, 0.98] less than
  # once in 3,000 (0.945 +- 4 standard errors of 0.0093).
  assert 0.90 <= covered / trials <= 0.98


def test_the_seed_decides_and_the_chunks_do_not(monkeypatch):
  values = np.random.default_rng(0).random((50, 2))
  whole = intervals.bootstrap(values, 500, 7)
  assert not np.array_equal(whole, intervals.bootstrap(values, 500, 8))
  monkeypatch.setattr(intervals, '_CHUNK', 50 * 7)
  np.testing.assert_array_equal(whole, intervals.bootstrap(values, 500, 7))


def test_a_column_does_not_depend_on_the_others():
  values = np.random.default_rng(0).random((40, 3))
  low, high = intervals.bootstrap(values, 300, 1)
  alone_low, alone_high = intervals.bootstrap(values[:, 1:2], 300, 1)
  assert low[1] == pytest.approx(alone_low[0])
  assert high[1] == pytest.approx(alone_high[0])


def test_a_problem_without_a_value_is_left_out_of_the_mean():
  values = np.array([[0.0, np.nan], [1.0, 1.0], [1.0, 1.0]])
  values = np.column_stack([values, np.full(3, np.nan)])
  low, high = intervals.bootstrap(values, 2_000, 0)
  assert low[0] < 1
  assert (low[1], high[1]) == (1, 1)
  assert np.isnan(low[2]) and np.isnan(high[2])


@pytest.mark.parametrize('n', [1, 2, 7, 30, 1000])
def test_wilson_is_that_of_scipy(n):
  for count in {0, 1, n // 3, n // 2, n}:
    oracle = stats.binomtest(count, n).proportion_ci(method='wilson')
    found = intervals.wilson(count / n, n)
    assert found == pytest.approx((oracle.low, oracle.high), abs=1e-12)
    assert 0 <= found[0] <= count / n <= found[1] <= 1


@pytest.mark.parametrize('n', [1, 4, 40, 41, 500])
@pytest.mark.parametrize('value', [0.0, 1 / 3, 1.0])
def test_all_alike_does_not_make_the_mean_certain(n, value):
  values = np.full((n, 1), value)
  low, high = intervals.bootstrap(values, 100, 0)
  assert high - low == pytest.approx(0)  # what is mended
  [low], [high] = intervals.means(values, 100, 0)
  assert 0 <= low <= value <= high <= 1 and high - low > 0
  if value in (0, 1):
    oracle = stats.binomtest(int(value * n), n).proportion_ci(method='wilson')
    assert (low, high) == pytest.approx((oracle.low, oracle.high))


def test_equal_but_for_rounding_is_equal():
  values = np.array([[1.0], [1.0 - 1e-15], [1 - 2e-15]])
  [low], [high] = intervals.means(values, 100, 0)
  assert high - low > 0.1


def test_a_few_zeros_and_ones_have_the_wilson_interval_and_many_do_not():
  for n in (2, 40, 41):
    values = np.repeat([1.0, 0.0], [1, n - 1])[:, None]
    oracle = stats.binomtest(1, n).proportion_ci(method='wilson')
    [low], [high] = intervals.means(values, 400, 0)
    if n <= 40:
      assert (low, high) == pytest.approx((oracle.low, oracle.high))
    else:
      [plain_low], [plain_high] = intervals.bootstrap(values, 400, 0)
      assert (low, high) == (plain_low, plain_high)


def test_each_column_has_its_own_kind_of_interval():
  values = np.random.default_rng(0).random((50, 4))
  values[:, 0] = 1.0
  values[:, 1] = np.nan  # three problems have a value
  values[[3, 8, 30], 1] = (0.0, 1.0, 1.0)
  values[:, 2] = np.nan
  low, high = intervals.means(values, 300, 1)
  assert (low[0], high[0]) == pytest.approx(intervals.wilson(1.0, 50))
  assert (low[1], high[1]) == pytest.approx(intervals.wilson(2 / 3, 3))
  assert np.isnan(low[2]) and np.isnan(high[2])
  plain_low, plain_high = intervals.bootstrap(values, 300, 1)
  assert (low[3], high[3]) == (plain_low[3], plain_high[3])


@pytest.mark.parametrize('truth', [0.02, 0.1, 0.9, 0.99])
def test_of_ten_problems_the_interval_covers_the_truth(truth):
  """Exactly: over all numbers of solved problems, with their chances."""
  covered = plain = 0.0
  for count in range(11):
    chance = stats.binom.pmf(count, 10, truth)
    values = np.repeat([1.0, 0.0], [count, 10 - count])[:, None]
    [low], [high] = intervals.means(values, 500, 0)
    covered += chance * (low <= truth <= high)
    [low], [high] = intervals.bootstrap(values, 500, 0)
    plain += chance * (low <= truth <= high)
  # Brown et al. (2001), Figure 5: it swings about 0.95, and not far below.
  assert covered > 0.89
  assert covered > plain


def test_no_problems_give_no_interval():
  low, high = intervals.bootstrap(np.empty((0, 2)), 100, 0)
  assert np.isnan(low).all() and np.isnan(high).all() and low.shape == (2,)


def test_a_pair_is_compared_problem_by_problem():
  generator = np.random.default_rng(0)
  hard = generator.random(400)
  b = (hard < 0.5).astype(float)
  a = (hard < 0.55).astype(float)  # solves what b solves, and some more
  difference, low, high = intervals.paired_bootstrap(a, b, 4_000, 0)
  assert difference == pytest.approx(a.mean() - b.mean())
  assert low > 0
  # Shuffled, the same two columns say nothing: the pairing was used.
  shuffled = generator.permutation(b)
  _, loose_low, loose_high = intervals.paired_bootstrap(a, shuffled, 4_000, 0)
  assert loose_high - loose_low > 2 * (high - low)
  back = intervals.paired_bootstrap(b, a, 4_000, 0)
  assert back == pytest.approx((-difference, -high, -low), abs=0.005)


def tango(b, c, n):
  """Tango's score interval of a paired difference, by its definition.

  Tango (1998), Equivalence test and confidence interval for the difference in
  proportions for the paired-sample design; b and c are the discordant pairs.
  """

  def statistic(delta):
    # The constrained estimate of the share that only the second one solves.
    a_2 = 2 * n
    a_1 = -b - c + (2 * n - b + c) * delta
    a_0 = -c * delta * (1 - delta)
    q = (np.sqrt(max(a_1**2 - 4 * a_2 * a_0, 0.0)) - a_1) / (2 * a_2)
    spread = np.sqrt(max(n * (2 * q + delta * (1 - delta)), 1e-300))
    return (b - c - n * delta) / spread

  z, edge, estimate = stats.norm.ppf(0.975), 1 - 1e-9, (b - c) / n
  ends = []
  for sign, bound in ((1, -edge), (-1, edge)):
    if abs(estimate - bound) < 1e-6:
      ends.append(estimate)
    else:
      inside = estimate - sign * 1e-9
      ends.append(
        optimize.brentq(lambda d, s=sign: statistic(d) - s * z, bound, inside)
      )
  return ends


@pytest.mark.parametrize('n', [1, 4, 50, 500])
@pytest.mark.parametrize('difference', [-1.0, 0.0, 1.0])
def test_models_that_differ_alike_everywhere_have_tangos_interval(
  n, difference
):
  a = np.full(n, max(difference, 0.0))
  b = np.full(n, max(-difference, 0.0))
  found, low, high = intervals.paired_bootstrap(a, b, 100, 0)
  assert found == difference and low < high
  only_a, only_b = n * (difference > 0), n * (difference < 0)
  assert (low, high) == pytest.approx(tango(only_a, only_b, n), abs=1e-5)


def test_two_equally_good_models_are_rarely_told_apart():
  generator = np.random.default_rng(5)
  alarms = 0
  for trial in range(400):
    a, b = (generator.random((2, 150)) < 0.5).astype(float)
    _, low, high = intervals.paired_bootstrap(a, b, 300, trial)
    alarms += low > 0 or high < 0
  # 5 to 6 % by construction; above 11 % less than once in 10,000.
  assert alarms / 400 < 0.11


def test_a_pair_of_different_lengths_is_refused():
  with pytest.raises(ValueError, match='same'):
    intervals.paired_bootstrap(np.zeros(3), np.zeros(4), 10, 0)
  with pytest.raises(ValueError, match='no problem'):
    intervals.paired_bootstrap(np.full(3, np.nan), np.zeros(3), 10, 0)
  with pytest.raises(ValueError, match='at least 1'):
    intervals.bootstrap(np.zeros((3, 1)), 0, 0)


def test_a_ratio_of_equal_wholes_is_the_mean_with_its_interval():
  parts = np.random.default_rng(0).integers(0, 5, 40).astype(float)
  wholes = np.full(40, 4.0)
  ratio, low, high = intervals.ratio_bootstrap(parts, wholes, 500, 7)
  expected = intervals.bootstrap(parts[:, None] / 4, 500, 7)
  assert ratio == pytest.approx(parts.mean() / 4)
  assert (low, high) == pytest.approx((expected[0][0], expected[1][0]))


def test_a_macro_average_weighs_every_group_alike_and_resamples_within_it():
  sure, coin = np.ones(90), np.repeat([0.0, 1.0], 5)
  mean, low, high = intervals.macro_bootstrap([sure, coin], 20_000, 0)
  assert mean == pytest.approx(0.75)
  # Only the coin moves: half of the binomial interval of 10 and 1/2.
  assert low == pytest.approx((1 + binomial_quantile(10, 0.5, 0.025)) / 2)
  assert high == pytest.approx((1 + binomial_quantile(10, 0.5, 0.975)) / 2)


def test_averages_of_groups_that_are_alike_have_a_width():
  one, other = np.ones(4), np.zeros(9)
  mean, low, high = intervals.macro_bootstrap([one, other], 100, 0)
  assert mean == 0.5
  # Each end of the sum is that of one group: the other's touches its bound.
  assert low == pytest.approx(intervals.wilson(1.0, 4)[0] / 2)
  assert high == pytest.approx((1 + intervals.wilson(0.0, 9)[1]) / 2)


def test_a_ratio_that_is_the_same_for_every_problem_has_a_width():
  wholes = np.array([2.0, 10.0, 5.0])
  ratio, low, high = intervals.ratio_bootstrap(wholes, wholes, 100, 0)
  oracle = stats.binomtest(3, 3).proportion_ci(method='wilson')
  assert (ratio, low, high) == pytest.approx((1, oracle.low, 1))
