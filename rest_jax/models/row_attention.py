"""Attention over packed rows: in training, and where a prefix is read.

On TPUs fused kernels attend: splash.py in rows that share nothing, and
tree_attention.py in those that share prompts; on GPUs cuDNN's. All other rows
are cut into blocks of queries (row_blocks.py), so that the scores of a whole
row never exist at once where rows are long, and little is computed that no
token of a block can see.

Dimensions as in segments.py; T places of a block.
"""

import functools
from collections.abc import Callable, Sequence

import jax
import jax.numpy as jnp
import numpy as np

from rest_jax.distributed import partitioning
from rest_jax.distributed.partitioning import constrain
from rest_jax.models import (
  architecture,
  attention,
  cudnn_attention,
  row_blocks,
  splash,
  tree_attention,
)
from rest_jax.models.architecture import DecoderConfig, LayerKind
from rest_jax.models.row_blocks import Block, Row
from rest_jax.models.segments import BLOCK, Segments, SharedPrefix, Spans

# A row is computed in about as many turns at most: each is compiled.
_MOST_TURNS = 8
# Scores of the blocks that a CPU computes together: enough work for a product,
# and not yet more than its last cache holds.
_TOGETHER = 2**21
_LOOPS = 4  # over the blocks of a row whose scores are computed again
# Bytes of scores on a device, of all layers that keep theirs, from where on the
# backward pass computes them again, block by block.
_KEPT_BYTES = 2**31


def attend(
  segments: Segments,
  spans: Spans | None,
  prefix: SharedPrefix | None,
  config: DecoderConfig,
  kind: LayerKind,
  q_BLKRE: jax.Array,
  k_BLKE: jax.Array,
  v_BLKE: jax.Array,
) -> jax.Array:
  """Attention within segments, to their parents and to the rows' prefix.

  Args:
    segments: of the rows.
    spans: how far tokens look at most; None: nothing is known.
    prefix: of the rows, for this layer.
    config: of the network.
    kind: of the layer: a local one sees the last `window` tokens.
    q_BLKRE: queries, already rotated.
    k_BLKE: keys, already rotated.
    v_BLKE: values.

  Returns:
    o_BLKRE in the dtype of the values.

  Raises:
    ConfigurationError: config.attention names a kernel that these devices do
      not have, or the mesh does not divide what the kernel is given.
  """
  row = Row(segments, spans, prefix, config, kind, q_BLKRE, k_BLKE, v_BLKE)
  kernel = _kernel(row)
  if kernel is not None:
    return kernel()
  if _is_split():
    whole = ('batch', None, 'kv_heads', 'head_dim')
    row = row._replace(
      k_BLKE=constrain(k_BLKE, *whole), v_BLKE=constrain(v_BLKE, *whole)
    )
  heads = q_BLKRE.shape[0] * config.num_heads
  heads //= _devices('batch') * _devices('kv_heads')
  turns = _turns(row, heads)
  layers = config.num_layers if config.remat == 'none' else 1
  scores = layers * heads * sum(b.scores for turn in turns for b in turn)
  if 4 * scores <= _KEPT_BYTES or _is_split():
    return _in_turns(row, turns)
  return _looped(row, row.blocks(BLOCK))


def _turns(row: Row, heads: int) -> list[list[Block]]:
  """The blocks of a row, beside each other those that are computed together.

  Args:
    row: of any length.
    heads: of all rows on a device.
  """
  if row.length <= 2 * BLOCK or _is_split():
    return [row.blocks(row.length)]
  if partitioning.platform() != 'cpu' or partitioning.is_split():
    size = -(-row.length // (_MOST_TURNS * BLOCK)) * BLOCK
    return [[block] for block in row.blocks(size)]
  blocks = row.blocks(BLOCK)
  together = max(
    -(-len(blocks) // _MOST_TURNS), _TOGETHER // (heads * blocks[-1].scores), 1
  )
  whole = [block for block in blocks if block.size == BLOCK]
  turns = [
    whole[first : first + together] for first in range(0, len(whole), together)
  ]
  return turns + [[block] for block in blocks[len(whole) :]]


def _in_turns(row: Row, turns: Sequence[Sequence[Block]]) -> jax.Array:
  """All blocks of a row, those of a turn together."""
  # Split, not sliced: the gradient of a slice is as large as the whole row.
  queries = jnp.split(
    row.q_BLKRE, [turn[0].start for turn in turns[1:]], axis=1
  )
  made = []
  for turn, q_BYKRE in zip(turns, queries, strict=True):
    out_XTKRE = row.attended(
      row_blocks.as_rows(q_BYKRE, len(turn)),
      [block.start for block in turn],
      turn[-1].width,
    )
    made.append(row_blocks.from_rows(out_XTKRE, len(turn)))
  return jnp.concatenate(made, axis=1)


def _kernel(row: Row) -> Callable[[], jax.Array] | None:
  """The fused kernel for some rows; None: they take einsum."""
  # A block of a kernel has 128 tokens or more, nearly all of them padding in a
  # shorter row; fresh weights are made from rows of one token. Where the places
  # of a row lie on several devices, no device has the keys that it needs.
  if row.length < splash.LANES or _is_split():
    return None
  how = architecture.attention_on(partitioning.platform(), row.config)
  if how == 'einsum':
    return None
  given = row.q_BLKRE, row.k_BLKE, row.v_BLKE
  if how == 'cudnn':
    return functools.partial(_by_cudnn, row)
  if row.prefix is None and row.segments.parents_BL is None:
    return functools.partial(
      splash.causal,
      *(row.segments.ids_BL, row.config, row.kind),
      *(attention.scale(row.config), *given),
    )
  if tree_attention.fits(row.prefix, row.q_BLKRE):
    return functools.partial(
      tree_attention.attend,
      *(row.segments, row.prefix, row.config, row.kind, *given),
    )
  return None


def _by_cudnn(row: Row) -> jax.Array:
  keys, values, mask_BLS = row.whole()
  scale = attention.scale(row.config)
  return cudnn_attention.attend(scale, row.q_BLKRE, keys, values, mask_BLS)


def _looped(row: Row, blocks: Sequence[Block]) -> jax.Array:
  """Block after block; the backward pass computes the scores again.

  A few loops, each over blocks that see about as much of their row: in a single
  one all would see as much as the last.
  """
  made = []
  whole = [block for block in blocks if block.size == blocks[0].size]
  for part in np.array_split(np.arange(len(whole)), min(_LOOPS, len(whole))):
    last = whole[part[-1]]

    def at(start, last=last):
      return _at(row, start, last)

    starts = jnp.asarray([whole[i].start for i in part])
    out_NBTKRE = jax.lax.map(jax.checkpoint(at), starts)
    out_BNTKRE = jnp.moveaxis(out_NBTKRE, 0, 1)
    made.append(
      out_BNTKRE.reshape(out_BNTKRE.shape[0], -1, *out_BNTKRE.shape[3:])
    )
  made += [_at(row, block.start, block) for block in blocks[len(whole) :]]
  return jnp.concatenate(made, axis=1)


def _at(row: Row, start: jax.Array | int, like: Block) -> jax.Array:
  """The block that begins at a place, as large as another and as wide."""
  q_BTKRE = row_blocks.cut(row.q_BLKRE, [start], like.size)
  return row.attended(q_BTKRE, [start], like.width)


def _devices(name: str) -> int:
  mesh = partitioning.in_use()
  return 1 if mesh is None else partitioning.shards(mesh, name)


def _is_split() -> bool:
  """Whether the places of a row lie on several devices."""
  return _devices('length') > 1
