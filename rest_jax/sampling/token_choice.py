"""The choice of a token: temperature, top-k and top-p together, all dynamic.

    token = argmax over surviving v of logit_v / temperature + noise_v

(Gumbel's trick: a draw from the softmax of the survivors.) Survivors are the
`top_k` best tokens, ties to the lower id, and among those the fewest best of at
least `top_p` of their mass. Where top_k is small only that many candidates are
looked at; since the noise belongs to the token id, both roads choose the same
token. Masses are summed as integers, so that the survivors do not depend on the
order of summation, and with it on the mesh.

Dimensions: R rows, C candidates, V vocabulary.
"""

from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from rest_jax.sampling import identity
from rest_jax.sampling.streams import Stream

SHORT_LIST = 64  # candidates, where 0 < top_k <= this
_SCALE_BITS = 26  # masses are multiples of 2**-26 of the best token's
_LOW_BITS = 13  # summed in two halves: 2**18 tokens cannot overflow uint32
_NEVER = -jnp.inf


class Settings(NamedTuple):
  """How a token is chosen; scalars that a compiled program takes as they come.

  Attributes:
    temperature: float32; 0 is greedy.
    top_k: int32; 0 is no limit.
    top_p: float32 in (0, 1].
  """

  temperature: jax.Array | np.generic
  top_k: jax.Array | np.generic
  top_p: jax.Array | np.generic


def settings(stream: Stream) -> Settings:
  """The settings of a stream, in the types that `choose` takes."""
  return Settings(
    temperature=np.float32(stream.temperature),
    top_k=np.int32(stream.top_k),
    top_p=np.float32(stream.top_p),
  )


def choose(
  logits_RV: jax.Array,
  keys_RW: jax.Array,
  position: jax.Array,
  settings: Settings,
) -> tuple[jax.Array, jax.Array, jax.Array]:
  """Chooses one token per row.

  Args:
    logits_RV: scores, float32; minus infinity for ids that are no token.
    keys_RW: key data of each row's sample (identity.keys), uint32.
    position: of the new token in the completion, from 0.
    settings: of the stream.

  Returns:
    tokens_R; logprobs_R, natural log under the softmax of the logits;
    sampling_logprobs_R, under the distribution that was drawn from.
  """
  temperature, top_k, top_p = settings
  short = min(SHORT_LIST, logits_RV.shape[1])

  def greedy(logits_RV):
    tokens_R = jnp.argmax(logits_RV, axis=-1).astype(jnp.int32)
    return tokens_R, jnp.zeros(tokens_R.shape, jnp.float32)

  def short_list(logits_RV):
    values_RC, ids_RC = jax.lax.top_k(logits_RV, short)
    rank_C = jnp.arange(short)
    values_RC = jnp.where(rank_C[None] < top_k, values_RC, _NEVER)
    return draw(values_RC, ids_RC)

  def whole(logits_RV):
    vocabulary = logits_RV.shape[1]
    ids_RV = jnp.broadcast_to(jnp.arange(vocabulary)[None], logits_RV.shape)
    limited_RV = jax.lax.cond(
      (top_k > 0) & (top_k < vocabulary),
      lambda x: keep_top_k(x, top_k),
      lambda x: x,
      logits_RV,
    )
    return draw(limited_RV, ids_RV)

  def draw(values_RC, ids_RC):
    # Relative to the best: logits of 30 at temperature 0.01 would leave float32
    # a resolution of 2e-4, too coarse to add the noise to.
    best_R1 = jnp.max(values_RC, axis=-1, keepdims=True)
    scaled_RC = (values_RC - best_R1) / jnp.maximum(temperature, 1e-6)
    scaled_RC = jax.lax.cond(
      top_p < 1, lambda x: keep_top_p(x, top_p), lambda x: x, scaled_RC
    )
    # The noise is finite, so a masked candidate stays at minus infinity and
    # never wins: the best one is always there.
    noise_RC = identity.gumbel(keys_RW, position, ids_RC)
    place_R1 = jnp.argmax(scaled_RC + noise_RC, axis=-1)[:, None]
    tokens_R = jnp.take_along_axis(ids_RC, place_R1, axis=1)[:, 0]
    logprobs_RC = jax.nn.log_softmax(scaled_RC, axis=-1)
    chosen_R = jnp.take_along_axis(logprobs_RC, place_R1, axis=1)[:, 0]
    return tokens_R.astype(jnp.int32), chosen_R

  # One program for all settings: a `switch` runs one branch, so that greedy
  # decoding pays for no noise, and a small top-k for 64 candidates only.
  road = jnp.where(
    temperature <= 0, 0, jnp.where((top_k > 0) & (top_k <= short), 1, 2)
  )
  tokens_R, sampling_R = jax.lax.switch(
    road, [greedy, short_list, whole], logits_RV
  )
  norms_R = jax.nn.logsumexp(logits_RV, axis=-1)
  scores_R = jnp.take_along_axis(logits_RV, tokens_R[:, None], axis=1)[:, 0]
  return tokens_R, scores_R - norms_R, sampling_R


