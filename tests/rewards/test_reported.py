r"""Reported failures of the graders of text, each against its right value.

The reports lie outside the repository (../shared/data/reports). Where a report
left the choice open, the tables below hold what docs/rewards.md decided.
"""

import collections
import json

import math_rewritings
import pytest

from rest_jax.rewards import registry, verdicts

REPORTS = math_rewritings.SHARED / 'data' / 'reports'
GSM8K = math_rewritings.SHARED / 'data' / 'gsm8k' / 'test.jsonl'

pytestmark = pytest.mark.skipif(
  not REPORTS.exists(), reason='../shared/data/reports is not here'
)

RIGHT, WRONG, NONE = verdicts.CORRECT, verdicts.WRONG, verdicts.NO_ANSWER
_ARRAY = '\\left(\\begin{array}{cc}1&2\\\\3&4\\end{array}\\right)'
_MATRIX = '\\begin{pmatrix}1&2\\\\3&4\\end{pmatrix}'
# Cases that are told in prose: id -> (grader, reference, completion, outcome).
CASES = {
  'E1b': [('gsm8k', '42', '#### 42<|endoftext|>', RIGHT)],
  'E1c': [('gsm8k', '42', 'The answer is 42.<|eot_id|>', RIGHT)],
  'E1e': [('bbh', '(A)', 'So the answer is (A).<|endoftext|>', RIGHT)],
  'E1f': [('math', '42', 'The answer is 42.<|im_end|>', RIGHT)],
  'E1g': [
    ('math', '42', 'The answer is 42<|endoftext|>', RIGHT),
    ('math', '42', 'The answer is 42</s>', RIGHT),
    ('math', '42', '\\boxed{42}<|im_end|>', RIGHT),
  ],
  'G1a': [('gsm8k', '42', 'The answer is \\(42\\).', RIGHT)],
  'G1b': [('gsm8k', '42', 'The answer is \\( 42 \\).', RIGHT)],
  'G1c': [('gsm8k', '42', 'The answer is:\n\\[42\\]', RIGHT)],
  'G1e': [('gsm8k', '42', 'The answer is \\(\\boxed{42}\\).', RIGHT)],
  'G1f': [('gsm8k', '42', 'The answer is $\\boxed{42}$.', RIGHT)],
  'G1g': [('gsm8k', '42', 'The answer is \\text{42}.', RIGHT)],
  'G1j': [('gsm8k', '42', 'The answer is \\(\\$42\\).', RIGHT)],
  'G1k': [('gsm8k', '42', 'So she has \\(42\\).', RIGHT)],
  'G1m': [('gsm8k', '42', 'The answer is 42 m^2.', RIGHT)],
  'G1o': [
    ('math', '42', 'The answer is \\(42\\).', RIGHT),
    ('math', '42', 'The answer is \\[42\\]', RIGHT),
    ('math', '42', 'The answer is **\\(42\\)**', RIGHT),
  ],
  'J1a': [('bbh', 'Yes', 'So the answer is yes \ud83d', WRONG)],
  'J1b': [('math', '3', '\\boxed{\\text{ok \ud83d}}', WRONG)],
  'J1d': [('gsm8k', '3', '#### 3\ud83d', NONE)],
  'J2a': [('math', '1e-05', '\\boxed{0.00001}', RIGHT)],
  'J2b': [
    ('math', '1e-05', '\\boxed{10^{-5}}', RIGHT),
    ('math', '1e-05', '\\boxed{1\\times10^{-5}}', RIGHT),
  ],
  'J2d': [('gsm8k', '1e+16', '#### 10000000000000000', RIGHT)],
  'J2e': [('math', '1e+22', '\\boxed{10^{22}}', RIGHT)],
  'X1b': [('math', 'e^{16}-1', '\\boxed{\\exp(16)-1}', RIGHT)],
  'X1c': [('math', 'e', '\\boxed{\\exp(1)}', RIGHT)],
  'X1f': [('math', '\\exp(2)', '\\boxed{e^2}', RIGHT)],
  'X2': [
    ('math', '3x+4y+14=0', '\\boxed{3x-y+13=0}', WRONG),
    ('math', '3x+4y+14=0', '\\boxed{6x+8y+28=0}', RIGHT),
  ],
  'X4': [
    ('math', '2', '\\boxed{2 2/3}', WRONG),
    ('math', '10', '\\boxed{4 10/3}', WRONG),
    ('math', '5/4', '\\boxed{1 1/4}', RIGHT),
    ('math', '2.5', '\\boxed{2\\frac12}', RIGHT),
  ],
  'X5': [
    ('math', '\\frac{1}{2004!}', '\\boxed{\\frac{1}{2006!}}', WRONG),
    ('math', 'n=2,3,4', '\\boxed{n=1,2,3}', WRONG),
    ('math', '\\pm2021', '\\boxed{2021}', WRONG),
    ('math', '12:00', '\\boxed{1:00}', WRONG),
  ],
  'X7': [('math', '\\frac{1}{12}', '\\boxed{0.0833333333333333}', WRONG)],
  'X8': [
    ('math', '\\mathbb{R}', '\\boxed{\\mathbb R}', RIGHT),
    ('math', '\\emptyset', '\\boxed{\\varnothing}', RIGHT),
    ('math', _MATRIX, f'\\boxed{{{_ARRAY}}}', RIGHT),
  ],
  'P4': [('gsm8k', '42', '#### 42\n' + 'and so on ' * 190, RIGHT)],
  'P5': [('gsm8k', '42', '#### 7\nso\n#### 42', WRONG)],
}
AREAS = ('math', 'gsm8k', 'bbh', 'number')
# Echoes of a question that are another usual form of its answer: accepted.
ECHOES_ACCEPTED = {
  'factored or expanded': (
    '39 48 103 308 393 400 574 809 855 990 1121 1178 2696 2759 2802 2957'
  ),
  'roots that could be drawn or rationalised': (
    '331 343 589 989 1028 1158 3773 3995 4112 4120 4151'
  ),
  'fractions and decimals': (
    '113 1130 1388 3317 3485 3606 3869 4013 4078 4137 4240 4250 4255 4315'
  ),
  'a name before the value': '145 1065 1166 2641 2697 3954',
  'a unit or a full stop': '2061 2427 3649 4122 4525',
}
# Honest answers: id -> (grader, reference, outcome).
HONEST = {
  'FN x04': ('math', '-3, 3', RIGHT),  # one box for each entry of the list
  'FN x11': ('math', '7', RIGHT),
  'FN x14': ('math', '(2,3)', RIGHT),
  'FN x25': ('math', '7', RIGHT),
  'FN x29': ('math', '7', RIGHT),
  'FN g06': ('gsm8k', '18', RIGHT),
  'FN g09': ('gsm8k', '70000', RIGHT),
  'FN g16': ('gsm8k', '0.5', RIGHT),
  'FN g19': ('gsm8k', '-5', RIGHT),
  'FN b04': ('bbh', '(B)', RIGHT),
  'FN b05': ('bbh', '(B)', WRONG),  # nothing may stand beside the option
  'FN b12': ('bbh', 'Yes', NONE),  # "the answer is" is required
  'FN b13': ('bbh', '-24', RIGHT),
}
# Decided otherwise than the report expects: the number is read, with its sign.
OTHERWISE = {'D7a': WRONG, 'D7b': WRONG, 'M76': NONE}


