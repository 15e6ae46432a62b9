"""Exceptions that cross the border: as names of classes, arguments, a text.

The other side raises an exception of the nearest class that it knows, so that
`except ValueError` also takes a json.JSONDecodeError. Classes that it does not
know are made anew there, by name, below the nearest that it knows; they are
the same class for the same names, so a test can catch a class that the
program defines.
"""

import builtins
import functools
import sys
from typing import Any

# Raised within a loop over calls, these would end the loop in silence.
_NOT_RAISED = (StopIteration, StopAsyncIteration)
_MAX_NAMES = 30
_MAX_TEXT = 300  # characters

Names = tuple[tuple[str, str], ...]


def names_of(kind: type) -> Names:
  """(module, name) of an exception's class and of those it derives from."""
  return tuple(
    (str(one.__module__), str(one.__qualname__))
    for one in kind.__mro__
    if issubclass(one, Exception)
  )


def described(error: Exception) -> tuple[Names, tuple, str, dict]:
  """What crosses: names of classes, arguments, text, public attributes."""
  try:
    text = str(error)[:_MAX_TEXT]
  except Exception:
    text = ''
  attributes = {
    name: value
    for name, value in getattr(error, '__dict__', {}).items()
    if type(name) is str and not name.startswith('_')
  }
  return names_of(type(error)), tuple(error.args), text, attributes


def made(names: Any, arguments: Any, text: Any, attributes: Any) -> Exception:
  """An exception like the one that was described.

  Raises:
    TypeError, ValueError: it is no description.
  """
  kind = class_of(tuple((str(one), str(name)) for one, name in names))
  if type(arguments) is not tuple or type(text) is not str:
    raise TypeError('an exception without arguments and text')
  try:
    error = kind(*arguments)
    same = str(error)[:_MAX_TEXT] == text
  except Exception:
    same = False
  if not same:
    error = kind.__new__(kind)
    error.args = (text,)
  for name, value in dict(attributes).items():
    try:
      setattr(error, str(name), value)
    except Exception:
      continue  # an attribute that this class sets by itself
  return error


@functools.lru_cache(1000)
def class_of(names: Names) -> type:
  """The class of these names here; made anew where it is not known.

  Raises:
    ValueError: too many names.
  """
  if len(names) > _MAX_NAMES:
    raise ValueError('an exception with too many base classes')
  if not names:
    return Exception
  known = _known(*names[0])
  if known is not None:
    return known
  name = names[0][1].rpartition('.')[2]
  return type(name, (class_of(names[1:]),), {'__module__': 'solution'})


def _known(module: str, name: str) -> type | None:
  """The standard library's exception class of a name; None for others."""
  if module.partition('.')[0] not in sys.stdlib_module_names:
    return None
  space = builtins if module == 'builtins' else sys.modules.get(module)
  kind = getattr(space, name, None)
  if not isinstance(kind, type) or not issubclass(kind, Exception):
    return None
  return None if issubclass(kind, _NOT_RAISED) else kind
