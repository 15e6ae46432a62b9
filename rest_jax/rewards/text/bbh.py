"""Answers to BIG-Bench Hard, compared as a whole.

BBH is graded against published numbers; the rules are in docs/rewards.md. The
work is bounded as in stated_answer.py.
"""

import re

from rest_jax.rewards import verdicts
from rest_jax.rewards.text import stated_answer
from rest_jax.rewards.verdicts import Verdict

_OPTION = re.compile(r'\(?([A-Z])\)?')
_NAMED_OPTION = re.compile(r'(?i:option|choice|answer) +(\([A-Z]\)|[A-Z])')
# Emphasis, quotes and LaTeX around an answer.
_AROUND = ' \t\n"\'`*'
_WRAPPERS = (
  ('$', '$'),
  ('\\(', '\\)'),
  ('\\[', '\\]'),
  ('\\boxed{', '}'),
  ('\\text{', '}'),
)
_MINUS = re.compile('[\u2212\u2013](?=[0-9.])')
_LOWER = {upper: upper + 32 for upper in range(ord('A'), ord('Z') + 1)}
_BRACKETS = re.compile(r'[()\[\]{}<>\s]+')


def grade(
  completion: str,
  reference: str | None,
  *,
  finish_reason: str | None = None,
) -> Verdict:
  """Whether a BBH completion's answer is the reference.

  The answer is the line behind the first 'the answer is', without quotes around
  it and full stops behind it; without the marker there is none. Case of ASCII
  letters does not count, but for the letter of an option, which may stand
  without its parentheses (A is (A)) or behind 'option'; a minus sign is a
  hyphen; brackets may be spaced in any way; dollars and a box around the whole
  answer are taken off. Nothing else is forgiven: never a
  substring, never a list.

  Args:
    completion: the sampled text.
    reference: BBH's target.
    finish_reason: of the sample; 'length' and 'prompt' are never correct.

  Returns:
    A verdict; its answer is the text that was compared. harness_error where
    the reference is empty.
  """
  cut_off = verdicts.unfinished(finish_reason)
  if cut_off is not None:
    return cut_off
  expected = _canonical(reference or '')
  if not expected:
    return verdicts.without_answer(
      verdicts.HARNESS_ERROR, 'the reference is empty'
    )
  limit = max(stated_answer.MAX_ANSWER, len(reference or '') + 10)
  found = stated_answer.behind_marker(
    stated_answer.before_next_question(stated_answer.conclusion(completion)),
    limit=limit,
    sentence=False,
    markers=[stated_answer.THE_ANSWER_IS],
  )
  answer = '' if found is None else _canonical(found)
  if not answer or len(answer) > limit:
    return verdicts.without_answer(
      verdicts.NO_ANSWER, 'no answer marker, or nothing behind it'
    )
  return verdicts.compared(answer, expected)


def grade_direct(
  completion: str,
  reference: str | None,
  *,
  finish_reason: str | None = None,
) -> Verdict:
  """Whether the first line of a completion is BBH's target.

  For prompts that show answers alone. The line is read as `grade` reads
  what stands behind its marker; a marker on it is passed over.

  Args:
    completion: the sampled text.
    reference: BBH's target.
    finish_reason: of the sample; 'length' and 'prompt' are never correct.

  Returns:
    As `grade`.
  """
  text = stated_answer.conclusion(completion)[: stated_answer.MAX_COMPLETION]
  line = text.strip().partition('\n')[0]
  if (
    stated_answer.behind_marker(line, markers=[stated_answer.THE_ANSWER_IS])
    is None
  ):
    line = f'the answer is {line}'
  return grade(line, reference, finish_reason=finish_reason)


def _canonical(text: str) -> str:
  """One spelling of an answer to BBH: '(A)', 'yes', '])}'."""
  for _ in range(3):  # **\\(\\boxed{(B)}\\)**
    # not a full stop before it: .5 is not 5
    text = text.strip(_AROUND).rstrip(f'{_AROUND}.')
    for start, end in _WRAPPERS:
      inner = text[len(start) : -len(end)]
      if text == f'{start}{inner}{end}' and start not in inner:
        text = inner
  text = _MINUS.sub('-', text)
  option = _OPTION.fullmatch(text) or _NAMED_OPTION.fullmatch(text)
  if option:
    return f'({option[1].strip("()")})'
  if _BRACKETS.fullmatch(text):
    return ''.join(text.split())
  # casefold would make the long s of 'Yes' an s
  return ' '.join(text.split()).translate(_LOWER)
