"""The choice of a token: temperature, top-k, top-p and min-p together.

All four may differ between rows and are arguments: another value compiles
nothing, unless it takes another road. Survivors are the `top_k` best tokens,
ties to the lower id; among those the fewest best of at least `top_p` of their
mass; and among those the ones at least `min_p` times as probable as the best.
Masses are summed as whole numbers, so that the survivors do not depend on the
order of summation, and with it on the mesh.

A survivor is drawn by Gumbel's trick, argmax over v of logit_v / temperature +
noise_v. Where few tokens can survive, only they are looked at and get noise.
Elsewhere the vocabulary is drawn from in two steps, each with the trick: first
a block of BLOCK ids, by the blocks' log-masses, then a token of the block, by
its share of the block. The product of both probabilities is that of the token,
for a few hundred random numbers instead of one per token.

Dimensions: R rows, C candidates, V vocabulary, B blocks, I ids of a block.
"""

import enum
import math
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from rest_jax.distributed import partitioning
from rest_jax.sampling import identity
from rest_jax.sampling.streams import Stream

BLOCK = 128  # ids
_SCALE_BITS = 26  # masses are multiples of 2**-26 of the best token's
_LOW_BITS = 13  # summed in two halves: 2**18 tokens cannot overflow uint32
_NEVER = -jnp.inf
_BLOCKS = 1 << 31  # the noise of block b is that of the id _BLOCKS + b


class Settings(NamedTuple):
  """How tokens are chosen; for each row, or one for all.

  Attributes:
    temperature: float32; 0 is greedy.
    top_k: int32; 0 is no limit.
    top_p: float32 in (0, 1].
    min_p: float32 in [0, 1].
  """

  temperature: jax.Array | np.generic
  top_k: jax.Array | np.generic
  top_p: jax.Array | np.generic
  min_p: jax.Array | np.generic


def settings(stream: Stream) -> Settings:
  """The settings of a stream, in the types that `choose` takes."""
  return Settings(
    temperature=np.float32(stream.temperature),
    top_k=np.int32(stream.top_k),
    top_p=np.float32(stream.top_p),
    min_p=np.float32(stream.min_p),
  )


class Road(enum.IntEnum):
  """A way of choosing; a program is compiled for one.

  A sample's bits depend on it, so that rows of different roads are never chosen
  together.
  """

  GREEDY = 0  # temperature 0
  SHORT = 1  # 0 < top_k <= 40: as many candidates, sorted
  FREE = 2  # neither top_k nor top_p
  LIMITED = 3  # any of them
  LONGER = 4  # 40 < top_k <= 64: as SHORT


# 40 is what the paper samples with. On a CPU sorting more takes much longer.
_CANDIDATES = {Road.SHORT: 40, Road.LONGER: 64}


def road(stream: Stream) -> Road:
  """The cheapest that serves a stream."""
  if stream.temperature == 0:
    return Road.GREEDY
  for listed, candidates in _CANDIDATES.items():
    if 0 < stream.top_k <= candidates:
      return listed
  return Road.FREE if stream.top_k == 0 and stream.top_p == 1 else Road.LIMITED


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


