"""Attention over a packed row, and over the caches of decoding.

Dimensions as in network.py; G group, N lane, P prompt, T suffix.

Scores and the softmax are float32 whatever the network's dtype: bfloat16 has 8
bits, so that two scores near 30 may differ by 0.1 and round to the same value,
and a sum of many small weights stops growing.
"""

from typing import NamedTuple

import jax
import jax.numpy as jnp

from rest_jax.distributed import partitioning
from rest_jax.distributed.partitioning import constrain
from rest_jax.models import architecture, splash
from rest_jax.models.architecture import DecoderConfig, LayerKind

# A masked score. Not -inf: the softmax of a row of nothing but -inf is NaN, in
# value and gradient. exp(_NEVER - top) is exactly 0 in float32 beside any score
# that the network can give.
_NEVER = -1e30


def capped(scores: jax.Array, cap: float | None) -> jax.Array:
  """Scores squeezed into (-cap, cap) by a tanh (Gemma 2), or as they are."""
  return scores if cap is None else cap * jnp.tanh(scores / cap)


def scale(config: DecoderConfig) -> float:
  """What the products of queries and keys are multiplied by."""
  scalar = config.query_pre_attn_scalar or config.head_dim
  return float(scalar) ** -0.5


def causal(
  segment_ids_BL: jax.Array,
  config: DecoderConfig,
  kind: LayerKind,
  keep_kv: bool,
  q_BLKRE: jax.Array,
  k_BLKE: jax.Array,
  v_BLKE: jax.Array,
) -> tuple[jax.Array, tuple[jax.Array, jax.Array] | None]:
  """Causal attention within segments; the `attend` of training and prefill.

  Args:
    segment_ids_BL: a token attends to the earlier ones with its own number.
    config: of the network.
    kind: of the layer: a local one sees the last `window` tokens.
    keep_kv: whether to return the keys and values.
    q_BLKRE: queries, already rotated.
    k_BLKE: keys, already rotated.
    v_BLKE: values.

  Returns:
    (o_BLKRE in the dtype of the values, (k, v) or None).

  Raises:
    ConfigurationError: config.attention names a kernel that these devices do
      not have.
  """
  kept = (k_BLKE, v_BLKE) if keep_kv else None
  length = q_BLKRE.shape[1]
  # A block of the fused kernel has 128 tokens or more, nearly all of them
  # padding in a shorter row; fresh weights are made from rows of one token.
  if length >= splash.LANES:
    platform = partitioning.platform()
    if architecture.attention_on(platform, config.attention) == 'splash':
      out_BLKRE = splash.causal(
        segment_ids_BL, config, kind, scale(config), q_BLKRE, k_BLKE, v_BLKE
      )
      return out_BLKRE, kept
  scores_BKRLM = jnp.einsum(
    'BLKRE,BMKE->BKRLM', q_BLKRE, k_BLKE, preferred_element_type=jnp.float32
  ) * scale(config)
  names = ('batch', 'kv_heads', None, 'length', None)
  scores_BKRLM = constrain(scores_BKRLM, *names)
  scores_BKRLM = capped(scores_BKRLM, config.attention_soft_cap)
  same_BLM = segment_ids_BL[:, :, None] == segment_ids_BL[:, None, :]
  seen_LM = jnp.tril(jnp.ones((length, length), bool))
  if kind == 'local':
    # A segment lies in one piece, so that places differ as positions do.
    seen_LM &= ~jnp.tril(seen_LM, -config.window)
  # Every row attends at least to itself: padding has a segment of its own, 0.
  mask_BLM = same_BLM & seen_LM[None]
  scores_BKRLM = jnp.where(mask_BLM[:, None, None], scores_BKRLM, _NEVER)
  # Normalised in float32, and only then rounded for the second product.
  weights_BKRLM = jax.nn.softmax(scores_BKRLM, axis=-1).astype(v_BLKE.dtype)
  return jnp.einsum('BKRLM,BMKE->BLKRE', weights_BKRLM, v_BLKE), kept


