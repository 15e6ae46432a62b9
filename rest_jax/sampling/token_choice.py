"""The choice of a token: temperature, top-k, top-p and min-p together.

All four may differ between rows and are arguments: another value compiles
nothing, unless it takes another road. Survivors are the `top_k` best tokens,
ties to the lower id; among those the fewest best of at least `top_p` of their
mass; and among those the ones at least `min_p` times as probable as the best.
limits.py rules out the others, in a way that no mesh changes.

A survivor is drawn by Gumbel's trick, argmax over v of logit_v / temperature +
noise_v. Where few tokens can survive, only they are looked at and get noise.
Elsewhere the vocabulary is drawn from in two steps, each with the trick: first
a block of BLOCK ids, by the blocks' log-masses, then a token of the block, by
its share of the block. The product of both probabilities is that of the token,
for a few hundred random numbers instead of one per token.

Dimensions: R rows, C candidates, V vocabulary, B blocks, I ids of a block.
"""

import enum
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from rest_jax.sampling import candidates, identity, limits
from rest_jax.sampling.limits import NEVER, Vocabulary
from rest_jax.sampling.streams import Stream

BLOCK = 128  # ids
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
  for listed, most in _CANDIDATES.items():
    if 0 < stream.top_k <= most:
      return listed
  return Road.FREE if stream.top_k == 0 and stream.top_p == 1 else Road.LIMITED


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
    most = _CANDIDATES[road]
    values_RC, ids_RC, top_R = candidates.best(logits_RV, min(most, local))
    values_RC = vocabulary.all(values_RC)
    ids_RC = vocabulary.all(first + ids_RC)
    if parts > 1:
      number = min(most, vocabulary.size)
      values_RC, places_RC = candidates.top_k(values_RC, number)
      ids_RC = jnp.take_along_axis(ids_RC, places_RC, axis=1)
      top_R = values_RC[:, 0]
    # A greedy row of a batch that is none has one candidate.
    top_k_R = jnp.where(settings.temperature > 0, settings.top_k, 1)
    kept_RC = jnp.arange(values_RC.shape[1])[None] < top_k_R[:, None]
    values_RC = jnp.where(kept_RC, values_RC, NEVER)
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
    scaled_RV = limits.keep_min_p(scaled_RV, settings.min_p)
    drawn = _draw_by_blocks(scaled_RV, keys_RW, positions_R, vocabulary)
    return *drawn, top_R

  def limited():
    top_R = best_score()
    top_k_R = jnp.where(settings.temperature > 0, settings.top_k, 1)
    limited_RV = jax.lax.cond(
      jnp.any((top_k_R > 0) & (top_k_R < vocabulary.size)),
      lambda x: limits.keep_top_k(x, top_k_R, vocabulary),
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
  scores_R = vocabulary.max(jnp.where(here_R, scores_R, NEVER))
  return tokens_R, scores_R - norms_R, sampling_R


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
    lambda x: limits.keep_top_p(x, settings.top_p, vocabulary),
    lambda x: x,
    scaled_RC,
  )
  return limits.keep_min_p(scaled_RC, settings.min_p)


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
    scaled_RV = candidates.padded(scaled_RV, here * BLOCK)
  else:
    # A part may begin inside a block, and holds one block more then.
    first = vocabulary.first(local)
    at, here = first // BLOCK, -(-local // BLOCK) + 1
    room_RV = jnp.full((rows, here * BLOCK), NEVER, scaled_RV.dtype)
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
  within_RI = jnp.where(is_RB[..., None], scaled_RBI, NEVER).max(axis=1)
  within_RI = vocabulary.max(within_RI)
  ids_RI = block_R1 * BLOCK + jnp.arange(BLOCK)[None]
  noise_RI = identity.gumbel(keys_RW, positions_R, ids_RI)
  place_R1 = jnp.argmax(within_RI + noise_RI, axis=-1)[:, None]
  tokens_R = (block_R1 * BLOCK + place_R1)[:, 0].astype(jnp.int32)
  chosen_R = jnp.take_along_axis(within_RI, place_R1, axis=1)[:, 0]
  return tokens_R, chosen_R - jnp.log(jnp.sum(mass_RB, axis=-1))
