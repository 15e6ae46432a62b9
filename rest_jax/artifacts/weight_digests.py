"""What identifies the weights of a checkpoint of any format.

Needs no jax, so that the launcher can look whether a model has changed.
"""

import importlib

from rest_jax.artifacts import file_digests, manifests, model_formats, storage


def digest(source: storage.PathLike, cache: file_digests.Cache) -> str:
  """What identifies the weights at a path, wherever they lie.

  Args:
    source: in one of the formats of model_formats.py.
    cache: of digests that were taken before.

  Raises:
    ConfigurationError: no checkpoint is there, or some of its files are not.
  """
  module = model_formats.of_weights(source).bytes_of
  if module is None:
    return manifests.load(source, stage='train').digest
  reader = importlib.import_module(f'rest_jax.artifacts.{module}')
  path = storage.path(source)
  return cache.of(reader.digested(path), lambda: reader.digest(path))
