r"""Which text of a completion is its answer."""

import pytest

from rest_jax.rewards import verdicts
from rest_jax.rewards.math import math_answer


@pytest.mark.parametrize(
  ('completion', 'answer'),
  [
    ('so $\\boxed{3}$.', '3'),
    ('\\boxed 3', '3'),
    ('\\boxed{ 3 }', ' 3 '),
    ('\\boxed {17}', '17'),
    ('\\boxed -12.', '-12'),
    ('\\fbox{3}', '3'),
    ('\\boxed{\\boxed{3}}', '3'),
    ('\\boxed{\\frac{1}{2}}', '\\frac{1}{2}'),
    ('\\boxed{\\{1, 2\\}}', '\\{1, 2\\}'),
    ('\\boxed{\\text{(A)}} and more', '\\text{(A)}'),
    ('\\boxed{2}, that is, \\boxed{2}', '2'),
    ('\\boxed{0.5}, that is, \\boxed{\\frac12}', '\\frac12'),
    ('(x-\\boxed{\\phantom{09}})(x-\\boxed{ }) so \\boxed{4}', '4'),
    ('Final Answer: The final answer is $2$. I hope it is correct.', '2'),
    ('Final Answer: The final answer is $\\frac12$. I hope', '\\frac12'),
    ('Final answer: 7', '7'),
    ('The answer is $x=3$.', ' x=3'),
    ('The answer is:\n**12**', '12'),
    ('the answer is 4.5 cm.', '4.5 cm'),
    ('The answer is 3, but \\boxed{4} it is', '4'),
  ],
)
def test_the_answer_is_found(completion, answer):
  assert math_answer.extract(completion).strip() == answer.strip()


@pytest.mark.parametrize(
  'completion',
  [
    '',
    '3',
    'We get $x = 3$.',
    'so 3 + 4 = 7',
    '3x + 4y + 14=0',
    '\\boxed{3',
    '\\boxed{3} and \\boxed{4',
    '\\boxed',
    '\\boxedx{3}',
    '\\boxed{2} wait \\boxed{3}',
    '\\boxed{3} or \\boxed{2}, so \\boxed{3}',
    'The answer is 3. No, the answer is 4.',
    'Problem: \\boxed{3}',
    '\\boxed{3}' * 65,
    '\\boxed{1}' + 'x' * 200_001,
  ],
)
def test_there_is_no_one_answer(completion):
  assert math_answer.extract(completion) is None
  verdict = math_answer.grade(completion, '3')
  assert verdict.reward == 0 and verdict.answer is None
  assert verdict.outcome in (verdicts.NO_ANSWER, verdicts.WRONG)


def test_what_follows_a_stop_string_is_not_read():
  run_on = '\\boxed{3}\nProblem: 1 + 1?\nSolution: \\boxed{2}'
  assert math_answer.extract(run_on) == '3'
  assert math_answer.extract(run_on, stop=()) is None
  assert math_answer.extract('\\boxed{3} END \\boxed{2}', stop=('END',)) == '3'
  assert math_answer.grade(run_on, '3').outcome == verdicts.CORRECT
  assert math_answer.grade(run_on, '3', stop=()).outcome == verdicts.WRONG
  text = 'The final answer is $3$. I hope it is correct.\n\nProblem: 4'
  assert math_answer.grade(text, '3').outcome == verdicts.CORRECT


PART_OF_MORE = (
  '-\\boxed{3}',
  '10^{\\boxed{3}}',
  '\\boxed{3} or 4',
  '$-\\boxed{3}$',
  '-$\\boxed{3}$',
  'x = 5 - \\boxed{3}',
  '2\\boxed{3}',
  '2\\cdot\\boxed{3}',
  '\\frac{\\boxed{3}}{4}',
  '\\frac{1}{\\boxed{3}}',
  '\\boxed{3}^2',
  '\\boxed{3}\\pi',
  '\\boxed{3}\\text{ million}',
  '\\boxed{3} million',
  '$\\boxed{3}$ or $4$',
  '$\\boxed{3}$ (or 4)',
  '$$\\boxed{3}$$ or 4',
  'The answer is not $\\boxed{3}$',
  'negative \\boxed{3}',
  '\\boxed{3},000',
  '\\boxed{3}.5',
  '\\boxed{3}5',
  '\\boxed{3}+1',
  '\\boxed{3} + 1',
  '\\boxed{3}x',
  '$\\boxed{3}!$',
  '\\boxed{3}/4',
  'a_{\\boxed{3}}',
  '\\log \\boxed{3}',
)
WHOLE = (
  '- \\boxed{3}',
  'So the answer - \\boxed{3}',
  '\\boxed{3}!',
  '**\\boxed{3}**',
  '**Answer:** $\\boxed{3}$ cm.',
  '$x=\\boxed{3}\\text{ cm}^2$',
  '$x \\equiv \\boxed{3} \\pmod 7$',
  '$\\boxed{3}^\\circ$',
  '$\\boxed{3}\\%$',
  'The answer is $\\boxed{3}$, because 4 is not.',
  'Thus $\\boxed{3}$ - as wanted.',
  '$$\\boxed{3}$$',
  '\\[\\boxed{3}\\]',
  '\\(\\boxed{3}\\).',
  'x \\approx \\boxed{3}',
  'Step 2: \\boxed{3}',
  '\\boxed{3}: done',
  '(\\boxed{3})',
  '$\\displaystyle\\boxed{3}$',
  '{\\large \\boxed{3}}',
  '\\color{red}{\\boxed{3}}',
  'The final answer: \\boxed{3} points or so',
  '\\boxed{3} times.',
)


