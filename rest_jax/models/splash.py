"""Causal attention within segments by the fused kernel of TPUs ("splash").

The kernel is jax's own (jax.experimental.pallas.ops.tpu.splash_attention). It
never writes the scores to memory, and passes over the blocks that the causal
mask or a local layer's window leaves empty. Einsum attention (row_attention.py)
writes length x length scores for each head. Rows that share prompts have a
kernel of their own (tree_attention.py).

It differs from einsum attention by rounding alone: queries are scaled before
the product, and rounded to the network's dtype then; scores and sums are
float32 in both.

Dimensions as in network.py, and H = K x R query heads.
"""

import functools
from collections.abc import Callable

import jax
import jax.numpy as jnp
import numpy as np

from rest_jax.distributed import partitioning
from rest_jax.models import attention, recomputation
from rest_jax.models.architecture import DecoderConfig, LayerKind

LANES = 128  # the kernel's blocks are multiples of a TPU's vector width
# Tokens of a block of a long row -> instructions that libtpu 0.0.42 schedules
# for one block of a head of width 128, forward and backward, on v5e. The
# compiler's estimate, not a measurement (512 on v5p: 6618, on v6e: 4606). Per
# score, blocks of 384 cost 1.4 times as much as 512, and blocks of 256 1.9
# times, more than the padding that they avoid. Blocks of 1024 would save a
# sixth per score, but compute more of what the mask leaves empty and compile
# three times as long; those of 2048, which MaxText sets for v6e, exceed the
# on-chip memory of v4 and v5p.
_BLOCKS = {512: 6336, 384: 4847}