def choose(
  logits_RV: jax.Array,
  keys_RW: jax.Array,
  positions_R: jax.Array,
  settings: Settings,
  road: Road,
  axis: str | None = None,
) -> tuple[jax.Array, jax.Array, jax.Array]:
  """Chooses one token per row.

  Args:
    logits_RV: scores, float32; minus infinity for ids that are no token.
    keys_RW: key data of each row's sample (identity.keys), uint32.
    positions_R: of the new token in each completion, from 0.
    settings: of all rows, or of each.
    road: one that serves all of the settings. It is compiled alone.
    axis: of the mesh over which V is split, inside shard_map. Logits are never
      gathered: only candidates, counts and sums of each part are.

  Returns:
    tokens_R; logprobs_R, natural log under the softmax of the logits;
    sampling_logprobs_R, under the distribution that was drawn from.
  """
  rows, local = logits_RV.shape
  parts = 1 if axis is None else jax.lax.axis_size(axis)
  vocabulary = Vocabulary(local * parts, axis)
  first = vocabulary.first(local)
  settings = Settings(*(jnp.broadcast_to(x, (rows,)) for x in settings))

  def best_score():
    return vocabulary.max(jnp.max(logits_RV, axis=-1))

  def greedy():
    top_R = best_score()
    # The lowest of the ids that have the greatest score. Nothing equals NaN:
    # the last id then, which is one, and whose log-probability tells.
    ids_RV = first + jnp.arange(local)[None]
    is_top_RV = logits_RV == top_R[:, None]
    ids_R = jnp.min(jnp.where(is_top_RV, ids_RV, vocabulary.size - 1), axis=-1)
    return -vocabulary.max(-ids_R), jnp.zeros(rows, jnp.float32), top_R

  def short_list():
    candidates = _CANDIDATES[road]
    values_RC, ids_RC = best(logits_RV, min(candidates, local))
    values_RC = vocabulary.all(values_RC)
    ids_RC = vocabulary.all(first + ids_RC)
    if parts > 1:
      number = min(candidates, vocabulary.size)
      values_RC, places_RC = _top_k(values_RC, number)
      ids_RC = jnp.take_along_axis(ids_RC, places_RC, axis=1)
    top_R = values_RC[:, 0]
    # A greedy row of a batch that is none has one candidate.
    top_k_R = jnp.where(settings.temperature > 0, settings.top_k, 1)
    kept_RC = jnp.arange(values_RC.shape[1])[None] < top_k_R[:, None]
    values_RC = jnp.where(kept_RC, values_RC, _NEVER)
    scaled_RC = _scaled(values_RC, top_R, settings.temperature)
    # All parts have all candidates, and choose alike.
    scaled_RC = _limited(scaled_RC, settings, Vocabulary(values_RC.shape[1]))
    noise_RC = identity.gumbel(keys_RW, positions_R, ids_RC)
    # The noise is finite, so a masked candidate stays at minus infinity and
    # never wins: the best one is always there.
    place_R1 = jnp.argmax(scaled_RC + noise_RC, axis=-1)[:, None]
    tokens_R = jnp.take_along_axis(ids_RC, place_R1, axis=1)[:, 0]
    chosen_R = jnp.take_along_axis(scaled_RC, place_R1, axis=1)[:, 0]
    norm_R = jnp.log(jnp.sum(jnp.exp(scaled_RC), axis=-1))
    return tokens_R.astype(jnp.int32), chosen_R - norm_R, top_R

  def free():
    top_R = best_score()
    scaled_RV = _scaled(logits_RV, top_R, settings.temperature)
    scaled_RV = _at_least(scaled_RV, settings.min_p)
    drawn = _draw_by_blocks(scaled_RV, keys_RW, positions_R, vocabulary)
    return *drawn, top_R

  def limited():
    top_R = best_score()
    top_k_R = jnp.where(settings.temperature > 0, settings.top_k, 1)
    limited_RV = jax.lax.cond(
      jnp.any((top_k_R > 0) & (top_k_R < vocabulary.size)),
      lambda x: keep_top_k(x, top_k_R, vocabulary),
      lambda x: x,
      logits_RV,
    )
    scaled_RV = _scaled(limited_RV, top_R, settings.temperature)
    scaled_RV = _limited(scaled_RV, settings, vocabulary)
    drawn = _draw_by_blocks(scaled_RV, keys_RW, positions_R, vocabulary)
    return *drawn, top_R

  draw = {
    Road.GREEDY: greedy,
    Road.SHORT: short_list,
    Road.LONGER: short_list,
    Road.FREE: free,
    Road.LIMITED: limited,
  }
  tokens_R, sampling_R, top_R = draw[road]()
  mass_RV = jnp.exp(logits_RV - top_R[:, None])
  norms_R = top_R + jnp.log(vocabulary.sum(jnp.sum(mass_RV, axis=-1)))
  place_R1 = jnp.clip(tokens_R - first, 0, local - 1)[:, None]
  scores_R = jnp.take_along_axis(logits_RV, place_R1, axis=1)[:, 0]
  here_R = (tokens_R >= first) & (tokens_R < first + local)
  scores_R = vocabulary.max(jnp.where(here_R, scores_R, _NEVER))
  return tokens_R, scores_R - norms_R, sampling_R


