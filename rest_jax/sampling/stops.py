"""Where a completion ends: stop strings found in text, ids cut to match."""

import dataclasses
from collections.abc import Callable, Sequence

Decode = Callable[[Sequence[int]], str]

_WINDOW = 64  # tokens looked at for a stop string while sampling goes on


@dataclasses.dataclass(frozen=True)
class Ending:
  """How a completion ended.

  Attributes:
    num_tokens: ids that belong to it: up to EOS, or up to the id that completes
      the stop string, or all.
    target_length: the first of them that make up its text.
    text: without EOS and the stop string.
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
    decode: of the vocabulary.
    eos_ids: any of them ends a completion.
    stop: strings that end it, none of them empty.
  """
  eos = next((i for i, t in enumerate(token_ids) if t in eos_ids), None)
  body = list(token_ids if eos is None else token_ids[:eos])
  text = decode(body)
  places = [place for s in stop if (place := text.find(s)) >= 0]
  if places:
    start = min(places)
    end = min(start + len(s) for s in stop if text.startswith(s, start))
    return Ending(
      num_tokens=_tokens_for(body, decode, end),
      target_length=_tokens_for(body, decode, start),
      text=text[:start],
      finish_reason='stop',
    )
  if eos is not None:
    return Ending(eos + 1, eos, text, 'eos')
  return Ending(len(body), len(body), text, 'length')


def is_stopped(
  token_ids: Sequence[int], decode: Decode, stop: Sequence[str], new: int
) -> bool:
  """Whether a stop string has appeared among the last `new` tokens.

  Looks at the tail first, and at the whole only where the tail says yes.
  """
  if not stop:
    return False
  tail = decode(token_ids[-(new + _WINDOW) :])
  if not any(s in tail for s in stop):
    return False
  text = decode(token_ids)
  return any(s in text for s in stop)


def _tokens_for(body: Sequence[int], decode: Decode, length: int) -> int:
  """The fewest leading ids whose text has at least `length` characters."""
  low, high = 0, len(body)
  while low < high:
    middle = (low + high) // 2
    if len(decode(body[:middle])) >= length:
      high = middle
    else:
      low = middle + 1
  return low
