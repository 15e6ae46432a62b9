"""Which correct solutions are kept, and what they weigh."""

import collections

import pyarrow as pa
import pytest

from rest_jax.config import configuration
from rest_jax.selection import filtering


def correct(samples, *, reward=1.0, text=lambda problem, index: index):
  """{problem: sample indices} as the table that `keep` takes."""
  rows = [(p, i) for p, indices in samples.items() for i in indices]
  return pa.table(
    {
      'problem_id': [p for p, _ in rows],
      'sample_index': pa.array([i for _, i in rows], pa.int32()),
      'reward': pa.array([reward] * len(rows), pa.float32()),
      'text_digest': [f'{text(p, i)}'.encode() for p, i in rows],
    }
  )


def kept(table, **fields):
  """{problem: [(sample index, weight)]} of what is kept."""
  result = collections.defaultdict(list)
  rows = filtering.keep(table, filtering.SelectionConfig(**fields)).to_pylist()
  for row in rows:
    result[row['problem_id']].append((row['sample_index'], row['weight']))
  return dict(result)


def indices(table, problem, **fields):
  return [index for index, _ in kept(table, **fields)[problem]]


def test_at_most_the_cap_is_kept_of_each_problem():
  table = correct({'a': range(30), 'b': range(10), 'c': [5]})
  found = kept(table, max_solutions_per_problem=10)
  assert {name: len(rows) for name, rows in found.items()} == {
    'a': 10,
    'b': 10,
    'c': 1,
  }
  assert len({index for index, _ in found['a']}) == 10


def test_a_problems_choice_depends_on_no_other_problem_and_no_order():
  alone = correct({'a': range(30)})
  among = correct({'0': range(99), 'a': reversed(range(30)), 'z': range(7)})
  assert indices(alone, 'a') == indices(among, 'a')
  assert indices(alone, 'a') != indices(alone, 'a', seed=1)


def test_the_choice_is_uniform():
  problems = {f'p{i}': range(6) for i in range(3_000)}
  counts = collections.Counter()
  for rows in kept(correct(problems), max_solutions_per_problem=2).values():
    counts[tuple(index for index, _ in rows)] += 1
  assert len(counts) == 15  # every pair
  expected = 3_000 / 15
  chi_square = sum((n - expected) ** 2 / expected for n in counts.values())
  assert chi_square < 42.6  # 14 degrees of freedom: exceeded once in 10,000


def test_a_sample_that_was_left_out_stays_out_as_the_run_grows():
  few = set(indices(correct({'a': range(16)}), 'a'))
  many = set(indices(correct({'a': range(32)}), 'a'))
  assert {index for index in many if index < 16} <= few


def test_cap_weighs_a_solution_by_its_reward():
  table = correct({'a': range(30), 'b': [0]}, reward=0.5)
  weights = [w for rows in kept(table).values() for _, w in rows]
  assert weights == [0.5] * 11


def test_literal_keeps_every_correct_one():
  table = correct({'a': range(30), 'b': [0]})
  found = kept(table, weighting='literal', max_solutions_per_problem=10)
  assert indices(table, 'a', weighting='literal') == list(range(30))
  assert {w for rows in found.values() for _, w in rows} == {1.0}


def test_per_problem_gives_every_solved_problem_the_same_weight():
  table = correct({'a': range(30), 'b': [3, 4], 'c': [0]})
  found = kept(table, weighting='per_problem', max_solutions_per_problem=4)
  assert [len(rows) for rows in found.values()] == [4, 2, 1]
  for rows in found.values():
    assert sum(w for _, w in rows) == pytest.approx(1)


def test_dedupe_keeps_one_of_each_text_within_a_problem():
  table = correct({'a': range(30), 'b': range(4)}, text=lambda p, i: i % 3)
  assert indices(table, 'a', dedupe=True) == [0, 1, 2]
  assert indices(table, 'b', dedupe=True) == [0, 1, 2]  # not across problems
  assert len(indices(table, 'a', dedupe=False)) == 10


def test_nothing_correct_keeps_nothing():
  assert filtering.keep(correct({}), filtering.SelectionConfig()).num_rows == 0


@pytest.mark.parametrize(
  ('fields', 'message'),
  [
    ({'max_solutions_per_problem': 0}, 'at least 1'),
    ({'weighting': 'caps'}, "'cap'"),
    ({'train_prompt': 'no_shot'}, "'zero_shot'"),
    ({'dedupe': 1}, 'expected bool'),
  ],
)
def test_a_wrong_value_is_refused_with_what_is_allowed(fields, message):
  with pytest.raises(configuration.ConfigurationError, match=message):
    filtering.SelectionConfig(**fields)
