"""The candidate's objects as the tests see them.

A handle can be called, asked for attributes, length, items and text, iterated,
and used as a context or as a class in isinstance. It is equal to itself and
to nothing else, whatever its class says about equality, and has no order and
no arithmetic: a program that returned an object of its own which is equal to
everything, or whose difference to everything is small, would pass all tests.
"""

from collections.abc import Callable
from typing import Any

_ATTRIBUTES = ('__name__', '__qualname__', '__doc__', '__wrapped__')
_MOST_ITEMS = 1024  # asked for at once
_ONE_BY_ONE = 8  # first items: a test may do other things in between


class Handle:
  """An object of the candidate's.

  Args:
    ask: asks the candidate: (operation, target, *rest) -> the answer.
    number: of the object.
  """

  # Names that no program's own attribute has.
  __slots__ = (
    '_rest_jax_ask',
    '_rest_jax_number',
    '_rest_jax_items',
    '_rest_jax_fetched',
    '_rest_jax_done',
  )

  def __init__(self, ask: Callable[..., Any], number: int):
    for name, value in (
      ('_rest_jax_ask', ask),
      ('_rest_jax_number', number),
      (
        '_rest_jax_items',
        [],
      ),  # of an iterator, fetched and not yet taken, reversed
      ('_rest_jax_fetched', 0),  # so many times
      ('_rest_jax_done', False),
    ):
      object.__setattr__(self, name, value)

  def __call__(self, *arguments, **keywords):
    return self._rest_jax_ask('call', self, list(arguments), keywords)

  def __getattr__(self, name: str):
    if name.startswith('__') and name not in _ATTRIBUTES:
      raise AttributeError(name)
    return self._rest_jax_ask('get', self, name)

  def __setattr__(self, name: str, value):
    self._rest_jax_ask('set', self, name, value)

  def __len__(self):
    return self._rest_jax_ask('len', self)

  def __bool__(self):
    return self._rest_jax_ask('bool', self)

  def __str__(self):
    return self._rest_jax_ask('str', self)

  def __repr__(self):
    return self._rest_jax_ask('repr', self)

  def __getitem__(self, key):
    return self._rest_jax_ask('getitem', self, key)

  def __setitem__(self, key, value):
    self._rest_jax_ask('setitem', self, key, value)

  def __delitem__(self, key):
    self._rest_jax_ask('delitem', self, key)

  def __iter__(self):
    return self._rest_jax_ask('iter', self)

  def __next__(self):
    """The next item of an iterator; of a long one, many are fetched at once."""
    if not self._rest_jax_items and not self._rest_jax_done:
      self._rest_jax_fetch()
    if not self._rest_jax_items:
      raise StopIteration
    return self._rest_jax_items.pop()

  def _rest_jax_fetch(self) -> None:
    times = self._rest_jax_fetched
    most = min(2 ** max(0, times - _ONE_BY_ONE), _MOST_ITEMS)
    items, done = self._rest_jax_ask('items', self, most)
    for name, value in (
      ('_rest_jax_items', list(items)[::-1]),
      ('_rest_jax_done', done is True),
      ('_rest_jax_fetched', times + 1),
    ):
      object.__setattr__(self, name, value)

  def __enter__(self):
    return self._rest_jax_ask('enter', self)

  def __exit__(self, *_):
    return self._rest_jax_ask('exit', self)

  def __instancecheck__(self, value):
    return self._rest_jax_ask('instance', self, value) is True

  def __subclasscheck__(self, value):
    return self._rest_jax_ask('subclass', self, value) is True


def number_of(handle: Handle) -> int:
  """The number of a handle's object."""
  return object.__getattribute__(handle, '_rest_jax_number')
