"""Where the tasks of an evaluation come from, when TASKS only names them.

A task NAME is configured by a macro NAME_TASK (in capitals), or by any macro
…_TASK whose configuration bears that name (own_problems.gin's TASK). Where the
user's files define none, tasks/NAME.gin is read, before them. Two such files
that bind the same dial differently are refused: the last one would win, and
the other task would silently be another one.
"""

import os
import re
from collections.abc import Iterable, Mapping, Sequence

from rest_jax.artifacts import run_paths
from rest_jax.config import configuration, gin_names, gin_parser

_MACRO = re.compile(r'[A-Z]\w*_TASK')


def expand(
  *,
  gin_files: Sequence[str],
  bindings: Sequence[str],
  search_paths: Sequence[str],
) -> tuple[list[str], list[str]]:
  """The gin files and bindings with all that TASKS needs.

  Args:
    gin_files, bindings, search_paths: what the user asked for.

  Returns:
    (tasks' files and the user's, a binding of TASK_CONFIGS and the user's).

  Raises:
    ConfigurationError: an unknown task, or tasks that cannot share a run.
  """
  given = {'gin_files': gin_files, 'search_paths': search_paths}
  asked = gin_parser.macros(
    'batch', ['TASKS', 'TASK'], bindings=bindings, **given
  )
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
  _check_apart(files, bindings, given)
  all_files = [*files.values(), *gin_files]
  given['gin_files'] = all_files
  gin_parser.macros('batch', ['TASKS', 'TASK'], bindings=bindings, **given)
  bound = gin_parser.bindings()
  macros = dict.fromkeys(_canonical(_macro_of(n, bound), bound) for n in names)
  configs = ', '.join(f'%{macro}' for macro in macros)
  all_bindings = [f'TASK_CONFIGS=[{configs}]', *bindings]
  _check_folders(asked['TASKS'], all_bindings, given)
  return all_files, all_bindings


def _macro_of(name: str, bound: Mapping[str, str]) -> str | None:
  """The macro that configures a task, if there is one."""
  for macro, value in bound.items():
    if _MACRO.fullmatch(macro) and _name_in(value, bound) == name:
      return macro
  macro = f'{name.upper().replace("-", "_")}_TASK'
  return macro if macro in bound else None


def _name_in(value: str, bound: Mapping[str, str]) -> str | None:
  """The field `name` of the configuration that a value refers to."""
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
  places = [*search_paths, os.getcwd(), gin_parser.gin_directory()]
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
  files: Mapping[str, str], bindings: Iterable[str], given: Mapping
) -> None:
  """Raises where one task's file changes another's configuration."""
  plain = _read([], given)
  users = _read(given['gin_files'], given)
  mine = {binding.partition('=')[0].strip() for binding in bindings}
  mine |= {key for key, text in users.items() if plain.get(key) != text}
  together = _read([*files.values()], given)
  for name, file in files.items():
    alone = _read([file], given)
    macro = _macro_of(name, alone)
    if macro is None:
      raise configuration.ConfigurationError(
        f'{file}: defines no {name.upper()}_TASK, which TASKS needs.'
      )
    before = gin_names.reached(f'%{macro}', alone)
    after = gin_names.reached(f'%{macro}', together)
    # A scoped parameter belongs to the task that named its scope.
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


def _read(files: Sequence[str], given: Mapping) -> dict[str, str]:
  """What these files bind, with the defaults."""
  search_paths = given['search_paths']
  gin_parser.macros('batch', [], gin_files=files, search_paths=search_paths)
  return gin_parser.bindings()


def _check_folders(
  tasks: Sequence[str], bindings: Sequence[str], given: Mapping
) -> None:
  """Raises where the stage prepare would not write what is to be evaluated."""
  _, bound = gin_parser.parse('prepare', bindings=bindings, **given)
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
