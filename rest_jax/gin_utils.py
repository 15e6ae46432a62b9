"""Gin for the command line: T5X's conventions, and errors that name the fix.

What gin itself lets pass is caught here: a misspelt macro on the command line
(gin would just define a new one), a bare string (`--gin.RUN_DIR=runs/x`), a
REQUIRED macro that nobody set. Files may bind functions and configurations of
any stage, but only the running stage is imported: score must not pay for jax.
"""

import ast
import difflib
import importlib
import os
import re
from collections.abc import Callable, Sequence
from typing import Any

import gin

from rest_jax import configuration

STAGES = {
  'prepare': 'rest_jax.prepare',
  'sample': 'rest_jax.sample',
  'score': 'rest_jax.score',
  'select': 'rest_jax.selection',
  'train': 'rest_jax.train',
  'evaluate': 'rest_jax.evaluate',
  'report': 'rest_jax.report',
  'rest_em': 'rest_jax.rest_em',  # the plan of all of them, for the launcher
}
DEFAULTS = 'defaults.gin'
_MACRO = re.compile(r'[A-Z][A-Z0-9_]*')


def gin_directory() -> str:
  """Where the package's own gin files are: the checkout, or the wheel."""
  import rest_jax

  checkout = os.path.join(os.path.dirname(rest_jax.__path__[0]), 'gin')
  if os.path.exists(os.path.join(checkout, DEFAULTS)):
    return checkout
  import importlib.resources

  return os.fspath(importlib.resources.files('rest_jax.gin_files'))


def parse(
  stage: str,
  *,
  gin_files: Sequence[str] = (),
  bindings: Sequence[str] = (),
  search_paths: Sequence[str] = (),
) -> tuple[Callable[..., Any], dict[str, Any]]:
  """Reads the gin files and bindings and resolves one stage's arguments.

  Args:
    stage: a key of STAGES.
    gin_files: read in order, after defaults.gin and stages/<stage>.gin.
    bindings: `NAME=VALUE` from the command line, after all files.
    search_paths: where to look for gin files, before the working directory
      and the package's own.

  Returns:
    (the stage's function, its keyword arguments, all references resolved).

  Raises:
    ConfigurationError: for anything misspelt, mistyped or missing.
  """
  gin.clear_config()
  gin.config._LOCATION_PREFIXES[:] = [*search_paths, '', gin_directory()]
  module = importlib.import_module(STAGES[stage])
  name = {'rest_em': 'plan'}.get(stage, stage)
  function = getattr(module, name)
  with _clear_errors():
    files = [DEFAULTS, f'stages/{stage}.gin', *gin_files]
    for file in files:
      _require_file(file, search_paths)
    gin.parse_config_files_and_bindings(files, [], finalize_config=False)
    before = _macros()
    _parse_bindings(bindings, module, name, before)
    _check_required(before)
    gin.finalize()
    arguments = gin.get_bindings(f'{module.__name__}.{name}')
  missing = [key for key, value in arguments.items() if value is gin.REQUIRED]
  if missing:
    raise configuration.ConfigurationError(
      f'{stage}: no value for {", ".join(missing)}.'
    )
  return function, arguments


def value_of_macro(name: str) -> Any:
  """The value that a macro has now; for the launcher's messages."""
  return gin.query_parameter(f'%{name}')


def config_text() -> str:
  """Everything that is bound, as a gin file."""
  return gin.config_str()


def as_binding(argument: str) -> str:
  """`NAME=VALUE` with a bare string quoted, as gin wants it.

  Numbers, lists, quoted strings, True, None, %MACRO and @reference stay as
  they are; anything else is a string: RUN_DIR=runs/x, STREAM=e_step.
  """
  name, separator, value = argument.partition('=')
  name, value = name.strip(), value.strip()
  if not separator or not name:
    raise configuration.ConfigurationError(
      f'--gin.{argument}: expected --gin.NAME=VALUE.'
    )
  if value.startswith(('%', '@')):
    return f'{name} = {value}'
  try:
    ast.literal_eval(value)
    return f'{name} = {value}'
  except (ValueError, SyntaxError):
    pass
  if value[:1] in '[({' and ('@' in value or '%' in value):
    return f'{name} = {value}'
  return f'{name} = {value!r}'


