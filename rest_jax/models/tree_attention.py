"""Attention of rows that share prompts by a fused kernel of TPUs.

It computes what row_attention.py computes by einsum, and differs from it by
rounding alone: queries are scaled before the product, and rounded to the
network's dtype then; scores and sums are float32 in both. The scores are never
written to memory, forward or backward, and a prefix is never copied for a row.

tree_blocks.py says what is multiplied with what, tree_grids.py how. Jax's own
kernel (splash.py) has no mask for parents and prefixes.

Dimensions as in segments.py.
"""

import functools
from collections.abc import Callable

import jax
import jax.numpy as jnp

from rest_jax.distributed import partitioning
from rest_jax.models import (
  attention,
  recomputation,
  splash,
  tree_blocks,
  tree_grids,
)
from rest_jax.models.architecture import DecoderConfig, LayerKind
from rest_jax.models.segments import OfRows, Segments, SharedPrefix
from rest_jax.models.tree_grids import KeysValues
from rest_jax.models.tree_kernels import Settings


def attend(
  segments: Segments,
  prefix: SharedPrefix | None,
  config: DecoderConfig,
  kind: LayerKind,
  q_BLKRE: jax.Array,
  k_BLKE: jax.Array,
  v_BLKE: jax.Array,
  *,
  interpret: bool = False,
) -> jax.Array:
  """Attention within segments, to their parents and to the rows' prefix.

  On a mesh each device computes its own rows and heads; the gradient of a
  prefix is summed over the devices.

  Args:
    segments: of the rows; within each, positions grow by one.
    prefix: of the rows, for this layer.
    config: of the network.
    kind: of the layer: a local one sees the last `window` tokens.
    q_BLKRE: queries, already rotated.
    k_BLKE: keys, already rotated.
    v_BLKE: values.
    interpret: whether to run the kernel's program on any device, slowly: for
      tests.

  Returns:
    o_BLKRE in the dtype of the queries; that of padding is its own value.

  Raises:
    ConfigurationError: the mesh does not divide the rows or the heads.
  """
  run = functools.partial(
    _on_one_device,
    window=config.window if kind == 'local' else None,
    scale=attention.scale(config),
    settings=Settings(
      block=splash.block_size(q_BLKRE.shape[1])[0],
      cap=config.attention_soft_cap,
      precision=attention.kernel_precision(config, q_BLKRE.dtype),
      interpret=interpret,
    ),
  )
  if prefix is None:
    segments = segments._replace(of_rows=None)
  shared = prefix and (prefix.keys, prefix.values)
  inputs = segments, shared, q_BLKRE, k_BLKE, v_BLKE
  mesh = partitioning.in_use()
  if mesh is not None and mesh.size > 1:
    run = _on_each_device(run, mesh, *inputs)
  return run(*inputs)


def _on_each_device(
  run: Callable[..., jax.Array],
  mesh: jax.sharding.Mesh,
  segments: Segments,
  shared: tuple[jax.Array, jax.Array] | None,
  q_BLKRE: jax.Array,
  k_BLKE: jax.Array,
  v_BLKE: jax.Array,
) -> Callable[..., jax.Array]:
  """`run` of these arrays, split over a mesh; every device has all prefixes."""

  def spec(what, array, *names):
    return partitioning.spec(names, array.shape, mesh, what)

  of_place = spec('segment ids', segments.ids_BL, 'batch', None)
  of_row = jax.sharding.PartitionSpec(of_place[0])
  places = Segments(
    ids_BL=of_place,
    parents_BL=None if segments.parents_BL is None else of_place,
    positions_BL=of_place,
    of_rows=shared and OfRows(jax.sharding.PartitionSpec(None), of_row),
  )
  heads = ('batch', None, 'kv_heads')
  queries = spec('queries', q_BLKRE, *heads, None, 'head_dim')
  keys, values = (
    spec(what, array, *heads, 'head_dim')
    for what, array in (('keys', k_BLKE), ('values', v_BLKE))
  )
  prefixes = shared and tuple(
    spec('prefix', array, None, None, 'kv_heads', 'head_dim')
    for array in shared
  )
  return jax.shard_map(
    run,
    mesh=mesh,
    in_specs=(places, prefixes, queries, keys, values),
    out_specs=queries,
    check_vma=False,  # as in splash.py
  )


# On-chip memory of a core, by jax's name of the device, less what the program
# around the kernel needs. The others (v5p, v7x) have 64 MiB.
_CHIP_BYTES = {
  'TPU v4': 14 << 20,
  'TPU v5 lite': 112 << 20,
  'TPU v6 lite': 112 << 20,
}
_OTHER_CHIP_BYTES = 56 << 20


