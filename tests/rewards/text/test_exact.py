"""The final number and the final text of a completion."""

import decimal
import fractions
import json
import random

import cost
import math_rewritings
import pytest

from rest_jax.rewards import verdicts
from rest_jax.rewards.text import bbh, exact, numerals


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
    ('The answer is \\(42\\).', '42'),
    ('The answer is:\n\\[\n42\n\\]', '42'),
    ('The answer is \\(\\boxed{\\$42}\\).', '42'),
    ('The answer is 42\\text{ apples}', '42'),
    ('The answer is $\\dfrac{1}{4}$', '0.25'),
    ('The answer is 1{,}234', '1234'),
    ('The answer is 70 000', '70000'),
    ('The answer is 42 m^2', '42'),
    ('The answer is 42 ft\u00b2', '42'),
    ('The answer is negative 5', '-5'),
    ('The answer is minus $5', '-5'),
    ('The answer is (-$5)', '-5'),
    ('The answer is 5 more apples than Bob', '5'),
    ('The answer is 5 for the two of them', '5'),
    ('The answer is 5 times as many', '5'),
    ('The answer is 42<|im_end|>', '42'),
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


CHANGED = (
  'half of 17|twice 17|the square root of 17|17 million|17million|17bn|17 K'
  '|17 tens|17 tenths|17 point two|17 squared|17 factorial|17 divided by two'
  '|17 minus one|17 apples minus one|17 over two|17 and a half|17 dozen'
  '|17 lakh|17 degrees below zero|more than 17|at least 17|all but 17'
  '|anything but 17|not 17|fifty 17|17 \u00bd|17 pairs|17th|17x|17 plus tax'
  '|a third of the 17|negative -17|- -17|2\\cdot17|17^2|\\sqrt{17}'
)


@pytest.mark.parametrize('text', CHANGED.split('|'))
def test_a_word_that_changes_the_number_makes_it_none(text):
  for form in ('The answer is {}.', '#### {}'):
    for grade in (exact.grade_number, exact.grade_gsm8k):
      verdict = grade(form.format(text), '17')
      assert verdict.outcome == verdicts.NO_ANSWER, (text, verdict)


def test_a_reference_may_be_the_spelling_of_a_float():
  for reference, digits in (('1e-05', '0.00001'), ('1e+16', f'1{"0" * 16}')):
    assert exact.grade_number(f'#### {digits}', reference).reward == 1
    # in a completion it is no number
    assert exact.grade_number(f'#### {reference}', digits).reward == 0


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
    text = numerals.canonical(value)
    assert seen.setdefault(text, value) == value
    assert numerals.parse_number(text) == value
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
  for grade in (exact.grade_number, exact.grade_exact):
    assert cost.in_loops(grade, text, '17') < 10  # measured: under 1


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


@pytest.mark.parametrize(
  ('text', 'answer'),
  [
    ('6 * 3 = 18\n#### 18', '18'),
    ('#### 18\n\nQ: Another.\nA: 5\n#### 5', '18'),
    ('#### 5\n#### 6', '5'),
    ('The answer is 18.\n\nQuestion: 2 + 2?\nThe answer is 4.', '18'),
    ('The total is $29.00.', '29'),
    ('First 3 of them.\nThey pay 70,000 dollars.', '70000'),
    ('They are 3. So she has 18 apples.', '18'),
    ('They sell 9 * 2 = $18 a day.', '18'),
    ('So she has \\(18\\).', '18'),
    ('So 9 + 9 = <<9+9=18>>18 eggs.', '18'),
    ('15%', '15'),
    ('#### 1/2', '0.5'),
    ('#### -7', '-7'),
  ],
)
def test_gsm8k_finds_the_number(text, answer):
  assert exact.grade_gsm8k(text, answer).outcome == verdicts.CORRECT
  assert exact.grade_gsm8k(text, answer).answer == answer
  assert exact.grade_gsm8k(text, '1234567').outcome == verdicts.WRONG


@pytest.mark.parametrize(
  'text',
  [
    '',
    '\n\n',
    'No number.',
    '3 + 4 = 7',
    'It is 4-6.',
    '12.5 ' * 100,
    '#### five',
    '#### nan',
    '#### inf',
    '#### 0x10',
    '#### 1e3',
    '#### 1_000',
    '#### \u0665',
    '#### 4-6',
    '#### 5 or 6',
    '#### ,',
    'The answer is unclear. 18',
    'It is ' + '9' * 41,
    'Q: 18',
    '\nQ: 18',
    '1 ' * 600 + '18',
    'x' * 300 + ' 18',
  ],
)
def test_gsm8k_reads_no_number_where_none_is_stated(text):
  for reference in ('5', '16', '18', '1000', '6'):
    if text == 'Q: 18' and reference == '18':
      continue  # one line, one number
    verdict = exact.grade_gsm8k(text, reference)
    assert verdict.reward == 0, (text, verdict)


@pytest.mark.parametrize(
  ('reference', 'good'),
  [('18', True), ('a\nb\n#### 18', True), ('#### 18.0', True), ('17', False)],
)
def test_gsm8k_takes_a_reference_or_its_solution(reference, good):
  verdict = exact.grade_gsm8k('#### 18', reference)
  assert verdict.reward == good
  assert exact.grade_gsm8k('#### 18', 'none').outcome == verdicts.HARNESS_ERROR
  assert exact.grade_gsm8k('#### 18', None).outcome == verdicts.HARNESS_ERROR


@pytest.mark.parametrize('grade', [exact.grade_gsm8k, bbh.grade])
@pytest.mark.parametrize('reason', ['length', 'prompt'])
def test_unfinished_benchmark_completions_are_truncated(grade, reason):
  text = '#### 18\nSo the answer is 18.'
  assert grade(text, '18', finish_reason='eos').reward == 1
  verdict = grade(text, '18', finish_reason=reason)
  assert verdict.outcome == verdicts.TRUNCATED and verdict.reward == 0


DATA = math_rewritings.SHARED / 'data'


@pytest.mark.skipif(not DATA.exists(), reason='../shared is not here')
def test_gsm8k_solutions_are_right_by_their_own_answers():
  lines = (DATA / 'gsm8k' / 'test.jsonl').read_text().splitlines()
  solutions = [json.loads(line)['answer'] for line in lines]
  assert len(solutions) == 1319
  for one, other in zip(solutions, solutions[1:], strict=False):
    assert exact.grade_gsm8k(one, one).reward == 1
    same = one.split('####')[1].strip() == other.split('####')[1].strip()
    assert exact.grade_gsm8k(one, other).reward == same
