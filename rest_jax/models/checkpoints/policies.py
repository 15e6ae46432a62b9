"""A policy's weights: made afresh, or loaded from a path onto a mesh.

artifacts/model_formats.py lists what may be at a path, and which module of
this folder reads it.
"""

import importlib
from types import ModuleType
from typing import Any

import jax
import jax.numpy as jnp
from flax import linen as nn
from jax.sharding import Mesh

from rest_jax.artifacts import (
  file_digests,
  model_formats,
  storage,
  weight_digests,
)
from rest_jax.config import configuration
from rest_jax.distributed import multihost, partitioning
from rest_jax.models import adapters, network
from rest_jax.models.architecture import DecoderConfig
from rest_jax.models.checkpoints import merged, trained, weights


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
  """The weights, on the mesh. Collective, where they are adapters.

  Args:
    source: a path in one of the formats that hold weights. LoRA adapters of
      the train stage are merged into the model that they belong to.
    model: the network they must fit.
    mesh: the devices that they are laid out on.
    dtype: that they are cast to; param_dtype by default. Adapters are added to
      weights of this dtype, as they were trained beside weights of
      model.dtype.

  Returns:
    The parameters of network.Decoder, sharded over the mesh.

  Raises:
    ConfigurationError: nothing is there, it does not fit the network, or the
      model that adapters belong to is not where it was.
  """
  base = adapter_base(source)
  if base is not None:
    _require_base(source, base)
    params = load(base.path, model, mesh, dtype=dtype)
    found = load_adapters(source, model, mesh)
    return adapters.merge(params, found, model, base.config, donate=True)
  reader = _reader(source)
  return reader.load(source, model, abstract(model, mesh, dtype))


def opened(source: storage.PathLike, model: DecoderConfig) -> weights.Source:
  """Opens a checkpoint to read it tensor by tensor, without a mesh.

  Args:
    source: a path in one of the formats that hold weights. LoRA adapters are
      merged into the model that they belong to as it is read.
    model: the network it must fit.

  Raises:
    ConfigurationError: nothing is there, it is damaged, or it does not fit the
      network: each difference is listed; or the model that adapters belong to
      is not where it was.
  """
  base = adapter_base(source)
  if base is not None:
    _require_base(source, base)
    mesh = partitioning.make_mesh(
      partitioning.MeshConfig(), devices=jax.local_devices()[:1]
    )
    found = load_adapters(source, model, mesh)
    return merged.Merged(opened(base.path, model), found, model, base.config)
  return _reader(source).opened(source, model)


def digest(source: storage.PathLike) -> str:
  """What identifies the weights at a path, wherever they lie.

  Collective: process 0 alone reads the files, and only those that have changed
  since this run last read them.
  """
  return multihost.from_writer(
    lambda: weight_digests.digest(source, file_digests.of_this_process())
  )


def iteration(source: storage.PathLike) -> int:
  """The iteration of the loop that made the weights at a path.

  0 is the base, whatever its format. An M-step that chose step 0 gave back the
  policy that it had started from, and so that one's iteration.
  """
  if model_formats.of_weights(source).name != model_formats.TRAIN:
    return 0
  return trained.iteration(source)


def load_adapters(
  source: storage.PathLike, model: DecoderConfig, mesh: Mesh
) -> Any:
  """LoRA adapters that the train stage saved, not merged.

  Args:
    source: a folder for which `adapter_base` is not None.
    model: the network they must fit.
    mesh: the devices that they are laid out on.

  Returns:
    The adapters, as models/adapters.py makes them.
  """
  config = trained.adapter_base(source).config
  target = adapters.abstract(model, config, mesh)
  return trained.load(source, model, target)


def adapter_base(source: storage.PathLike) -> trained.AdapterBase | None:
  """What LoRA adapters at a path belong to; None: a whole model is there."""
  if model_formats.of_weights(source).name != model_formats.TRAIN:
    return None
  return trained.adapter_base(source)


def _require_base(source: storage.PathLike, base: trained.AdapterBase) -> None:
  """Raises unless the model that adapters belong to is where it was."""
  if not multihost.from_writer(base.path.exists):
    raise configuration.ConfigurationError(
      f'{source}: holds LoRA adapters of the model {base.path}, which is not '
      'there. Put that model back, or a link to it.'
    )
  if digest(base.path) != base.digest:
    raise configuration.ConfigurationError(
      f'{source}: holds LoRA adapters that were trained on another model than '
      f'the one that is now at {base.path}. Put that model back, or train '
      'again.'
    )


def _reader(source: storage.PathLike) -> ModuleType:
  module = model_formats.of_weights(source).weights
  return importlib.import_module(f'rest_jax.models.checkpoints.{module}')
