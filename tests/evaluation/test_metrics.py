"""pass@k and maj@k against brute force over all subsets."""

import fractions
import itertools
import math

import numpy as np
import pyarrow as pa
import pytest

from rest_jax.evaluation import metrics


def brute_pass(n, c, k):
  """The share of k-subsets of n samples that hold one of the c correct."""
  subsets = list(itertools.combinations(range(n), k))
  return sum(min(subset) < c for subset in subsets) / len(subsets)


def brute_majority(votes, k):
  """The vote's accuracy over all k-subsets, ties split evenly."""
  ballots = [i for i, count in enumerate(votes.counts) for _ in range(count)]
  ballots += [None] * votes.silent
  subsets = list(itertools.combinations(ballots, k))
  total = fractions.Fraction(0)
  for subset in subsets:
    counts = {i: subset.count(i) for i in set(subset) - {None}}
    leaders = [i for i in counts if counts[i] == max(counts.values())]
    if leaders:
      right = sum(votes.correct[i] for i in leaders)
      total += fractions.Fraction(right, len(leaders))
  return float(total / len(subsets))


def table(rows):
  columns = zip(*rows, strict=True)
  return pa.table(dict(zip(metrics.COLUMNS, columns, strict=True)))


def test_pass_at_k_is_the_mean_over_all_subsets():
  for n in range(1, 9):
    for c in range(n + 1):
      for k in range(1, n + 1):
        [value] = metrics.pass_at_k(np.array([n]), np.array([c]), k)
        assert value == pytest.approx(brute_pass(n, c, k), abs=1e-12)


def test_pass_at_k_is_exact_for_many_samples():
  for n, c, k in ((10_000, 1, 5_000), (2_000, 3, 1_000), (4_096, 40, 64)):
    [value] = metrics.pass_at_k(np.array([n]), np.array([c]), k)
    exact = 1 - fractions.Fraction(math.comb(n - c, k), math.comb(n, k))
    assert value == pytest.approx(float(exact), rel=1e-10)


def test_pass_at_1_is_exactly_the_success_rate():
  for n in range(1, 65):
    c = np.arange(n + 1)
    values = metrics.pass_at_k(np.full(n + 1, n), c, 1)
    assert values.tolist() == (c / n).tolist()


def test_pass_at_k_takes_each_problem_with_its_own_n():
  n, c = np.array([4, 2, 8, 0, 4]), np.array([4, 0, 1, 0, 0])
  values = metrics.pass_at_k(n, c, 4)
  assert values[[0, 2, 4]].tolist() == pytest.approx([1.0, 0.5, 0.0])
  assert np.isnan(values[[1, 3]]).all()


def test_maj_at_k_is_the_mean_over_all_subsets_and_tie_breaks():
  generator = np.random.default_rng(0)
  checked = 0
  while checked < 60:
    counts = sorted(generator.integers(1, 5, generator.integers(0, 5)))[::-1]
    votes = metrics.Votes(
      tuple(int(count) for count in counts),
      tuple(bool(x) for x in generator.random(len(counts)) < 0.4),
      int(generator.integers(0, 4)),
    )
    total = sum(votes.counts) + votes.silent
    if not 1 <= total <= 11:
      continue
    checked += 1
    for k in range(1, total + 1):
      [value] = metrics.maj_at_k([votes], k)
      assert value == pytest.approx(brute_majority(votes, k), abs=1e-10)


def test_maj_at_k_splits_ties_evenly():
  tie = metrics.Votes((1, 1, 1), (True, False, False), 0)
  assert metrics.maj_at_k([tie], 3)[0] == pytest.approx(1 / 3)
  both_right = metrics.Votes((2, 2), (True, True), 0)
  assert metrics.maj_at_k([both_right], 4)[0] == pytest.approx(1)


