"""Weights from a folder of Hugging Face safetensors.

artifacts/safetensors_files.py says which files of the folder count.
"""

from collections.abc import Mapping
from typing import Any

import numpy as np

from rest_jax.artifacts import safetensors_files, storage
from rest_jax.config import configuration
from rest_jax.models.architecture import DecoderConfig
from rest_jax.models.checkpoints import families, hf_config, placement, weights

# Of a model that also reads images: the text's part, by the version of
# transformers that wrote it, and what this network does without.
_TEXT_PREFIXES = {
  'language_model.model.': 'model.',
  'language_model.lm_head.': 'lm_head.',
  'model.language_model.': 'model.',
}
_OF_IMAGES = (
  'vision_tower.',
  'multi_modal_projector.',
  'model.vision_tower.',
  'model.multi_modal_projector.',
)


def load(source: storage.PathLike, model: DecoderConfig, target: Any) -> Any:
  """The weights, on the mesh.

  Args:
    source: the folder.
    model: the network they must fit.
    target: jax.ShapeDtypeStructs with shardings (policies.abstract).

  Raises:
    ConfigurationError: see `opened`.
  """
  return placement.place(opened(source, model), model, target)


class Folder:
  """A folder of safetensors as a weights.Source."""

  def __init__(
    self,
    config: DecoderConfig,
    found: Mapping[str, safetensors_files.Entry],
  ):
    """Args:
    config: the network.
    found: the tensors, by the names of families.hf_name.
    """
    self._config, self._found = config, found

  def dtype(self, tensor: weights.Tensor) -> np.dtype:
    """See weights.Source."""
    name = families.hf_name(self._config, tensor.name, tensor.layer)
    return safetensors_files.DTYPES[self._found[name][1]['dtype']]

  def read(
    self, tensor: weights.Tensor, rows: slice, columns: slice
  ) -> np.ndarray:
    """See weights.Source."""
    name = families.hf_name(self._config, tensor.name, tensor.layer)
    file, entry = self._found[name]
    return safetensors_files.read_block(file, entry, rows, columns)


def opened(source: storage.PathLike, config: DecoderConfig) -> Folder:
  """Compares a folder with the network and opens it.

  Args:
    source: the folder.
    config: the network.

  Raises:
    ConfigurationError: a file is missing or damaged, or config.json or the
      tensors are not the network's, listing each difference.
  """
  folder = storage.path(source)
  hf_config.check(folder, config)
  found = {
    _text_name(name): entry
    for name, entry in safetensors_files.entries(folder).items()
    if not name.startswith(_OF_IMAGES)
  }
  shapes = {name: tuple(entry['shape']) for name, (_, entry) in found.items()}
  unused = {name for name in found if name.endswith('rotary_emb.inv_freq')}

  def named(name: str, layer: int | None) -> str:
    return families.hf_name(config, name, layer)

  head, embedding = named('unembedding', None), named('embedding', None)
  if config.tie_embeddings and head in found and embedding in found:
    if not safetensors_files.same(found[head], found[embedding]):
      raise configuration.ConfigurationError(
        f'{source}: {head} differs from {embedding}, and MODEL ties the two. '
        'Set architecture.DecoderConfig.tie_embeddings = False (and '
        '"tie_word_embeddings": false in config.json), so that the output '
        'matrix is read.'
      )
    unused.add(head)  # some folders repeat the embedding
  lines = weights.differences(config, named, shapes, unused)
  allowed = ', '.join(safetensors_files.DTYPES)
  lines += [
    f'{name}: holds {entry["dtype"]}; allowed: {allowed}'
    for name, (_, entry) in found.items()
    if entry['dtype'] not in safetensors_files.DTYPES and name not in unused
  ]
  weights.require_same(source, lines)
  return Folder(config, found)


def _text_name(name: str) -> str:
  """The name of a tensor in a model that reads text only."""
  for prefix, plain in _TEXT_PREFIXES.items():
    if name.startswith(prefix):
      return plain + name.removeprefix(prefix)
  return name
