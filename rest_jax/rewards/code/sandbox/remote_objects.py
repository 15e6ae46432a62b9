"""The tests' objects as the candidate sees them: each use is asked for.

A function, an iterator or an object of the tests' own class stays with the
tests; the candidate gets one of these in its place.
"""

from collections.abc import Callable
from typing import Any

from rest_jax.rewards.code.sandbox import codec

# Kinds of objects, in the two lowest bits of their numbers.
OBJECT, FUNCTION, ITERATOR = 0, 1, 2
# Operators that are asked for, by the names of the module operator; further
# ones are in shared_objects.py.
OPERATORS = (
  *('lt', 'le', 'gt', 'ge', 'eq', 'ne', 'add', 'sub', 'mul', 'matmul'),
  *('truediv', 'floordiv', 'mod', 'pow', 'and_', 'or_', 'xor', 'lshift'),
  *('rshift', 'neg', 'pos', 'abs', 'invert', 'getitem', 'setitem', 'delitem'),
  *('contains', 'index'),
)
BUILT_IN = ('len', 'iter', 'next', 'bool', 'str', 'repr', 'hash')
BUILT_IN_NUMBERS = ('int', 'float', 'round', 'reversed')

Ask = Callable[..., Any]  # (operation, target, *rest) -> the answer


class Remote:
  """An object of the tests."""

  def __init__(self, ask: Ask, number: int):
    object.__setattr__(self, '_ask', ask)
    object.__setattr__(self, '_number', number)

  def __call__(self, *arguments, **keywords):
    return _ask(self)('call', self, list(arguments), keywords)

  def __getattr__(self, name: str):
    if name.startswith('_'):
      raise AttributeError(name)
    return _ask(self)('get', self, name)

  def __setattr__(self, name: str, value):
    _ask(self)('set', self, name, value)

  def __enter__(self):
    return _ask(self)('enter', self)

  def __exit__(self, *_):
    return _ask(self)('exit', self)


class RemoteFunction:
  """A function of the tests: it can be called, and no more."""

  def __init__(self, ask: Ask, number: int):
    self._ask = ask
    self._number = number
    self.__name__ = 'function'

  def __call__(self, *arguments, **keywords):
    return self._ask('call', self, list(arguments), keywords)


class RemoteIterator:
  """An iterator or a generator of the tests."""

  def __init__(self, ask: Ask, number: int):
    self._ask = ask
    self._number = number

  def __iter__(self):
    return self

  def __next__(self):
    items = self._ask('next', self)
    if not items:
      raise StopIteration
    return items[0]


_CLASSES = {
  OBJECT: Remote,
  FUNCTION: RemoteFunction,
  ITERATOR: RemoteIterator,
}


def remote(ask: Ask, number: int) -> Any:
  """What stands for the tests' object of a number."""
  return _CLASSES[number & 3](ask, number)


def reference(value: Any) -> codec.Reference | None:
  """The reference of what `remote` made; None for any other value."""
  if type(value) not in _CLASSES.values():
    return None
  return codec.Reference(codec.TESTS, object.__getattribute__(value, '_number'))


def _ask(value: Remote) -> Ask:
  return object.__getattribute__(value, '_ask')


def _add_operator(name: str) -> None:
  def method(self, *rest):
    return _ask(self)('operator', self, name, *rest)

  setattr(Remote, f'__{name.strip("_")}__', method)


for _name in (*OPERATORS, *BUILT_IN, *BUILT_IN_NUMBERS):
  _add_operator(_name)
