"""What identifies the weights of a checkpoint of any format.

Needs no jax, so that the launcher can look whether a model has changed.
"""

import importlib

from rest_jax.artifacts import file_digests, manifests, model_formats, storage

# Of a training's statistics, where step 0 was chosen: {'digest', 'iteration'}
# of the policy that it started from, which is the one that it gave back.
SAME_AS = 'same_as'


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
    manifest = manifests.load(source, stage='train')
    return manifest.statistics.get(SAME_AS, {}).get('digest', manifest.digest)
  reader = importlib.import_module(f'rest_jax.artifacts.{module}')
  path = storage.path(source)
  return cache.of(reader.digested(path), lambda: reader.digest(path))