def block_size(length: int) -> tuple[int, int]:
  """How a row is cut into blocks.

  Args:
    length: of a row, in tokens.

  Returns:
    (tokens of a block, tokens of the padded row): the blocks of which a causal
    mask costs least. A row of at most 512 tokens is one block.
  """
  if length <= max(_BLOCKS):
    block = -(-length // LANES) * LANES
    return block, block

  def cost(block: int) -> int:
    number = -(-length // block)
    return number * (number + 1) // 2 * _BLOCKS[block]

  block = min(_BLOCKS, key=cost)
  return block, -(-length // block) * block


def causal(
  segment_ids_BL: jax.Array,
  config: DecoderConfig,
  kind: LayerKind,
  scale: float,
  q_BLKRE: jax.Array,
  k_BLKE: jax.Array,
  v_BLKE: jax.Array,
  *,
  interpret: bool = False,
) -> jax.Array:
  """Causal attention within segments.

  On a mesh each device computes its own rows and heads, without communication.

  Args:
    segment_ids_BL: a token attends to the earlier ones with its own number.
    config: of the network.
    kind: of the layer: a local one sees the last `window` tokens.
    scale: what the products of queries and keys are multiplied by.
    q_BLKRE: queries, already rotated.
    k_BLKE: keys, already rotated.
    v_BLKE: values.
    interpret: whether to run the kernel's program on any device, slowly: for
      tests.

  Returns:
    o_BLKRE in the dtype of the queries.

  Raises:
    ConfigurationError: the mesh does not divide the rows or the heads.
  """
  attend = functools.partial(
    _on_one_device,
    window=config.window if kind == 'local' else None,
    cap=config.attention_soft_cap,
    scale=scale,
    precision=attention.kernel_precision(config, q_BLKRE.dtype),
    interpret=interpret,
  )
  mesh = partitioning.in_use()
  if mesh is not None and mesh.size > 1:

    def spec(what, array, *names):
      return partitioning.spec(names, array.shape, mesh, what)

    heads = ('batch', 'length', 'kv_heads')
    queries = spec('queries', q_BLKRE, *heads, None, 'head_dim')
    keys = spec('keys', k_BLKE, *heads, 'head_dim')
    attend = jax.shard_map(
      attend,
      mesh=mesh,
      in_specs=(
        spec('segment ids', segment_ids_BL, 'batch', 'length'),
        queries,
        keys,
        keys,
      ),
      out_specs=queries,
      # The check wants every kernel to declare along which mesh axes its
      # results vary, and this one does not.
      check_vma=False,
    )
  return attend(segment_ids_BL, q_BLKRE, k_BLKE, v_BLKE)


def _on_one_device(
  segment_ids_BL: jax.Array,
  q_BLKRE: jax.Array,
  k_BLKE: jax.Array,
  v_BLKE: jax.Array,
  *,
  window: int | None,
  cap: float | None,
  scale: float,
  precision: str,
  interpret: bool,
) -> jax.Array:
  """`causal` for the rows and heads of one device."""
  B, L, K, R, E = q_BLKRE.shape
  block, padded = block_size(L)

  def heads_first(x):
    # Padding stands behind the row: no token of the row sees it.
    x = jnp.pad(x, [(0, 0), (0, padded - L)] + [(0, 0)] * (x.ndim - 2))
    return jnp.moveaxis(x, 1, -2)

  # In float32: a scale that bfloat16 rounds would shift all scores alike.
  q_BLKRE = (q_BLKRE.astype(jnp.float32) * scale).astype(q_BLKRE.dtype)
  kernel = _kernel(K * R, padded, block, window, cap, interpret)
  o_BHLE = _precise(kernel, precision)(
    heads_first(q_BLKRE).reshape(B, K * R, padded, E),
    heads_first(k_BLKE),
    heads_first(v_BLKE),
    jnp.pad(segment_ids_BL, ((0, 0), (0, padded - L))),
  )
  o_BKRLE = o_BHLE.reshape(B, K, R, padded, E)[..., :L, :]
  return jnp.moveaxis(o_BKRLE, -2, 1)


@functools.lru_cache(maxsize=64)
def _kernel(
  heads: int,
  length: int,
  block: int,
  window: int | None,
  cap: float | None,
  interpret: bool,
) -> Callable[..., jax.Array]:
  """(q_HLE, k_KLE, v_KLE, segments) -> o_HLE, for one row."""
  from jax.experimental.pallas.ops.tpu import splash_attention

  shape = (length, length)
  if window is None:
    mask = splash_attention.CausalMask(shape)
  else:
    # The window counts the newest token, jax's LocalMask what lies before it.
    mask = splash_attention.LocalMask(shape, (window - 1, 0), 0)
  # The kernel holds lists of blocks as arrays, which must not belong to the
  # trace in which they happen to be made first. jax.ensure_compile_time_eval
  # does not do under shard_map within a scan.
  with jax.core.eval_context():
    kernel = splash_attention.make_splash_mha(
      splash_attention.MultiHeadMask([mask] * heads),
      block_sizes=splash_attention.BlockSizes(
        **dict.fromkeys(
          (
            *('block_q', 'block_kv', 'block_kv_compute'),
            *('block_q_dkv', 'block_kv_dkv', 'block_kv_dkv_compute'),
            *('block_q_dq', 'block_kv_dq'),
          ),
          block,
        )
      ),
      head_shards=1,
      q_seq_shards=1,
      attn_logits_soft_cap=cap,
      residual_checkpoint_name=recomputation.ATTENDED,
      interpret=interpret,
    )
  kernel = jax.tree.map(np.asarray, kernel)

  def attend(q_HLE, k_KLE, v_KLE, segments_L):
    segments = splash_attention.SegmentIds(segments_L, segments_L)
    return kernel(q_HLE, k_KLE, v_KLE, segments)

  return attend


def _precise(
  kernel: Callable[..., jax.Array], precision: str
) -> Callable[..., jax.Array]:
  """The kernel for all rows, with one precision forward and backward.

  jax traces a kernel's backward pass where the gradient is taken, outside of
  the `jax.default_matmul_precision` that the network sets around its layers.
  """

  def run(q, k, v, segments):
    return jax.vmap(kernel)(q, k, v, segments)

  @jax.custom_vjp
  def attend(q, k, v, segments):
    with jax.default_matmul_precision(precision):
      return run(q, k, v, segments)

  def forward(q, k, v, segments):
    with jax.default_matmul_precision(precision):
      return jax.vjp(lambda q, k, v: run(q, k, v, segments), q, k, v)

  def backward(pullback, gradient):
    with jax.default_matmul_precision(precision):
      return *pullback(gradient), None

  attend.defvjp(forward, backward)
  return attend
