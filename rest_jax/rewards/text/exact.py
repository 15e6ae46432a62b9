"""Exact matches: the final number, or the final text, of a completion.

Which part of a completion is its answer: stated_answer.py. A completion without
a marker has no answer for `grade_number`; for `grade_exact` its last line is
the answer.

GSM8K has its own grader, for it is graded against published numbers; its rules
are in docs/rewards.md.

All graders are bounded by construction: text is cut before any regular
expression runs over it, every expression is linear, and digits are counted
before they are converted. They need no process of their own.
"""

import re

from rest_jax.rewards import verdicts
from rest_jax.rewards.text import numerals, stated_answer
from rest_jax.rewards.verdicts import Verdict

# The calculator's marks in GSM8K's solutions: 9+9=<<9+9=18>>18.
_CALCULATOR = re.compile(r'<<[^<>\n]{0,100}>>')


def grade_number(
  completion: str,
  reference: str | None,
  *,
  finish_reason: str | None = None,
) -> Verdict:
  """Whether a completion's final number is the reference, exactly.

  Thousands separators, a currency sign, a per cent sign, units and LaTeX around
  the number are dropped; 2.50, 5/2 and 2.5 are the same number, 0.33 and 1/3
  are not; 'negative 5' is -5. No answer: no marker, no number behind it, more
  than one, a hedge ('4 or 5'), a word that changes the number ('2 million',
  'half of 5', '5 squared'), '1_000', '1e5', digits that are not ASCII.

  Args:
    completion: the sampled text, cut before its stop string.
    reference: the right answer: a number, written in any way read here.
    finish_reason: of the sample; 'length' and 'prompt' are never correct.

  Returns:
    A verdict; its answer is the number's one spelling (numerals.canonical).
    harness_error where the reference is not a number.
  """
  cut_off = verdicts.unfinished(finish_reason)
  if cut_off is not None:
    return cut_off
  return _number_verdict(stated_answer.conclusion(completion), reference or '')


def grade_exact(
  completion: str,
  reference: str | None,
  *,
  finish_reason: str | None = None,
) -> Verdict:
  """Whether a completion's final text is the reference, letter for letter.

  Spaces around both and one full stop at the end are dropped; case counts.

  Args:
    completion: the sampled text; without a marker its last line is the answer.
    reference: the right answer, one line.
    finish_reason: of the sample; 'length' and 'prompt' are never correct.

  Returns:
    A verdict; its answer is the text that was compared. harness_error where
    the reference is empty.
  """
  cut_off = verdicts.unfinished(finish_reason)
  if cut_off is not None:
    return cut_off
  expected = _bare(reference or '')
  if not expected:
    return verdicts.without_answer(
      verdicts.HARNESS_ERROR, 'the reference is empty'
    )
  limit = max(stated_answer.MAX_ANSWER, len(expected) + 2)
  text = stated_answer.conclusion(completion)
  found = stated_answer.behind_marker(text, limit=limit, sentence=False)
  if found is None:
    lines = text[-stated_answer.MAX_COMPLETION :].strip().splitlines()
    found = lines[-1][: limit + 1] if lines else ''
  answer = _bare(found)
  if not answer:
    return verdicts.without_answer(verdicts.NO_ANSWER, 'empty answer')
  return verdicts.compared(answer, expected)


def grade_gsm8k(
  completion: str,
  reference: str | None,
  *,
  finish_reason: str | None = None,
) -> Verdict:
  """Whether a GSM8K completion's final number is the reference, exactly.

  As `grade_number`, but for two things. What follows the beginning of another
  question ('Q:' on a new line) is not read. And where no marker is, the last
  sentence gives the answer if it holds exactly one number ('The total is
  $29.00.'), or exactly one behind its last '=' ('9 * 2 = $18 a day').

  Args:
    completion: the sampled text.
    reference: '18', or GSM8K's own solution, which ends in '#### 18'.
    finish_reason: of the sample; 'length' and 'prompt' are never correct.

  Returns:
    A verdict; its answer is the number's canonical form. harness_error where
    the reference is not a number.
  """
  cut_off = verdicts.unfinished(finish_reason)
  if cut_off is not None:
    return cut_off
  text = stated_answer.before_next_question(
    stated_answer.conclusion(completion)
  )
  if stated_answer.behind_marker(text) is None:
    lines = _CALCULATOR.sub('', text).strip().splitlines()
    sentences = (
      stated_answer.SENTENCE_END.split(lines[-1][-1000:]) if lines else []
    )
    last = [sentence for sentence in sentences if sentence.strip()][-1:]
    text = f'#### {last[0].rpartition("=")[2]}' if last else ''
  expected = (reference or '').rpartition('####')[2]
  return _number_verdict(text, expected)


def _number_verdict(text: str, reference: str) -> Verdict:
  """The verdict on a text whose end marks and reasoning are off."""
  try:
    expected = numerals.parse_reference(reference)
  except ValueError as error:
    return verdicts.without_answer(
      verdicts.HARNESS_ERROR, f'the reference {reference!r}: {error}'
    )
  found = stated_answer.behind_marker(text)
  if found is None:
    return verdicts.without_answer(verdicts.NO_ANSWER, 'no answer marker')
  try:
    number = numerals.parse_number(found)
  except ValueError as error:
    return verdicts.without_answer(verdicts.NO_ANSWER, str(error))
  answer = numerals.canonical(number)
  if number == expected:
    return Verdict(outcome=verdicts.CORRECT, reward=1.0, answer=answer)
  detail = f'{answer}, expected {numerals.canonical(expected)}'
  return Verdict(
    outcome=verdicts.WRONG, reward=0.0, answer=answer, detail=detail
  )


def _bare(text: str) -> str:
  return text.strip().removesuffix('.').strip()
