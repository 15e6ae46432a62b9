"""Bootstrap intervals against laws that are known without a simulation."""

import itertools
import math

import numpy as np
import pytest

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


@pytest.mark.parametrize('value', [0.0, 1.0])
def test_all_alike_gives_an_interval_without_width(value):
  low, high = intervals.bootstrap(np.full((30, 1), value), 100, 0)
  assert low[0] == high[0] == value


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


def test_equal_models_differ_by_nothing():
  a = np.array([0.0, 1.0, 1.0, 0.0])
  assert intervals.paired_bootstrap(a, a, 100, 0) == (0, 0, 0)


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
