"""The command models: what can be a base model.

    rest-jax models [PATH …]

With paths, what each of these checkpoints is: format, sizes, parameters.
"""

import argparse
import dataclasses
from collections.abc import Sequence

from rest_jax.artifacts import model_formats
from rest_jax.config import packaged_gin
from rest_jax.models.checkpoints import described


def run(arguments: Sequence[str]) -> int:
  """Prints formats and gin files, or what checkpoints are; returns 0."""
  parser = argparse.ArgumentParser(
    prog='rest-jax models',
    formatter_class=argparse.RawDescriptionHelpFormatter,
    description=__doc__,
  )
  parser.add_argument('path', nargs='*', help='of a checkpoint')
  for path in parser.parse_args(arguments).path:
    network = described.network(path)
    print(f'{path}: {model_formats.of_weights(path).name}')
    print(f'  parameters = {network.num_parameters:,}')
    for field in dataclasses.fields(network):
      print(f'  {field.name} = {getattr(network, field.name)!r}')
  if arguments:
    return 0
  print('A base model is')
  for row in model_formats.FORMATS:
    if row.weights:
      print(f'  {row.described}')
  print('of the architecture Llama (or Mistral). --model=PATH reads its sizes;')
  print('published sizes also stand in')
  for file, purpose in packaged_gin.described('models').items():
    print(f'  {file:28}{purpose}')
  return 0
