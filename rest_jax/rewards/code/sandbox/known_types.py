"""Types of the standard library whose values travel as copies.

Each is taken apart into literals (codec.Built) and built again on the other
side as a value of the very same type, so that it compares there as Python
compares it. Only exact types travel so; an instance of a program's own
subclass does not, since what it says about equality must not count. Named
tuples are the one exception: they arrive as named tuples whose class was made
anew from the names of their fields.
"""

import array
import collections
import datetime
import decimal
import fractions
import functools
import importlib
import keyword
import pathlib
import re
import sys
import types
import uuid
import zoneinfo
from collections.abc import Callable
from typing import Any

from rest_jax.rewards.code.sandbox import codec

_TEXT, _INTEGER, _BYTES = (str,), (int,), (bytes,)
_OPTIONAL = (int, type(None))
_ZONE = (type(None), datetime.timezone, zoneinfo.ZoneInfo)
_FACTORY = (type, type(None))
_MAX_FIELDS = 1000


def _pieces(when: Any) -> tuple:
  parts = (when.hour, when.minute, when.second, when.microsecond, when.tzinfo)
  if type(when) is datetime.datetime:
    return when.year, when.month, when.day, *parts
  return parts


def _factory(value: collections.defaultdict) -> type | None:
  """The default's type, where it is one that travels."""
  factory = value.default_factory
  return factory if factory in (int, float, str, list, dict, set) else None


# type: (how to take a value apart, how to build it, the parts' exact types)
_KNOWN: dict[type, tuple[Callable, Callable, tuple]] = {
  range: (lambda v: (v.start, v.stop, v.step), range, (_INTEGER,) * 3),
  slice: (
    lambda v: (v.start, v.stop, v.step),
    slice,
    (_OPTIONAL,) * 3,
  ),
  bytearray: (lambda v: (bytes(v),), bytearray, (_BYTES,)),
  type(...): (lambda v: (), lambda: ..., ()),
  datetime.date: (
    lambda v: (v.year, v.month, v.day),
    datetime.date,
    (_INTEGER,) * 3,
  ),
  datetime.time: (_pieces, datetime.time, (*(_INTEGER,) * 4, _ZONE)),
  datetime.datetime: (_pieces, datetime.datetime, (*(_INTEGER,) * 7, _ZONE)),
  datetime.timedelta: (
    lambda v: (v.days, v.seconds, v.microseconds),
    datetime.timedelta,
    (_INTEGER,) * 3,
  ),
  datetime.timezone: (
    lambda v: (v.utcoffset(None),),
    datetime.timezone,
    ((datetime.timedelta,),),
  ),
  zoneinfo.ZoneInfo: (lambda v: (v.key,), zoneinfo.ZoneInfo, (_TEXT,)),
  decimal.Decimal: (lambda v: (str(v),), decimal.Decimal, (_TEXT,)),
  fractions.Fraction: (
    lambda v: (v.numerator, v.denominator),
    fractions.Fraction,
    (_INTEGER,) * 2,
  ),
  collections.deque: (
    lambda v: (list(v), v.maxlen),
    collections.deque,
    ((list,), _OPTIONAL),
  ),
  collections.Counter: (
    lambda v: (dict(v),),
    collections.Counter,
    ((dict,),),
  ),
  collections.OrderedDict: (
    lambda v: (dict(v),),
    collections.OrderedDict,
    ((dict,),),
  ),
  collections.defaultdict: (
    lambda v: (_factory(v), dict(v)),
    collections.defaultdict,
    (_FACTORY, (dict,)),
  ),
  type({}.keys()): (
    lambda v: (list(v),),
    lambda keys: dict.fromkeys(keys).keys(),
    ((list,),),
  ),
  type({}.values()): (
    lambda v: (list(v),),
    lambda values: dict(enumerate(values)).values(),
    ((list,),),
  ),
  type({}.items()): (
    lambda v: (dict(v),),
    lambda mapping: mapping.items(),
    ((dict,),),
  ),
  types.MappingProxyType: (
    lambda v: (dict(v),),
    types.MappingProxyType,
    ((dict,),),
  ),
  array.array: (
    lambda v: (v.typecode, v.tolist()),
    array.array,
    (_TEXT, (list, str)),
  ),
  uuid.UUID: (lambda v: (v.hex,), uuid.UUID, (_TEXT,)),
  re.Pattern: (
    lambda v: (v.pattern, v.flags),
    re.compile,
    ((str, bytes), _INTEGER),
  ),
  pathlib.PosixPath: (lambda v: (str(v),), pathlib.PosixPath, (_TEXT,)),
  pathlib.PurePosixPath: (
    lambda v: (str(v),),
    pathlib.PurePosixPath,
    (_TEXT,),
  ),
}
_NAMES = {kind.__name__: kind for kind in _KNOWN}
_NAMED_TUPLE, _GLOBAL, _ARRAY = 'namedtuple', 'global', 'ndarray'


