"""The command tasks: which tasks come with the package.

    rest-jax tasks

A published task reads the files in which it is published (docs/data.md); an
embedded one is generated; own_problems is a JSONL file of yours.
"""

import argparse
from collections.abc import Sequence

from rest_jax.config import packaged_gin
from rest_jax.tasks.benchmarks import catalogue


def run(arguments: Sequence[str]) -> int:
  """Prints a line for each task; returns 0."""
  argparse.ArgumentParser(
    prog='rest-jax tasks',
    formatter_class=argparse.RawDescriptionHelpFormatter,
    description=__doc__,
  ).parse_args(arguments)
  print(f'{"name":16}{"grader":12}{"problems":46}gin file')
  for file, purpose in packaged_gin.described('tasks').items():
    name = file.removeprefix('tasks/').removesuffix('.gin')
    row = catalogue.CATALOGUE.get(name)
    grader, size = '', purpose
    if row is not None:
      grader = row.grader
      counts = [f'{split} {number:,}' for split, number in row.counts.items()]
      size = f'{", ".join(counts):46}{file}  {row.title}'
    print(f'{name:16}{grader:12}{size}')
  print('\nYour own: rest-jax run --model=PATH --problems=FILE.jsonl')
  return 0
