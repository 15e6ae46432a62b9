"""The policy in training, as the engine samples it.

Training splits every weight over all devices, so that each decode step would
gather all of them again. For a validation they are copied once to the mesh of
sampling, whose devices hold whole matrices, or the parts that a step can use:

    state ─▶ model.dtype or int8, layer by layer ─▶ the mesh of sampling

All of it is done by the devices; nothing passes the host.
"""

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


def _shardings(
  model: DecoderConfig, engine: EngineConfig, mesh: jax.sharding.Mesh
) -> layered.Weights:
  """Where the engine's weights lie on a mesh."""
  abstract = policies.abstract(model, mesh)
  if engine.weights == 'int8':
    return layered.shardings(model, quantization.shardings(abstract))
  places = jax.tree.map(lambda leaf: leaf.sharding, abstract)
  return layered.shardings(model, places)
