r"""From a completion to the text of its answer, by one rule.

    cut at the first end mark and stop string, and what stands behind reasoning
    >  the last \boxed{...} (or \fbox), of which all that are there must agree
    >  without any box, what stands behind "(the) answer is", to the end of the
       sentence; again all must agree

A completion that gives two answers has none: to list candidates must not pay.
"""

import re
from collections.abc import Sequence
from typing import NamedTuple

from rest_jax.rewards import end_marks, reasoning
from rest_jax.rewards.math import box_context

DEFAULT_STOPS = (
  'Problem:',
  '\nQuestion:',
  '\nQ:',
  'I hope it is correct',
)
MAX_COMPLETION = 200_000  # characters
MAX_BOXES = 64
_WINDOW = 1_500  # characters looked at for the end of a box
_BOX = re.compile(r'\\(?:boxed|fbox)(?![A-Za-z])\s*')
_BRACE = re.compile(r'\\.|[{}]', re.DOTALL)
_BARE = re.compile(r'-?[0-9]+(?:\.[0-9]+)?|[A-Za-z]')
# Minerva's prompt says both: 'Final Answer: The final answer is $3$.'
_MARKER = re.compile(
  r'(?:\bfinal answer ?: ?(?:the )?(?:final )?)?\banswer (?:is|are)\b(?: ?:)?'
  r'|\bfinal answer ?:',
  re.IGNORECASE,
)
_SENTENCE_END = re.compile(r'[.!?](?=\s|$)|\n')
_BLANK = re.compile(r'(?:\\[hv]?phantom\{[^{}]*\}|\\quad|\\,|[\s~?_])*')


class Candidates(NamedTuple):
  """The answers that a completion gives.

  Attributes:
    texts: in their order; () for none: no box and no marker, a last box that
      does not close, or a completion beyond the limits.
    is_part: whether the last box is only a part of what it says, as in
      -\\boxed{3} (box_context).
  """

  texts: tuple[str, ...] = ()
  is_part: bool = False


def candidates(completion: str, stop: Sequence[str]) -> Candidates:
  """The answers that a completion gives.

  Args:
    completion: the sampled text.
    stop: strings that end it; what follows the first of them is not read.
  """
  completion = reasoning.removed(end_marks.cut(completion))
  end = len(completion)
  for string in stop:
    found = completion.find(string, 0, end)
    if found >= 0:
      end = found
  if end > MAX_COMPLETION:
    return Candidates()
  text = completion[:end]
  first = _first_box(text)
  if first < 0:
    return Candidates(tuple(_behind_markers(text)))
  start = closed = 0
  contents: list[str | None] = []
  for match in _BOX.finditer(text, first):
    if match.start() < closed:
      continue  # within the box before
    if len(contents) == MAX_BOXES:
      return Candidates()
    start = match.start()
    content, closed = _content(text, match.end())
    contents.append(content)
  if not contents or contents[-1] is None:
    return Candidates()
  if len(contents) == 1:
    return Candidates((contents[0],), box_context.is_part(text, start, closed))
  kept = [box for box in contents[:-1] if box and not _BLANK.fullmatch(box)]
  return Candidates(
    (*kept, contents[-1]), box_context.is_part(text, start, closed)
  )


def _first_box(text: str) -> int:
  """Where the first command of a box may begin; -1 where there is none.

  Faster than the search for _BOX, which stops at each of the many backslashes
  that a solution has.
  """
  found = [text.find(command) for command in ('\\boxed', '\\fbox')]
  return max(found) if min(found) < 0 else min(found)


def _content(text: str, start: int) -> tuple[str | None, int]:
  """What a box holds, None if it does not close, and where it ends."""
  if text[start : start + 1] != '{':
    match = _BARE.match(text, start)
    return (match.group(), match.end()) if match else (None, start)
  end = text.find('}', start, start + _WINDOW)
  content = text[start + 1 : end]
  if end > 0 and '{' not in content and '\\' not in content:
    return content, end + 1  # most answers: a number, or a letter
  depth = 0
  for match in _BRACE.finditer(text, start, start + _WINDOW):
    brace = match.group()
    if brace == '{':
      depth += 1
    elif brace == '}':
      depth -= 1
      if not depth:
        return _unboxed(text[start + 1 : match.start()]), match.end()
  return None, start


def _unboxed(content: str) -> str:
  """Without boxes around the whole content: \\boxed{\\boxed{3}}."""
  for _ in range(3):
    match = _BOX.match(content.strip())
    if match is None:
      break
    inner = content.strip()[match.end() :]
    if not (inner.startswith('{') and inner.endswith('}')):
      break
    content = inner[1:-1]
  return content


def _behind_markers(text: str) -> list[str]:
  found = []
  for match in _MARKER.finditer(text):
    rest = text[match.end() : match.end() + _WINDOW].lstrip(' \t:\n*')
    end = _SENTENCE_END.search(rest)
    answer = rest[: end.start()] if end else rest
    found.append(answer.strip().strip('*').replace('$', ' ').strip())
    if len(found) > MAX_BOXES:
      return []
  return found
