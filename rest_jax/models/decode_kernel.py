"""The program of decode_attention.py's kernel: one step of its grid.

A step is one key head, one group and one block of the lanes' suffixes. The
queries of all lanes are one matrix. It is multiplied with the chunk, the prefix
and the question in the first step of a group, and with one block of suffixes in
each, in one running softmax. No score leaves the chip.

In a block of suffixes the matrix of all lanes is multiplied with each lane's
keys, and each lane's own rows are picked: a few rows more cost a systolic array
nothing, where slices of four rows would have to be moved about.

Dimensions as in decoding.py; H = R x N rows of queries of a key head, S places
of a block.
"""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax.experimental import pallas as pl

from rest_jax.models import attention
from rest_jax.models.cached_attention import KeysValues


class Settings(NamedTuple):
  """What the kernel's program depends on beside the shapes.

  Attributes:
    lanes: of a group.
    parts: the prefix, if there is one, the question and the suffixes.
    order: in which their values lie.
    window: sees the last so many tokens; None: all.
    cap: of the scores; None: none.
    scale: of the queries.
    precision: of the products, as jax.lax.Precision takes it.
  """

  lanes: int
  parts: int
  order: type[KeysValues]
  window: int | None
  cap: float | None
  scale: float
  precision: str


class _Products(NamedTuple):
  """Products of queries with keys and of weights with values.

  Attributes:
    q_HE: the queries, scaled.
    precision: as in Settings.
  """

  q_HE: jax.Array
  precision: str

  def of(self, a: jax.Array, b: jax.Array, contracted: tuple) -> jax.Array:
    """Sums in float32; what was rounded to 8 bits is multiplied as `a` is."""
    return jax.lax.dot_general(
      a,
      b.astype(a.dtype),
      (contracted, ((), ())),
      precision=jax.lax.Precision(self.precision),
      preferred_element_type=jnp.float32,
    )

  def scores(self, keys_ES, scales_1S=None) -> jax.Array:
    """(H, S)."""
    scores_HS = self.of(self.q_HE, keys_ES, ((1,), (0,)))
    return scores_HS if scales_1S is None else scores_HS * scales_1S

  def weighed(
    self, weights_HS, values, scales_1S=None, axes: str = 'se'
  ) -> jax.Array:
    """(H, E): the sum of the values by these weights; `axes` as values_axes."""
    if scales_1S is not None:
      weights_HS = weights_HS * scales_1S
    contracted = (1,), (axes.index('s'),)
    return self.of(weights_HS.astype(self.q_HE.dtype), values, contracted)


class _Softmax(NamedTuple):
  """A softmax that goes on from block to block.

  Attributes:
    top: each row's greatest score so far, (H, 128), all columns alike.
    total: of the weights, (H, 128), likewise.
    acc: the sum of weights and values, (H, E).
  """

  top: Any
  total: Any
  acc: Any

  def begin(self) -> None:
    """Nothing was seen yet."""
    self.top[...] = jnp.full(self.top.shape, attention.NEVER, jnp.float32)
    self.total[...] = jnp.zeros(self.total.shape, jnp.float32)
    self.acc[...] = jnp.zeros(self.acc.shape, jnp.float32)

  def go_on(
    self, scores_HS: jax.Array, values_of: Callable[[jax.Array], jax.Array]
  ) -> None:
    """Takes a block; `values_of` multiplies its weights and values."""
    before_H1 = self.top[:, :1]
    top_H1 = jnp.maximum(before_H1, scores_HS.max(axis=1, keepdims=True))
    weights_HS = jnp.exp(scores_HS - top_H1)
    share_H1 = jnp.exp(before_H1 - top_H1)
    total_H1 = share_H1 * self.total[:, :1]
    total_H1 += weights_HS.sum(axis=1, keepdims=True)
    self.acc[...] = share_H1 * self.acc[...] + values_of(weights_HS)
    self.top[...] = jnp.broadcast_to(top_H1, self.top.shape)
    self.total[...] = jnp.broadcast_to(total_H1, self.total.shape)

  def output(self) -> jax.Array:
    """(H, E)."""
    return self.acc[...] / self.total[:, :1]