def taken_apart(value: Any) -> Any:
  """What stands for a value of a known type; None for any other value."""
  kind = type(value)
  if kind in _KNOWN:
    return codec.Built(kind.__name__, _KNOWN[kind][0](value))
  fields = _fields(kind)
  if fields is not None:
    parts = (kind.__name__, list(fields), list(tuple.__iter__(value)))
    return codec.Built(_NAMED_TUPLE, parts)
  if kind.__module__ == 'numpy' and hasattr(value, 'tolist'):
    return value.tolist()
  return None


def build(name: str, parts: tuple) -> Any:
  """The value of a Built; for codec.decode.

  Args:
    name: of a known type.
    parts: from an attacker, perhaps.

  Raises:
    ValueError, TypeError, LookupError, ArithmeticError: it is no such value.
  """
  if name == _NAMED_TUPLE:
    kind, fields, values = parts
    if type(values) is not list:
      raise TypeError('a named tuple of no list')
    return _named_tuple(kind, tuple(fields))(*values)
  _, builder, allowed = _KNOWN[_NAMES[name]]
  if len(parts) != len(allowed):
    raise TypeError(f'{len(parts)} parts of a {name}')
  for part, kinds in zip(parts, allowed, strict=True):
    if type(part) not in kinds:
      raise TypeError(f'a part of a {name} is a {type(part).__name__}')
  return builder(*parts)


def _fields(kind: type) -> tuple | None:
  """The fields of a class that namedtuple() or NamedTuple made."""
  fields = kind.__dict__.get('_fields')
  if kind.__bases__ != (tuple,) or type(fields) is not tuple:
    return None
  return fields if all(type(field) is str for field in fields) else None


@functools.lru_cache(100)
def _named_tuple(name: str, fields: tuple) -> type:
  if len(fields) > _MAX_FIELDS or any(type(one) is not str for one in fields):
    raise ValueError('the fields of a named tuple')
  name = name if name.isidentifier() and not keyword.iskeyword(name) else 'Row'
  return collections.namedtuple(name, fields)


# ---- from the tests to the candidate alone ----------------------------------


def sent(value: Any) -> Any:
  """As `taken_apart`, and also what only trusted tests may hand over.

  A function or class of the standard library goes by its name; an array of
  numpy goes as its bytes.
  """
  if type(value).__name__ == _ARRAY and type(value).__module__ == 'numpy':
    if value.dtype.kind in 'biufcSU':
      parts = (value.dtype.str, value.shape, value.tobytes())
      return codec.Built(_ARRAY, parts)
  if isinstance(value, (type, types.BuiltinFunctionType, types.FunctionType)):
    where = (value.__module__ or 'builtins', value.__qualname__)
    if _found(*where) is value:
      return codec.Built(_GLOBAL, where)
  if type(value) in (types.MethodDescriptorType, types.WrapperDescriptorType):
    where = ('builtins', value.__qualname__)  # str.upper
    if _found(*where) is value:
      return codec.Built(_GLOBAL, where)
  return taken_apart(value)


def build_sent(name: str, parts: tuple) -> Any:
  """The value of a Built that the tests sent."""
  if name == _GLOBAL:
    return _found(*parts)
  if name == _ARRAY:
    numpy = sys.modules['numpy']
    kind, shape, data = parts
    return numpy.frombuffer(data, kind).reshape(shape).copy()
  return build(name, parts)


def _found(module: str, path: str) -> Any:
  """The standard library's object of a name; None where it has none."""
  if module.partition('.')[0] not in sys.stdlib_module_names:
    return None
  try:
    value = importlib.import_module(module)
    for name in path.split('.'):
      value = getattr(value, name)
    return value
  except (ImportError, AttributeError):
    return None
