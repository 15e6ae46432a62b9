"""Exact matches: the final number, or the final text, of a completion.

End marks (end_marks.cut) and reasoning between tags (reasoning.removed) are
taken off first. Then one rule says which part of a completion is its answer, so
that hedging gains nothing. The strictest kind of marker that is there decides,
and of that kind the first one (a run-on continuation comes later):

    ####    >    the answer is    >    answer:

The answer is what stands behind it on that line, up to the end of the
sentence. A completion without a marker has no answer for `grade_number`; for
`grade_exact` its last line is the answer.

GSM8K and BBH have their own graders, for they are graded against published
numbers; their rules are in docs/rewards.md.

All graders are bounded by construction: text is cut before any regular
expression runs over it, every expression is linear, and digits are counted
before they are converted. They need no process of their own.
"""

import re
from collections.abc import Sequence

from rest_jax.rewards import end_marks, reasoning, verdicts
from rest_jax.rewards.text import numerals
from rest_jax.rewards.verdicts import Verdict

MAX_COMPLETION = 100_000  # characters looked at
MAX_ANSWER = numerals.MAX_TEXT  # characters behind the marker

_MARKERS = (
  re.compile(r'####'),
  re.compile(r'\bthe (?:final |correct )?answer is\b', re.IGNORECASE),
  re.compile(r'\banswer ?:', re.IGNORECASE),
)
# Where a few-shot prompt's next problem begins: what follows is no answer.
_RUN_ON = re.compile(r'\n[ \t]*(?:Question|Q|Problem) ?:')
_SENTENCE_END = re.compile(r'[.!?](?=\s|$)')
# What may stand between a marker and a number: ':', '**', '\\[' on a line.
_LEAD = re.compile(r'(?:[ \t:\r\n*]|\$\$?[ \t]*\n|\\[(\[])*')
_OPTION = re.compile(r'\(?([A-Z])\)?')
_NAMED_OPTION = re.compile(r'(?i:option|choice|answer) +(\([A-Z]\)|[A-Z])')
# Emphasis, quotes and LaTeX around an answer to BBH.
_AROUND = ' \t\n"\'`*'
_WRAPPERS = (
  ('$', '$'),
  ('\\(', '\\)'),
  ('\\[', '\\]'),
  ('\\boxed{', '}'),
  ('\\text{', '}'),
)
# The calculator's marks in GSM8K's solutions: 9+9=<<9+9=18>>18.
_CALCULATOR = re.compile(r'<<[^<>\n]{0,100}>>')
_MINUS = re.compile('[\u2212\u2013](?=[0-9.])')
_LOWER = {upper: upper + 32 for upper in range(ord('A'), ord('Z') + 1)}
_BRACKETS = re.compile(r'[()\[\]{}<>\s]+')


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
  return _number_verdict(_final(completion), reference or '')


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
    return _harness_error('the reference is empty')
  limit = max(MAX_ANSWER, len(expected) + 2)
  text = _final(completion)
  found = answer_text(text, limit=limit, sentence=False)
  if found is None:
    lines = text[-MAX_COMPLETION:].strip().splitlines()
    found = lines[-1][: limit + 1] if lines else ''
  answer = _bare(found)
  if not answer:
    return _no_answer('empty answer')
  return _compared(answer, expected)


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
  text = _cut(_final(completion))
  if answer_text(text) is None:
    lines = _CALCULATOR.sub('', text).strip().splitlines()
    sentences = _SENTENCE_END.split(lines[-1][-1000:]) if lines else []
    last = [sentence for sentence in sentences if sentence.strip()][-1:]
    text = f'#### {last[0].rpartition("=")[2]}' if last else ''
  expected = (reference or '').rpartition('####')[2]
  return _number_verdict(text, expected)


