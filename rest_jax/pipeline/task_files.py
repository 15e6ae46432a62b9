"""Finds the gin files of the tasks that `rest-jax evaluate` names in TASKS.

A task NAME is configured by a macro NAME_TASK (in capitals), or by any macro
ending in _TASK whose configuration has the field name = 'NAME' (as in
own_problems.gin). If the user's files define no such macro, tasks/NAME.gin is
read before them. Two such files that bind the same macro or parameter to
different values are refused, because the last one would silently change the
other task.
"""

import dataclasses
import os
import re
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from rest_jax.artifacts import run_paths
from rest_jax.config import (
  configuration,
  gin_names,
  gin_parser,
  packaged_gin,
)

_MACRO = re.compile(r'[A-Z]\w*_TASK')


def expand(
  *,
  gin_files: Sequence[str],
  bindings: Sequence[str],
  search_paths: Sequence[str],
) -> tuple[list[str], list[str]]:
  """Adds to the user's gin files and bindings what TASKS needs.

  Args:
    gin_files: of the user.
    bindings: of the user's command line.
    search_paths: of the user.

  Returns:
    (the gin files of the tasks, then the user's; a binding of TASK_CONFIGS,
    then the user's).

  Raises:
    ConfigurationError: a task is unknown, or the tasks cannot share a run.
  """
  user = _Files(gin_files, search_paths)
  asked = user.macros(bindings)
  if not asked.get('TASKS'):
    raise configuration.ConfigurationError(
      "TASKS must be set: --gin.TASKS=['gsm8k'] evaluates on GSM8K."
    )
  names = dict.fromkeys(
    run_paths.eval_split(task)[0] for task in asked['TASKS']
  )
  bound, files = gin_parser.bindings(), {}
  for name in names:
    if _macro_of(name, bound) is None:
      files[name] = f'tasks/{name}.gin'
      _require(name, bound, search_paths)
  _check_apart(files, bindings, user)
  everything = _Files([*files.values(), *gin_files], search_paths)
  everything.macros(bindings)
  bound = gin_parser.bindings()
  macros = dict.fromkeys(_canonical(_macro_of(n, bound), bound) for n in names)
  configs = ', '.join(f'%{macro}' for macro in macros)
  all_bindings = [f'TASK_CONFIGS=[{configs}]', *bindings]
  _check_folders(asked['TASKS'], all_bindings, everything)
  return list(everything.gin_files), all_bindings


@dataclasses.dataclass(frozen=True)
class _Files:
  """Gin files, and the folders in which they are looked for."""

  gin_files: Sequence[str]
  search_paths: Sequence[str]

  def macros(self, bindings: Sequence[str]) -> dict[str, Any]:
    """TASKS and TASK; afterwards gin_parser.bindings() tells all bindings."""
    return gin_parser.macros(
      'batch',
      ['TASKS', 'TASK'],
      gin_files=self.gin_files,
      bindings=bindings,
      search_paths=self.search_paths,
    )

  def bound(self, gin_files: Sequence[str]) -> dict[str, str]:
    """What other files, looked for in the same folders, and defaults bind."""
    gin_parser.macros(
      'batch', [], gin_files=gin_files, search_paths=self.search_paths
    )
    return gin_parser.bindings()


def _macro_of(name: str, bound: Mapping[str, str]) -> str | None:
  """The macro that configures a task; None if no file defines one."""
  for macro, value in bound.items():
    if _MACRO.fullmatch(macro) and _name_in(value, bound) == name:
      return macro
  macro = f'{name.upper().replace("-", "_")}_TASK'
  return macro if macro in bound else None


def _name_in(value: str, bound: Mapping[str, str]) -> str | None:
  """The field `name` of the configuration that a value refers to, if any."""
  found = re.fullmatch(r'@(?:([\w/]+)/)?[\w.]*?(\w+)\(\)', value)
  if found is None:
    return None
  scope, owner = found[1] or '', found[2]
  for key, text in bound.items():
    if key.startswith(f'{scope}/') and key.endswith(f'.{owner}.name'):
      while text.startswith('%'):
        text = bound.get(text[1:], '')
      return text.strip('\'"')
  return None


def _canonical(macro: str, bound: Mapping[str, str]) -> str:
  """The macro that an alias such as ARITHMETIC_HARD_TASK stands for."""
  while bound[macro].startswith('%'):
    macro = bound[macro][1:]
  return macro


def _require(
  name: str, bound: Mapping[str, str], search_paths: Sequence[str]
) -> None:
  """Raises ConfigurationError unless there is a file tasks/NAME.gin."""
  places = [*search_paths, os.getcwd(), packaged_gin.directory()]
  folders = [os.path.join(place, 'tasks') for place in places]
  known = {
    file.removesuffix('.gin')
    for folder in folders
    if os.path.isdir(folder)
    for file in os.listdir(folder)
    if file.endswith('.gin')
  }
  if name in known:
    return
  known |= {
    found
    for macro, value in bound.items()
    if _MACRO.fullmatch(macro) and (found := _name_in(value, bound))
  }
  near = gin_names.nearest(name, known)
  near = '' if near.startswith('Known') else f' {near}'
  raise configuration.ConfigurationError(
    f'TASKS: got {name!r}, which no gin file defines (tasks/{name}.gin or a '
    f'macro {name.upper()}_TASK).{near} Known: {", ".join(sorted(known))}.'
  )


def _check_apart(
  files: Mapping[str, str], bindings: Iterable[str], user: _Files
) -> None:
  """Raises ConfigurationError if one task's file changes another task.

  Args:
    files: task to its gin file.
    bindings: of the user's command line.
    user: the user's files. What they or the bindings set is set on purpose, and
      may differ from a task's own file.
  """
  plain = user.bound([])
  users = user.bound(user.gin_files)
  mine = {binding.partition('=')[0].strip() for binding in bindings}
  mine |= {key for key, text in users.items() if plain.get(key) != text}
  together = user.bound([*files.values()])
  for name, file in files.items():
    alone = user.bound([file])
    macro = _macro_of(name, alone)
    if macro is None:
      raise configuration.ConfigurationError(
        f'{file}: defines no {name.upper()}_TASK, which TASKS needs.'
      )
    before = gin_names.reached(f'%{macro}', alone)
    after = gin_names.reached(f'%{macro}', together)
    # A scope belongs to the task that named it: of the bindings that only the
    # other files make, those without a scope matter.
    keys = [key for key in after if key in before or key.startswith('/')]
    lines = [
      f'  {key}: {before.get(key)} in {file} alone, {after[key]} with the rest'
      for key in keys
      if before.get(key) != after[key] and key not in mine
    ]
    if lines:
      raise configuration.ConfigurationError(
        f'TASKS: {", ".join(files)}: their files bind the same dials:\n'
        + '\n'.join(lines)
        + '\nGive each task a RUN_DIR of its own, or bind these dials yourself.'
      )


def _check_folders(
  tasks: Sequence[str], bindings: Sequence[str], files: _Files
) -> None:
  """Raises ConfigurationError if prepare would not write one of the tasks."""
  _, bound = gin_parser.parse(
    'prepare',
    gin_files=files.gin_files,
    bindings=bindings,
    search_paths=files.search_paths,
  )
  written = [
    '/'.join(folder) for config in bound['tasks'] for folder in config.folders()
  ]
  for task in tasks:
    asked = '/'.join(run_paths.eval_split(task))
    if asked not in written:
      raise configuration.ConfigurationError(
        f'TASKS: got {task!r}, and prepare writes no {asked}. It writes: '
        f'{", ".join(written)}.'
      )
