"""Where a completion ends: stop strings found in text, ids cut to match.

A token may hold a part of a character (byte-level vocabularies split emoji and
CJK), and a token may lie across the start of a stop string. A list of ids that
ends inside a character decodes to U+FFFD there; such a list is never trained
on, because the model would learn to write broken characters.
"""

import dataclasses
from collections.abc import Callable, Sequence

import numpy as np

Decode = Callable[[Sequence[int]], str]

_WINDOW = 64  # tokens looked at for a stop string while sampling goes on


@dataclasses.dataclass(frozen=True)
class Ending:
  """How a completion ended.

  Attributes:
    num_tokens: number of leading ids that were used: up to and with EOS, or up
      to and with the id that completes the stop string, or all.
    target_length: number of leading ids to train on. They hold the whole text,
      and where no list of ids ends exactly with the text, a few characters of
      the stop string. They never end inside a character.
    text: decoded, without EOS and the stop string.
    finish_reason: eos | stop | length.
  """

  num_tokens: int
  target_length: int
  text: str
  finish_reason: str


def find_end(
  token_ids: Sequence[int],
  decode: Decode,
  *,
  eos_ids: Sequence[int],
  stop: Sequence[str],
) -> Ending:
  """Decides where a completion ends.

  The earliest of EOS and the stop strings counts. An id that lies across the
  start of a stop string belongs to the text.

  Args:
    token_ids: all that was sampled.
    decode: ids to text; bytes that are not valid UTF-8 become U+FFFD.
    eos_ids: any of them ends a completion.
    stop: strings that end it, none of them empty.

  Returns:
    How many ids belong to the completion, how many to train on, and its text.
  """
  eos = next((i for i, t in enumerate(token_ids) if t in eos_ids), None)
  body = list(token_ids if eos is None else token_ids[:eos])
  text = decode(body)
  places = [place for s in stop if (place := text.find(s)) >= 0]
  if places:
    start = min(places)
    end = min(start + len(s) for s in stop if text.startswith(s, start))
    num_tokens = _tokens_for(body, decode, text, end)
    return Ending(
      num_tokens=num_tokens,
      target_length=_target_length(body[:num_tokens], decode, text, start),
      text=text[:start],
      finish_reason='stop',
    )
  if eos is not None:
    return Ending(eos + 1, eos, text, 'eos')
  return Ending(len(body), len(body), text, 'length')


class StopStrings:
  """Looks for stop strings in samples that are being drawn.

  Most tokens cannot complete a stop string; which ones can is found out once
  for each id, so that looking through a chunk costs one look-up per token.
  """

  def __init__(self, decode: Decode, stop: Sequence[str]):
    """Args:
    decode: ids to text.
    stop: strings that end a completion, none of them empty.
    """
    self._decode, self._stop = decode, tuple(stop)
    self._ids: dict[int, bool] = {}
    # A stop string that the new ids complete may begin as many ids earlier as
    # it has bytes: a byte-level vocabulary may spell it one byte at a time.
    self._reach = max([_WINDOW, *(len(s.encode()) for s in stop)])

  def suspects(self, tokens: np.ndarray) -> np.ndarray:
    """Which of these ids may complete a stop string, in their shape."""
    if not self._stop:
      return np.zeros(tokens.shape, bool)
    ids, places = np.unique(tokens, return_inverse=True)
    for number in ids.tolist():
      if number not in self._ids:
        self._ids[number] = self._may_complete(number)
    may = np.array([self._ids[number] for number in ids.tolist()])
    return may[places.reshape(tokens.shape)]

  def found(self, token_ids: Sequence[int], new: int) -> bool:
    """Whether a stop string has appeared among the last `new` tokens.

    Looks at the tail first, and at the whole only where the tail says yes.

    Args:
      token_ids: all that was sampled so far.
      new: number of ids that no earlier call has seen.
    """
    tail = self._decode(token_ids[-(new + self._reach) :])
    if not any(s in tail for s in self._stop):
      return False
    text = self._decode(token_ids)
    return any(s in text for s in self._stop)

  def _may_complete(self, token: int) -> bool:
    # Twice, because a piece may lose its leading space at the start of a text.
    once, twice = self._decode([token]), self._decode([token, token])
    if not twice.startswith(once):
      return True
    return any(
      s in twice
      or any(piece.startswith(s[-length:]) for length in range(1, len(s) + 1))
      # Bytes of a character that this id alone does not spell.
      or ('\ufffd' in piece and not s.isascii())
      for piece in (once, twice[len(once) :])
      for s in self._stop
    )


def _tokens_for(
  body: Sequence[int], decode: Decode, text: str, length: int
) -> int:
  """The fewest leading ids that decode to at least text[:length].

  Args:
    body: ids.
    decode: ids to text.
    text: what all of them decode to.
    length: in characters.
  """
  low, high = 0, len(body)
  while low < high:
    middle = (low + high) // 2
    if len(decode(body[:middle])) >= length:
      high = middle
    else:
      low = middle + 1
  # The last of these characters may be a U+FFFD that stands for the first
  # bytes of the right one; the ids that complete it follow.
  while low < len(body) and not decode(body[:low]).startswith(text[:length]):
    low += 1
  return low


def _target_length(
  used: Sequence[int], decode: Decode, text: str, length: int
) -> int:
  """How many leading ids to train on: they end between two characters.

  Args:
    used: the ids up to the one that completes the stop string.
    decode: ids to text.
    text: what all ids decode to.
    length: of the text before the stop string, in characters.
  """
  first = _tokens_for(used, decode, text, length)
  for number in range(first, len(used) + 1):
    if text.startswith(decode(used[:number])):
      return number
  # Not even the end of the stop string is the end of an id. Give up the last
  # characters of the text rather than train on a broken one.
  for number in reversed(range(first)):
    if text.startswith(decode(used[:number])):
      return number
  return 0
