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
from typing import Any

from rest_jax.rewards.code.sandbox import codec

TOLERANCE = 1e-6
_NUMBER = re.compile(r'[-+]?(?:[0-9]+\.?[0-9]*|\.[0-9]+)(?:[eE][-+]?[0-9]+)?')
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
  wanted, got = _lines(expected), _lines(found)
  number = 0
  for number, (want, have) in enumerate(itertools.zip_longest(wanted, got), 1):
    if want is None or have is None:
      break
    if want != have and not _same_line(want, have):
      return f'line {number}: {_short(have)}, expected {_short(want)}'
  else:
    return ''
  more = sum(1 for _ in (got if want is None else wanted))
  counts = (number + more, number - 1)
  have, want = counts if want is None else counts[::-1]
  return f'{have} lines, expected {want}'


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


def _lines(text: str | bytes | bytearray) -> Iterator[str]:
  """Lines without the white space around them; none of a blank end."""
  blank = 0
  for line in _raw_lines(text):
    line = line.strip()
    if not line:
      blank += 1
      continue
    yield from itertools.repeat('', blank)
    blank = 0
    yield line


def _raw_lines(text: str | bytes | bytearray) -> Iterator[str]:
  mark = '\n' if isinstance(text, str) else b'\n'
  start = 0
  while start < len(text):
    end = text.find(mark, start)
    end = len(text) if end < 0 else end
    line = text[start:end]
    yield line if isinstance(line, str) else line.decode('utf-8', 'replace')
    start = end + 1


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
