"""The candidate's side of calls: loads names, calls, keeps its own objects.

Whatever a program does to this code in its own process, it can only answer
differently, as it could by returning something else.
"""

import os
import struct
import types

from rest_jax.rewards.code.sandbox import codec, protocol

_MAX_MESSAGE = 64 << 20
_ITERATED = 1_000_000  # items of an iterator that the tests go through
_LENGTH = struct.Struct('=I')


class Objects:
  """Objects that stay here, by number."""

  def __init__(self):
    self._objects: list[object] = []
    self._numbers: dict[int, int] = {}

  def number(self, value) -> int:
    """The number of an object, the same one each time."""
    if id(value) not in self._numbers:
      self._numbers[id(value)] = len(self._objects)
      self._objects.append(value)  # alive from here on, so that its id is
    return self._numbers[id(value)]

  def __getitem__(self, number: int):
    return self._objects[number]

  def other(self, value):
    """For codec.encode: well-known relatives of literals, else a handle."""
    plain = plain_value(value)
    return (True, plain[0]) if plain else (False, self.number(value))


def plain_value(value) -> tuple | None:
  """A literal, in a tuple, that compares as the value does; or None."""
  kind = type(value)
  name = f'{kind.__module__}.{kind.__qualname__}'
  if name in (
    'collections.Counter',
    'collections.OrderedDict',
    'collections.defaultdict',
  ):
    return (dict(value),)
  if kind.__module__ == 'numpy' and hasattr(value, 'tolist'):
    return (value.tolist(),)
  return None


def call(space: dict, name: str, arguments: list) -> None:
  """Calls one function, or method of Solution, and writes what it returns."""
  if 'Solution' in space and name not in space:
    function = getattr(space['Solution'](), name, None)
  else:
    function = space.get(name)
  if function is None:
    reply = (protocol.ABSENT, name)
  else:
    reply = (protocol.RETURNED, function(*arguments))
  data = codec.encode(reply, other=_lists)
  while data:
    data = data[os.write(protocol.CHANNEL_FD, data) :]


def _lists(value):
  """For codec.encode: what a judge's == would take for a literal."""
  plain = plain_value(value)
  if plain is None and type(value).__module__ == 'collections':
    plain = (list(value),)  # a deque
  if plain is None:
    raise codec.CodecError(f'returned a {type(value).__name__}')
  return True, plain[0]


def serve(space: dict) -> None:
  """Answers requests until the other side closes."""
  objects = Objects()
  send({'loaded': True})
  while (message := receive()) is not None:
    operation, target, *rest = codec.decode(message, handle=objects.__getitem__)
    try:
      reply = (protocol.RETURNED, _perform(space, operation, target, rest))
      data = codec.encode(reply, other=objects.other)
    except Exception as error:
      text = _text(error)
      data = codec.encode((protocol.RAISED, *text))
    write(data)


def _perform(space: dict, operation: str, target, rest: list):
  if operation == 'name':
    value = space[target]
    if isinstance(value, types.ModuleType):
      raise KeyError(target)
    return value
  if operation == 'call':
    arguments, keywords = rest
    return target(*arguments, **keywords)
  if operation == 'get':
    return getattr(target, rest[0])
  if operation == 'set':
    return setattr(target, rest[0], rest[1])
  if operation == 'iterate':
    items = []
    for item in target:
      items.append(item)
      if len(items) > _ITERATED:
        raise ValueError(f'more than {_ITERATED} items')
    return items
  raise ValueError(operation)


def _text(error: Exception) -> tuple[str, str]:
  try:
    return type(error).__name__, str(error)[:300]
  except Exception:
    return 'Exception', ''


def send(value) -> None:
  """One value to the other side."""
  write(codec.encode(value))


def write(data: bytes) -> None:
  data = _LENGTH.pack(len(data)) + data
  while data:
    data = data[os.write(protocol.CHANNEL_FD, data) :]


def receive() -> bytes | None:
  """One message of the other side; None at its end.

  Raises:
    codec.CodecError: it announces more than is allowed.
  """
  head = _exactly(_LENGTH.size)
  if head is None:
    return None
  (length,) = _LENGTH.unpack(head)
  if length > _MAX_MESSAGE:
    raise codec.CodecError(f'a message of {length} bytes')
  return _exactly(length)


def _exactly(length: int) -> bytes | None:
  data = bytearray()
  while len(data) < length:
    part = os.read(protocol.CHANNEL_FD, min(length - len(data), 1 << 20))
    if not part:
      return None
    data += part
  return bytes(data)