@pytest.mark.parametrize('completion', PART_OF_MORE)
def test_a_box_that_is_part_of_more_says_something_else(completion):
  verdict = math_answer.grade(completion, '3')
  assert verdict.outcome == verdicts.WRONG and verdict.answer is None
  assert 'part of' in verdict.detail


@pytest.mark.parametrize('completion', WHOLE)
def test_what_stands_around_a_box_may_be_words_and_units(completion):
  assert math_answer.grade(completion, '3').outcome == verdicts.CORRECT


def test_all_boxes_agree_with_each_other_or_are_a_lists_entries():
  def outcome(completion, reference):
    return math_answer.grade(completion, reference).outcome

  # 3 agrees with x = 3 and with y = 3, which differ
  assert (
    outcome('\\boxed{x=3} \\boxed{y=3} \\boxed{3}', 'x=3') == verdicts.WRONG
  )
  assert outcome('\\boxed{2+3}=\\boxed{5}', '5') == verdicts.CORRECT
  both = 'so $x = \\boxed{3}$ or $x=\\boxed{-3}$.'
  assert outcome(both, '3,-3') == verdicts.CORRECT
  for reference in ('3', '-3', '3,-3,5', '3,5'):
    assert outcome(both, reference) == verdicts.WRONG
  assert outcome('\\boxed{x=2}, \\boxed{y=3}', '(2,3)') == verdicts.CORRECT
  assert outcome('\\boxed{x=3}, \\boxed{y=2}', '(2,3)') == verdicts.WRONG


def test_two_answers_are_wrong_and_cast_no_vote():
  for first, second in (('2', '3'), ('3', '2'), ('3', '3, 2')):
    verdict = math_answer.grade(f'\\boxed{{{first}}} \\boxed{{{second}}}', '3')
    assert verdict.outcome == verdicts.WRONG
    assert verdict.answer is None and 'two' in verdict.detail


@pytest.mark.parametrize('reason', ['length', 'prompt'])
def test_an_unfinished_completion_is_never_correct(reason):
  assert math_answer.grade('\\boxed{3}', '3', finish_reason='eos').reward == 1
  verdict = math_answer.grade('\\boxed{3}', '3', finish_reason=reason)
  assert verdict.outcome == verdicts.TRUNCATED and verdict.reward == 0


@pytest.mark.parametrize(
  'reference', [None, '', ' ', '$$', '\\boxed{}', '7' * 501]
)
def test_a_reference_that_says_nothing_is_our_error(reference):
  for completion in ('\\boxed{}', '\\boxed{3}', ''):
    verdict = math_answer.grade(completion, reference)
    assert verdict.outcome == verdicts.HARNESS_ERROR and verdict.reward == 0


def test_nothing_equals_nothing():
  assert not math_answer.equivalent('', '')
  assert not math_answer.equivalent(' ', '$$')
  assert math_answer.canonical('') is None
  assert math_answer.canonical('7' * 501) is None


def test_a_reference_may_come_in_its_box_or_its_solution():
  for reference in ('\\frac12', '\\boxed{\\frac12}', 'so $\\boxed{\\frac12}$.'):
    assert math_answer.grade('\\boxed{0.5}', reference).reward == 1


def test_the_verdict_says_what_was_compared():
  verdict = math_answer.grade('\\boxed{x = \\frac{2}{4}}', '3')
  assert verdict.answer == '0.5'
  assert verdict.detail == '0.5, expected 3'