def test_samples_without_an_answer_do_not_vote():
  one_voice = metrics.Votes((1,), (True,), 9)
  assert metrics.maj_at_k([one_voice], 10)[0] == pytest.approx(1)
  assert metrics.maj_at_k([one_voice], 1)[0] == pytest.approx(0.1)
  nobody = metrics.Votes((), (), 4)
  assert metrics.maj_at_k([nobody], 4)[0] == 0


def test_maj_at_k_agrees_with_a_simulation_at_paper_size():
  votes = metrics.Votes(
    (20, 17, 9, 5, 3), (False, True, True, False, False), 10
  )
  generator = np.random.default_rng(1)
  ballots = np.repeat([0, 1, 2, 3, 4, 5], [*votes.counts, votes.silent])
  right, trials, k = 0.0, 20_000, 16
  for _ in range(trials):
    counts = np.bincount(generator.choice(ballots, k, replace=False))[:5]
    leaders = np.flatnonzero(counts == counts.max())
    right += np.isin(leaders, [1, 2]).mean()
  # Five standard errors of the simulation: fails once in two million.
  error = 5 * 0.5 / math.sqrt(trials)
  assert metrics.maj_at_k([votes], k)[0] == pytest.approx(
    right / trials, abs=error
  )


def test_maj_at_k_stays_a_probability_with_many_samples():
  votes = metrics.Votes((450, 449, 1), (True, False, False), 300)
  for k in (1, 64, 300, 1199, 1200):
    [value] = metrics.maj_at_k([votes], k)
    assert 0 < value <= 1
  assert value == pytest.approx(1)  # all of them: the lead of one decides
  assert metrics.maj_at_k([votes], 1)[0] == pytest.approx(0.375)


@pytest.mark.parametrize('k', [0, -1])
def test_k_below_one_is_refused(k):
  with pytest.raises(ValueError, match='at least 1'):
    metrics.pass_at_k(np.array([1]), np.array([1]), k)
  with pytest.raises(ValueError, match='at least 1'):
    metrics.maj_at_k([], k)


def test_the_ladder_doubles_and_ends_at_n():
  assert metrics.ladder(16) == [1, 2, 4, 8, 16]
  assert metrics.ladder(12) == [1, 2, 4, 8, 12]
  assert metrics.ladder(1) == [1]
  assert metrics.ladder(0) == []


def test_outcomes_leave_out_harness_errors_and_other_streams():
  found = metrics.outcomes(
    table(
      [
        ('b', 0, 's', 'correct', '1'),
        ('b', 1, 's', 'wrong', '2'),
        ('b', 2, 's', 'harness_error', None),
        ('b', 3, 's', 'no_answer', None),
        ('b', 4, 's', 'timeout', '1'),
        ('a', 0, 's', 'harness_error', None),
        ('a', 0, 'other', 'correct', '1'),
        ('c', 0, 's', 'correct', None),
      ]
    ),
    's',
  )
  assert found.problem_ids == ('a', 'b', 'c')
  assert found.num_samples.tolist() == [0, 4, 1]
  assert found.num_correct.tolist() == [0, 1, 1]
  assert found.votes[1] == metrics.Votes((1, 1), (True, False), 2)
  assert found.votes[2] == metrics.Votes((), (), 1)  # programs have no answer
  assert found.total == 7
  assert found.rates()['harness_error'] == pytest.approx(2 / 7)
  assert sum(found.rates().values()) == pytest.approx(1)


def test_a_sample_graded_twice_is_refused():
  rows = [('a', 0, 's', 'correct', '1'), ('a', 0, 's', 'wrong', '2')]
  with pytest.raises(ValueError, match='problem a has sample 0 twice'):
    metrics.outcomes(table(rows), 's')


def test_a_stream_without_samples_has_no_problems():
  found = metrics.outcomes(table([('a', 0, 's', 'correct', '1')]), 'none')
  assert found.problem_ids == () and found.total == 0
  assert found.max_samples == 0 and not found.has_answers
