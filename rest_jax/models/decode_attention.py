"""Attention of a decode step by a kernel for TPUs: one pass over the caches.

It computes what attention.cached does, and differs from it by rounding alone.
For each group and key head the queries of all lanes are one matrix, which is
multiplied with the chunk, the prefix and the question, and then with one block
of the lanes' suffixes after the other, in one running softmax. No score leaves
the chip. Blocks that no lane of the group has written yet are neither fetched
nor multiplied; what is skipped would have had weights of exactly 0.

In a block of suffixes the matrix of all lanes is multiplied with each lane's
keys, and each lane's own rows are picked: a few rows more cost a systolic array
nothing, where slices of four rows would have to be moved about.

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
from rest_jax.models import attention
from rest_jax.models.architecture import DecoderConfig, LayerKind

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
  prefix: attention.KeysValues | None,
  question: attention.KeysValues,
  suffix: attention.KeysValues,
  chunk: attention.KeysValues,
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
    prefix: keys (K, E, P) and values (K, P, E), if there is one.
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
  parts: Sequence[attention.KeysValues],
  *,
  config: DecoderConfig,
  kind: LayerKind,
  interpret: bool,
) -> jax.Array:
  """`cached` for the groups and heads of one device."""
  from jax.experimental.pallas import tpu as pltpu

  chunk, *shared, suffix = parts
  G, N, K, R, E = q_GNKRE.shape
  T, C = suffix.keys.shape[-1], chunk.keys.shape[-1]
  block = next((b for b in _SUFFIX_BLOCKS if T % b == 0), T)
  blocks = T // block

  # The lanes last, as products leave them and as a step writes its token: any
  # other order is a copy for each layer.
  def of_lanes(array):  # (G, N, K, X, E) as one matrix for all lanes
    return array.transpose(0, 2, 3, 1, 4).reshape(G, K, -1, E)

  q_GKHE = of_lanes(q_GNKRE)

  last_G = jnp.maximum(-(-lengths.suffix_GN.max(axis=1) // block) - 1, 0)
  scalars = [
    jnp.reshape(lengths.prefix, 1),
    lengths.question_G,
    lengths.suffix_GN,
    jnp.reshape(lengths.place, 1),
    last_G,
  ]
  scalars = [scalar.astype(jnp.int32) for scalar in scalars]

  def of_head(array):
    shape = (1, *array.shape[1:])
    return pl.BlockSpec(shape, lambda k, g, s, *_: (k, 0, 0))

  def of_group(array):
    shape = (1, 1, *array.shape[2:])
    return pl.BlockSpec(shape, lambda k, g, s, *_: (g, k, 0, 0))

  def of_lane(array, axis):
    shape = [1, N, 1, *array.shape[3:]]
    shape[axis] = block

    def place(k, g, s, *scalars):
      # Where no lane has come that far, the block before is there already.
      at = [g, 0, k, 0, 0]
      at[axis] = jnp.minimum(s, scalars[4][g])
      return tuple(at)

    return pl.BlockSpec(shape, place)

  arrays = [
    q_GKHE,
    of_lanes(chunk.keys.swapaxes(-1, -2)),
    of_lanes(chunk.values),
  ]
  specs = [of_group(array) for array in arrays]
  for part, make in zip(
    shared, (of_head, of_group)[-len(shared) :], strict=True
  ):
    arrays += jax.tree.leaves(part)
    specs += jax.tree.leaves(jax.tree.map(make, part))
  arrays += jax.tree.leaves(suffix)
  places_at = attention.KeysValues(4, 3, 4, 4)
  specs += [
    of_lane(array, axis)
    for array, axis in zip(suffix, places_at, strict=True)
    if array is not None
  ]
  moved = sum(array.size * array.dtype.itemsize for array in arrays)
  if not interpret:
    # The compiler would copy caches to the chip before the kernel fetches them
    # block by block, and has no room left there for weights then.
    arrays = [
      *arrays[:3],
      *(
        pltpu.with_memory_space_constraint(cache, pltpu.HBM)
        for cache in arrays[3:]
      ),
    ]
  places = sum(part.keys.shape[-1] for part in shared) + N * C + N * T
  out_GKHE = pl.pallas_call(
    functools.partial(
      _kernel,
      lanes=N,
      parts=len(shared) + 1,
      window=config.window if kind == 'local' else None,
      cap=config.attention_soft_cap,
      scale=attention.scale(config),
      precision=attention.kernel_precision(config, q_GNKRE.dtype),
    ),
    grid_spec=pltpu.PrefetchScalarGridSpec(
      num_scalar_prefetch=len(scalars),
      # The prefix of a head stays where it is while the groups pass by.
      grid=(K, G, blocks),
      in_specs=specs,
      out_specs=of_group(q_GKHE),
      scratch_shapes=[
        pltpu.VMEM((N * R, 128), jnp.float32),
        pltpu.VMEM((N * R, 128), jnp.float32),
        pltpu.VMEM((N * R, E), jnp.float32),
      ],
    ),
    out_shape=jax.ShapeDtypeStruct((G, K, N * R, E), q_GNKRE.dtype),
    cost_estimate=pl.CostEstimate(
      flops=4 * G * K * N * R * E * places,
      bytes_accessed=moved + q_GKHE.size * q_GKHE.dtype.itemsize,
      transcendentals=G * K * N * R * places // N,
    ),
    compiler_params=pltpu.CompilerParams(
      dimension_semantics=('arbitrary',) * 3,
      vmem_limit_bytes=_vmem_bytes(specs, arrays),
    ),
    interpret=interpret,
  )(*scalars, *arrays)
  return out_GKHE.reshape(G, K, R, N, E).transpose(0, 3, 1, 2, 4)


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


def _kernel(
  prefix_ref,
  question_ref,
  suffix_ref,
  place_ref,
  last_ref,
  q_ref,
  chunk_keys_ref,
  chunk_values_ref,
  *refs,
  lanes: int,
  parts: int,
  window: int | None,
  cap: float | None,
  scale: float,
  precision: str,
):
  """One group and key head with one block of suffixes.

  The first five arguments are `Lengths` and the number of the last block that
  each group needs, in scalar memory. `refs` are the caches, of which there are
  `parts` with two or four arrays each, the result and what is kept between
  blocks.
  """
  *caches, out_ref, top, total, acc = refs
  each = len(caches) // parts
  *shared, suffix = (
    attention.KeysValues(*caches[i * each : (i + 1) * each])
    for i in range(parts)
  )
  g, s = pl.program_id(1), pl.program_id(2)
  # In float32: a scale that bfloat16 rounds would shift all scores alike.
  q_HE = (q_ref[0, 0].astype(jnp.float32) * scale).astype(q_ref.dtype)
  rows = q_HE.shape[0]
  lane_H1 = jax.lax.broadcasted_iota(jnp.int32, (rows, 1), 0) % lanes
  own_H1 = jnp.zeros((rows, 1), jnp.int32)
  for n in range(lanes):
    own_H1 = jnp.where(lane_H1 == n, suffix_ref[g, n], own_H1)
  prompt = prefix_ref[0] + question_ref[g]
  newest_H1 = prompt + own_H1 + place_ref[0]  # positions of the queries

  def product(a, b, contracted):
    return jax.lax.dot_general(
      a,
      b.astype(a.dtype),
      (contracted, ((), ())),
      precision=jax.lax.Precision(precision),
      preferred_element_type=jnp.float32,
    )

  def scored(keys_ES, scales_1S):
    scores_HS = product(q_HE, keys_ES, ((1,), (0,)))
    return scores_HS if scales_1S is None else scores_HS * scales_1S

  def weighed(weights_HS, values_SE, scales_1S=None):
    if scales_1S is not None:
      weights_HS = weights_HS * scales_1S
    return product(weights_HS.astype(q_HE.dtype), values_SE, ((1,), (0,)))

  def read(ref, *at):
    return None if ref is None else ref[at]

  def update(scores_HS, seen_HS, positions_HS, values_of):
    """Goes on with the softmax: `values_of` multiplies weights and values."""
    scores_HS = attention.capped(scores_HS, cap)
    if window is not None:
      seen_HS &= positions_HS > newest_H1 - window
    scores_HS = jnp.where(seen_HS, scores_HS, attention.NEVER)
    before_H1 = top[:, :1]
    top_H1 = jnp.maximum(before_H1, scores_HS.max(axis=1, keepdims=True))
    weights_HS = jnp.exp(scores_HS - top_H1)
    share_H1 = jnp.exp(before_H1 - top_H1)
    total_H1 = share_H1 * total[:, :1] + weights_HS.sum(axis=1, keepdims=True)
    acc[...] = share_H1 * acc[...] + values_of(weights_HS)
    top[...] = jnp.broadcast_to(top_H1, top.shape)
    total[...] = jnp.broadcast_to(total_H1, total.shape)

  def places(count):
    return jax.lax.broadcasted_iota(jnp.int32, (rows, count), 1)

  @pl.when(s == 0)
  def _():
    top[...] = jnp.full(top.shape, attention.NEVER, jnp.float32)
    total[...] = jnp.zeros(total.shape, jnp.float32)
    acc[...] = jnp.zeros(acc.shape, jnp.float32)
    # The chunk first: every query sees itself there, so that from then on a
    # masked score beside the greatest one has a weight of 0.
    size = chunk_keys_ref.shape[2] // lanes
    place_HS = places(size * lanes)
    within_HS = place_HS // lanes
    update(
      product(q_HE, chunk_keys_ref[0, 0], ((1,), (1,))),
      (place_HS % lanes == lane_H1) & (within_HS <= place_ref[0]),
      prompt + own_H1 + within_HS,
      lambda weights_HS: weighed(weights_HS, chunk_values_ref[0, 0]),
    )
    for part in shared:
      of_group = len(part.keys.shape) == 4
      at = (0, 0) if of_group else (0,)
      place_HS = places(part.keys.shape[-1])
      keys, values, key_scales, value_scales = (read(ref, *at) for ref in part)
      update(
        scored(keys, key_scales),
        place_HS < (question_ref[g] if of_group else prefix_ref[0]),
        place_HS + (prefix_ref[0] if of_group else 0),
        lambda weights_HS, v=values, s=value_scales: weighed(weights_HS, v, s),
      )

  size = suffix.keys.shape[-1]

  @pl.when(s <= last_ref[g])
  def _():
    scores_HS = jnp.zeros((rows, size), jnp.float32)
    for n in range(lanes):
      of_lane = scored(suffix.keys[0, n, 0], read(suffix.key_scales, 0, n, 0))
      scores_HS = jnp.where(lane_H1 == n, of_lane, scores_HS)
    place_HS = s * size + places(size)

    def of_own_values(weights_HS):
      out_HE = jnp.zeros(acc.shape, jnp.float32)
      for n in range(lanes):
        of_lane = weighed(
          weights_HS, suffix.values[0, n, 0], read(suffix.value_scales, 0, n, 0)
        )
        out_HE = jnp.where(lane_H1 == n, of_lane, out_HE)
      return out_HE

    update(scores_HS, place_HS < own_H1, prompt + place_HS, of_own_values)

  @pl.when(s == pl.num_programs(2) - 1)
  def _():
    out_ref[0, 0] = (acc[...] / total[:, :1]).astype(out_ref.dtype)
