"""MATH's own reference answers: each is itself however it is written.

Seeded samples, to be quick; tests/benchmarks/math_grader.py goes over all.
"""

import collections
import random

import math_rewritings
import pytest

from rest_jax.rewards import verdicts
from rest_jax.rewards.math import math_answer

pytestmark = pytest.mark.skipif(
  not math_rewritings.MATH.exists(), reason='../shared/data/math is not here'
)
PER_REWRITING = 60


@pytest.fixture(scope='module')
def problems():
  return math_rewritings.problems()


@pytest.fixture(scope='module')
def answers(problems):
  return sorted({answer for _, answer in problems})


def test_every_reference_is_read_and_equals_itself(problems, answers):
  assert len(problems) == 12_498 and len(answers) > 4_000
  for answer in answers:
    assert math_answer.equivalent(answer, answer), answer
    # all of them are understood, none is compared as mere text
    assert not math_answer.canonical(answer).startswith('raw:'), answer


@pytest.mark.parametrize('name', math_rewritings.REWRITINGS)
def test_a_reference_equals_its_rewriting(answers, name):
  rewrite = math_rewritings.REWRITINGS[name]
  found = [
    (answer, changed)
    for answer in answers
    if (changed := rewrite(answer)) is not None
  ]
  assert found, f'{name} applies to no answer'
  draw = random.Random(name)
  for answer, changed in draw.sample(found, min(PER_REWRITING, len(found))):
    text = math_answer.extract(f'\\boxed{{{changed}}}')
    assert math_answer.equivalent(answer, text), (answer, changed)
    if (answer, changed) != ('81, 256', '81,256'):  # which may be a number
      assert math_answer.canonical(answer) == math_answer.canonical(text)


def test_answers_of_the_same_type_differ(answers):
  pairs = math_rewritings.wrong_pairs(answers, 12_000, seed=4)
  same = [pair for pair in pairs if math_answer.equivalent(*pair)]
  for reference, other in same:
    # equal only if nothing but spelling tells them apart
    assert _bare(reference) == _bare(other), (reference, other)
  assert len(same) < len(pairs) / 500


def _bare(answer):
  """An answer without spaces, brackets, fonts and the size of fractions."""
  for old in (
    *('\\left', '\\right', '\\!', '\\,', '\\;', '\\text', '\\mbox', ' '),
    *'{}().',
  ):
    answer = answer.replace(old, '')
  return answer.replace('dfrac', 'frac').replace('tfrac', 'frac')


def test_one_digit_sign_or_bracket_makes_another_answer(answers):
  draw = random.Random(5)
  count = 0
  for answer in answers:
    for other in math_rewritings.near_misses(answer, draw):
      if 'phantom' not in answer:  # which hides a sign
        assert not math_answer.equivalent(answer, other), (answer, other)
      count += 1
  assert count > 6_000


def test_solutions_are_right_by_their_own_box(problems):
  draw = random.Random(6)
  kinds = collections.Counter()
  for solution, answer in draw.sample(problems, 3_000):
    verdict = math_answer.grade(solution, answer)
    if verdict.outcome != verdicts.CORRECT:
      kinds[verdict.detail] += 1
      if verdict.detail == 'two different answers':
        assert solution.count('\\boxed') > 1, solution[-200:]
  # of 12,498: 35 have two boxes that differ, 15 a box like \boxed{19}x^3
  assert set(kinds) == {
    'two different answers',
    'the box is part of a larger expression, or a hedge',
  }
  assert sum(kinds.values()) < 30
