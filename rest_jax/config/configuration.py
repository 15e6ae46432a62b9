"""Configurations that check themselves, and say which of their fields matter.

Gin binds any value to any field; a wrong type would otherwise show itself an
hour later. Every configuration of this package derives from `Configuration`,
whose fields are checked when it is built. A field is *semantic* (part of a
stage's fingerprint: another value gives another result) unless it is declared
with `operational(...)` (paths, worker counts, logging: recorded, never
compared).
"""

import dataclasses
import functools
import inspect
import types
import typing
from collections.abc import Callable, Mapping, Sequence
from typing import Any


class ConfigurationError(ValueError):
  """What the user asked for cannot be done; retrying will not help."""


def operational(default: Any = dataclasses.MISSING) -> Any:
  """A field that changes how a result is made, not what it is."""
  return dataclasses.field(default=default, metadata={'semantic': False})


@dataclasses.dataclass(frozen=True, kw_only=True)
class Configuration:
  """Base of all configurations: frozen, keyword-only, checked when built."""

  def __post_init__(self):
    hints = typing.get_type_hints(type(self))
    for field in dataclasses.fields(self):
      where = f'{type(self).__name__}.{field.name}'
      value = checked_value(where, getattr(self, field.name), hints[field.name])
      object.__setattr__(self, field.name, value)
    self.check()

  def check(self) -> None:
    """Raises ConfigurationError where the values do not fit together."""

  def require(self, condition: bool, field: str, allowed: str) -> None:
    """Raises unless `condition`, naming the field, its value and the fix."""
    if not condition:
      raise ConfigurationError(
        f'{type(self).__name__}.{field}: got {getattr(self, field)!r}; '
        f'allowed: {allowed}.'
      )


def listed(lines: Sequence[str], most: int = 12) -> str:
  """The lines of an error, one below the other; how many more there are.

  Args:
    lines: what is wrong, each with its place.
    most: that are shown.
  """
  shown = list(lines[:most])
  if len(lines) > most:
    shown.append(f'and {len(lines) - most} more')
  return '\n'.join(f'  {line}' for line in shown)


def per_task(where: str, value: Any, task: str) -> Any:
  """A dial's value for one task: the value itself, or its entry in a mapping.

  Args:
    where: the dial, for the error.
    value: one for all tasks, or {task: value}.
    task: the task's name.

  Raises:
    ConfigurationError: the mapping has no entry for the task.
  """
  if not isinstance(value, Mapping):
    return value
  if task in value:
    return value[task]
  raise ConfigurationError(
    f'{where}: got {dict(value)!r}, which has nothing for the task {task!r}. '
    'Give one value for all tasks, or an entry for each.'
  )


def semantics(value: Any) -> Any:
  """The semantic part of a configuration as JSON-ready values.

  Args:
    value: a Configuration, or sequences, mappings and scalars holding some.

  Returns:
    Nested dicts and lists without the fields declared `operational`.
  """
  if dataclasses.is_dataclass(value):
    return {
      field.name: semantics(getattr(value, field.name))
      for field in dataclasses.fields(value)
      if field.metadata.get('semantic', True)
    }
  if isinstance(value, Mapping):
    return {str(key): semantics(item) for key, item in value.items()}
  if isinstance(value, (list, tuple)):
    return [semantics(item) for item in value]
  return value


