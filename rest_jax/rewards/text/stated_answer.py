"""Where a completion states its answer.

End marks (end_marks.cut) and reasoning between tags (reasoning.removed) are
taken off first. Then one rule says which part of a completion is its answer, so
that hedging gains nothing. The strictest kind of marker that is there decides,
and of that kind the first one (a run-on continuation comes later):

    ####    >    the answer is    >    answer:

The answer is what stands behind it on that line, up to the end of the
sentence.

The work is bounded by construction: text is cut before any regular expression
runs over it, and every expression is linear.
"""

import re
from collections.abc import Sequence

from rest_jax.rewards import end_marks, reasoning
from rest_jax.rewards.text import numerals

MAX_COMPLETION = 100_000  # characters looked at
MAX_ANSWER = numerals.MAX_TEXT  # characters behind the marker

THE_ANSWER_IS = re.compile(
  r'\bthe (?:final |correct )?answer is\b', re.IGNORECASE
)
_MARKERS = (
  re.compile(r'####'),
  THE_ANSWER_IS,
  re.compile(r'\banswer ?:', re.IGNORECASE),
)
# Where a few-shot prompt's next problem begins: what follows is no answer.
_RUN_ON = re.compile(r'\n[ \t]*(?:Question|Q|Problem) ?:')
SENTENCE_END = re.compile(r'[.!?](?=\s|$)')
# What may stand between a marker and a number: ':', '**', '\\[' on a line.
_LEAD = re.compile(r'(?:[ \t:\r\n*]|\$\$?[ \t]*\n|\\[(\[])*')


def behind_marker(
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
    end = SENTENCE_END.search(line)
    line = line[: end.start()] if end else line
  return line[: limit + 1]


def conclusion(completion: str) -> str:
  """What a completion says behind its reasoning and before its end mark."""
  return reasoning.removed(end_marks.cut(completion))


def before_next_question(completion: str) -> str:
  """The completion up to where it goes on with another question."""
  text = completion[:MAX_COMPLETION]
  run_on = _RUN_ON.search(text)
  return text[: run_on.start()] if run_on else text
