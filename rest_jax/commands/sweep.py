"""Several runs that differ in a dial or two, and one page that compares them.

    rest-jax run … --gin.RUN_DIR=runs/x --sweep "TEMPERATURE=[0.5, 0.7, 1.0]"

launches a run for each value, RUN_DIR/TEMPERATURE=0.5 and so on; with several
--sweep, one for each combination. Each is a run like any other: the same
command goes on where it stopped. In the end RUN_DIR/compare.html shows them
side by side (rest-jax compare).
"""

import argparse
import ast
import itertools
import re
from collections.abc import Iterator, Sequence
from typing import Any

from rest_jax.commands import compare
from rest_jax.config import configuration
from rest_jax.pipeline import launcher
from rest_jax.reporting import charts

FLAG = '--sweep'


def is_asked(arguments: Sequence[str]) -> bool:
  """Whether a command line of `rest-jax run` has the flag."""
  return any(one == FLAG or one.startswith(f'{FLAG}=') for one in arguments)


def run(arguments: Sequence[str]) -> int:
  """Launches the runs one after the other; returns the first bad exit code.

  Args:
    arguments: the command line behind `run`.

  Raises:
    ConfigurationError: RUN_DIR is not set, or a sweep is no dial and values.
  """
  parser = argparse.ArgumentParser(allow_abbrev=False)
  parser.add_argument(FLAG, action='append', default=[])
  flags, rest = parser.parse_known_args(arguments)
  run_dir, rest = _without_run_dir(rest)
  folders = []
  for name, bindings in _cases(flags.sweep):
    folders.append(f'{run_dir}/{name}')
    print(f'sweep   {folders[-1]}', flush=True)
    code = launcher.run([*rest, *bindings, f'--gin.RUN_DIR={folders[-1]}'])
    if code != 0:
      return code
  started = any(one in rest for one in ('--dry_run', '--detach'))
  if started or any(one.startswith('--until') for one in rest):
    return 0
  return compare.run([*folders, f'--output={run_dir}/compare.html'])


def _cases(sweeps: Sequence[str]) -> Iterator[tuple[str, list[str]]]:
  """(the name of a run, its bindings) of each combination.

  Raises:
    ConfigurationError: a sweep is no dial with a list of values.
  """
  dials = [_values(sweep) for sweep in sweeps]
  number = 1
  for _, values in dials:
    number *= len(values)
  if not 2 <= number <= charts.NUM_STYLES:
    raise configuration.ConfigurationError(
      f'{FLAG}: got {number} runs; allowed: 2 to {charts.NUM_STYLES}, which '
      'one page can compare.'
    )
  for chosen in itertools.product(*(values for _, values in dials)):
    pairs = [
      (name, value) for (name, _), value in zip(dials, chosen, strict=True)
    ]
    yield (
      ','.join(f'{name}={_short(value)}' for name, value in pairs),
      [f'--gin.{name}={value!r}' for name, value in pairs],
    )


def _values(sweep: str) -> tuple[str, list[Any]]:
  name, _, text = sweep.partition('=')
  try:
    values = ast.literal_eval(text)
  except (ValueError, SyntaxError):
    values = None
  if not isinstance(values, list) or not values or not name.isidentifier():
    raise configuration.ConfigurationError(
      f'{FLAG}: got {sweep!r}; expected a dial and a list of values, such as '
      f'{FLAG} "TEMPERATURE=[0.5, 0.7]" or "LEARNING_RATES=[[1e-5], [3e-5]]".'
    )
  return name, values


def _short(value: Any) -> str:
  """A value in the name of a folder."""
  return re.sub(r'[^\w.+-]+', '_', str(value)).strip('_')


def _without_run_dir(arguments: Sequence[str]) -> tuple[str, list[str]]:
  rest, found = [], None
  for argument in arguments:
    name, _, value = argument.partition('=')
    if name in ('--gin.RUN_DIR', '--run_dir'):
      found = value.strip('\'"').rstrip('/')
    else:
      rest.append(argument)
  if not found:
    raise configuration.ConfigurationError(
      f'{FLAG}: the runs need a folder: --gin.RUN_DIR=runs/x'
    )
  return found, rest
