"""A policy's weights, wherever they come from, onto a mesh.

A path is one of
    a folder that the train stage made      its manifest names the chosen step
    FILE.gguf                               llama.cpp's format
    a folder with *.safetensors             Hugging Face's layout
"""

import hashlib
import os
from typing import Any

import jax
import jax.numpy as jnp
from flax import linen as nn
from jax.sharding import Mesh

from rest_jax.artifacts import manifests, storage
from rest_jax.config import configuration
from rest_jax.distributed import partitioning
from rest_jax.models import network
from rest_jax.models.architecture import DecoderConfig
from rest_jax.models.checkpoints import weights

PARAMS = 'params'  # the item of a checkpoint that holds the weights


def init(model: DecoderConfig, key: jax.Array) -> Any:
  """Fresh parameters, in flax's boxes, which carry their logical axes."""
  net = network.Decoder(model)
  one = jnp.zeros((1, 1), jnp.int32)

  def forward(net, tokens, positions, segments):
    return net.logits(net(tokens, positions, segments)[0])

  return net.init(key, one, one, one + 1, method=forward)


def unboxed(model: DecoderConfig, key: jax.Array) -> Any:
  """Fresh parameters as plain arrays."""
  return nn.unbox(init(model, key))


def abstract(model: DecoderConfig, mesh: Mesh, dtype: str | None = None) -> Any:
  """The parameters' shapes, dtype and shardings, without their values."""
  boxed = jax.eval_shape(
    lambda: init(model, jax.random.key(0, impl='threefry2x32'))
  )
  return jax.tree.map(
    lambda leaf, where: jax.ShapeDtypeStruct(
      leaf.shape, jnp.dtype(dtype or leaf.dtype), sharding=where
    ),
    nn.unbox(boxed),
    partitioning.param_shardings(boxed, mesh),
  )


def load(
  source: storage.PathLike,
  model: DecoderConfig,
  mesh: Mesh,
  *,
  dtype: str | None = None,
) -> Any:
  """The weights, on the mesh.

  Args:
    source: see the module.
    model: the network they must fit.
    mesh: where they go.
    dtype: that they are cast to; param_dtype by default.

  Raises:
    ConfigurationError: nothing is there, or it does not fit the network.
  """
  target = abstract(model, mesh, dtype)
  kind = kind_of(source)
  if kind == 'train':
    return restore(policy_step(source) / PARAMS, target)
  if kind == 'gguf':
    from rest_jax.models.checkpoints import gguf

    read = gguf.read_params(source, model)
  else:
    from rest_jax.models.checkpoints import safetensors

    read = safetensors.read_params(source, model)
  return _place(read, target, source)


def digest(source: storage.PathLike) -> str:
  """What identifies the weights at a path."""
  source = storage.path(source)
  if kind_of(source) == 'train':
    return manifests.load(source, stage='train').digest
  files = [source]
  if source.is_dir():
    files = sorted(source.glob('*.safetensors'))
  total = hashlib.sha256()
  for file in files:
    with file.open('rb') as stream:
      while block := stream.read(1 << 24):
        total.update(block)
  return total.hexdigest()[:32]


def kind_of(source: storage.PathLike) -> str:
  """'train', 'gguf' or 'safetensors'; raises where it is none of them."""
  path = storage.path(source)
  if os.fspath(path).endswith('.gguf') and path.exists():
    return 'gguf'
  if (path / manifests.MANIFEST).exists():
    return 'train'
  if path.exists() and path.is_dir() and list(path.glob('*.safetensors')):
    return 'safetensors'
  raise configuration.ConfigurationError(
    f'{source}: no checkpoint is there. Expected a folder of the train stage '
    '(with manifest.json), a .gguf file, or a folder with *.safetensors.'
  )


def policy_step(folder: storage.PathLike) -> storage.Path:
  """The chosen step's folder inside a finished folder of the train stage."""
  manifest = manifests.load(folder, stage='train')
  return storage.path(folder) / manifest.statistics['chosen']


def restore(source: storage.PathLike, target: Any) -> Any:
  """Reads one item of an Orbax checkpoint into the target's shardings."""
  import orbax.checkpoint as ocp

  try:
    with ocp.StandardCheckpointer() as checkpointer:
      return checkpointer.restore(storage.absolute(source), target)
  except (ValueError, KeyError) as error:
    raise configuration.ConfigurationError(
      f'{source}: does not fit the network that MODEL binds: {error}'
    ) from error


def _place(read: weights.Params, target: Any, source: Any) -> Any:
  def put(path, want):
    name = '/'.join(str(entry.key) for entry in path)
    # Not a ConfigurationError: the readers have checked every tensor.
    assert name in read, f'{source}: no reader gives {name}'
    array = read[name]()
    assert array.shape == want.shape, (name, array.shape, want.shape)
    return jax.device_put(array.astype(want.dtype), want.sharding)

  return jax.tree_util.tree_map_with_path(put, target)
