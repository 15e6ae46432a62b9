"""One softmax over several parts that the queries of rows see.

See attention.py for its precision. Dimensions as in segments.py; X rows, T
queries of a row, S places of a part.
"""

import functools
from collections.abc import Sequence
from typing import NamedTuple

import jax
import jax.numpy as jnp

from rest_jax.distributed import partitioning
from rest_jax.distributed.partitioning import constrain
from rest_jax.models import attention
from rest_jax.models.architecture import DecoderConfig, LayerKind


class Seen(NamedTuple):
  """Some keys and values, and which queries see them.

  Attributes:
    keys: (X, S, K, E), or (1, S, K, E) where all rows have the same.
    values: of the same shape.
    positions_XS: of them in their texts.
    mask_XTS: whether a query sees them, windows apart.
  """

  keys: jax.Array
  values: jax.Array
  positions_XS: jax.Array
  mask_XTS: jax.Array

  def seen_XTS(
    self, config: DecoderConfig, kind: LayerKind, positions_XT: jax.Array
  ) -> jax.Array:
    """The mask with the window of a local layer, for queries there."""
    if kind != 'local':
      return self.mask_XTS
    distance_XTS = positions_XT[:, :, None] - self.positions_XS[:, None]
    return self.mask_XTS & (distance_XTS < config.window)


def softmax(
  config: DecoderConfig,
  kind: LayerKind,
  q_XTKRE: jax.Array,
  positions_XT: jax.Array,
  parts: Sequence[Seen],
) -> jax.Array:
  """What queries get from all parts, (X, T, K, R, E) in their dtype.

  Args:
    config: of the network.
    kind: of the layer: a local one sees the last `window` tokens.
    q_XTKRE: queries, already rotated.
    positions_XT: of them in their texts.
    parts: what they see; each query at least one place of them.
  """
  X, T, K, R, E = q_XTKRE.shape
  # Key heads first, and a head's queries as one matrix: other orders cost a CPU
  # more time to transpose than to multiply. Scaled before the product, where
  # there are fewer numbers; in float32, as a scale that bfloat16 rounds would
  # shift all scores alike.
  q_KXRTE = q_XTKRE.astype(jnp.float32) * attention.scale(config)
  q_KXRTE = q_KXRTE.astype(q_XTKRE.dtype).transpose(2, 0, 3, 1, 4)
  scores, tops = [], []
  for part in parts:
    scores_KXRTS = _product('KXME,KXSE->KXMS', q_KXRTE, part.keys)
    scores_KXRTS = attention.capped(scores_KXRTS, config.attention_soft_cap)
    mask_XTS = part.seen_XTS(config, kind, positions_XT)
    scores_KXRTS = jnp.where(
      mask_XTS[None, :, None], scores_KXRTS, attention.NEVER
    )
    scores.append(scores_KXRTS)
    tops.append(jax.lax.stop_gradient(scores_KXRTS).max(axis=-1))
  # Every token sees itself, so that the greatest score is a real one.
  top_KXRT = functools.reduce(jnp.maximum, tops)
  out_KXRTE, total_KXRT = jnp.float32(0), jnp.float32(0)
  for part, scores_KXRTS in zip(parts, scores, strict=True):
    weights_KXRTS = jnp.exp(scores_KXRTS - top_KXRT[..., None])
    # Summed before the weights are rounded to the values' dtype.
    total_KXRT = total_KXRT + weights_KXRTS.sum(axis=-1)
    out_KXRTE = out_KXRTE + _product(
      'KXMS,KXSE->KXME', weights_KXRTS.astype(part.values.dtype), part.values
    )
  out_KXRTE = out_KXRTE / total_KXRT[..., None]
  return out_KXRTE.transpose(1, 3, 0, 2, 4).astype(q_XTKRE.dtype)


def _product(einsum: str, a_KXRTC: jax.Array, b_XSKE: jax.Array) -> jax.Array:
  """The product of each row and key head, in float32.

  Args:
    einsum: in which M stands for R and T; without X where all rows have the
      same second factor.
    a_KXRTC: queries or weights.
    b_XSKE: keys or values; a leading 1: of all rows.
  """
  K, X, R, T, C = a_KXRTC.shape
  a, b = a_KXRTC.reshape(K, X, R * T, C), b_XSKE.transpose(2, 0, 1, 3)
  if b.shape[1] == 1:
    einsum, a, b = einsum.replace('X', ''), a.reshape(K, -1, C), b[:, 0]
  elif (
    not partitioning.is_split()
  ):  # one batch dimension: as block.py's products
    einsum = einsum.replace('X', '')
    a, b = (x.reshape(K * X, *x.shape[2:]) for x in (a, b))
  made = jnp.einsum(einsum, a, b, preferred_element_type=jnp.float32)
  made = made.reshape(K, X, R, T, -1)
  return constrain(made, 'kv_heads', 'batch', None, 'length', None)
