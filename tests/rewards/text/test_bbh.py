"""Answers to BBH are compared whole, and nothing less is right."""

import json

import math_rewritings
import pytest

from rest_jax.rewards import verdicts
from rest_jax.rewards.text import bbh


@pytest.mark.parametrize(
  ('text', 'reference'),
  [
    ('So the answer is (B).', '(B)'),
    ('So the answer is B.', '(B)'),
    ('So the answer is **(B)**', '(B)'),
    ('So the answer is "valid."', 'valid'),
    ('So the answer is Valid', 'valid'),
    ('So the answer is ])}.', '] ) }'),
    ('So the answer is ] ) }.', '] ) }'),
    ('the answer is: True\n\nQ: x\nthe answer is False.', 'True'),
    ('So the answer is Monsters, Inc.', 'Monsters, Inc'),
    ('So the answer is ' + 'word ' * 100 + 'end.', 'word ' * 100 + 'end'),
    ('So the answer is -219.', '-219'),
    ('So the answer is \u2212219.', '-219'),
    ('So the answer is option (B).', '(B)'),
    ('So the answer is $-219$.', '-219'),
    ('So the answer is **\\(\\boxed{(B)}\\)**.', '(B)'),
    ('So the answer is choice B', '(B)'),
    ('So the answer is .5', '.5'),
  ],
)
def test_bbh_compares_the_whole_answer(text, reference):
  assert bbh.grade(text, reference).outcome == verdicts.CORRECT
  for other in ('(A)', 'invalid', '] ) } }', 'False', '219', 'word end', 'a'):
    assert bbh.grade(text, other).reward == 0


@pytest.mark.parametrize(
  'text',
  [
    '',
    '(A)',
    '(A) (B) (C)',
    'The answer is not (A).',
    'The answer is (A) or (B).',
    'The answer is (A) Monday.',
    'The answer is (AA).',
    'Answer: (A)',
    '#### (A)',
    'The answer is .',
    'the answer is ' * 50 + '(A)',
    'The answer is (B). No, the answer is (A).',
    'Q: x\nThe answer is\n\nQ: y',
    '\nQ: The answer is (A).',
  ],
)
def test_bbh_gives_nothing_for_less(text):
  assert bbh.grade(text, '(A)').reward == 0
  assert bbh.grade(text, '').outcome == verdicts.HARNESS_ERROR


@pytest.mark.parametrize(
  ('text', 'reference'),
  [
    ('.5', '5'),
    ('Ye\u017f', 'Yes'),  # the long s
    ('\u212a', 'k'),  # the sign of the kelvin
    ('Y\u0435s', 'Yes'),  # a Cyrillic letter
    ('stra\u00dfe', 'strasse'),
    ('option b', '(B)'),
    ('5.', '.5'),
  ],
)
def test_bbh_takes_no_letter_or_point_for_another(text, reference):
  verdict = bbh.grade(f'So the answer is {text}', reference)
  assert verdict.outcome == verdicts.WRONG


DATA = math_rewritings.SHARED / 'data' / 'bbh' / 'bbh'


@pytest.mark.skipif(not DATA.exists(), reason='../shared is not here')
def test_targets_are_right_by_themselves_and_by_no_other():
  for path in sorted(DATA.glob('*.json')):
    targets = [
      row['target'] for row in json.loads(path.read_text())['examples']
    ]
    for one, other in zip(targets, targets[1:], strict=False):
      text = f"Let's think.\nSo the answer is {one}."
      assert bbh.grade(text, one).reward == 1
      assert bbh.grade(text, other).reward == (one == other)
