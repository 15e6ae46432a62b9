"""What top-k, top-p and min-p leave of a vocabulary, without sorting it.

Thresholds are found by bisecting the bits of a number: each is a count or a sum
over the vocabulary, which may lie on several devices. Masses are summed as
whole numbers, so that the survivors do not depend on the order of summation.

Dimensions: R rows, C candidates, V vocabulary, S parts of it.
"""

from typing import NamedTuple

import jax
import jax.numpy as jnp

NEVER = -jnp.inf  # the score of what is ruled out
_SCALE_BITS = 26  # masses are multiples of 2**-26 of the best token's
_LOW_BITS = 13  # summed in two halves: 2**18 tokens cannot overflow uint32


class Vocabulary(NamedTuple):
  """The part of the vocabulary whose logits a device holds.

  Attributes:
    size: of the whole, in ids.
    axis: of the mesh, inside shard_map, over which it is split; None: whole.
  """

  size: int
  axis: str | None = None

  def first(self, local: int) -> jax.Array | int:
    """The id of the first of `local` logits that are here."""
    return 0 if self.axis is None else jax.lax.axis_index(self.axis) * local

  def sum(self, x: jax.Array) -> jax.Array:
    """Over all parts."""
    return x if self.axis is None else jax.lax.psum(x, self.axis)

  def max(self, x: jax.Array) -> jax.Array:
    """Over all parts."""
    return x if self.axis is None else jax.lax.pmax(x, self.axis)

  def all(self, x_RC: jax.Array) -> jax.Array:
    """The columns of all parts, those of lower ids first."""
    if self.axis is None:
      return x_RC
    return jax.lax.all_gather(x_RC, self.axis, axis=1, tiled=True)


def keep_top_k(
  logits_RV: jax.Array, top_k_R: jax.Array, vocabulary: Vocabulary
) -> jax.Array:
  """Masks all but the `top_k` best; among equals the lower ids survive.

  Args:
    logits_RV: scores.
    top_k_R: how many; 0 and less mask nothing.
    vocabulary: of which logits_RV is a part.
  """
  order_RV = _sortable(logits_RV)

  def reach(threshold_R):
    here_R = jnp.sum(order_RV >= threshold_R[:, None], axis=-1)
    return vocabulary.sum(here_R) >= top_k_R

  # The largest threshold that at least top_k tokens reach is the k-th best
  # score. Found by bisecting the bits of the scores: 32 counts over the
  # vocabulary instead of a sort of it.
  kth_R = _largest(reach, logits_RV.shape[0], 32)
  above_RV = order_RV > kth_R[:, None]
  equal_RV = order_RV == kth_R[:, None]
  room_R = top_k_R - vocabulary.sum(jnp.sum(above_RV, axis=-1))
  place_RV = jnp.cumsum(equal_RV, axis=-1)
  if vocabulary.axis is not None:  # those of the parts before come first
    equal_RS = vocabulary.all(place_RV[:, -1:])
    before_S = jnp.arange(equal_RS.shape[1]) < jax.lax.axis_index(
      vocabulary.axis
    )
    before_R1 = jnp.sum(equal_RS * before_S[None], axis=1, keepdims=True)
    place_RV = place_RV + before_R1
  keep_RV = above_RV | (equal_RV & (place_RV <= room_R[:, None]))
  keep_RV |= top_k_R[:, None] <= 0
  return jnp.where(keep_RV, logits_RV, NEVER)


def keep_top_p(
  scaled_RC: jax.Array, top_p_R: jax.Array, vocabulary: Vocabulary
) -> jax.Array:
  """Masks all but the fewest best tokens of mass >= top_p; ties survive.

  Args:
    scaled_RC: logits by temperature, relative to the best token's.
    top_p_R: 1 masks nothing.
    vocabulary: of which scaled_RC is a part.
  """
  # Integer masses: their sum is the same in any order, hence on any mesh, and
  # so are the survivors. Relative to the best token's, so that none overflows.
  mass_RC = jnp.floor(jnp.exp(scaled_RC) * 2.0**_SCALE_BITS)
  mass_RC = mass_RC.astype(jnp.uint32)

  def total(keep_RC):
    # Halves of 13 bits each: 2**18 tokens of 2**26 would overflow 32 bits.
    kept = jnp.where(keep_RC, mass_RC, jnp.uint32(0))
    low = jnp.sum(kept & ((1 << _LOW_BITS) - 1), axis=-1, dtype=jnp.uint32)
    high = jnp.sum(kept >> _LOW_BITS, axis=-1, dtype=jnp.uint32)
    low, high = vocabulary.sum(low), vocabulary.sum(high)
    scale = jnp.float32(1 << _LOW_BITS)
    return high.astype(jnp.float32) * scale + low.astype(jnp.float32)

  wanted_R = top_p_R * total(jnp.ones(mass_RC.shape, bool))

  def enough(threshold_R):
    return total(mass_RC >= threshold_R[:, None]) >= wanted_R

  threshold_R = _largest(enough, mass_RC.shape[0], _SCALE_BITS + 1)
  # A token without mass at this precision never survives a limit.
  keep_RC = (mass_RC >= threshold_R[:, None]) & (mass_RC > 0)
  keep_RC |= top_p_R[:, None] >= 1
  return jnp.where(keep_RC, scaled_RC, NEVER)


def keep_min_p(scaled_RC: jax.Array, min_p_R: jax.Array) -> jax.Array:
  """Masks what is less than `min_p` times as probable as the best token.

  Args:
    scaled_RC: logits by temperature, relative to the best token's.
    min_p_R: 0 masks nothing.
  """
  least_R1 = jnp.log(min_p_R)[:, None]  # of 0: minus infinity
  return jnp.where(scaled_RC >= least_R1, scaled_RC, NEVER)


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
