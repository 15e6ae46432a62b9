r"""Grades final answers of competition mathematics, as MATH's \boxed{...}.

In three stages, each bounded in time and memory (no signal, no process, no
eval, no computer algebra system): answer_extraction says which text is the
answer; reading turns it into numbers, tuples, sets, intervals, matrices,
equations and expressions; comparison compares the first exactly, expressions by
their normal form or at points to 60 digits. docs/rewards.md holds every rule,
and what is decided where mathematics leaves a choice.

A wrong answer that is accepted is trained on; a right one that is refused is
one sample fewer. So whatever is not understood is wrong. Integrals, sums,
limits and equations are never worked out for the model.
"""

import itertools
import re
from collections.abc import Sequence
from decimal import Decimal
from fractions import Fraction

from rest_jax.rewards import verdicts
from rest_jax.rewards.math import (
  answer_extraction,
  answers,
  comparison,
  reading,
)
from rest_jax.rewards.math.answer_extraction import DEFAULT_STOPS
from rest_jax.rewards.verdicts import Verdict

__all__ = ('DEFAULT_STOPS', 'canonical', 'equivalent', 'extract', 'grade')

MAX_ANSWERS = 8  # different texts in the boxes of one completion
# How Python spells a small or large float: 1e-05, 1.5e+22. 2e-3 is no such.
_FLOAT = re.compile(r'-?[0-9](?:\.[0-9]{1,17})?e[-+][0-9]{2,3}')


def extract(
  completion: str, *, stop: Sequence[str] = DEFAULT_STOPS
) -> str | None:
  r"""The text of a completion's answer.

  Args:
    completion: the sampled text.
    stop: strings that end it, as those of the sampler.

  Returns:
    What stands in the last \boxed{...}, or behind "the answer is" where there
    is no box. None without either, and where two of them differ.
  """
  return _extract(completion, stop)[0]


def canonical(answer: str) -> str | None:
  r"""One spelling for all answers that say the same, to count votes by.

  Args:
    answer: what `extract` gives.

  Returns:
    '0.5' for 1/2, \frac{2}{4} and x = .5; '(1,2)'; '{1,2}' in sorted order;
    the text without spaces where it is not understood. None where it is empty
    or too long to be an answer.
  """
  read = reading.read(answer)
  return None if read is None else read.canonical


def equivalent(reference: str, answer: str) -> bool:
  """Whether an answer says what the reference says.

  Args:
    reference: the right answer, as it stands in its box.
    answer: what `extract` gives.

  Returns:
    False where either is empty, too long or not understood, unless both are
    the same text.
  """
  expected, read = _read_reference(reference), reading.read(answer)
  if expected is None or read is None:
    return False
  return reference == answer or comparison.equal(expected, read)


def grade(
  completion: str,
  reference: str | None,
  *,
  stop: Sequence[str] = DEFAULT_STOPS,
  finish_reason: str | None = None,
) -> Verdict:
  """Whether a completion's final answer is the reference.

  Args:
    completion: the sampled text.
    reference: the right answer, with or without its box.
    stop: strings that end the completion.
    finish_reason: of the sample; 'length' and 'prompt' are never correct.

  Returns:
    A verdict; its answer is the canonical one. wrong without an answer where
    two were given; harness_error where the reference is empty or too long.
  """
  cut_off = verdicts.unfinished(finish_reason)
  if cut_off is not None:
    return cut_off
  expected = _read_reference(reference or '')
  if expected is None:
    return verdicts.without_answer(
      verdicts.HARNESS_ERROR,
      f'the reference {(reference or "")[:60]!r}: empty, or more than '
      f'{reading.MAX_ANSWER} characters',
    )
  text, why, texts = _extract(completion, stop)
  if why == _TWO and expected.kind in ('set', 'tuple') and texts:
    text = ', '.join(texts)  # one box for each entry
    several = reading.read(text)
    if several is None or not comparison.equal(expected, several):
      text = None
  if text is None:
    outcome = verdicts.NO_ANSWER if why == 'no answer' else verdicts.WRONG
    return verdicts.without_answer(outcome, why)
  answer = reading.read(text)
  if answer is None:
    return verdicts.without_answer(
      verdicts.NO_ANSWER, 'an empty or very long answer'
    )
  if text == reference or comparison.equal(expected, answer):
    return Verdict(
      outcome=verdicts.CORRECT, reward=1.0, answer=answer.canonical
    )
  return Verdict(
    outcome=verdicts.WRONG,
    reward=0.0,
    answer=answer.canonical,
    detail=f'{answer.canonical[:60]}, expected {expected.canonical[:60]}',
  )


_TWO = 'two different answers'
_PART = 'the box is part of a larger expression, or a hedge'


def _extract(
  completion: str, stop: Sequence[str]
) -> tuple[str | None, str, tuple[str, ...]]:
  """The answer, or None and why; and all different answers that were given."""
  found = answer_extraction.candidates(completion, stop)
  if not found.texts:
    return None, 'no answer', ()
  if found.is_part:
    return None, _PART, ()
  if len(found.texts) == 1:
    return found.texts[0], '', found.texts
  texts = tuple(dict.fromkeys(found.texts))
  if len(texts) > MAX_ANSWERS + 1:
    return None, _TWO, ()
  if not _agree(texts):
    return None, _TWO, texts
  return found.texts[-1], '', texts


def _agree(texts: tuple[str, ...]) -> bool:
  """Whether each says what each other says: x=3, y=3 and 3 do not."""
  return all(
    equivalent(a, b) or equivalent(b, a)
    for a, b in itertools.combinations(texts, 2)
  )


def _read_reference(reference: str) -> answers.Answer | None:
  """A reference, out of its box, which may be a float's spelling: 1e-05."""
  if '\\boxed' in reference or '\\fbox' in reference:
    texts = tuple(
      dict.fromkeys(answer_extraction.candidates(reference, ()).texts)
    )
    if not texts or len(texts) > MAX_ANSWERS + 1 or not _agree(texts):
      return None
    reference = texts[-1]
  elif 'e' in reference and _FLOAT.fullmatch(reference):
    return answers.of_number(Fraction(Decimal(reference)))
  return reading.read(reference)
