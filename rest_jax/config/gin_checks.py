"""Checks of what gin has read, and its errors in the user's own words.

gin itself accepts a macro that nothing uses, and reports a missing one only
when the function that needs it is called.
"""

import contextlib
import difflib
import inspect
import re
from collections.abc import Callable, Iterator
from typing import Any

import gin

from rest_jax.config import configuration, gin_names, packaged_gin

MACRO = 'gin.macro'  # gin's selector of a macro's value


def bound_macros() -> dict[str, Any]:
  """Name of a macro to its bound value."""
  return {
    scope: parameters['value']
    for (scope, selector), parameters in gin.config._CONFIG.items()
    if selector == MACRO and 'value' in parameters
  }


def check_macros_of_files() -> None:
  """Raises for a macro that nothing uses and that resembles a default one."""
  with open(packaged_gin.path(packaged_gin.DEFAULTS)) as file:
    ours = re.findall(r'^([A-Z]\w*) *=', file.read(), re.M)
  used = {name for name, _ in _references(gin.config._CONFIG)}
  for name in sorted({*bound_macros()} - {*ours} - used):
    if near := difflib.get_close_matches(name, ours, n=1, cutoff=0.8):
      raise configuration.ConfigurationError(
        f'{name}: a gin file sets this macro, and nothing uses it. '
        f'Nearest: {near[0]}.'
      )


def check_reachable(stage: str, function: Callable) -> None:
  """Raises if a stage uses a macro that is not defined, or REQUIRED.

  Args:
    stage: a key of gin_parser.STAGES, for errors.
    function: the stage's function.

  Raises:
    ConfigurationError: names the macro and the nearest one, or all that must be
      set.
  """
  missing, seen = [], set()
  config = gin.config._CONFIG
  todo = [*_references(gin.get_bindings(function, resolve_references=False))]
  while todo:
    scope, selector = key = todo.pop()
    if key in seen:
      continue
    seen.add(key)
    if selector == MACRO and key not in config:
      raise configuration.ConfigurationError(
        f'%{scope}: no gin file defines this macro. '
        f'{gin_names.nearest(scope, bound_macros())}'
      )
    for found in (
      *_references(config.get(('', selector), {})),
      *_references(config.get(key, {})),
    ):
      if found[0] == 'gin.REQUIRED':
        missing.append(scope)
      else:
        todo.append(found)
  if missing:
    missing.sort()
    if {'TASKS', 'TASK_CONFIGS'} & {*missing}:
      raise configuration.ConfigurationError(
        f'{stage}: no --gin_file names a run or a task ({", ".join(missing)} '
        f'must be set). Run files:\n{packaged_gin.listed("runs")}\n'
        'Your own problems: rest-jax run --model=PATH --problems=FILE.jsonl '
        '(rest-jax prepare: --input=FILE.jsonl).'
      )
    raise configuration.ConfigurationError(
      f'{stage}: {", ".join(missing)} must be set: no --gin_file and no '
      f'--gin.{missing[0]}=... does.'
    )


def _references(value: Any) -> Iterator[tuple[str, str]]:
  """(scope, selector) of every reference in a bound value."""
  if isinstance(value, gin.config.ConfigurableReference):
    yield value.config_key
  elif isinstance(value, dict):
    yield from _references([*value.keys(), *value.values()])
  elif isinstance(value, (list, tuple)):
    for item in value:
      yield from _references(item)


@contextlib.contextmanager
def clear_errors() -> Iterator[None]:
  """Turns gin's errors into ConfigurationError with the nearest valid name."""
  try:
    yield
  except configuration.ConfigurationError as error:
    # The name of gin's proxy type is left out: users do not know it.
    text = re.sub(r" \(<class '[^']*'>\)", '', str(error))
    text = re.sub(r'\s*\n\s*In call to', ' In call to', text).rstrip()
    raise configuration.ConfigurationError(text) from error.__cause__
  except Exception as error:
    text = ' '.join(str(error).split())
    raise configuration.ConfigurationError(
      f'gin: {text}{_hint(text)}'
    ) from error


def _hint(text: str) -> str:
  """The nearest parameter, if gin reports an unknown one; else ''."""
  found = re.search(r"'([\w.]+)' doesn't have a parameter named '(\w+)'", text)
  if not found:
    return ''
  owners = gin.config._REGISTRY.get_all_matches(found[1])
  names = [
    name for o in owners for name in inspect.signature(o.wrapped).parameters
  ]
  return f' {gin_names.nearest(found[2], names)}' if names else ''