def _parse_bindings(
  bindings: Sequence[str], module: Any, name: str, macros: dict[str, Any]
) -> None:
  package = module.__name__.rsplit('.', 1)[0]
  stem = module.__name__.rsplit('.', 1)[1]
  for binding in bindings:
    text = as_binding(binding)
    key = text.partition(' = ')[0]
    target = key.rpartition('/')[2]
    if '.' not in target:
      if key not in macros:
        raise configuration.ConfigurationError(
          f'--gin.{key}: no gin file defines this macro. '
          f'{_nearest(key, macros)}'
        )
      gin.parse_config(text)
      continue
    root = target.split('.')[0]
    others = {path.rpartition('.')[2] for path in STAGES.values()}
    if root in others - {stem}:
      continue  # another stage's binding, handed to every job of a run
    gin.parse_config(
      'from __gin__ import dynamic_registration\n'
      f'from {package} import {stem}\n'
      'from rest_jax.models import configurations as models\n'
      'from rest_jax.sampling import streams\n'
      'from rest_jax.training import configurations as training\n' + text
    )


def _macros() -> dict[str, Any]:
  found = {}
  for (scope, selector), parameters in gin.config._CONFIG.items():
    if selector == 'gin.macro' and 'value' in parameters:
      found[scope] = parameters['value']
  return found


def _check_required(macros: dict[str, Any]) -> None:
  now = _macros()
  missing = []
  for name in macros:
    value = now[name]
    if isinstance(value, gin.config.ConfigurableReference):
      if value.selector.endswith('gin.REQUIRED') or (
        value.scoped_selector == 'gin.REQUIRED/gin.macro'
      ):
        missing.append(name)
    elif value is gin.REQUIRED:
      missing.append(name)
  if missing:
    raise configuration.ConfigurationError(
      f'{", ".join(missing)}: required, and no gin file or --gin.'
      f'{missing[0]}=... sets it.'
    )


def _require_file(file: str, search_paths: Sequence[str]) -> None:
  places = [*search_paths, '', gin_directory()]
  if any(os.path.exists(os.path.join(place, file)) for place in places):
    return
  known = []
  for root, _, names in os.walk(gin_directory()):
    relative = os.path.relpath(root, gin_directory())
    known += [os.path.normpath(os.path.join(relative, n)) for n in names]
  raise configuration.ConfigurationError(
    f'--gin_file={file}: not found in {places}. {_nearest(file, known)}'
  )


def _nearest(name: str, known: Any) -> str:
  near = difflib.get_close_matches(name, list(known), n=1, cutoff=0.5)
  return f'Nearest: {near[0]}.' if near else f'Known: {sorted(known)}.'


class _clear_errors:  # noqa: N801
  """Turns gin's errors into ConfigurationError with the nearest valid name."""

  def __enter__(self):
    return self

  def __exit__(self, kind, error, trace):
    if error is None or isinstance(error, configuration.ConfigurationError):
      return False
    if not isinstance(error, Exception):
      return False
    text = ' '.join(str(error).split())
    raise configuration.ConfigurationError(
      f'gin: {text}{_hint(text)}'
    ) from error


def _hint(text: str) -> str:
  found = re.search(r"parameter named '(\w+)'", text)
  if not found:
    return ''
  owner = re.search(r"Configurable '([\w.]+)'|([\w.]+) doesn't", text)
  import inspect

  for match in gin.config._REGISTRY.get_all_matches('') if owner is None else (
    gin.config._REGISTRY.get_all_matches(owner.group(1) or owner.group(2))
  ):
    names = list(inspect.signature(match.wrapped).parameters)
    return f' {_nearest(found.group(1), names)}'
  return ''
