"""The policy in training, as the engine samples it.

Training splits every weight over all devices, so that each decode step would
gather all of them again. For a validation they are copied once to the mesh of
sampling, whose devices hold whole matrices, or the parts that a step can use:

    state ─▶ model.dtype or int8, layer by layer ─▶ the mesh of sampling

All of it is done by the devices; nothing passes the host.
"""

import math
from typing import Any

import jax

from rest_jax.distributed import partitioning
from rest_jax.models import layered, quantization
from rest_jax.models.architecture import DecoderConfig
from rest_jax.models.checkpoints import policies
from rest_jax.sampling import sampling_engine
from rest_jax.sampling.streams import EngineConfig


class PolicyView:
  """Makes what the engine samples from of the weights in training."""

  def __init__(
    self,
    model: DecoderConfig,
    engine: EngineConfig,
    training: jax.sharding.Mesh,
    sampling: jax.sharding.Mesh,
  ):
    """Compiles nothing yet.

    Args:
      model: the network.
      engine: says whether its weights are rounded to int8.
      training: the mesh that the weights lie on.
      sampling: the mesh that they are sampled on: the same devices.

    Raises:
      ConfigurationError: the sampling mesh does not divide the network.
    """

    def view(params):
      with partitioning.use(training):
        return sampling_engine.variables(params, model, engine)

    self._places: layered.Weights | None = None
    if training == sampling:
      self._view = jax.jit(view)
    else:
      self._places = _shardings(model, engine, sampling)
      self._view = jax.jit(
        view, out_shardings=_shardings(model, engine, training)
      )

  def of(self, params: Any) -> layered.Weights:
    """The weights as the engine reads them, on its mesh. Collective.

    A device holds at most the result, its own part of the weights in the
    model's dtype, and what moving one layer's array takes.

    Args:
      params: of network.Decoder, on the training mesh; they are not changed.
    """
    weights = self._view(params)
    if self._places is None:
      return weights
    leaves, structure = jax.tree.flatten(weights)
    del weights
    for index, place in enumerate(jax.tree.leaves(self._places)):
      leaves[index] = jax.block_until_ready(_moved(leaves[index], place))
    return structure.unflatten(leaves)


def _moved(array: jax.Array, place: jax.sharding.NamedSharding) -> jax.Array:
  """An array on another mesh of the same devices, moved by the devices."""
  before, after = (
    list(where.mesh.devices.flat) for where in (array.sharding, place)
  )
  if before == after:
    # jax.device_put would take it through the host (jax 0.10).
    return jax.jit(_itself, out_shardings=place)(array)
  return jax.device_put(array, place)


def _itself(array: jax.Array) -> jax.Array:
  return array


def compiled_bytes(
  model: DecoderConfig,
  engine: EngineConfig,
  training: jax.sharding.Mesh,
  sampling: jax.sharding.Mesh,
) -> dict[str, int]:
  """Memory of one device while a view is made, by the compiler.

  The devices need not be here. Those of sampling are taken in the order of the
  training's, which leaves sizes as they are.

  Args:
    model, engine, training, sampling: as for PolicyView.

  Returns:
    'cast': the device's own part of the weights in the model's dtype, and what
    the cast takes beside it; 'copy': the view; 'moving': what the largest move
    takes beside the arrays.
  """
  devices = training.devices.reshape(sampling.devices.shape)
  sampling = jax.sharding.Mesh(devices, sampling.axis_names)
  view = PolicyView(model, engine, training, sampling)._view
  abstract = policies.abstract(model, training)
  cast = view.lower(abstract).compile().memory_analysis()
  shapes = jax.tree.leaves(jax.eval_shape(view, abstract))
  before = jax.tree.leaves(_shardings(model, engine, training))
  after = jax.tree.leaves(_shardings(model, engine, sampling))
  copy, moves = 0, set()
  for leaf, source, place in zip(shapes, before, after, strict=True):
    shard = place.shard_shape(leaf.shape)
    copy += math.prod(shard) * leaf.dtype.itemsize
    moves.add((leaf.shape, leaf.dtype, source, place))
  moving = 0
  for shape, dtype, source, place in moves:
    array = jax.ShapeDtypeStruct(shape, dtype, sharding=source)
    move = jax.jit(_itself, out_shardings=place).lower(array).compile()
    moving = max(moving, move.memory_analysis().temp_size_in_bytes)
  return {
    'cast': cast.output_size_in_bytes + cast.temp_size_in_bytes,
    'copy': copy,
    'moving': moving,
  }


def _shardings(
  model: DecoderConfig, engine: EngineConfig, mesh: jax.sharding.Mesh
) -> layered.Weights:
  """Where the engine's weights lie on a mesh."""
  abstract = policies.abstract(model, mesh)
  if engine.weights == 'int8':
    return layered.shardings(model, quantization.shardings(abstract))
  places = jax.tree.map(lambda leaf: leaf.sharding, abstract)
  return layered.shardings(model, places)
