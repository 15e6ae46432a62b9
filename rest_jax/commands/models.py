"""The command models: what can be a base model.

    rest-jax models [PATH …]

With paths, what each of these checkpoints is: format, sizes, parameters.
"""

import argparse
import dataclasses
from collections.abc import Sequence

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
  print('of the families Llama 2 and 3, SmolLM2, Mistral, Qwen 2 and 3, and')
  print(
    'Gemma 1 to 3. --model=PATH reads the sizes from it. These gin files bind'
  )
  print('those of published models; their parameters:')
  purposes = packaged_gin.described('models')
  for file, network in networks():
    print(f'  {file:24}{network.num_parameters:>14,}  {purposes[file]}')
  return 0


def networks() -> list[tuple[str, DecoderConfig]]:
  """What the package's gin files of models bind, by family and by size."""
  found = []
  for file in packaged_gin.described('models'):
    _, bound = gin_parser.parse(
      'sizes', gin_files=[file], search_paths=[packaged_gin.directory()]
    )
    found.append((file, bound['model']))

  def family_and_size(item: tuple[str, DecoderConfig]) -> tuple[str, int]:
    file, network = item
    return file.partition('_')[0], network.num_parameters

  return sorted(found, key=family_and_size)
