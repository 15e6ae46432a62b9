"""Compares what a program wrote, or returned, with what was expected.

Output is compared token by token and line by line: white space around and
between tokens, and blank lines at the end, do not count; everything else
does. Tokens must be the same text; only where the expected one is written as
a decimal fraction or with an exponent may a number differ from it, by 1e-6,
relative or absolute. A set of tokens is no answer, and integers have no
tolerance.

Returned values are compared with their types: a bool is no int, and 3.0 is
not 3, but where a fraction is expected an int may stand for it. A tuple is as
good as a list, since JSON has no tuples, and an int as good as the text of it
among a dict's keys, since JSON has no other keys.
"""

import itertools
import re
from collections.abc import Iterator
from typing import Any, NamedTuple

from rest_jax.rewards.code.sandbox import codec

TOLERANCE = 1e-6
_NUMBER = re.compile(r'[-+]?(?:[0-9]+\.?[0-9]*|\.[0-9]+)(?:[eE][-+]?[0-9]+)?')
# What str.strip() takes for white space, in UTF-8: skipped without a loop. The
# possessive ++ keeps no state to go back to, which for millions of them would
# take five times as long.
_SPACE = re.compile(
  rb'(?:[\s\x1c-\x1f]++|\xc2[\x85\xa0]|\xe1\x9a\x80'
  rb'|\xe2\x80[\x80-\x8a\xa8\xa9\xaf]|\xe2\x81\x9f|\xe3\x80\x80)++'
)
_TOKEN = re.compile(r'\S+')
_MAX_NUMBER = 400  # characters of a number that is compared as one
_SHOWN = 40


def difference(expected: str, found: str | bytes | bytearray) -> str:
  """Where two texts differ, in one line for a person; empty if they do not.

  Lines and tokens are taken one by one and no further than the first
  difference, since this runs outside all limits: a list of the lines of 16 MB
  would take half a gigabyte.

  Args:
    expected: the right output.
    found: a program's, in UTF-8 where it is bytes.
  """
  right, given = _bytes(expected), _bytes(found)
  lines = 0  # that have been compared
  for want, have in itertools.zip_longest(
    _lines(right, 'surrogatepass'), _lines(given, 'replace')
  ):
    if want is None or have is None:
      return f'{_count(given)} lines, expected {_count(right)}'
    same = want.blank == have.blank
    if want != have and not (same and _same_line(want.text, have.text)):
      lines += min(want.blank, have.blank)
      want_text = want.text if want.blank <= have.blank else ''
      have_text = have.text if have.blank <= want.blank else ''
      return (
        f'line {lines + 1}: {_short(have_text)}, expected {_short(want_text)}'
      )
    lines += want.blank
  return ''


def parts(value: Any) -> int:
  """The number of values in a value, it and its containers counted too."""
  total, waiting = 0, [value]
  while waiting:
    one = waiting.pop()
    total += 1
    if isinstance(one, dict):
      waiting += one.keys()
      waiting += one.values()
    elif isinstance(one, (list, tuple)):
      waiting += one
  return total


def same_value(expected, found) -> bool:
  """Whether a decoded value is the expected one.

  Args:
    expected: from JSON.
    found: from codec.decode(hashing=False), so that keys chosen to collide
      cannot make this slow.
  """
  kind = type(expected)
  if kind is list or kind is tuple:
    return (
      type(found) in (list, tuple)
      and len(expected) == len(found)
      and all(map(same_value, expected, found))
    )
  if kind is dict:
    return type(found) is codec.Pairs and _same_items(expected, found)
  if kind is float:
    if type(found) not in (int, float):
      return False
    return _close(expected, found)
  return kind is type(found) and expected == found


def _same_items(expected: dict, found: codec.Pairs) -> bool:
  seen = set()
  for key, value in found:
    if type(key) is int and key not in expected:
      key = str(key) if -(1 << 64) < key < 1 << 64 else ''
    # Only into the expected dict, whose keys nobody chose to collide.
    if type(key) not in (str, int, bool, float, type(None)):
      return False
    if key not in expected or key in seen:
      return False
    if not same_value(expected[key], value):
      return False
    seen.add(key)
  return len(seen) == len(expected)


class _Line(NamedTuple):
  """A line with something in it.

  Attributes:
    blank: line ends between the line before and this one.
    text: without the white space around it.
  """

  blank: int
  text: str


def _lines(data: bytes | bytearray, errors: str) -> Iterator[_Line]:
  start = 0
  while True:
    space = _SPACE.match(data, start)
    first = space.end() if space else start
    if first == len(data):
      return
    end = data.find(b'\n', first)
    end = len(data) if end < 0 else end
    text = data[first:end].decode('utf-8', errors).strip()
    yield _Line(data.count(b'\n', start, first), text)
    start = end


def _bytes(text: str | bytes | bytearray) -> bytes | bytearray:
  if isinstance(text, str):
    return text.encode('utf-8', 'surrogatepass')
  return text


def _count(data: bytes | bytearray) -> int:
  """The number of lines without a blank end."""
  return data.rstrip().count(b'\n') + 1


def _same_line(want: str, have: str) -> bool:
  tokens = itertools.zip_longest(_TOKEN.finditer(want), _TOKEN.finditer(have))
  return all(
    one is not None and other is not None and _same_token(one[0], other[0])
    for one, other in tokens
  )


def _same_token(expected: str, found: str) -> bool:
  if expected == found:
    return True
  if not any(mark in expected for mark in '.eE'):
    return False
  for text in (expected, found):
    if len(text) > _MAX_NUMBER or not _NUMBER.fullmatch(text):
      return False
  numbers = float(expected), float(found)
  return float('inf') not in map(abs, numbers) and _close(*numbers)


def _close(expected: float, found: float) -> bool:
  if expected == found or (expected != expected and found != found):
    return True
  try:
    gap = abs(expected - found)
  except OverflowError:
    return False  # an int beyond all floats
  return gap <= TOLERANCE * max(1.0, abs(expected)) < float('inf')


def _short(line: str) -> str:
  return repr(line if len(line) <= _SHOWN else f'{line[:_SHOWN]}…')
