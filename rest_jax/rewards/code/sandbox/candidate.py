"""The candidate's side of calls: loads names, calls, keeps its own objects.

Whatever a program does to this code in its own process, it can only answer
differently, as it could by returning something else.
"""

import collections
import itertools
import os
import threading
import types
from collections.abc import Iterator
from typing import Any

from rest_jax.rewards.code.sandbox import (
  arguments,
  channel,
  codec,
  known_types,
  protocol,
  raised_errors,
  remote_objects,
)

_LISTED = 1_000_000  # items of an iterator that counts as a list
_ITERATORS = (
  *(types.GeneratorType, map, filter, zip, range, enumerate, reversed),
  *(type({}.keys()), type({}.values()), type({}.items())),
  *(type(iter([])), type(iter(())), type(iter({})), type(reversed([]))),
  *(itertools.chain, itertools.islice, itertools.accumulate),
  *(itertools.takewhile, itertools.dropwhile, itertools.starmap),
  *(itertools.product, itertools.permutations, itertools.combinations),
)


# ---- one call, whose value is compared with one of JSON ---------------------


def call(space: dict, name: str, values: list) -> None:
  """Calls one function, or method of Solution, and writes what it returns."""
  if 'Solution' in space and name not in space:
    function = getattr(space['Solution'](), name, None)
  else:
    function = space.get(name)
  if function is None:
    reply = (protocol.ABSENT, name)
  else:
    reply = (protocol.RETURNED, function(*values))
  data = codec.encode(reply, depth=codec.MAX_DEPTH, other=_json_value)
  while data:
    data = data[os.write(protocol.CHANNEL_FD, data) :]


def _json_value(value: Any) -> Any:
  """What a judge that knows JSON's types would take a value for."""
  if isinstance(value, _ITERATORS):
    return list(itertools.islice(value, _LISTED))
  known = known_types.taken_apart(value)
  if type(value) in (collections.deque,):
    return list(value)
  if isinstance(value, dict) and known is not None:
    return dict(value)
  if isinstance(value, tuple) and known is not None:
    return list(value)
  if known is None or type(known) is codec.Built:
    raise codec.CodecError(f'returned a {type(value).__name__}')
  return known


# ---- conversation with the tests --------------------------------------------


class _Conversation:
  """Answers the tests' requests, and asks them about their objects."""

  def __init__(self, space: dict):
    self._space = space
    self._objects: list[Any] = []
    self._numbers: dict[int, int] = {}
    self._remote: dict[int, Any] = {}
    self._ended: dict[int, Exception] = {}  # iterators that raised
    self._lock = threading.RLock()

  def answer_all(self) -> None:
    """Answers requests until the other side closes."""
    while (message := channel.receive()) is not None:
      self._answer(self._decode(message))

  def ask(self, operation: str, target: Any, *rest) -> Any:
    """Has the tests do something with an object of theirs."""
    request = (protocol.REQUEST_TAG, operation, target, *rest)
    with self._lock:
      channel.write(codec.encode(request, depth=100, other=self._other))
      while (message := channel.receive()) is not None:
        value = self._decode(message)
        if value[0] == protocol.RETURNED:
          return value[1]
        if value[0] == protocol.RAISED:
          raise self._error(*value[1:])
        self._answer(value)
    os._exit(0)  # the tests have ended

  def _error(self, origin: int, *description) -> Exception:
    error = raised_errors.made(*description)
    error._rest_jax_origin = origin  # so that the tests see their own again
    return error

  def _decode(self, message: bytes) -> Any:
    return codec.decode(
      message,
      depth=codec.SENT_DEPTH + 10,
      resolve=self._resolve,
      build=known_types.build_sent,
    )

  def _resolve(self, reference: codec.Reference) -> Any:
    if reference.owner == codec.CANDIDATES:
      return self._objects[reference.number]
    number = reference.number
    if number not in self._remote:
      self._remote[number] = remote_objects.remote(self.ask, number)
    return self._remote[number]

  def _other(self, value: Any) -> Any:
    """For codec.encode: what stands for anything that is no literal."""
    reference = remote_objects.reference(value)
    if reference is not None:
      return reference
    known = known_types.taken_apart(value)
    return self._own(value) if known is None else known

  def _own(self, value: Any) -> codec.Reference:
    """The reference of an object that stays here, the same one each time."""
    if id(value) not in self._numbers:
      self._numbers[id(value)] = len(self._objects)
      self._objects.append(value)  # alive from here on, so that its id is
    return codec.Reference(codec.CANDIDATES, self._numbers[id(value)])

  def _answer(self, request: tuple) -> None:
    operation, target, *rest = request
    snapshot = None
    try:
      if operation == 'call':
        values, keywords = rest
        snapshot = arguments.Snapshot([*values, *keywords.values()])
      value = self._perform(operation, target, rest)
      reply = [protocol.RETURNED, value]
    except Exception as error:
      origin = getattr(error, '_rest_jax_origin', -1)
      reply = [protocol.RAISED, origin, *raised_errors.described(error)]
    if snapshot is not None:
      reply.append(snapshot.changes())
    numbers = snapshot.numbers if snapshot else None
    try:
      data = self._encode(reply, numbers)
    except codec.CodecError as error:
      description = raised_errors.described(ValueError(str(error)))
      reply = [protocol.RAISED, -1, *description]
      data = self._encode(reply, None)
    channel.write(data)

  def _encode(self, reply: list, numbers: dict | None) -> bytes:
    return codec.encode(
      tuple(reply), depth=codec.MAX_DEPTH, other=self._other, arguments=numbers
    )

  def _perform(self, operation: str, target: Any, rest: list) -> Any:
    if operation == 'call':
      values, keywords = rest
      return target(*values, **keywords)
    if operation in ('name', 'entry'):
      return self._named(target, operation == 'entry')
    if operation == 'get':
      return getattr(target, rest[0])
    if operation == 'set':
      return setattr(target, rest[0], rest[1])
    if operation == 'items':
      return self._items(target, rest[0])
    return _OPERATIONS[operation](target, *rest)

  def _named(self, name: str, entry: bool) -> Any:
    value = self._space[name]
    if entry:  # it is always called here, a type too, as in `f = str`
      if not callable(value):
        raise KeyError(name)
      return self._own(value)
    if isinstance(value, types.ModuleType):
      raise KeyError(name)
    if isinstance(value, type) and issubclass(value, Exception):
      return codec.Built('error', (list(raised_errors.names_of(value)),))
    return value

  def _items(self, iterator: Iterator, most: int) -> tuple[list, bool]:
    """(the next items, whether the iterator has ended)."""
    error = self._ended.pop(id(iterator), None)
    if error is not None:
      raise error
    found: list = []
    try:
      while len(found) < most:
        found.append(next(iterator))
    except StopIteration:
      return found, True
    except Exception as error:
      if not found:
        raise
      self._ended[id(iterator)] = error  # raised where the next is asked for
    return found, False


_OPERATIONS = {
  'len': len,
  'iter': iter,
  'bool': bool,
  'str': str,
  'repr': repr,
  'getitem': lambda value, key: value[key],
  'setitem': lambda value, key, item: value.__setitem__(key, item),
  'delitem': lambda value, key: value.__delitem__(key),
  'instance': lambda kind, value: isinstance(value, kind),
  'subclass': lambda kind, value: issubclass(value, kind),
  'enter': lambda value: value.__enter__(),
  'exit': lambda value: value.__exit__(None, None, None),
}


def serve(space: dict) -> None:
  """Answers requests until the tests end."""
  channel.write(codec.encode({'loaded': True}))
  _Conversation(space).answer_all()
