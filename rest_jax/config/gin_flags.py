"""The command-line flags for gin that all commands share, named as in T5X."""

import argparse
import re
from collections.abc import Sequence

from rest_jax.config import configuration

_DIAL = re.compile(r'-{0,2}[A-Z][A-Z0-9_]*(=|$)')


def add(target: argparse.ArgumentParser) -> None:
  """Adds the flags that argparse reads; --gin.NAME is for `split`."""
  target.add_argument(
    '--gin_file', action='append', default=[], help='repeatable, in order'
  )
  target.add_argument(
    '--gin_bindings', action='append', default=[], help='NAME = VALUE'
  )
  target.add_argument(
    '--gin_search_paths', default='', help='comma-separated folders'
  )


def split(arguments: Sequence[str]) -> tuple[list[str], list[str]]:
  """Takes the --gin.NAME=VALUE flags out of a command line.

  `--gin.NAME VALUE` in two words means the same.

  Returns:
    (the other arguments, the bindings as NAME=VALUE).

  Raises:
    ConfigurationError: a dial is given without `gin.` before its name.
  """
  others, bindings = [], []
  iterator = iter(arguments)
  for argument in iterator:
    if _DIAL.match(argument):
      raise configuration.ConfigurationError(
        f'{argument}: dials stand behind --gin.: did you mean '
        f'--gin.{argument.lstrip("-")}?'
      )
    if not argument.startswith('--gin.'):
      others.append(argument)
      continue
    binding = argument.removeprefix('--gin.')
    if '=' not in binding:
      binding = f'{binding}={next(iterator, "")}'
    bindings.append(binding)
  return others, bindings


def search_paths(flags: argparse.Namespace) -> list[str]:
  """The folders of --gin_search_paths."""
  return [path for path in flags.gin_search_paths.split(',') if path]
