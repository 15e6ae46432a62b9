"""Reads gin files and bindings for a stage, with the conventions of T5X.

Errors that gin itself does not report are found here and in gin_checks.py: a
misspelt macro on the command line (gin would define a new one), a REQUIRED
macro that is not set, an argument of the wrong type. Bare strings
(`--gin.RUN_DIR=runs/x`) are quoted. A binding of another stage is checked
against that stage's source text and then skipped, because only the running
stage is imported: `score`, for instance, must not load jax.
"""

import importlib
import inspect
import os
import typing
from collections.abc import Callable, Iterable, Sequence
from typing import Any

import gin

from rest_jax.config import (
  configuration,
  gin_checks,
  gin_names,
  gin_readers,
  packaged_gin,
)

STAGES = {
  'prepare': 'rest_jax.prepare',
  'sample': 'rest_jax.sample',
  'score': 'rest_jax.score',
  'select': 'rest_jax.select_examples',
  'train': 'rest_jax.train',
  'grade_dval': 'rest_jax.grade_dval',
  'evaluate': 'rest_jax.evaluate',
  'report': 'rest_jax.report',
  'preflight': 'rest_jax.preflight',
  # Plans of several jobs, for the launcher; the function is called `plan`.
  'rest_em': 'rest_jax.rest_em',
  'batch': 'rest_jax.pipeline.checkpoint_evaluation',
  # What the launcher derives sizes from.
  'sizes': 'rest_jax.pipeline.sizes',
  # What executors must know.
  'gke': 'rest_jax.executors.gke.settings',
  'tpu_vm': 'rest_jax.executors.tpu_vm.settings',
}
PLANS = ('rest_em', 'batch')


def parse(
  stage: str,
  *,
  gin_files: Sequence[str] = (),
  bindings: Sequence[str] = (),
  search_paths: Sequence[str] = (),
) -> tuple[Callable[..., Any], dict[str, Any]]:
  """Reads gin files and bindings, and gives a stage's arguments.

  Args:
    stage: a key of STAGES.
    gin_files: files to read, in order, after defaults.gin and
      stages/<stage>.gin.
    bindings: `NAME=VALUE` from the command line; they override the files.
    search_paths: folders to look for gin files in, before the working directory
      and the package's own folder.

  Returns:
    (the stage's function, its keyword arguments with all references resolved).

  Raises:
    ConfigurationError: a name is misspelt, a value has the wrong type, or a
      required one is missing.
  """
  function = read(
    stage, gin_files=gin_files, bindings=bindings, search_paths=search_paths
  )
  with gin_checks.clear_errors():
    gin_checks.check_reachable(stage, function)
    arguments = gin.get_bindings(function)
  return function, _checked_arguments(stage, function, arguments)


def macros(
  stage: str,
  names: Sequence[str],
  *,
  gin_files: Sequence[str] = (),
  bindings: Sequence[str] = (),
  search_paths: Sequence[str] = (),
) -> dict[str, Any]:
  """Reads some macros without requiring a complete configuration.

  Args:
    stage: as for `parse`.
    names: of the macros.
    gin_files: as for `parse`.
    bindings: as for `parse`; those of other macros are not read.
    search_paths: as for `parse`.

  Returns:
    Name to value, without macros that are None, REQUIRED or not defined.
  """
  own = [b for b in bindings if b.partition('=')[0].strip() in names]
  read(stage, gin_files=gin_files, bindings=own, search_paths=search_paths)
  return {
    name: value
    for name in names
    if (value := _plain(gin_checks.bound_macros().get(name))) is not None
  }


def _plain(value: Any) -> Any:
  """A bound value with its macros resolved; None if one has no value."""
  if isinstance(value, gin.config.ConfigurableReference):
    return _plain(gin_checks.bound_macros().get(value.config_key[0]))
  if isinstance(value, (list, tuple)):
    items = [_plain(item) for item in value]
    return None if None in items else items
  return value


