"""Python's literals as bytes, with their exact types, and nothing else.

What crosses the border to and from a candidate: None, bool, int, float,
complex, str, bytes, list, tuple, dict, set, frozenset, of exactly these
types; these types themselves; and numbers that stand for objects that stay
where they are (handles). Decoding builds nothing else, calls nothing, and is
linear: integers travel in base 16, since Python's conversion of decimals is
quadratic.
"""

import struct

MAX_BYTES = 64 << 20
MAX_DEPTH = 100
MAX_ITEMS = 4_000_000


class CodecError(ValueError):
  """A value that cannot travel, or bytes that are no value."""


class Pairs(list):
  """A dict's items, where hashing keys that others chose must be avoided."""


class Elements(list):
  """A set's elements, in the same case."""


def encode(value, *, limit: int = MAX_BYTES, other=None) -> bytes:
  """A value's bytes.

  Args:
    value: what to encode.
    limit: on the number of bytes.
    other: for anything that is not a literal: a function that returns
      (True, a value to encode instead) or (False, a handle's number).

  Raises:
    CodecError: too large, too deep, or of another type.
  """
  out = bytearray()
  _write(value, out, limit, other, 0)
  return bytes(out)


def decode(data: bytes, *, handle=None, hashing: bool = True):
  """The value of some bytes.

  Args:
    data: from `encode`, or from an attacker.
    handle: function from a handle's number to the object to put there.
    hashing: whether dicts and sets are built. Keys chosen to collide make
      that quadratic, so a process without a limit on its time passes False,
      and gets Pairs and Elements.

  Raises:
    CodecError: not exactly one value within the limits.
  """
  if len(data) > MAX_BYTES:
    raise CodecError(f'{len(data)} bytes; allowed: {MAX_BYTES}')
  try:
    value, end = _Reader(data, handle, hashing).read(0, 0)
  except (ValueError, LookupError, TypeError, struct.error) as error:
    raise CodecError(f'not a value: {error}') from None
  if end != len(data):
    raise CodecError('bytes behind the value')
  return value


def _write(value, out: bytearray, limit: int, other, depth: int) -> None:
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
    if depth >= MAX_DEPTH:
      raise CodecError(f'nested more than {MAX_DEPTH} deep')
    out += _CONTAINERS[kind] + b'%x;' % len(value)
    for item in value.items() if kind is dict else value:
      if kind is dict:
        _write(item[0], out, limit, other, depth + 1)
        item = item[1]
      _write(item, out, limit, other, depth + 1)
      if len(out) > limit:
        raise CodecError(f'more than {limit} bytes')
  elif kind is bytes:
    out += b'b%x;' % len(value)
    out += value
  elif kind is type and value in _TYPES:
    out += b'k%x;' % _TYPES.index(value)
  elif kind is complex:
    out += b'c' + struct.pack('<dd', value.real, value.imag)
  elif other is None or depth >= MAX_DEPTH:
    raise CodecError(f'a value of type {kind.__name__} cannot travel')
  else:
    travels, replacement = other(value)
    if travels:
      _write(replacement, out, limit, other, depth + 1)
    else:
      out += b'h%x;' % replacement
  if len(out) > limit:
    raise CodecError(f'more than {limit} bytes')


_CONTAINERS = {list: b'[', tuple: b'(', dict: b'{', set: b'<', frozenset: b'>'}
_TYPES = (
  *(bool, int, float, complex, str, bytes),
  *(list, tuple, dict, set, frozenset),
)
_CONSTANTS = {b'N': None, b'T': True, b'F': False}


class _Reader:
  """Decodes; every method returns a value and where the next one starts."""

  def __init__(self, data: bytes, handle, hashing: bool):
    self._data = data
    self._handle = handle
    self._hashing = hashing
    self._items = 0

  def read(self, start: int, depth: int):
    self._items += 1
    if self._items > MAX_ITEMS or depth > MAX_DEPTH:
      raise ValueError('too many items, or nested too deep')
    tag = self._data[start : start + 1]
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
    if tag == b'k':
      if number < 0:
        raise ValueError('a negative number of a type')
      return _TYPES[number], start
    if tag == b'h':
      if self._handle is None:
        raise ValueError('a handle, where none is allowed')
      return self._handle(number), start
    if tag in (b's', b'b'):
      if not 0 <= number <= len(self._data) - start:
        raise ValueError('a length beyond the end')
      end = start + number
      raw = self._data[start:end]
      return (raw.decode('utf-8', 'surrogatepass') if tag == b's' else raw), end
    return self._container(tag, number, start, depth + 1)

  def _number(self, start: int) -> tuple[int, int]:
    end = self._data.index(b';', start)
    return int(self._data[start:end], 16), end + 1

  def _container(self, tag: bytes, count: int, start: int, depth: int):
    if tag == b'{':
      count *= 2
    # An item takes a byte at least: no length can promise more than it has.
    if tag not in (b'[', b'(', b'{', b'<', b'>') or not (
      0 <= count <= len(self._data) - start
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
    if not self._hashing:
      return Elements(items), start
    return (set(items) if tag == b'<' else frozenset(items)), start