def best(logits_RV: jax.Array, number: int) -> tuple[jax.Array, jax.Array]:
  """The best tokens of each row, ties to the lower id, as lax.top_k gives them.

  Args:
    logits_RV: scores.
    number: of tokens.

  Returns:
    (values_RC, ids_RC), the best one first.
  """
  rows, vocabulary = logits_RV.shape
  if partitioning.platform() == 'tpu':  # has a kernel for it
    return jax.lax.top_k(logits_RV, number)
  # The `number` best tokens lie in the `number` blocks of the greatest maxima:
  # each of these has one that is at least as good as any of another block, or,
  # among equals, of a lower id. So few tokens are sorted.
  size = _block_size(vocabulary, (vocabulary / number) ** 0.5)
  blocks = -(-vocabulary // size)
  if blocks <= number:
    return _top_k(logits_RV, number)
  padded_RV = _padded(logits_RV, blocks * size)
  tops_RB = padded_RV.reshape(rows, blocks, size).max(axis=-1)
  _, chosen_RC = _top_k(tops_RB, number)
  # In the order of the ids, for the ties.
  chosen_RC = jnp.sort(chosen_RC, axis=-1)
  ids_RCI = chosen_RC[..., None] * size + jnp.arange(size)[None, None]
  ids_RC = ids_RCI.reshape(rows, -1)
  values_RC = jnp.take_along_axis(padded_RV, ids_RC, axis=1)
  values_RC, places_RC = _top_k(values_RC, number)
  return values_RC, jnp.take_along_axis(ids_RC, places_RC, axis=1)


def _block_size(vocabulary: int, wanted: float) -> int:
  """The power of two next to `wanted` if it divides the vocabulary: no padding.

  Otherwise `wanted` itself, rounded down.
  """
  power = 1 << max(0, round(math.log2(wanted)))
  return power if vocabulary % power == 0 else max(1, int(wanted))


def _top_k(values_RC: jax.Array, number: int) -> tuple[jax.Array, jax.Array]:
  if partitioning.platform() != 'cpu':
    return jax.lax.top_k(values_RC, number)
  # A CPU gives all rows of a call to one thread, but makes calls side by side.
  halves = jnp.array_split(values_RC, 2)
  made = [jax.lax.top_k(half, number) for half in halves]
  return tuple(jnp.concatenate(both) for both in zip(*made, strict=True))


def _padded(logits_RV: jax.Array, size: int) -> jax.Array:
  more = size - logits_RV.shape[1]
  if not more:
    return logits_RV
  return jnp.pad(logits_RV, ((0, 0), (0, more)), constant_values=_NEVER)


def _scaled(
  values_RC: jax.Array, top_R: jax.Array, temperature_R: jax.Array
) -> jax.Array:
  # Relative to the best: logits of 30 at temperature 0.01 would leave float32
  # a resolution of 2e-4, too coarse to add the noise to.
  below_RC = values_RC - top_R[:, None]
  return below_RC / jnp.maximum(temperature_R, 1e-6)[:, None]


def _limited(
  scaled_RC: jax.Array, settings: Settings, vocabulary: Vocabulary
) -> jax.Array:
  """Masks what top_p and min_p rule out."""
  scaled_RC = jax.lax.cond(
    jnp.any(settings.top_p < 1),
    lambda x: keep_top_p(x, settings.top_p, vocabulary),
    lambda x: x,
    scaled_RC,
  )
  return _at_least(scaled_RC, settings.min_p)


def _at_least(scaled_RC: jax.Array, min_p_R: jax.Array) -> jax.Array:
  least_R1 = jnp.log(min_p_R)[:, None]  # of 0: minus infinity
  return jnp.where(scaled_RC >= least_R1, scaled_RC, _NEVER)


def _draw_by_blocks(
  scaled_RV: jax.Array,
  keys_RW: jax.Array,
  positions_R: jax.Array,
  vocabulary: Vocabulary,
) -> tuple[jax.Array, jax.Array]:
  """A token of each row and its log-probability.

  Args:
    scaled_RV: log-masses relative to the best token's, which is 0.
    keys_RW, positions_R: of the samples, as for `choose`.
    vocabulary: of which scaled_RV is a part.
  """
  rows, local = scaled_RV.shape
  blocks = -(-vocabulary.size // BLOCK)
  if vocabulary.axis is None:
    at, here = 0, blocks
    scaled_RV = _padded(scaled_RV, here * BLOCK)
  else:
    # A part may begin inside a block, and holds one block more then.
    first = vocabulary.first(local)
    at, here = first // BLOCK, -(-local // BLOCK) + 1
    room_RV = jnp.full((rows, here * BLOCK), _NEVER, scaled_RV.dtype)
    scaled_RV = jax.lax.dynamic_update_slice(
      room_RV, scaled_RV, (0, first % BLOCK)
    )
  scaled_RBI = scaled_RV.reshape(rows, here, BLOCK)
  mass_RB = jnp.sum(jnp.exp(scaled_RBI), axis=-1)
  if vocabulary.axis is not None:
    all_RB = jnp.zeros((rows, blocks + here), mass_RB.dtype)
    all_RB = jax.lax.dynamic_update_slice(all_RB, mass_RB, (0, at))
    mass_RB = vocabulary.sum(all_RB)[:, :blocks]
  ids_RB = jnp.broadcast_to(
    jnp.arange(blocks, dtype=jnp.uint32)[None] + jnp.uint32(_BLOCKS),
    mass_RB.shape,
  )
  noise_RB = identity.gumbel(keys_RW, positions_R, ids_RB)
  block_R1 = jnp.argmax(jnp.log(mass_RB) + noise_RB, axis=-1)[:, None]
  # A maximum over one block and nothing else, not a gather: it stays where the
  # vocabulary is split.
  is_RB = at + jnp.arange(here)[None] == block_R1
  within_RI = jnp.where(is_RB[..., None], scaled_RBI, _NEVER).max(axis=1)
  within_RI = vocabulary.max(within_RI)
  ids_RI = block_R1 * BLOCK + jnp.arange(BLOCK)[None]
  noise_RI = identity.gumbel(keys_RW, positions_R, ids_RI)
  place_R1 = jnp.argmax(within_RI + noise_RI, axis=-1)[:, None]
  tokens_R = (block_R1 * BLOCK + place_R1)[:, 0].astype(jnp.int32)
  chosen_R = jnp.take_along_axis(within_RI, place_R1, axis=1)[:, 0]
  return tokens_R, chosen_R - jnp.log(jnp.sum(mass_RB, axis=-1))


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
  return jnp.where(keep_RV, logits_RV, _NEVER)


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
