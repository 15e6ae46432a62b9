"""The command models: what can be a base model.

    rest-jax models [PATH …]

With paths, what each of these checkpoints is: format, sizes, parameters.
"""

import argparse
import dataclasses
from collections.abc import Iterable, Sequence

from rest_jax.artifacts import model_formats
from rest_jax.config import gin_parser, packaged_gin
from rest_jax.models.architecture import DecoderConfig
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
  print(
    'of one of the families Llama 2 and 3, Mistral, Qwen 2 and 3, Gemma 1 to'
  )
  print(
    '3 and SmolLM2. --model=PATH reads the sizes from it. Gin files that bind'
  )
  print('the sizes of published models, and their parameters:')
  purposes = packaged_gin.described('models')
  for file, network in _packaged(purposes):
    print(f'  {file:24}{network.num_parameters:>14,}  {purposes[file]}')
  return 0


def _packaged(files: Iterable[str]) -> list[tuple[str, DecoderConfig]]:
  """The networks that the package's gin files bind, by family and by size."""
  found = []
  for file in files:
    _, bound = gin_parser.parse(
      'sizes', gin_files=[file], search_paths=[packaged_gin.directory()]
    )
    found.append((file, bound['model']))

  def family_and_size(item: tuple[str, DecoderConfig]) -> tuple[str, int]:
    file, network = item
    return file.partition('_')[0], network.num_parameters

  return sorted(found, key=family_and_size)