def decode_step(
  prefix_ref,
  question_ref,
  suffix_ref,
  place_ref,
  last_ref,
  q_ref,
  chunk_keys_ref,
  chunk_values_ref,
  *refs,
  settings: Settings,
):
  """One key head and group with one block of suffixes.

  The first five arguments are `Lengths` and the number of the last block that
  each group needs, in scalar memory. `refs` are the caches, of which there are
  `parts` with two or four arrays each, the result and what is kept between
  blocks.
  """
  lanes = settings.lanes
  *caches, out_ref, top, total, acc = refs
  each = len(caches) // settings.parts
  *shared, suffix = (
    settings.order(*caches[i * each : (i + 1) * each])
    for i in range(settings.parts)
  )
  g, s = pl.program_id(1), pl.program_id(2)
  # In float32: a scale that bfloat16 rounds would shift all scores alike.
  q_HE = q_ref[0, 0].astype(jnp.float32) * settings.scale
  products = _Products(q_HE.astype(q_ref.dtype), settings.precision)
  softmax = _Softmax(top, total, acc)
  rows = q_HE.shape[0]
  lane_H1 = jax.lax.broadcasted_iota(jnp.int32, (rows, 1), 0) % lanes
  own_H1 = jnp.zeros((rows, 1), jnp.int32)
  for n in range(lanes):
    own_H1 = jnp.where(lane_H1 == n, suffix_ref[g, n], own_H1)
  prompt = prefix_ref[0] + question_ref[g]
  newest_H1 = prompt + own_H1 + place_ref[0]  # positions of the queries

  def update(scores_HS, seen_HS, positions_HS, values_of):
    scores_HS = attention.capped(scores_HS, settings.cap)
    if settings.window is not None:
      seen_HS &= positions_HS > newest_H1 - settings.window
    softmax.go_on(jnp.where(seen_HS, scores_HS, attention.NEVER), values_of)

  def places(count):
    return jax.lax.broadcasted_iota(jnp.int32, (rows, count), 1)

  @pl.when(s == 0)
  def _():
    softmax.begin()
    # The chunk first: every query sees itself there, so that from then on a
    # masked score beside the greatest one has a weight of 0.
    size = chunk_keys_ref.shape[2] // lanes
    place_HS = places(size * lanes)
    within_HS = place_HS // lanes
    update(
      products.of(products.q_HE, chunk_keys_ref[0, 0], ((1,), (1,))),
      (place_HS % lanes == lane_H1) & (within_HS <= place_ref[0]),
      prompt + own_H1 + within_HS,
      lambda weights_HS: products.weighed(weights_HS, chunk_values_ref[0, 0]),
    )
    for part in shared:
      of_group = len(part.keys.shape) == 4
      at = (0, 0) if of_group else (0,)
      place_HS = places(part.keys.shape[-1])
      keys, values, key_scales, value_scales = (_read(ref, *at) for ref in part)
      update(
        products.scores(keys, key_scales),
        place_HS < (question_ref[g] if of_group else prefix_ref[0]),
        place_HS + (prefix_ref[0] if of_group else 0),
        lambda weights_HS, v=values, s=value_scales: products.weighed(
          weights_HS, v, s, settings.order.values_axes
        ),
      )

  @pl.when(s <= last_ref[g])
  def _():
    scores_HS = _suffix_scores(products, suffix, lane_H1, lanes)
    place_HS = s * suffix.keys.shape[-1] + places(suffix.keys.shape[-1])
    update(
      scores_HS,
      place_HS < own_H1,
      prompt + place_HS,
      lambda weights_HS: _suffix_values(
        products, suffix, lane_H1, lanes, weights_HS
      ),
    )

  @pl.when(s == pl.num_programs(2) - 1)
  def _():
    out_ref[0, 0] = softmax.output().astype(out_ref.dtype)


def _suffix_scores(products, suffix, lane_H1, lanes: int) -> jax.Array:
  """(H, S): of each lane's queries with its own suffix."""
  rows, size = lane_H1.shape[0], suffix.keys.shape[-1]
  scores_HS = jnp.zeros((rows, size), jnp.float32)
  for n in range(lanes):
    of_lane = products.scores(
      suffix.keys[0, n, 0], _read(suffix.key_scales, 0, n, 0)
    )
    scores_HS = jnp.where(lane_H1 == n, of_lane, scores_HS)
  return scores_HS


def _suffix_values(
  products, suffix, lane_H1, lanes: int, weights_HS: jax.Array
) -> jax.Array:
  """(H, E): each lane's sum of the values of its own suffix."""
  out_HE = jnp.zeros(products.q_HE.shape, jnp.float32)
  for n in range(lanes):
    of_lane = products.weighed(
      weights_HS,
      suffix.values[0, n, 0],
      _read(suffix.value_scales, 0, n, 0),
      suffix.values_axes,
    )
    out_HE = jnp.where(lane_H1 == n, of_lane, out_HE)
  return out_HE


def _read(ref, *at):
  return None if ref is None else ref[at]