def keep_top_k(logits_RV: jax.Array, top_k: jax.Array) -> jax.Array:
  """Masks all but the `top_k` best; among equals the lower ids survive."""
  order_RV = _sortable(logits_RV)

  def count(threshold_R):
    return jnp.sum(order_RV >= threshold_R[:, None], axis=-1) >= top_k

  # The largest threshold that at least top_k tokens reach is the k-th best
  # score. Found by bisecting the bits of the scores: 32 counts over the
  # vocabulary instead of a sort of it.
  kth_R = _largest(count, logits_RV.shape[0], 32)
  above_RV = order_RV > kth_R[:, None]
  equal_RV = order_RV == kth_R[:, None]
  room_R = top_k - jnp.sum(above_RV, axis=-1)
  place_RV = jnp.cumsum(equal_RV, axis=-1)
  keep_RV = above_RV | (equal_RV & (place_RV <= room_R[:, None]))
  return jnp.where(keep_RV, logits_RV, _NEVER)


def keep_top_p(scaled_RC: jax.Array, top_p: jax.Array) -> jax.Array:
  """Masks all but the fewest best tokens of mass >= top_p; ties survive."""
  # Integer masses: their sum is the same in any order, hence on any mesh, and
  # so are the survivors. Relative to the best token's, so that none overflows.
  best_R1 = jnp.max(scaled_RC, axis=-1, keepdims=True)
  mass_RC = jnp.floor(jnp.exp(scaled_RC - best_R1) * 2.0**_SCALE_BITS)
  mass_RC = mass_RC.astype(jnp.uint32)

  def total(keep_RC):
    # Halves of 13 bits each: 2**18 tokens of 2**26 would overflow 32 bits.
    kept = jnp.where(keep_RC, mass_RC, jnp.uint32(0))
    low = jnp.sum(kept & ((1 << _LOW_BITS) - 1), axis=-1, dtype=jnp.uint32)
    high = jnp.sum(kept >> _LOW_BITS, axis=-1, dtype=jnp.uint32)
    scale = jnp.float32(1 << _LOW_BITS)
    return high.astype(jnp.float32) * scale + low.astype(jnp.float32)

  wanted_R = top_p * total(jnp.ones(mass_RC.shape, bool))

  def enough(threshold_R):
    return total(mass_RC >= threshold_R[:, None]) >= wanted_R

  threshold_R = _largest(enough, mass_RC.shape[0], _SCALE_BITS + 1)
  # A token without mass at this precision never survives a limit.
  keep_RC = (mass_RC >= threshold_R[:, None]) & (mass_RC > 0)
  return jnp.where(keep_RC, scaled_RC, _NEVER)


def _largest(holds, rows: int, bits: int) -> jax.Array:
  """The largest uint32 per row for which `holds`, by bisection of its bits."""

  def body(index, found_R):
    bit = jnp.uint32(1) << (jnp.uint32(bits - 1) - index.astype(jnp.uint32))
    return jnp.where(holds(found_R | bit), found_R | bit, found_R)

  return jax.lax.fori_loop(0, bits, body, jnp.zeros(rows, jnp.uint32))


def _sortable(x: jax.Array) -> jax.Array:
  """float32 to uint32 with the same order (negative zero equals zero).

  The bits of non-negative floats rise with their value, those of negative ones
  fall; so the sign bit is set for the first, and all bits flipped for the
  others.
  """
  bits = jax.lax.bitcast_convert_type(x + 0.0, jnp.uint32)
  negative = (bits >> 31).astype(bool)
  return jnp.where(negative, ~bits, bits | jnp.uint32(1 << 31))