def with_declared_defaults(standing: Any, value: Any) -> Any:
  """Recorded semantics, with the defaults of fields that did not exist yet.

  A version of this package that adds a field to a configuration must not
  refuse the runs that an earlier one recorded: they stand for the field's
  declared default.

  Args:
    standing: what `semantics` gave when the result was made, read from JSON.
    value: today's configuration of the same kind.

  Returns:
    `standing`, with the default of every semantic field of `value` that it
    lacks and that declares one. Nothing else is added or changed.
  """
  if dataclasses.is_dataclass(value) and isinstance(standing, Mapping):
    filled = dict(standing)
    for field in dataclasses.fields(value):
      if field.name in standing:
        filled[field.name] = with_declared_defaults(
          standing[field.name], getattr(value, field.name)
        )
      elif field.metadata.get('semantic', True):
        if field.default is not dataclasses.MISSING:
          filled[field.name] = semantics(field.default)
        elif field.default_factory is not dataclasses.MISSING:
          filled[field.name] = semantics(field.default_factory())
    return filled
  if isinstance(value, Mapping) and isinstance(standing, Mapping):
    now = {str(key): item for key, item in value.items()}
    return {
      key: with_declared_defaults(item, now[key]) if key in now else item
      for key, item in standing.items()
    }
  if isinstance(value, (list, tuple)) and isinstance(standing, (list, tuple)):
    # A list may have grown since; what it had before keeps its place.
    known = zip(standing, value, strict=False)
    start = [with_declared_defaults(*pair) for pair in known]
    return [*start, *standing[len(start) :]]
  return standing


def checked(function: Callable) -> Callable:
  """Checks the arguments of a stage's top-level function by its annotations."""
  hints = typing.get_type_hints(function)
  signature = inspect.signature(function)

  @functools.wraps(function)
  def wrapper(*args, **kwargs):
    bound = signature.bind(*args, **kwargs)
    for name, value in bound.arguments.items():
      if name in hints:
        where = f'{function.__name__}.{name}'
        bound.arguments[name] = checked_value(where, value, hints[name])
    return function(*bound.args, **bound.kwargs)

  return wrapper


def checked_value(where: str, value: Any, hint: Any) -> Any:
  """`value` in the type `hint` (int widens to float, list to tuple), or raises.

  Raises:
    ConfigurationError: naming the field, what was got and what is expected.
  """
  origin, args = typing.get_origin(hint), typing.get_args(hint)
  if hint is Any:
    return value
  if origin in (typing.Union, types.UnionType):
    for option in args:
      try:
        return checked_value(where, value, option)
      except ConfigurationError:
        continue
    raise _type_error(where, value, hint)
  if origin is typing.Literal:
    if value not in args:
      allowed = ' | '.join(repr(arg) for arg in args)
      raise ConfigurationError(f'{where}: got {value!r}; allowed: {allowed}.')
    return value
  if origin in (tuple, Sequence):
    if isinstance(value, (int, float)) and args[-1] is Ellipsis:
      value = (value,)  # LEARNING_RATES=3e-4: a list of one
    if isinstance(value, str) or not isinstance(value, Sequence):
      raise _type_error(where, value, hint)
    if origin is tuple and args[-1] is not Ellipsis:
      if len(value) != len(args):
        raise _type_error(where, value, hint)
      hints = args
    else:
      hints = (args[0],) * len(value)
    return tuple(
      checked_value(f'{where}[{i}]', item, item_hint)
      for i, (item, item_hint) in enumerate(zip(value, hints, strict=True))
    )
  if origin in (dict, Mapping):
    if not isinstance(value, Mapping):
      raise _type_error(where, value, hint)
    return {
      checked_value(where, key, args[0]): checked_value(
        f'{where}[{key!r}]', item, args[1]
      )
      for key, item in value.items()
    }
  if origin is not None:  # Callable and other generics are not looked into
    return value
  if hint is float and isinstance(value, int) and not isinstance(value, bool):
    return float(value)
  if hint is type(None):
    if value is None:
      return None
    raise _type_error(where, value, hint)
  if hint is int and isinstance(value, bool):
    raise _type_error(where, value, hint)
  if not isinstance(value, hint):
    raise _type_error(where, value, hint)
  return value


def _type_error(where: str, value: Any, hint: Any) -> ConfigurationError:
  expected = hint.__name__ if isinstance(hint, type) else str(hint)
  expected = expected.replace('typing.', '').replace('rest_jax.', '')
  hint_of_auto = (
    " 'auto' is derived by the launcher (rest-jax run, launch/rest_em.py); "
    'one stage alone needs the value.'
    if value == 'auto'
    else ''
  )
  return ConfigurationError(
    f'{where}: got {value!r} ({type(value).__name__}); expected {expected}.'
    f'{hint_of_auto}'
  )
