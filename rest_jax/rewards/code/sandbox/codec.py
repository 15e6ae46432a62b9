"""Python's values as bytes, with their exact types, and nothing else.

What crosses the border to and from a candidate: None, bool, int, float,
complex, str, bytes, list, tuple, dict, set, frozenset, of exactly these
types; these types themselves. On request also: values that are built from
these (Built: a date from three integers), and numbers that stand for objects
that stay where they are (Reference). Decoding builds nothing else, calls
nothing else, and is linear: integers travel in base 16, since Python's
conversion of decimals is quadratic.
"""

import dataclasses
import struct
from collections.abc import Callable
from typing import Any

MAX_BYTES = 64 << 20
MAX_DEPTH = 100  # of what a candidate sends
SENT_DEPTH = 300  # of what is sent to it
MAX_ITEMS = 4_000_000

# Whose object a Reference stands for.
CANDIDATES, TESTS, ARGUMENT = b'h', b'j', b'p'


class CodecError(ValueError):
  """A value that cannot travel, or bytes that are no value."""


@dataclasses.dataclass(frozen=True, slots=True)
class Reference:
  """Stands for an object that does not travel.

  Attributes:
    owner: CANDIDATES or TESTS; ARGUMENT for a list of the present call.
    number: which of the owner's objects.
  """

  owner: bytes
  number: int


@dataclasses.dataclass(frozen=True, slots=True)
class Built:
  """A value that the reader builds, see known_types.py.

  Attributes:
    name: of its type there.
    parts: what it is built from.
  """

  name: str
  parts: tuple


class Pairs(list):
  """A dict's items, where hashing keys that others chose must be avoided."""


class Elements(list):
  """A set's elements, in the same case."""


def encode(
  value: Any,
  *,
  limit: int = MAX_BYTES,
  depth: int = SENT_DEPTH,
  other: Callable[[Any], Any] | None = None,
  arguments: dict[int, int] | None = None,
) -> bytes:
  """A value's bytes.

  Args:
    value: what to encode.
    limit: on the number of bytes.
    depth: limit on the nesting.
    other: for anything that is not a literal: a function that returns what to
      encode in its place, a literal, a Reference or a Built.
    arguments: id of a list, dict or set to the number of the ARGUMENT
      reference that stands for it.

  Raises:
    CodecError: too large, too deep, or of another type.
  """
  try:
    return _Writer(limit, depth, other, arguments or {}).whole(value)
  except RecursionError:
    raise CodecError(f'nested more than {depth} deep') from None


def decode(
  data: bytes,
  *,
  depth: int = MAX_DEPTH,
  items: int = MAX_ITEMS,
  hashing: bool = True,
  resolve: Callable[[Reference], Any] | None = None,
  build: Callable[[str, tuple], Any] | None = None,
) -> Any:
  """The value of some bytes.

  Args:
    data: from `encode`, or from an attacker.
    depth: limit on the nesting.
    items: limit on the number of values, each container one of them.
    hashing: whether dicts and sets are built. Keys chosen to collide make
      that quadratic, so a process without a limit on its time passes False,
      and gets Pairs and Elements.
    resolve: gives the object that a Reference stands for; None: no
      references are allowed.
    build: gives the value of a Built's name and parts; None: none is allowed.

  Raises:
    CodecError: not exactly one value within the limits.
  """
  if len(data) > MAX_BYTES:
    raise CodecError(f'{len(data)} bytes; allowed: {MAX_BYTES}')
  try:
    reader = _Reader(data, depth, items, hashing, resolve, build)
    value, end = reader.read(0, 0)
  except (
    *(ValueError, LookupError, TypeError, ArithmeticError),
    *(AttributeError, RecursionError, struct.error),
  ) as error:
    raise CodecError(f'not a value: {error}') from None
  if end != len(data):
    raise CodecError('bytes behind the value')
  return value


def starts_whole(data: bytes, status: str) -> bool:
  """Whether some bytes begin as the pair (status, a value) does."""
  return data.startswith(b'(2;' + encode(status))


_CONTAINERS = {list: b'[', tuple: b'(', dict: b'{', set: b'<', frozenset: b'>'}
_TYPES = (
  *(bool, int, float, complex, str, bytes),
  *(list, tuple, dict, set, frozenset),
)
_CONSTANTS = {b'N': None, b'T': True, b'F': False}


