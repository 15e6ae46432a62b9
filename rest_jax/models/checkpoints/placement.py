"""Puts published tensors onto a mesh: each host those blocks that it holds.

A device's shard of a stacked array is a block of rows and columns of each
layer's matrix. Every host reads those blocks only, and writes them layer by
layer into the array on its devices: it never holds more than one tensor.
"""

import functools
import math
from collections.abc import Callable, Collection, Sequence
from typing import Any

import numpy as np

from rest_jax.models.architecture import DecoderConfig
from rest_jax.models.checkpoints.weights import Source, Tensor, tensors

_CHUNK = 64 << 20  # bytes of float32 that are converted at a time


def block(
  source: Source, tensor: Tensor, index: Sequence[slice], dtype: Any
) -> np.ndarray:
  """A block of a tensor in this network's shape.

  Args:
    source: of the published tensor.
    tensor: which one.
    index: a slice for each dimension of `tensor.here`.
    dtype: of the result.
  """
  number = len(tensor.inputs)
  cut = len(index) - number if not tensor.transposed else number
  first, last = index[:cut], index[cut:]
  inputs, outputs = (first, last) if tensor.transposed else (last, first)
  rows, inner_rows = _flat(outputs, tensor.outputs)
  columns, inner_columns = _flat(inputs, tensor.inputs)
  flat = _read(source, tensor, rows, columns, dtype)
  sizes = [-1, *tensor.outputs[1:]]
  if tensor.inputs:
    width = columns.stop - columns.start
    inner = tensor.inputs[1:]
    sizes += [width // math.prod(inner), *inner]
  whole = flat.reshape(sizes)[inner_rows + inner_columns]
  if not tensor.transposed:
    return whole
  axes = range(whole.ndim)
  outputs = len(tensor.outputs)
  return whole.transpose(*axes[outputs:], *axes[:outputs])


def _flat(
  index: Sequence[slice], sizes: tuple[int, ...]
) -> tuple[slice, tuple[slice, ...]]:
  """The range of a flattened group of dimensions that holds a block.

  Returns:
    (the range, where the block lies in it once its dimensions are apart). It
    is the block itself where only the first dimension is cut, as meshes do.
  """
  if not sizes:
    return slice(0, 1), ()
  low, high, _ = index[0].indices(sizes[0])
  inner = math.prod(sizes[1:])
  return slice(low * inner, high * inner), (slice(None), *index[1:])


def _read(
  source: Source, tensor: Tensor, rows: slice, columns: slice, dtype: Any
) -> np.ndarray:
  """Rows and columns of a tensor as published, converted piece by piece."""
  if not tensor.inputs:
    return source.read(tensor, rows, columns).astype(dtype)
  width = columns.stop - columns.start
  unit = math.prod(tensor.outputs[1:])  # a head is read in one piece
  step = max(1, _CHUNK // (4 * width * unit)) * unit
  flat = np.empty((rows.stop - rows.start, width), dtype)
  for low in range(rows.start, rows.stop, step):
    high = min(low + step, rows.stop)
    piece = source.read(tensor, slice(low, high), columns)
    flat[low - rows.start : high - rows.start] = piece
  return flat


def place(source: Source, config: DecoderConfig, target: Any) -> Any:
  """Puts a published checkpoint onto the mesh, tensor by tensor.

  Collective: every process calls it, and reads the blocks of its own devices.

  Args:
    source: the checkpoint, which has been compared with the network.
    config: the network.
    target: jax.ShapeDtypeStructs with shardings, as policies.abstract gives.

  Returns:
    The target's tree of arrays.
  """
  import jax  # what only compares sizes does without

  members: dict[str, list[Tensor]] = {}
  for tensor in tensors(config):
    members.setdefault(tensor.path, []).append(tensor)

  def put(path: Any, want: jax.ShapeDtypeStruct) -> jax.Array:
    name = '/'.join(str(entry.key) for entry in path)
    # Not ConfigurationErrors: the readers have compared every tensor.
    assert name in members, name
    first, *_ = members[name]
    assert want.shape[first.index is not None :] == first.here, name
    if first.index is None:
      return _array(source, first, want.sharding, want.dtype)
    return _stacked(source, members[name], want)

  return jax.tree_util.tree_map_with_path(put, target)


def _stacked(source: Source, members: Sequence[Tensor], want: Any) -> Any:
  """The tensors of all layers in one array, written one after another."""
  import jax.numpy as jnp
  from jax.sharding import NamedSharding, PartitionSpec

  spec = want.sharding.spec
  assert not spec or spec[0] is None, spec  # a layer is in one piece
  one = NamedSharding(want.sharding.mesh, PartitionSpec(*spec[1:]))
  stacked = jnp.zeros(want.shape, want.dtype, device=want.sharding)
  write = _writer(want.sharding)
  for tensor in members:
    layer = _array(source, tensor, one, want.dtype)
    stacked = write(stacked, layer, tensor.index, 0)
  return stacked


@functools.cache
def _writer(sharding: Any) -> Callable[..., Any]:
  """jax.lax.dynamic_update_index_in_dim, in place."""
  import jax

  # Donated: the stacked array exists once. One function for each sharding, so
  # that arrays of one shape share a compiled program.
  return jax.jit(
    jax.lax.dynamic_update_index_in_dim,
    static_argnums=3,
    donate_argnums=0,
    out_shardings=sharding,
  )


def _array(source: Source, tensor: Tensor, sharding: Any, dtype: Any) -> Any:
  """One tensor on the mesh; what several devices hold is read once."""
  import jax

  def bounds(index: tuple[slice, ...]) -> tuple[tuple[int, int], ...]:
    sizes = zip(index, tensor.here, strict=True)
    return tuple(one.indices(size)[:2] for one, size in sizes)

  @functools.cache
  def read(index: tuple[tuple[int, int], ...]) -> np.ndarray:
    slices = [slice(low, high) for low, high in index]
    return block(source, tensor, slices, dtype)

  local = sharding.addressable_devices_indices_map(tensor.here).values()
  hull = _hull({bounds(index) for index in local})

  def of_device(index: tuple[slice, ...]) -> np.ndarray:
    found = bounds(index)
    if hull is None:
      return read(found)
    ranges = zip(found, hull, strict=True)
    inside = (slice(a - low, b - low) for (a, b), (low, _) in ranges)
    return read(hull)[tuple(inside)]

  return jax.make_array_from_callback(
    tensor.here, sharding, of_device, dtype=dtype
  )


_Block = tuple[tuple[int, int], ...]  # (first, end) of each dimension


def _hull(blocks: Collection[_Block]) -> _Block | None:
  """The one block that these make up together; None: they leave gaps.

  A file's rows are often read whole: cut into columns for the devices of one
  host, they would be read for each of them.

  Args:
    blocks: that do not overlap.
  """
  dimensions = [
    zip(*ranges, strict=True) for ranges in zip(*blocks, strict=True)
  ]
  hull = tuple((min(firsts), max(ends)) for firsts, ends in dimensions)

  def size(block: _Block) -> int:
    return math.prod(end - first for first, end in block)

  return hull if size(hull) == sum(map(size, blocks)) else None
