"""Attention of a decode step by a kernel for TPUs: one pass over the caches.

It computes what `cached_attention.cached` does, and differs from it by rounding
alone. For each group and key head the kernel (decode_kernel.py) goes over the
chunk, the prefix and the question, and then over one block of the lanes'
suffixes after the other. Blocks that no lane of the group has written yet are
neither fetched nor multiplied; what is skipped would have had weights of
exactly 0.

Dimensions as in decoding.py; H = R x N rows of queries of a key head.
"""

import functools
from collections.abc import Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax.experimental import pallas as pl

from rest_jax.distributed import partitioning
from rest_jax.models import attention, decode_kernel
from rest_jax.models.architecture import DecoderConfig, LayerKind
from rest_jax.models.cached_attention import KeysValues

_SUFFIX_BLOCKS = (512, 256, 128)  # tokens of each lane that are fetched at once


class Lengths(NamedTuple):
  """How many tokens of each cache count, int32.

  Attributes:
    prefix: () of all groups.
    question_G: of each group.
    suffix_GN: of each lane.
    place: () in the chunk, of the newest token.
  """

  prefix: jax.Array
  question_G: jax.Array
  suffix_GN: jax.Array
  place: jax.Array


def cached(
  config: DecoderConfig,
  kind: LayerKind,
  q_GNKRE: jax.Array,
  prefix: KeysValues | None,
  question: KeysValues,
  suffix: KeysValues,
  chunk: KeysValues,
  lengths: Lengths,
  *,
  interpret: bool = False,
) -> jax.Array:
  """The newest tokens of all lanes attend to all that was fed before.

  On a mesh each device computes its own groups and heads, without
  communication.

  Args:
    config: of the network.
    kind: of the layer: a local one sees the last `window` tokens.
    q_GNKRE: queries, already rotated.
    prefix: keys (K, E, P) and values (K, P, E), if there is one; all parts may
      be PlacesLast instead.
    question: keys (G, K, E, Q) and values (G, K, Q, E).
    suffix: keys (G, N, K, E, T) and values (G, N, K, T, E); either all of these
      three are int8 or none.
    chunk: keys (G, N, K, E, C) and values (G, N, K, C, E), the newest tokens'
      own included, as they were computed.
    lengths: of these.
    interpret: whether to run the kernel's program on any device, slowly: for
      tests.

  Returns:
    (G, N, K, R, E) in the dtype of the queries.

  Raises:
    ConfigurationError: the mesh does not divide the groups or the heads.
  """
  attend = functools.partial(
    _on_one_device, config=config, kind=kind, interpret=interpret
  )
  parts = [chunk, *([prefix] if prefix else []), question, suffix]
  mesh = partitioning.in_use()
  if mesh is not None and mesh.size > 1:
    of_head = ('kv_heads', None, None)
    of_group, of_lane = ('group', *of_head), ('group', 'lane', *of_head)
    names = [of_lane, *([of_head] if prefix else []), of_group, of_lane]
    queries = partitioning.spec(of_lane, q_GNKRE.shape, mesh, 'queries')
    specs = [
      jax.tree.map(
        lambda array, names=n: partitioning.spec(
          names, array.shape, mesh, 'a cache'
        ),
        part,
      )
      for n, part in zip(names, parts, strict=True)
    ]
    none = jax.sharding.PartitionSpec()
    groups = jax.sharding.PartitionSpec(queries[0])
    attend = jax.shard_map(
      attend,
      mesh=mesh,
      in_specs=(Lengths(none, groups, groups, none), queries, specs),
      out_specs=queries,
      check_vma=False,  # as in splash.py
    )
  return attend(lengths, q_GNKRE, parts)


