"""Base checkpoints of Orbax, which `rest-jax import` writes.

artifacts/orbax_files.py describes the folder. The arrays are those of
models/network.py, so that any mesh restores them, each host its own shards.
"""

import importlib.metadata
from collections.abc import Mapping
from typing import Any

from rest_jax.artifacts import orbax_files, storage
from rest_jax.config import configuration
from rest_jax.models import architecture
from rest_jax.models.architecture import DecoderConfig
from rest_jax.models.checkpoints import orbax_items, weights

# How a network is computed; not of the checkpoint.
_OF_RUNS = ('dtype', 'param_dtype', 'matmul_precision')


def network(source: storage.PathLike) -> DecoderConfig:
  """The network that a folder's description states, in float32.

  Raises:
    ConfigurationError: the folder is not finished, or of another version.
  """
  try:
    return architecture.from_semantics(
      orbax_files.description(source)['network']
    )
  except TypeError as error:
    raise configuration.ConfigurationError(
      f'{source}: imported by a version of rest_jax that described networks in '
      f'another way ({error}). Run rest-jax import again.'
    ) from error


def load(source: storage.PathLike, model: DecoderConfig, target: Any) -> Any:
  """The weights, on the mesh, cast to the target's dtype. Collective.

  Args:
    source: the folder.
    model: the network; its shapes are those of the target.
    target: jax.ShapeDtypeStructs with shardings (policies.abstract).

  Raises:
    ConfigurationError: it is of another network, each difference listed, or
      files are missing, each named.
  """
  _require_network(source, model)
  return orbax_items.restore(storage.path(source) / orbax_files.PARAMS, target)


def opened(source: storage.PathLike, config: DecoderConfig) -> orbax_items.Item:
  """Opens a folder to read it array by array; its bytes are checked first.

  Raises:
    ConfigurationError: as `load`; also where a file is damaged.
  """
  _require_network(source, config)
  orbax_files.require_files(source, bytes_too=True)
  return orbax_items.opened(storage.path(source) / orbax_files.PARAMS, config)


def describe(
  folder: storage.PathLike,
  model: DecoderConfig,
  *,
  dtype: str,
  digest: str,
  source: Mapping[str, Any],
  tokenizer: list[str],
) -> None:
  """Writes the description, by which the folder becomes a checkpoint.

  Args:
    folder: that holds the weights.
    model: the network.
    dtype: of the weights.
    digest: what identifies them.
    source: where they come from: format, path, digest.
    tokenizer: names of the tokenizer's files in the folder.
  """
  folder = storage.path(folder)
  fields = configuration.semantics(model)
  packages = ('jax', 'orbax-checkpoint', 'rest_jax')
  storage.write_json(
    folder / orbax_files.NAME,
    {
      'version': orbax_files.VERSION,
      'network': {k: v for k, v in fields.items() if k not in _OF_RUNS},
      'dtype': dtype,
      'digest': digest,
      'source': dict(source),
      'files': orbax_files.listed(folder),
      'tokenizer': tokenizer,
      'recorded': {name: importlib.metadata.version(name) for name in packages},
    },
  )


def _require_network(source: storage.PathLike, model: DecoderConfig) -> None:
  """Raises where MODEL differs in what no array's shape tells."""
  orbax_files.require_files(source)
  stated = configuration.semantics(network(source))
  bound = configuration.semantics(model)
  free = {*_OF_RUNS, 'max_length'}
  weights.require_same(
    source,
    [
      f'{name}: the checkpoint has {value}, MODEL binds {bound[name]}'
      for name, value in stated.items()
      if name not in free and value != bound[name]
    ],
  )