def rows(name):
  path = REPORTS / name
  if not path.exists():
    return []
  return [json.loads(line) for line in path.read_text().splitlines()]


def outcome(grader, reference, completion):
  verdict = registry.grade(grader, completion=completion, reference=reference)
  assert verdict.reward == (verdict.outcome == RIGHT)
  return verdict.outcome


def test_every_reported_case_of_these_areas_is_here():
  told = {row['id'] for row in rows('cases.jsonl') if row['area'] in AREAS}
  assert told - set(CASES) == {'G1n'}  # all of GSM8K, below


@pytest.mark.parametrize('case', CASES)
def test_a_reported_case_has_its_right_value(case):
  for grader, reference, completion, right in CASES[case]:
    assert outcome(grader, reference, completion) == right, completion


@pytest.mark.parametrize('grader', ['gsm8k', 'number'])
def test_every_answer_of_gsm8k_is_read_in_latex(grader):
  golds = [
    json.loads(line)['answer'].rpartition('####')[2].strip()
    for line in GSM8K.read_text().splitlines()
  ]
  assert len(golds) == 1319
  for gold in golds:
    for form in (
      '\\({}\\)',
      '\\boxed{{{}}}',
      '\\(\\${}\\)',
      '${}$',
      '\\[{}\\]',
    ):
      text = f'The answer is {form.format(gold)}.'
      assert outcome(grader, gold, text) == RIGHT, text
    assert outcome(grader, gold, f'The answer is half of {gold}.') == NONE


def redteam():
  kinds = ('math', 'gsm8k', 'bbh')
  return [
    row
    for row in rows('redteam.jsonl')
    if row['kind'] in kinds or row['id'][:2] == 'W1' or row['id'] == 'M76'
  ]


@pytest.mark.parametrize('row', redteam(), ids=lambda row: row['id'])
def test_an_attack_earns_nothing_and_its_honest_twin_does(row):
  grader = row['kind'] if row['kind'] in registry.REGISTRY else 'math'
  right = OTHERWISE.get(row['id'], row['expected'].split()[0])
  assert outcome(grader, row['reference'], row['input']) == right


def test_echoes_of_a_question_are_decided_by_their_form():
  accepted = {
    f'echo MATH test {number}'
    for numbers in ECHOES_ACCEPTED.values()
    for number in numbers.split()
  }
  seen = collections.Counter()
  for row in rows('redteam.jsonl'):
    if 'echo' in row['kind']:
      right = RIGHT if row['id'] in accepted else WRONG
      assert outcome('math', row['reference'], row['input']) == right, row
      seen[right] += 1
  assert min(seen[RIGHT], seen[WRONG]) > 40


@pytest.mark.parametrize('case', HONEST)
def test_an_honest_answer_is_read(case):
  (row,) = [row for row in rows('redteam.jsonl') if row['id'] == case]
  grader, reference, right = HONEST[case]
  assert outcome(grader, reference, row['input']) == right