def grade_bbh(
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
  expected = _bbh_answer(reference or '')
  if not expected:
    return _harness_error('the reference is empty')
  limit = max(MAX_ANSWER, len(reference or '') + 10)
  found = answer_text(
    _cut(_final(completion)), limit=limit, sentence=False, markers=_MARKERS[1:2]
  )
  answer = '' if found is None else _bbh_answer(found)
  if not answer or len(answer) > limit:
    return _no_answer('no answer marker, or nothing behind it')
  return _compared(answer, expected)


def grade_bbh_direct(
  completion: str,
  reference: str | None,
  *,
  finish_reason: str | None = None,
) -> Verdict:
  """Whether the first line of a completion is BBH's target.

  For prompts that show answers alone. The line is read as `grade_bbh` reads
  what stands behind its marker; a marker on it is passed over.

  Args:
    completion: the sampled text.
    reference: BBH's target.
    finish_reason: of the sample; 'length' and 'prompt' are never correct.

  Returns:
    As `grade_bbh`.
  """
  text = _final(completion)[:MAX_COMPLETION]
  line = text.strip().partition('\n')[0]
  if answer_text(line, markers=_MARKERS[1:2]) is None:
    line = f'the answer is {line}'
  return grade_bbh(line, reference, finish_reason=finish_reason)


def _number_verdict(text: str, reference: str) -> Verdict:
  """The verdict on a text whose end marks and reasoning are off."""
  try:
    expected = numerals.parse_reference(reference)
  except ValueError as error:
    return _harness_error(f'the reference {reference!r}: {error}')
  found = answer_text(text)
  if found is None:
    return _no_answer('no answer marker')
  try:
    number = numerals.parse_number(found)
  except ValueError as error:
    return _no_answer(str(error))
  answer = numerals.canonical(number)
  if number == expected:
    return Verdict(outcome=verdicts.CORRECT, reward=1.0, answer=answer)
  detail = f'{answer}, expected {numerals.canonical(expected)}'
  return Verdict(
    outcome=verdicts.WRONG, reward=0.0, answer=answer, detail=detail
  )


def answer_text(
  completion: str,
  *,
  limit: int = MAX_ANSWER,
  sentence: bool = True,
  markers: Sequence[re.Pattern[str]] = _MARKERS,
) -> str | None:
  """What stands behind the answer marker, or None without one.

  Args:
    completion: the sampled text.
    limit: characters kept, and one more, so that the caller sees the cut.
    sentence: whether to stop at the end of the sentence, not of the line.
    markers: the strictest first.
  """
  text = completion[:MAX_COMPLETION]
  for marker in markers:
    match = marker.search(text)
    if match:
      break
  else:
    return None
  rest = completion[match.end() : match.end() + limit + 1000]
  # 'The answer is:' and the answer below it
  rest = (
    rest[_LEAD.match(rest).end() :] if sentence else rest.lstrip(' \t:\r\n*')
  )
  line = rest.partition('\n')[0].strip()
  if sentence:
    end = _SENTENCE_END.search(line)
    line = line[: end.start()] if end else line
  return line[: limit + 1]


def _final(completion: str) -> str:
  """What a completion says behind its reasoning and before its end mark."""
  return reasoning.removed(end_marks.cut(completion))


def _cut(completion: str) -> str:
  """The completion up to where it goes on with another question."""
  text = completion[:MAX_COMPLETION]
  run_on = _RUN_ON.search(text)
  return text[: run_on.start()] if run_on else text


def _bbh_answer(text: str) -> str:
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


def _bare(text: str) -> str:
  return text.strip().removesuffix('.').strip()


def _no_answer(detail: str) -> Verdict:
  return Verdict(
    outcome=verdicts.NO_ANSWER, reward=0.0, answer=None, detail=detail
  )


def _compared(answer: str, expected: str) -> Verdict:
  if answer == expected:
    return Verdict(outcome=verdicts.CORRECT, reward=1.0, answer=answer)
  return Verdict(
    outcome=verdicts.WRONG,
    reward=0.0,
    answer=answer,
    detail=f'{answer[:60]!r}, expected {expected[:60]!r}',
  )


def _harness_error(detail: str) -> Verdict:
  return Verdict(
    outcome=verdicts.HARNESS_ERROR, reward=0.0, answer=None, detail=detail
  )
