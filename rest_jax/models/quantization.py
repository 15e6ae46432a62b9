"""Weights in int8 for sampling: half the memory of bfloat16, and its traffic.

A matrix W (inputs x outputs) becomes whole numbers Q from -127 to 127 and one
float32 scale per output channel, W = Q x scale, with scale = max |W| / 127 over
the inputs (symmetric per-channel rounding to nearest; arXiv 2004.09602, section
3). A row of the embedding, and of the unembedding, has one scale. The products
are those of the network's dtype: an int8 number is exact in bfloat16 and
float32, and the scale multiplies the product, in float32. Activations, caches,
norms and biases are not quantised.

The scales lie in a collection of their own, beside 'params' and under the same
names. A network without that collection computes as if this module were not
there.
"""

import functools
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax.sharding import Mesh, NamedSharding, PartitionSpec

from rest_jax.distributed import partitioning
from rest_jax.models import matrices

SCALES = 'scales'  # the collection
_LARGEST = 127  # -128 is not used: the numbers are symmetric


class _Channels(NamedTuple):
  """How one array is quantised.

  Attributes:
    inputs: its axes that share a scale.
    axes: its logical axes.
  """

  inputs: tuple[int, ...]
  axes: tuple[str | None, ...]


def _channels(name: str, ndim: int) -> _Channels | None:
  """Of the parameter of this name; None where it stays as it is."""
  if name in ('embedding', 'unembedding'):
    return _Channels((1,), ('vocab', 'embed'))
  if name not in matrices.MATRICES:
    return None
  matrix = matrices.MATRICES[name]
  first = ndim - len(matrix.dimensions)  # stacked matrices have 'layers' there
  inputs = tuple(range(first, first + len(matrix.inputs)))
  return _Channels(inputs, ('layers',) * first + matrix.axes())


def quantize(params: Any) -> dict[str, Any]:
  """The network's variables with its matrices in int8.

  The result does not depend on the mesh: each step is a maximum, or acts on
  single numbers. Traced under partitioning.use(mesh), the scales are split as
  the matrices' outputs are.

  Args:
    params: {'params': …} of network.Decoder, float32 or bfloat16.

  Returns:
    The same with int8 matrices, and {'scales': …}. A channel that holds
    infinity or NaN has a scale that is not finite, and so are its products.
  """
  return _each(params, _quantized)


def quantize_on(mesh: Mesh, params: Any) -> dict[str, Any]:
  """`quantize`, one array after the other; each is deleted when it was read.

  The memory never holds more than the parameters and what one stacked matrix
  needs.

  Args:
    mesh: that the parameters lie on.
    params: as for `quantize`; its matrices cannot be used afterwards.
  """

  @functools.partial(jax.jit, static_argnums=0)
  def traced(name, array):
    with partitioning.use(mesh):
      return _quantized(name, array)

  def consumed(name, array):
    if _channels(name, array.ndim) is None:
      return array, None
    made = jax.block_until_ready(traced(name, array))
    array.delete()
    return made

  return _each(params, consumed)


def shardings(abstract: Any) -> dict[str, Any]:
  """Where `quantize` leaves what it makes: numbers and scales.

  Args:
    abstract: {'params': …} of arrays or their shapes, each with a
      NamedSharding.
  """

  def places(name, leaf):
    where, channels = leaf.sharding, _channels(name, len(leaf.shape))
    if channels is None:
      return where, None
    kept = [i for i in range(len(leaf.shape)) if i not in channels.inputs]
    spec = PartitionSpec(*(where.spec[i] for i in kept))
    return where, NamedSharding(where.mesh, spec)

  return _each(abstract, places)


def _each(
  params: Any, quantized: Callable[[str, Any], tuple[Any, Any | None]]
) -> dict[str, Any]:
  """The variables, each parameter replaced by what `quantized` gives."""
  weights, scales = {}, {}
  flat, _ = jax.tree_util.tree_flatten_with_path(params['params'])
  for path, array in flat:
    names = [entry.key for entry in path]
    number, scale = quantized(names[-1], array)
    _put(weights, names, number)
    if scale is not None:
      _put(scales, names, scale)
  return {**params, 'params': weights, SCALES: scales}


def _quantized(
  name: str, array: jax.Array
) -> tuple[jax.Array, jax.Array | None]:
  """One parameter as (int8, scale), or (itself, None)."""
  channels = _channels(name, array.ndim)
  if channels is None:
    return array, None
  # In float32 whatever the weights are: a quotient up to 127 has no place for
  # halves in bfloat16, and would be rounded twice.
  exact = array.astype(jnp.float32)
  largest = jnp.max(jnp.abs(exact), axis=channels.inputs, keepdims=True)
  # A product, not a quotient: XLA may turn a division by a constant into one,
  # and the bits must not depend on how this is compiled.
  scale = jnp.where(largest == 0, 1.0, largest * (1 / _LARGEST))
  numbers = jnp.round(exact / scale).astype(jnp.int8)
  outputs = [
    axis for i, axis in enumerate(channels.axes) if i not in channels.inputs
  ]
  scale = jnp.squeeze(scale, channels.inputs)
  constrain = partitioning.constrain
  return constrain(numbers, *channels.axes), constrain(scale, *outputs)


def _put(tree: dict[str, Any], names: list[str], value: Any) -> None:
  for name in names[:-1]:
    tree = tree.setdefault(name, {})
  tree[names[-1]] = value
