"""Arguments that a function changes in place change for its caller too.

Candidate and judge each number the lists, dicts, sets and their kin among a
call's arguments, in the same order. After the call the candidate says which
of them changed, and to what; the judge changes its own. A value that is
returned and was an argument is known by its number, too.
"""

import collections
import operator
from collections.abc import Sequence
from typing import Any

_LISTS = (list, collections.deque)
_DICTS = (
  dict,
  collections.OrderedDict,
  collections.defaultdict,
  collections.Counter,
)
_MUTABLE = frozenset((*_LISTS, *_DICTS, set, bytearray))
_NESTING = frozenset((*_LISTS, *_DICTS, tuple))


def mutable_parts(values: Sequence) -> list:
  """All lists, dicts, sets and their kin in some values, outer ones first."""
  found: list = []
  for value in values:
    if type(value) in _MUTABLE:
      found.append(value)
    if type(value) in _NESTING:
      inner = value.values() if type(value) in _DICTS else value
      if any(type(item) in _MUTABLE or type(item) is tuple for item in inner):
        found += mutable_parts(list(inner))
  return found


class Snapshot:
  """What the mutable parts of a call's arguments held before it.

  Attributes:
    numbers: id of each part to its number.
  """

  def __init__(self, values: Sequence):
    self._parts = mutable_parts(values)
    self._before = [_content(part) for part in self._parts]
    self.numbers = {id(part): i for i, part in enumerate(self._parts)}

  def changes(self) -> list[tuple[int, Any]]:
    """(number, present content) of each part that holds something else."""
    result = []
    for number, part in enumerate(self._parts):
      now = _content(part)
      if not _same(self._before[number], now):
        result.append((number, now))
    return result


def change(part: Any, content: Any) -> None:
  """Gives a part the content that it has on the other side.

  Raises:
    TypeError, ValueError: it cannot hold that.
  """
  if type(content) not in (list, dict, set, bytes):
    raise TypeError(f'content of type {type(content).__name__}')
  if type(part) is list or type(part) is bytearray:
    part[:] = content
    return
  if type(part) is collections.deque:
    part.clear()
    part.extend(content)
    return
  part.clear()
  part.update(content)


def _content(part: Any) -> Any:
  """A shallow copy, of a type that travels."""
  if type(part) in _DICTS:
    return dict(part)
  if type(part) is set:
    return set(part)
  return bytes(part) if type(part) is bytearray else list(part)


def _same(before: Any, now: Any) -> bool:
  """Whether two contents hold the very same objects in the same order."""
  if type(before) is dict:
    return _same(list(before), list(now)) and _same(
      list(before.values()), list(now.values())
    )
  if type(before) is not list:
    return before == now
  return len(before) == len(now) and all(map(operator.is_, before, now))