class Seen(NamedTuple):
  """Which cached tokens the newest one attends to, for one kind of layer.

  Attributes:
    prompt_GP: places of the prompts.
    suffix_T: places of the suffixes, the same for all lanes.
  """

  prompt_GP: jax.Array
  suffix_T: jax.Array


def seen(
  config: DecoderConfig,
  kind: LayerKind,
  lengths_G: jax.Array,
  time: jax.Array,
  places: tuple[int, int],
) -> Seen:
  """What the token at place `time` of the suffixes attends to.

  Args:
    config: of the network.
    kind: of the layer.
    lengths_G: tokens of each prompt.
    time: the newest token's place in its suffix, from 0.
    places: (P, T) of the caches.
  """
  P, T = places
  prompt_P, suffix_T = jnp.arange(P), jnp.arange(T)
  prompt_GP = prompt_P[None] < lengths_G[:, None]
  # Slots behind `time` hold zeros, or what an earlier sample of a lane left.
  written_T = suffix_T <= time
  if kind == 'local':
    newest_G = lengths_G + time
    prompt_GP &= prompt_P[None] > newest_G[:, None] - config.window
    written_T &= suffix_T > time - config.window
  return Seen(prompt_GP, written_T)


def cached(
  config: DecoderConfig,
  q_GNKRE: jax.Array,
  prompt_kv: tuple[jax.Array, jax.Array],
  suffix_kv: tuple[jax.Array, jax.Array],
  seen: Seen,
) -> jax.Array:
  """One new token per lane attends to its group's prompt and its own suffix.

  The prompt's keys are shared by the N lanes of a group: one matrix product
  for all of them. Both parts enter one softmax.

  Args:
    config: of the network.
    q_GNKRE: queries.
    prompt_kv: (k, v), each (G, P, K, E).
    suffix_kv: (k, v), each (G, N, T, K, E), the new token's included.
    seen: which places of both count.

  Returns:
    (G, N, K, R, E)
  """
  (pk_GPKE, pv_GPKE), (sk_GNTKE, sv_GNTKE) = prompt_kv, suffix_kv
  cap = config.attention_soft_cap
  f32 = jnp.float32
  prompt = jnp.einsum(
    'GNKRE,GPKE->GNKRP', q_GNKRE, pk_GPKE, preferred_element_type=f32
  )
  suffix = jnp.einsum(
    'GNKRE,GNTKE->GNKRT', q_GNKRE, sk_GNTKE, preferred_element_type=f32
  )
  prompt = capped(prompt * scale(config), cap)
  suffix = capped(suffix * scale(config), cap)
  prompt = jnp.where(seen.prompt_GP[:, None, None, None], prompt, _NEVER)
  suffix = jnp.where(seen.suffix_T[None, None, None, None], suffix, _NEVER)
  # One softmax over both parts without joining them, which would copy the
  # prompt's keys for every lane: both exponentials are taken relative to the
  # same maximum, their products with the values are added, and the sum of all
  # weights divides at the end. The new token's own score is never masked, so
  # that the maximum is a real score and the sum is at least 1, even if a
  # prompt is nothing but padding.
  top = jnp.maximum(
    prompt.max(axis=-1, keepdims=True), suffix.max(axis=-1, keepdims=True)
  )
  prompt, suffix = jnp.exp(prompt - top), jnp.exp(suffix - top)
  # Summed before the weights are rounded to the values' dtype.
  total = prompt.sum(axis=-1) + suffix.sum(axis=-1)
  dtype = pv_GPKE.dtype
  out = jnp.einsum(
    'GNKRP,GPKE->GNKRE',
    prompt.astype(dtype),
    pv_GPKE,
    preferred_element_type=f32,
  ) + jnp.einsum(
    'GNKRT,GNTKE->GNKRE',
    suffix.astype(dtype),
    sv_GNTKE,
    preferred_element_type=f32,
  )
  return (out / total[..., None]).astype(dtype)
