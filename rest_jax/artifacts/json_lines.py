"""JSON as users write it: one object a line, numbers kept as they were typed.

Python's own reader loses or refuses some of what JSON files hold: it stops at
a byte order mark, at integers of more than 4,300 digits and, with another
error than its own, at deep nesting; it takes NaN, which is no JSON; and it
keeps no number's text, so that 0.00001 comes back as 1e-05.
"""

import decimal
import json
import os
from collections.abc import Iterator, Mapping
from typing import Any

from rest_jax.config import configuration

_BYTE_ORDER_MARK = b'\xef\xbb\xbf'
_PLAIN_DIGITS = 4300  # Python's own limit on int() and str()
_MAX_DIGITS = 100_000
_MAX_EXPONENT = 1000


def loads(text: str, *, constants: bool = False) -> Any:
  """The value of a JSON text.

  Args:
    text: of one value.
    constants: whether NaN and Infinity, which Python writes, are taken.

  Raises:
    ValueError: it is not JSON, or nested too deep, or holds an integer of
      more than 100,000 digits.
  """
  allowed = None if constants else _no_constant
  try:
    return json.loads(text, parse_int=_integer, parse_constant=allowed)
  except RecursionError:
    raise ValueError('nested too deep') from None


def dumps(value: Any, *, escape: bool = True) -> str:
  """JSON on one line; of integers of any length.

  Args:
    value: what json.dumps takes.
    escape: whether text that UTF-8 cannot hold, half of a surrogate pair, is
      written as its escape, \\ud83d.

  Raises:
    ValueError: there is such text, and `escape` is false.
  """
  found: list[int] = []
  try:
    text = json.dumps(value, ensure_ascii=False)
  except ValueError:  # a long integer
    text = json.dumps(_without_long(value, found), ensure_ascii=False)
  for number, one in enumerate(found):
    text = text.replace(f'"{_mark(number)}"', str(decimal.Decimal(one)), 1)
  try:
    text.encode()
    return text
  except UnicodeEncodeError:
    if not escape:
      raise ValueError('half of a surrogate pair, which is not UTF-8') from None
    return ''.join(
      f'\\u{ord(c):04x}' if '\ud800' <= c <= '\udfff' else c for c in text
    )


def row(line: bytes) -> dict:
  """The object of one line.

  Raises:
    ValueError: why it is none, in a few words.
  """
  try:
    text = line.removeprefix(_BYTE_ORDER_MARK).decode('utf-8')
  except UnicodeDecodeError:
    raise ValueError('not UTF-8') from None
  try:
    value = loads(text)
  except ValueError as error:
    raise ValueError(f'not valid JSON ({error})') from None
  if not isinstance(value, dict):
    raise ValueError(f'not a JSON object: got {type(value).__name__}')
  return value


def texts(line: bytes, fields: Mapping[str, Any]) -> dict[str, str]:
  """Text of the numbers among an object's fields, as the line has them.

  A number with an exponent is written out, since not every grader reads one:
  1e3 is '1000'.

  Args:
    line: that `row` has read.
    fields: what it found.

  Raises:
    ValueError: an exponent beyond 1,000.
  """
  found = {
    name: str(decimal.Decimal(value))
    for name, value in fields.items()
    if isinstance(value, int) and not isinstance(value, bool)
  }
  floats = [name for name, value in fields.items() if type(value) is float]
  if floats:
    typed = json.loads(
      line.removeprefix(_BYTE_ORDER_MARK),
      parse_float=str,
      parse_int=_integer,
    )
    found |= {name: _written_out(typed[name]) for name in floats}
  return found


def read(source: str | os.PathLike[str]) -> Iterator[tuple[int, bytes, dict]]:
  """(line number, the line, its object) of a local file, without blanks.

  Raises:
    ConfigurationError: it cannot be opened, or a line is no JSON object.
  """
  try:
    file = open(source, 'rb')
  except OSError as error:
    raise configuration.ConfigurationError(f'--input: {error}') from error
  with file:
    for number, line in enumerate(file, 1):
      if number == 1:
        line = line.removeprefix(_BYTE_ORDER_MARK)
      if not line.strip():
        continue
      try:
        found = row(line)
      except ValueError as error:
        raise configuration.ConfigurationError(
          f'{source}:{number}: {error}; a row is a JSON object in UTF-8.'
        ) from None
      yield number, line if line.endswith(b'\n') else line + b'\n', found


def _integer(text: str) -> int:
  if len(text) <= _PLAIN_DIGITS:
    return int(text)
  if len(text) > _MAX_DIGITS:
    raise ValueError(f'an integer of more than {_MAX_DIGITS:,} digits')
  return int(decimal.Decimal(text))


def _written_out(text: str) -> str:
  if 'e' not in text.lower():
    return text
  value = decimal.Decimal(text)
  if value and abs(value.adjusted()) > _MAX_EXPONENT:
    raise ValueError(f'an exponent beyond {_MAX_EXPONENT:,}')
  return f'{value:f}'


def _no_constant(name: str) -> Any:
  raise ValueError(f'{name} is not JSON')


def _mark(number: int) -> str:
  return f'long integer {number}, 7c1e5b2f'


def _without_long(value: Any, found: list[int]) -> Any:
  """The value with a mark in place of each long integer."""
  if isinstance(value, int) and value.bit_length() > 3 * _PLAIN_DIGITS:
    found.append(value)
    return _mark(len(found) - 1)
  if isinstance(value, dict):
    return {key: _without_long(item, found) for key, item in value.items()}
  if isinstance(value, (list, tuple)):
    return [_without_long(item, found) for item in value]
  return value