def fits(prefix: SharedPrefix | None, q_BLKRE: jax.Array) -> bool:
  """Whether the chips in use can hold what the kernel keeps of a row there.

  That is the gradients of a row's keys and values, and of its prefix's.
  """
  block, length = splash.block_size(q_BLKRE.shape[1])
  shared = 0 if prefix is None else -(-prefix.keys.shape[1] // block) * block
  queries = jax.eval_shape(lambda x: jnp.moveaxis(x, 1, 3), q_BLKRE)
  needed = tree_grids.chip_bytes(block, queries, length, shared)
  kind = partitioning.device_kind()
  return needed <= _CHIP_BYTES.get(kind, _OTHER_CHIP_BYTES)


def _on_one_device(
  segments: Segments,
  prefix: tuple[jax.Array, jax.Array] | None,
  q_BLKRE: jax.Array,
  k_BLKE: jax.Array,
  v_BLKE: jax.Array,
  *,
  window: int | None,
  scale: float,
  settings: Settings,
) -> jax.Array:
  """`attend` for the rows and heads of one device."""
  L, block = q_BLKRE.shape[1], settings.block

  def padded(x, value=0):
    more = -x.shape[1] % block
    widths = [(0, 0), (0, more)] + [(0, 0)] * (x.ndim - 2)
    return jnp.pad(x, widths, constant_values=value)

  def blocks(x_BLKE):
    x_BKLE = jnp.moveaxis(padded(x_BLKE), 1, 2)
    B, K, _, E = x_BKLE.shape
    return x_BKLE.reshape(B, K, -1, block, E)

  parents_BL = segments.parents_BL
  segments = segments._replace(
    ids_BL=padded(segments.ids_BL),
    parents_BL=None if parents_BL is None else padded(parents_BL, -1),
    positions_BL=padded(segments.positions_BL),
  )
  shared = prefix and KeysValues(*map(blocks, prefix))
  places = 0 if shared is None else shared.keys.shape[2] * block
  intervals_B6L = tree_blocks.intervals(segments, places, window)
  pairs = tree_blocks.pairs(intervals_B6L, segments.of_rows, places, block)
  # In float32: a scale that bfloat16 rounds would shift all scores alike.
  q_BLKRE = (q_BLKRE.astype(jnp.float32) * scale).astype(q_BLKRE.dtype)
  o_BKRLE = _attend(
    settings,
    (pairs, intervals_B6L),
    jnp.moveaxis(padded(q_BLKRE), 1, 3),
    KeysValues(blocks(k_BLKE), blocks(v_BLKE)),
    shared,
  )
  return jnp.moveaxis(o_BKRLE[..., :L, :], 3, 1)


@functools.partial(jax.custom_vjp, nondiff_argnums=(0,))
def _attend(settings, seen, q_BKRLE, own, shared):
  return tree_grids.forward(settings, *seen, q_BKRLE, own, shared)[0]


def _attend_forward(settings, seen, q_BKRLE, own, shared):
  o_BKRLE, sums_BKRL = (
    recomputation.named(x, recomputation.ATTENDED)
    for x in tree_grids.forward(settings, *seen, q_BKRLE, own, shared)
  )
  return o_BKRLE, (seen, q_BKRLE, own, shared, o_BKRLE, sums_BKRL)


def _attend_backward(settings, kept, do_BKRLE):
  seen, q_BKRLE, own, shared, o_BKRLE, sums_BKRL = kept
  di_BKRL = jnp.einsum(
    'BKRLE,BKRLE->BKRL',
    o_BKRLE.astype(jnp.float32),
    do_BKRLE.astype(jnp.float32),
    precision='highest',
  )
  dq, d_own, d_shared = tree_grids.backward(
    *(settings, *seen, q_BKRLE, own, shared, do_BKRLE, sums_BKRL, di_BKRL)
  )
  if shared is not None:
    prefix_B = seen[0].prefix_B
    prefixes = jnp.arange(shared.keys.shape[0], dtype=prefix_B.dtype)
    used_F = (prefixes[:, None] == prefix_B[None]).any(axis=1)
    d_shared = jax.tree.map(
      lambda d, x: jnp.where(used_F[:, None, None, None, None], d, 0).astype(
        x.dtype
      ),
      d_shared,
      shared,
    )
  return None, dq, d_own, d_shared


_attend.defvjp(_attend_forward, _attend_backward)
