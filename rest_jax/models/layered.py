"""What decoding reads layer by layer: lists with one entry per layer.

With decode_loop = 'scan' an entry holds the layers of one place of the pattern,
stacked.
"""

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from rest_jax.models import network
from rest_jax.models.architecture import DecoderConfig


class Weights(NamedTuple):
  """The network's variables as decoding reads them.

  Attributes:
    outer: those of the embedding and the last norm.
    layers: of the blocks.
  """

  outer: Any
  layers: list[Any]


def arrange(config: DecoderConfig, params: Any) -> Weights:
  """The network's variables in the form in which decoding reads them.

  Args:
    config: of the network.
    params: of network.Decoder: 'params', and 'scales' if there are some.
  """
  return _in_lists(config, _exact_norms(params))


def _in_lists(config: DecoderConfig, params: Any) -> Weights:
  """`arrange` of a tree with anything in the arrays' places."""
  outer = _outer(config, params)
  if config.decode_loop == 'unroll':
    return Weights(outer, network.layer_weights(config, params))
  return Weights(
    outer,
    [
      network.block_weights(params, stack, place)
      for stack in config.stacks
      for place in range(len(stack.kinds))
    ],
  )


def arrange_on(config: DecoderConfig, params: Any) -> Weights:
  """`arrange`, one array after the other; each is deleted when it was read.

  The memory never holds more than the weights and one stacked array.

  Args:
    config: of the network.
    params: on devices; the stacked ones cannot be used afterwards.
  """
  if config.decode_loop == 'scan':
    return arrange(config, params)
  params = _exact_norms(params)
  layers: list[Any] = [None] * config.num_layers
  for stack in config.stacks:
    for place in range(len(stack.kinds)):
      stacked, structure = jax.tree.flatten(
        network.block_weights(params, stack, place)
      )
      parts = []
      for array in stacked:
        parts.append(jax.block_until_ready(_unstacked(array)))
        array.delete()
      for index, layer in enumerate(stack.layers(place)):
        layers[layer] = structure.unflatten([part[index] for part in parts])
  return Weights(_outer(config, params), layers)


def _unstacked(array: jax.Array) -> list[jax.Array]:
  """The layers of a stacked array, split over the devices as it is."""
  where = array.sharding
  if isinstance(where, jax.sharding.NamedSharding):
    where = _of_a_layer(where)
  return jax.jit(list, out_shardings=where)(array)


def shardings(config: DecoderConfig, stacked: Any) -> Weights:
  """Where `arrange` leaves arrays that are split as given.

  Args:
    config: of the network.
    stacked: its variables' tree, a NamedSharding in each array's place.
  """
  if config.decode_loop == 'scan':
    return _in_lists(config, stacked)
  layers: list[Any] = [None] * config.num_layers
  for stack in config.stacks:
    for place in range(len(stack.kinds)):
      one = jax.tree.map(
        _of_a_layer, network.block_weights(stacked, stack, place)
      )
      for layer in stack.layers(place):
        layers[layer] = one
  return Weights(_outer(config, stacked), layers)


def _of_a_layer(
  where: jax.sharding.NamedSharding,
) -> jax.sharding.NamedSharding:
  """The sharding of one layer of a stacked array."""
  spec = jax.sharding.PartitionSpec(*where.spec[1:])
  return jax.sharding.NamedSharding(where.mesh, spec)


def over_layers(
  config: DecoderConfig,
  layer: Callable[..., tuple[Any, Any]],
  carry: Any,
  *trees: Sequence[Any],
) -> tuple[Any, list[Any]]:
  """Goes through the layers in order: unrolled, or in scans.

  Args:
    config: decode_loop says which, and how the entries of the trees lie.
    layer: (kind, carry, an entry of each tree) -> (carry, output).
    carry: of the first layer.
    *trees: lists as Weights.layers.

  Returns:
    (carry of the last layer, list of outputs).
  """
  outputs = []
  if config.decode_loop == 'unroll':
    for index, here in enumerate(zip(*trees, strict=True)):
      carry, output = layer(config.kind(index), carry, *here)
      outputs.append(output)
    return carry, outputs
  first = 0
  for stack in config.stacks:

    def body(carry, entries, kinds=stack.kinds):
      made = []
      for kind, *here in zip(kinds, *entries, strict=True):
        carry, output = layer(kind, carry, *here)
        made.append(output)
      return carry, made

    last = first + len(stack.kinds)
    entries = [list(tree[first:last]) for tree in trees]
    carry, made = jax.lax.scan(body, carry, entries)
    outputs += made
    first = last
  return carry, outputs


def _exact_norms(params: Any) -> Any:
  """The scales of all norms in float32, in which they are multiplied.

  Converted in each decode step, each takes as long as it does to launch.
  """

  def exact(path, array):
    is_scale = path[-1] == jax.tree_util.DictKey('scale')
    return array.astype(jnp.float32) if is_scale else array

  return jax.tree_util.tree_map_with_path(exact, params)


def _outer(config: DecoderConfig, params: Any) -> Any:
  """The variables that belong to no layer."""
  paths = {stack.path for stack in config.stacks}
  return {
    collection: {n: array for n, array in tree.items() if n not in paths}
    for collection, tree in params.items()
  }