class _Writer:
  """Encodes one value."""

  def __init__(self, limit: int, depth: int, other, arguments: dict):
    self._out = bytearray()
    self._limit = limit
    self._depth = depth
    self._other = other
    self._arguments = arguments

  def whole(self, value) -> bytes:
    self._write(value, 0)
    return bytes(self._out)

  def _write(self, value, depth: int) -> None:
    out = self._out
    kind = type(value)
    if kind is int:
      out += b'i%x;' % value
    elif kind is str:
      text = value.encode('utf-8', 'surrogatepass')
      out += b's%x;' % len(text)
      out += text
    elif value is None:
      out += b'N'
    elif value is True:
      out += b'T'
    elif value is False:
      out += b'F'
    elif kind is float:
      out += b'f' + struct.pack('<d', value)
    elif kind in _CONTAINERS:
      self._container(value, kind, depth)
    elif kind is bytes:
      out += b'b%x;' % len(value)
      out += value
    elif kind is type and value in _TYPES:
      out += b'k%x;' % _TYPES.index(value)
    elif kind is complex:
      out += b'c' + struct.pack('<dd', value.real, value.imag)
    elif kind is Reference:
      out += value.owner + b'%x;' % value.number
    elif kind is Built:
      out += b'o%x;' % (1 + len(value.parts))
      for part in (value.name, *value.parts):
        self._write(part, depth + 1)
    elif self._other is None or depth >= self._depth:
      raise CodecError(f'a value of type {kind.__name__} cannot travel')
    else:
      self._write(self._other(value), depth + 1)
    if len(out) > self._limit:
      raise CodecError(f'more than {self._limit} bytes')

  def _container(self, value, kind: type, depth: int) -> None:
    if id(value) in self._arguments:
      self._write(Reference(ARGUMENT, self._arguments[id(value)]), depth)
      return
    if depth >= self._depth:
      raise CodecError(f'nested more than {self._depth} deep')
    self._out += _CONTAINERS[kind] + b'%x;' % len(value)
    if kind is dict:
      for key, item in value.items():
        self._write(key, depth + 1)
        self._write(item, depth + 1)
    else:
      for item in value:
        self._write(item, depth + 1)


class _Reader:
  """Decodes; every method returns a value and where the next one starts."""

  def __init__(self, data, depth: int, items: int, hashing, resolve, build):
    self._data = data
    self._depth = depth
    self._left = items
    self._hashing = hashing
    self._resolve = resolve
    self._build = build

  def read(self, start: int, depth: int):
    self._left -= 1
    if self._left < 0 or depth > self._depth:
      raise ValueError('too many items, or nested too deep')
    tag = bytes(self._data[start : start + 1])
    if tag in _CONSTANTS:
      return _CONSTANTS[tag], start + 1
    if tag == b'f':
      return struct.unpack_from('<d', self._data, start + 1)[0], start + 9
    if tag == b'c':
      return complex(*struct.unpack_from('<dd', self._data, start + 1)), (
        start + 17
      )
    number, start = self._number(start + 1)
    if tag == b'i':
      return number, start
    if number < 0:
      raise ValueError('a negative number')
    if tag == b'k':
      return _TYPES[number], start
    if tag in (CANDIDATES, TESTS, ARGUMENT):
      if self._resolve is None:
        raise ValueError('a reference, where none is allowed')
      return self._resolve(Reference(tag, number)), start
    if tag in (b's', b'b'):
      if number > len(self._data) - start:
        raise ValueError('a length beyond the end')
      end = start + number
      raw = bytes(self._data[start:end])
      return (raw.decode('utf-8', 'surrogatepass') if tag == b's' else raw), end
    return self._container(tag, number, start, depth + 1)

  def _number(self, start: int) -> tuple[int, int]:
    end = self._data.index(b';', start)
    return int(self._data[start:end], 16), end + 1

  def _container(self, tag: bytes, count: int, start: int, depth: int):
    if tag == b'{':
      count *= 2
    # An item takes a byte at least: no length can promise more than it has.
    if tag not in (b'[', b'(', b'{', b'<', b'>', b'o') or (
      count > len(self._data) - start
    ):
      raise ValueError(f'tag {tag!r} with length {count}')
    items = []
    for _ in range(count):
      item, start = self.read(start, depth)
      items.append(item)
    if tag == b'(':
      return tuple(items), start
    if tag == b'[':
      return items, start
    if tag == b'{':
      pairs = list(zip(items[::2], items[1::2], strict=True))
      return (dict(pairs) if self._hashing else Pairs(pairs)), start
    if tag == b'o':
      if self._build is None:
        raise ValueError('a value to build, where none is allowed')
      return self._build(items[0], tuple(items[1:])), start
    if not self._hashing:
      return Elements(items), start
    return (set(items) if tag == b'<' else frozenset(items)), start
