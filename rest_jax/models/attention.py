"""Attention over a packed row, and over the caches of decoding.

Dimensions as in network.py; G group, N lane, P prompt, T suffix.

Scores and the softmax are float32 whatever the network's dtype: bfloat16 has 8
bits, so that two scores near 30 may differ by 0.1 and round to the same value,
and a sum of many small weights stops growing.
"""

import jax
import jax.numpy as jnp

from rest_jax.distributed.partitioning import constrain
from rest_jax.models.architecture import DecoderConfig

# A masked score. Not -inf: the softmax of a row of nothing but -inf is NaN, in
# value and gradient. exp(_NEVER - top) is exactly 0 in float32 beside any score
# that the network can give.
_NEVER = -1e30


def causal(
  segment_ids_BL: jax.Array,
  config: DecoderConfig,
  keep_kv: bool,
  q_BLKRE: jax.Array,
  k_BLKE: jax.Array,
  v_BLKE: jax.Array,
) -> tuple[jax.Array, tuple[jax.Array, jax.Array] | None]:
  """Causal attention within segments; the `attend` of training and prefill.

  Args:
    segment_ids_BL: a token attends to the earlier ones with its own number.
    config: for the width of a head.
    keep_kv: whether to return the keys and values.
    q_BLKRE: queries, already rotated.
    k_BLKE: keys, already rotated.
    v_BLKE: values.

  Returns:
    (o_BLKRE in the dtype of the values, (k, v) or None).
  """
  kept = (k_BLKE, v_BLKE) if keep_kv else None
  length = q_BLKRE.shape[1]
  scores_BKRLM = jnp.einsum(
    'BLKRE,BMKE->BKRLM', q_BLKRE, k_BLKE, preferred_element_type=jnp.float32
  ) * (config.head_dim**-0.5)
  names = ('batch', 'kv_heads', None, 'length', None)
  scores_BKRLM = constrain(scores_BKRLM, *names)
  same_BLM = segment_ids_BL[:, :, None] == segment_ids_BL[:, None, :]
  earlier_LM = jnp.tril(jnp.ones((length, length), bool))
  # Every row attends at least to itself: padding has a segment of its own, 0.
  mask_BLM = same_BLM & earlier_LM[None]
  scores_BKRLM = jnp.where(mask_BLM[:, None, None], scores_BKRLM, _NEVER)
  # Normalised in float32, and only then rounded for the second product.
  weights_BKRLM = jax.nn.softmax(scores_BKRLM, axis=-1).astype(v_BLKE.dtype)
  return jnp.einsum('BKRLM,BMKE->BLKRE', weights_BKRLM, v_BLKE), kept


def cached(
  q_GNKRE: jax.Array,
  prompt_kv: tuple[jax.Array, jax.Array],
  suffix_kv: tuple[jax.Array, jax.Array],
  prompt_mask_GP: jax.Array,
  suffix_mask_T: jax.Array,
) -> jax.Array:
  """One new token per lane attends to its group's prompt and its own suffix.

  The prompt's keys are shared by the N lanes of a group: one matrix product
  for all of them. Both parts enter one softmax.

  Args:
    q_GNKRE: queries.
    prompt_kv: (k, v), each (G, P, K, E).
    suffix_kv: (k, v), each (G, N, T, K, E), the new token's included.
    prompt_mask_GP: whether a prompt position is a token.
    suffix_mask_T: whether a suffix position has been written.

  Returns:
    (G, N, K, R, E)
  """
  (pk_GPKE, pv_GPKE), (sk_GNTKE, sv_GNTKE) = prompt_kv, suffix_kv
  scale = q_GNKRE.shape[-1] ** -0.5
  f32 = jnp.float32
  prompt = jnp.einsum(
    'GNKRE,GPKE->GNKRP', q_GNKRE, pk_GPKE, preferred_element_type=f32
  )
  suffix = jnp.einsum(
    'GNKRE,GNTKE->GNKRT', q_GNKRE, sk_GNTKE, preferred_element_type=f32
  )
  prompt = jnp.where(
    prompt_mask_GP[:, None, None, None], prompt * scale, _NEVER
  )
  suffix = jnp.where(
    suffix_mask_T[None, None, None, None], suffix * scale, _NEVER
  )
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
