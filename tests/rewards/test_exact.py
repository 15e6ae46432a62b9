"""The final number and the final text of a completion."""

import decimal
import fractions
import random
import time

import pytest

from rest_jax.rewards import exact, verdicts


def answer_of(text):
  return exact.grade_number(text, '17').answer


@pytest.mark.parametrize(
  ('text', 'number'),
  [
    ('The answer is 17.', '17'),
    ('the answer is: 17', '17'),
    ('So the final answer is **17**.', '17'),
    ('Answer: 17', '17'),
    ('**Answer:** 17', '17'),
    ('#### 17', '17'),
    ('The answer is:\n17', '17'),
    ('The answer is $1,234.50.', '1234.5'),
    ('The answer is $29.00', '29'),
    ('The answer is 8,000', '8000'),
    ('The answer is 8,000, as we saw', '8000'),
    ('The answer is -5', '-5'),
    ('The answer is - 5', '-5'),
    ('The answer is \u22125', '-5'),
    ('The answer is -$5', '-5'),
    ('The answer is $-5', '-5'),
    ('The answer is 3/4', '0.75'),
    ('The answer is -1/3', '-1/3'),
    ('The answer is 2/6', '1/3'),
    ('The answer is .5', '0.5'),
    ('The answer is 5.', '5'),
    ('The answer is 007', '7'),
    ('The answer is 25%', '25'),
    ('The answer is 5kg', '5'),
    ('The answer is 12 apples. Then he ate 3.', '12'),
    ('The answer is $\\boxed{42}$.', '42'),
    ('The answer is \\$42', '42'),
    ('The answer is (6)', '6'),
    ('The answer is x = 6', '6'),
  ],
)
def test_a_number_behind_the_marker_is_read(text, number):
  assert answer_of(text) == number


@pytest.mark.parametrize(
  'text',
  [
    '',
    '17',
    'We get 17.',
    'The answer is',
    'The answer is .',
    'The answer is ,',
    'The answer is -',
    'The answer is unclear.\n17',
    'The answer is 17 or 18',
    'The answer is 17 or so',
    'The answer is not 17',
    'The answer is 17, 18, 19',
    'The answer is 17 18',
    'The answer is 17-18',
    'The answer is 16+1',
    'The answer is 1_7',
    'The answer is 1e1',
    'The answer is 0x11',
    'The answer is \u0661\u0667',  # Arabic-Indic digits
    'The answer is 1\u0667',
    'The answer is 17\u00b2',
    'The answer is 1,7',
    'The answer is 1,0000',
    'The answer is 17/0',
    'The answer is 17//1',
    'The answer is 1.7.0',
    'The answer is 10:17',
    'The answer is 17 thousand',
    'The answer is 17k',
    'The answer is ' + '1' * 41,
    'The answer is 1/' + '1' * 41,
    'The answer is 17 ' + 'x' * 200,
    'The answer is ' + 'x' * 198 + ' 170',
  ],
)
def test_what_is_not_one_plain_number_is_no_answer(text):
  verdict = exact.grade_number(text, '17')
  assert verdict.outcome == verdicts.NO_ANSWER
  assert verdict.answer is None and verdict.reward == 0


def test_the_first_marker_of_the_strictest_kind_decides():
  run_on = 'The answer is 5.\n\nQ: Another.\nA: The answer is 6.'
  assert answer_of(run_on) == '5'
  assert answer_of('Answer: add 2 and 3.\n#### 5') == '5'
  assert answer_of('The answer is 4.\n#### 5') == '5'


def test_verdicts_compare_values_not_spellings():
  for text in ('2.5', '2.50', '5/2', '$2.5', '002.5'):
    for reference in ('2.5', '10/4', '2.500'):
      verdict = exact.grade_number(f'#### {text}', reference)
      assert verdict.outcome == verdicts.CORRECT, (text, reference)
      assert verdict.reward == 1
  for text, reference in (('0.33', '1/3'), ('1000050', '1000000')):
    verdict = exact.grade_number(f'#### {text}', reference)
    assert verdict.outcome == verdicts.WRONG
    assert reference in verdict.detail


def test_canonical_is_one_spelling_per_value():
  random_ = random.Random(0)
  seen = {}
  for _ in range(3000):
    a, b = random_.randint(-200, 200), random_.randint(1, 200)
    value = fractions.Fraction(a, b)
    text = exact.canonical(value)
    assert seen.setdefault(text, value) == value
    assert exact.parse_number(text) == value
    if '/' not in text:  # an independent reading of the decimals
      assert fractions.Fraction(decimal.Decimal(text)) == value


@pytest.mark.parametrize('grade', [exact.grade_number, exact.grade_exact])
@pytest.mark.parametrize('reason', ['length', 'prompt'])
def test_an_unfinished_completion_is_never_correct(grade, reason):
  assert grade('#### 17', '17', finish_reason='eos').reward == 1
  assert grade('#### 17', '17', finish_reason='stop').reward == 1
  verdict = grade('#### 17', '17', finish_reason=reason)
  assert verdict.outcome == verdicts.TRUNCATED
  assert verdict.reward == 0 and verdict.answer is None


@pytest.mark.parametrize('reference', [None, '', 'many', '1 or 2', '1_000'])
def test_a_bad_reference_is_our_error_not_the_models(reference):
  verdict = exact.grade_number('#### 17', reference)
  assert verdict.outcome == verdicts.HARNESS_ERROR


@pytest.mark.parametrize(
  'text',
  [
    'the answer is ' * 200_000,
    'the ' * 200_000,
    'the answer is ' + '1,' * 200_000,
    'the answer is ' + '9' * 1_000_000,
    'the answer is ' + ' ' * 1_000_000 + '17',
    'the answer is ' + '- ' * 1_000_000,
    '#' * 1_000_000,
    'answer ' * 200_000,
    '1/' * 500_000,
  ],
)
def test_grading_time_is_bounded_whatever_the_text(text):
  start = time.process_time()
  exact.grade_number(text, '17')
  exact.grade_exact(text, '17')
  assert time.process_time() - start < 0.5  # measured: under 0.02


def test_exact_compares_letter_for_letter():
  assert exact.grade_exact('x\nThe answer is (A).', '(A)').reward == 1
  assert exact.grade_exact('The answer is Paris, France.', 'Paris').reward == 0
  assert exact.grade_exact('The answer is paris', 'Paris').reward == 0
  assert exact.grade_exact('Thinking ...\n  Paris. \n\n', 'Paris').reward == 1
  assert exact.grade_exact('', 'Paris').outcome == verdicts.NO_ANSWER
  assert exact.grade_exact('#### \n', 'Paris').outcome == verdicts.NO_ANSWER
  error = exact.grade_exact('Paris', ' ')
  assert error.outcome == verdicts.HARNESS_ERROR


def test_a_long_exact_answer_is_not_cut_before_it_is_compared():
  long = 'ab ' * 150 + 'c'
  assert exact.grade_exact(f'#### {long}', long).reward == 1
  assert exact.grade_exact(f'#### {long}d', long).reward == 0
  assert exact.grade_exact(f'#### {"a" * 201}b', 'a' * 201).reward == 0
