"""Against Math-Verify, a second opinion that is a development extra.

docs/rewards.md explains every class of disagreement. It runs in a process that
is killed when it hangs; the test skips where it is not installed.
"""

import random

import math_rewritings
import math_verify_oracle
import pytest

from rest_jax.rewards.math import math_answer

REWRITTEN, WRONG, NEAR = 120, 100, 80

pytestmark = [
  pytest.mark.skipif(
    not math_rewritings.MATH.exists(), reason='../shared/data/math is not here'
  ),
  pytest.mark.skipif(
    math_verify_oracle.python() is None,
    reason='Math-Verify is not installed (pip install -e .[oracle])',
  ),
]


def _ours(reference, answer):
  text = math_answer.extract(f'\\boxed{{{answer}}}')
  return text is not None and math_answer.equivalent(reference, text)


def test_what_math_verify_calls_equal_and_we_do_not_is_a_unit_or_a_policy():
  draw = random.Random(7)
  answers = sorted({answer for _, answer in math_rewritings.problems()})
  pairs = []
  rewritings = list(math_rewritings.REWRITINGS.values())
  while len(pairs) < REWRITTEN:
    answer = draw.choice(answers)
    changed = draw.choice(rewritings)(answer)
    if changed is not None:
      pairs.append((answer, changed))
  pairs += math_rewritings.wrong_pairs(answers, WRONG, seed=8)
  near = [
    (answer, other)
    for answer in draw.sample(answers, NEAR)
    for other in math_rewritings.near_misses(answer, draw)
  ]
  pairs += near[:NEAR]
  theirs = [row['equal'] for row in math_verify_oracle.compare(pairs)]
  ours = [_ours(*pair) for pair in pairs]
  assert theirs.count(True) > REWRITTEN * 0.8  # it works at all
  for pair, own, other in zip(pairs, ours, theirs, strict=True):
    if other and not own:
      # units and bases, which Math-Verify drops
      assert any(sign in pair[1] for sign in ('text', 'mbox', '_')), pair
  # and where only we say equal, the pair is a rewriting, never a wrong answer
  for pair, own, other in list(zip(pairs, ours, theirs, strict=True))[
    REWRITTEN:
  ]:
    assert other or not own, pair
