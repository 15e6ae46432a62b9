"""The gin flags that the stages and the launcher share, named as in T5X."""

import argparse
from collections.abc import Sequence


def add(target: argparse.ArgumentParser) -> None:
  """Adds the flags that argparse reads; `split` takes --gin.NAME out before."""
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
  """(other flags, bindings) of a command line with --gin.NAME=VALUE flags.

  `--gin.NAME VALUE` in two words is understood too.
  """
  others, bindings = [], []
  iterator = iter(arguments)
  for argument in iterator:
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