def _on_one_device(
  lengths: Lengths,
  q_GNKRE: jax.Array,
  parts: Sequence[KeysValues],
  *,
  config: DecoderConfig,
  kind: LayerKind,
  interpret: bool,
) -> jax.Array:
  """`cached` for the groups and heads of one device."""
  from jax.experimental.pallas import tpu as pltpu

  chunk, *shared, suffix = parts
  G, N, K, R, E = q_GNKRE.shape
  T = suffix.keys.shape[-1]
  block = next((b for b in _SUFFIX_BLOCKS if T % b == 0), T)
  q_GKHE = _of_all_lanes(q_GNKRE)
  scalars = _scalars(lengths, block)
  fed = [
    q_GKHE,
    *(
      _of_all_lanes(jnp.moveaxis(array, axis, -2))
      for array, axis in zip(chunk[:2], chunk.places_axis[:2], strict=True)
    ),
  ]
  caches = jax.tree.leaves([*shared, suffix])
  specs = [_of_group(array) for array in fed]
  specs += _cache_specs(shared, suffix, block)
  vmem_bytes = _vmem_bytes(specs, [*fed, *caches])
  cost = _cost(q_GKHE, [*fed, *caches], _places(parts, N), N)
  if not interpret:
    # The compiler would copy caches to the chip before the kernel fetches them
    # block by block, and has no room left there for weights then.
    caches = [
      pltpu.with_memory_space_constraint(cache, pltpu.HBM) for cache in caches
    ]
  settings = decode_kernel.Settings(
    lanes=N,
    parts=len(shared) + 1,
    order=type(suffix),
    window=config.window if kind == 'local' else None,
    cap=config.attention_soft_cap,
    scale=attention.scale(config),
    precision=attention.kernel_precision(config, q_GNKRE.dtype),
  )
  out_GKHE = pl.pallas_call(
    functools.partial(decode_kernel.decode_step, settings=settings),
    grid_spec=pltpu.PrefetchScalarGridSpec(
      num_scalar_prefetch=len(scalars),
      # The prefix of a head stays where it is while the groups pass by.
      grid=(K, G, T // block),
      in_specs=specs,
      out_specs=_of_group(q_GKHE),
      scratch_shapes=[
        pltpu.VMEM((N * R, 128), jnp.float32),
        pltpu.VMEM((N * R, 128), jnp.float32),
        pltpu.VMEM((N * R, E), jnp.float32),
      ],
    ),
    out_shape=jax.ShapeDtypeStruct((G, K, N * R, E), q_GNKRE.dtype),
    cost_estimate=cost,
    compiler_params=pltpu.CompilerParams(
      dimension_semantics=('arbitrary',) * 3, vmem_limit_bytes=vmem_bytes
    ),
    interpret=interpret,
  )(*scalars, *fed, *caches)
  return out_GKHE.reshape(G, K, R, N, E).transpose(0, 3, 1, 2, 4)


def _of_all_lanes(array: jax.Array) -> jax.Array:
  """(G, N, K, X, E) as (G, K, X x N, E): one matrix for all lanes.

  The lanes last, as products leave them and as a step writes its token: any
  other order is a copy for each layer.
  """
  G, _, K, _, E = array.shape
  return array.transpose(0, 2, 3, 1, 4).reshape(G, K, -1, E)


def _scalars(lengths: Lengths, block: int) -> list[jax.Array]:
  """The kernel's scalar arguments: lengths, and each group's last block."""
  last_G = jnp.maximum(-(-lengths.suffix_GN.max(axis=1) // block) - 1, 0)
  scalars = [
    jnp.reshape(lengths.prefix, 1),
    lengths.question_G,
    lengths.suffix_GN,
    jnp.reshape(lengths.place, 1),
    last_G,
  ]
  return [scalar.astype(jnp.int32) for scalar in scalars]


def _of_head(array: jax.Array) -> pl.BlockSpec:
  shape = (1, *array.shape[1:])
  return pl.BlockSpec(shape, lambda k, g, s, *_: (k, 0, 0))


def _of_group(array: jax.Array) -> pl.BlockSpec:
  shape = (1, 1, *array.shape[2:])
  return pl.BlockSpec(shape, lambda k, g, s, *_: (g, k, 0, 0))


def _of_lane(array: jax.Array, axis: int, block: int) -> pl.BlockSpec:
  shape = [1, array.shape[1], 1, *array.shape[3:]]
  shape[axis] = block

  def place(k, g, s, *scalars):
    # Where no lane has come that far, the block before is there already.
    at = [g, 0, k, 0, 0]
    at[axis] = jnp.minimum(s, scalars[-1][g])
    return tuple(at)

  return pl.BlockSpec(shape, place)


def _cache_specs(
  shared: Sequence[KeysValues],
  suffix: KeysValues,
  block: int,
) -> list[pl.BlockSpec]:
  """Which block of each cache a step of the grid takes."""
  specs = []
  for part in shared:
    make = _of_head if part.keys.ndim == 3 else _of_group
    specs += [make(array) for array in jax.tree.leaves(part)]
  return specs + [
    _of_lane(array, axis % array.ndim, block)
    for array, axis in zip(suffix, suffix.places_axis, strict=True)
    if array is not None
  ]


def _places(parts: Sequence[KeysValues], lanes: int) -> int:
  """Places that the queries of a group are multiplied with."""
  chunk, *shared, suffix = (part.keys.shape[-1] for part in parts)
  return sum(shared) + lanes * chunk + lanes * suffix


def _cost(
  q_GKHE: jax.Array, arrays: Sequence[jax.Array], places: int, lanes: int
) -> pl.CostEstimate:
  """What the compiler is told of the kernel, as if the caches were full."""
  moved = sum(array.size * array.dtype.itemsize for array in arrays)
  return pl.CostEstimate(
    flops=4 * q_GKHE.size * places,
    bytes_accessed=moved + q_GKHE.size * q_GKHE.dtype.itemsize,
    transcendentals=q_GKHE.size // q_GKHE.shape[-1] // lanes * places,
  )


def _vmem_bytes(specs: Sequence[Any], arrays: Sequence[jax.Array]) -> int:
  """Room for two of each block, padded to tiles, and for scores.

  No more: what a kernel may use is lost to the prefetching of weights.
  """
  total = 0
  for spec, array in zip(specs, arrays, strict=True):
    *leading, rows, columns = spec.block_shape
    tiles = -(-rows // 32) * 32 * -(-columns // 128) * 128
    total += int(np.prod(leading)) * tiles * array.dtype.itemsize
  return 2 * total + (4 << 20)
