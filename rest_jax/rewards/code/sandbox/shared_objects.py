"""What a candidate may do with the objects that the tests hand to it.

The tests are trusted and the candidate is not: it must find neither the tests'
variables nor their expected values behind an object, and must not change how
the tests decide. Functions can be called, iterators asked for their next
item. Other objects can be used through operators and public attributes;
attributes can be set on instances of classes that the tests define.
"""

import builtins
import operator
import types
from collections.abc import Iterator
from typing import Any

from rest_jax.rewards.code.sandbox import codec, remote_objects

TESTS_MODULE = 'tests'
_FUNCTIONS = (
  types.FunctionType,
  types.MethodType,
  types.BuiltinFunctionType,
  types.MethodWrapperType,
  types.MethodDescriptorType,
)
# Through these a program would reach the tests' frames and variables.
_NEVER = (
  types.ModuleType,
  types.FrameType,
  types.CodeType,
  types.TracebackType,
  types.CellType,
)


class SharedObjects:
  """The tests' objects that the candidate has, by number."""

  def __init__(self):
    self._objects: list[Any] = []
    self._numbers: dict[int, int] = {}

  def reference(self, value: Any) -> codec.Reference:
    """The reference of an object, the same one each time.

    Raises:
      codec.CodecError: it must not be handed over.
    """
    if isinstance(value, _NEVER):
      raise codec.CodecError(f'a test passes a {type(value).__name__}')
    if id(value) not in self._numbers:
      if isinstance(value, (*_FUNCTIONS, type)):
        kind = remote_objects.FUNCTION
      elif isinstance(value, Iterator):
        kind = remote_objects.ITERATOR
      else:
        kind = remote_objects.OBJECT
      self._numbers[id(value)] = len(self._objects) << 2 | kind
      self._objects.append(value)
    return codec.Reference(codec.TESTS, self._numbers[id(value)])

  def resolve(self, number: int) -> Any:
    """The object of a reference's number."""
    return self._objects[number >> 2]

  def perform(self, operation: str, target: Any, rest: tuple) -> Any:
    """Does what the candidate asks for.

    Args:
      operation: call, next, get, set, operator, enter or exit.
      target: the object, which must be one of these.
      rest: the operation's arguments.

    Raises:
      Exception: whatever the object raises; TypeError where the operation is
        not allowed.
    """
    number = self._numbers.get(id(target))
    if number is None or self.resolve(number) is not target:
      raise TypeError('not an object of the tests')
    kind = number & 3
    if operation == 'call' and kind != remote_objects.ITERATOR:
      arguments, keywords = rest
      return target(*arguments, **keywords)
    if operation == 'next' and kind == remote_objects.ITERATOR:
      return _next(target)
    if kind != remote_objects.OBJECT:
      raise TypeError(f'{operation} of a {type(target).__name__}')
    if operation == 'get':
      return getattr(target, _public(rest[0]))
    if operation == 'set':
      return _set(target, *rest)
    if operation == 'operator':
      return _operator(target, *rest)
    if operation == 'enter':
      return target.__enter__()
    if operation == 'exit':
      return target.__exit__(None, None, None)
    raise TypeError(operation)


def _next(target: Iterator) -> tuple:
  """The next item in a tuple; () at the end."""
  for item in target:
    return (item,)
  return ()


def _public(name: Any) -> str:
  if type(name) is not str or name.startswith('_'):
    raise AttributeError(f'{name!r} is not public')
  return name


def _set(target: Any, name: Any, value: Any) -> None:
  kind = type(target)
  if kind.__module__ != TESTS_MODULE or callable(
    getattr(kind, _public(name), None)
  ):
    raise AttributeError(f'{name!r} cannot be set')
  setattr(target, name, value)


def _operator(target: Any, name: Any, *rest) -> Any:
  if name in remote_objects.OPERATORS:
    return getattr(operator, name)(target, *rest)
  if name in (*remote_objects.BUILT_IN, *remote_objects.BUILT_IN_NUMBERS):
    return getattr(builtins, name)(target, *rest)
  raise TypeError(f'operator {name!r}')