def read(
  stage: str,
  *,
  gin_files: Sequence[str] = (),
  bindings: Sequence[str] = (),
  search_paths: Sequence[str] = (),
) -> Callable[..., Any]:
  """Reads files and bindings into gin, without resolving references.

  Args: as for `parse`.

  Returns:
    The stage's function; `bindings` gives what is bound.
  """
  gin.clear_config()
  ours = packaged_gin.directory()
  gin.config._LOCATION_PREFIXES[:] = [*search_paths, '', ours]
  # Gin's other file reader, for package resources, logs an error for each
  # folder in which a file is not found.
  gin.config._FILE_READERS[:] = [(gin_readers.opened, gin_readers.is_file)]
  module = importlib.import_module(STAGES[stage])
  function = getattr(module, 'plan' if stage in PLANS else stage)
  with gin_checks.clear_errors():
    files = [packaged_gin.DEFAULTS, f'stages/{stage}.gin', *gin_files]
    places = [*search_paths, os.getcwd(), ours]
    for file in files:
      gin_names.require_file(file, places)
    gin.parse_config_files_and_bindings(
      files, [], finalize_config=False, print_includes_and_imports=False
    )
    gin_checks.check_macros_of_files()
    for binding in bindings:
      _parse_binding(binding)
  return function


def bindings() -> dict[str, str]:
  """The text of every bound value, with its references not resolved.

  Returns:
    NAME of a macro, or scope/module.Class.parameter, to text.
  """
  return {
    name
    if selector == gin_checks.MACRO
    else f'{name}/{selector}.{parameter}': repr(value)
    for (name, selector), parameters in sorted(gin.config._CONFIG.items())
    for parameter, value in sorted(parameters.items())
  }


def config_text() -> str:
  """All bindings as the text of a gin file."""
  return gin.config_str()


# ---- one binding of the command line ----------------------------------------


def _parse_binding(binding: str) -> None:
  """Reads a NAME=VALUE of the command line; refuses an unknown NAME."""
  text = gin_names.as_binding(binding)
  key = text.partition(' = ')[0]
  imported = {
    statement.bound_name(): statement.module
    for statement in gin.config._IMPORTS
    if not statement.module.startswith('__gin__')
  }
  root, dot, _ = key.rpartition('/')[2].partition('.')
  if not dot:
    _require_known(
      f'--gin.{key}',
      'no gin file defines this macro',
      gin_checks.bound_macros(),
    )
  elif root not in imported:
    others = gin_names.imported_modules(packaged_gin.directory())
    if root not in others:
      known = {**imported, **others}
      raise configuration.ConfigurationError(
        f'--gin.{key}: {root} is not a module that gin files import. '
        f'{gin_names.nearest(root, known)}'
      )
    gin_names.check_in_source(key, others[root])
    return  # The launcher hands every binding to all jobs of a run.
  lines = ['from __gin__ import dynamic_registration']
  for name, path in sorted(imported.items()):
    package, _, stem = path.rpartition('.')
    lines.append(f'from {package} import {stem} as {name}')
  gin.parse_config('\n'.join([*lines, text]))


def _require_known(where: str, problem: str, known: Iterable[str]) -> None:
  name = where.removeprefix('--gin.')
  if name not in known:
    raise configuration.ConfigurationError(
      f'{where}: {problem}. {gin_names.nearest(name, known)}'
    )


def _checked_arguments(
  stage: str, function: Callable, arguments: dict[str, Any]
) -> dict[str, Any]:
  """Checks the arguments against the function's annotations, and converts."""
  hints = typing.get_type_hints(function)
  for name, parameter in inspect.signature(function).parameters.items():
    if name in arguments:
      where = f'{stage}.{name}'
      arguments[name] = configuration.checked_value(
        where, arguments[name], hints.get(name, Any)
      )
    elif parameter.default is inspect.Parameter.empty:
      raise configuration.ConfigurationError(
        f'{stage}: no gin file binds its argument {name!r}.'
      )
  return arguments
