"""Attention over the caches of decoding, and what all attention has in common.

Rows of training: row_attention.py. Dimensions as in network.py; G group, N
lane, S place of a part.

Scores and the softmax are float32 whatever the network's dtype: bfloat16 has 8
bits, so that two scores near 30 may differ by 0.1 and round to the same value,
and a sum of many small weights stops growing.
"""

import functools
import itertools
from collections.abc import Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from rest_jax.distributed import partitioning
from rest_jax.models.architecture import DecoderConfig, LayerKind

# A masked score. Not -inf: the softmax of a row of nothing but -inf is NaN, in
# value and gradient. exp(NEVER - top) is exactly 0 in float32 beside any score
# that the network can give.
NEVER = -1e30


def capped(scores: jax.Array, cap: float | None) -> jax.Array:
  """Scores squeezed into (-cap, cap) by a tanh (Gemma 2), or as they are."""
  return scores if cap is None else cap * jnp.tanh(scores / cap)


def scale(config: DecoderConfig) -> float:
  """What the products of queries and keys are multiplied by."""
  scalar = config.query_pre_attn_scalar or config.head_dim
  return float(scalar) ** -0.5


def kernel_precision(config: DecoderConfig, dtype: Any) -> str:
  """Of a kernel's products, as jax.default_matmul_precision names it."""
  # The products of bfloat16 have one precision; the TPU's compiler refuses a
  # kernel that asks for more.
  return 'default' if dtype == jnp.bfloat16 else config.matmul_precision


class Sight:
  """Which cached tokens the tokens at some positions attend to."""

  def __init__(self, config: DecoderConfig, positions_GN: jax.Array):
    """Args:
    config: of the network.
    positions_GN: of the tokens that attend.
    """
    self._window, self._positions_GN = config.window, positions_GN

  def mask(
    self,
    kind: LayerKind,
    start: jax.Array | int,
    length: jax.Array | int,
    places: int,
  ) -> jax.Array:
    """The places of one part that count, (G, N, S), booleans.

    Args:
      kind: of the layer: a local one sees the last `window` tokens.
      start: position of the part's first token: one, or one for each of (G, N).
      length: its tokens; the places behind them are padding.
      places: S.
    """
    place_11S = jnp.arange(places)[None, None]
    start_GN1, length_GN1 = (
      jnp.broadcast_to(value, self._positions_GN.shape)[..., None]
      for value in (start, length)
    )
    positions_GNS = start_GN1 + place_11S
    newest_GN1 = self._positions_GN[..., None]
    seen_GNS = (place_11S < length_GN1) & (positions_GNS <= newest_GN1)
    if kind == 'local':
      seen_GNS &= positions_GNS > newest_GN1 - self._window
    return seen_GNS


class KeysValues(NamedTuple):
  """One part of a context, for one layer; see caches.py.

  Attributes:
    keys: (…, E, S).
    values: (…, S, E).
    key_scales: (…, 1, S), what int8 keys are multiplied with; None: nothing.
    value_scales: (…, 1, S), the same of the values.
  """

  keys: jax.Array
  values: jax.Array
  key_scales: jax.Array | None = None
  value_scales: jax.Array | None = None

  # The values' last axes, and which axis of each array counts places.
  values_axes = 'se'
  places_axis = (-1, -2, -1, -1)


class PlacesLast(KeysValues):
  """The same with values (…, E, S), as the keys lie."""

  __slots__ = ()
  values_axes = 'es'
  places_axis = (-1, -1, -1, -1)


class _Products(NamedTuple):
  """Of queries and keys, of weights and values; their axes as (G, N, K, R).

  In `values`, {} stands for a part's `values_axes`.
  """

  scores: str
  values: str
  order: tuple[int, ...]


# By the dimensions of a part's keys: who shares it. The products of shared keys
# have all of their queries in one matrix.
_PRODUCTS = {
  3: _Products('gnkre,kes->kgnrs', 'kgnrs,k{}->kgnre', (1, 2, 0, 3)),
  4: _Products('gnkre,gkes->gknrs', 'gknrs,gk{}->gknre', (0, 2, 1, 3)),
  5: _Products('gnkre,gnkes->gnkrs', 'gnkrs,gnk{}->gnkre', (0, 1, 2, 3)),
}


class _Attended(NamedTuple):
  """What tokens got from some parts of a context; merged by `_merged`.

  Attributes:
    out: values weighed by exp(score - top), summed: (G, N, K, R, E), float32.
    top: each token's greatest score in the parts, (G, N, K, R).
    total: the sum of the weights, of that shape.
  """

  out: jax.Array
  top: jax.Array
  total: jax.Array


def cached(
  config: DecoderConfig,
  q_GNKRE: jax.Array,
  parts: Sequence[KeysValues],
  masks: Sequence[jax.Array],
) -> jax.Array:
  """Tokens attend to several parts of a context, in one softmax over all.

  Parts that as many share are attended to together, relative to their own
  greatest score; the results are added, weighed by the share of the sum that
  each has. So no keys and values are ever copied beside others, nor for each of
  those who share them.

  Args:
    config: of the network.
    q_GNKRE: queries: N lanes of G groups.
    parts: keys and values, (K, E, S) and (K, S, E) where all share them, with
      G in front where a group does, with G and N in front of a lane's own; or
      PlacesLast. Products with int8 numbers are of the queries' dtype.
    masks: of each part, (G, N, S): the places that count. Of all parts together
      each query sees at least one.

  Returns:
    (G, N, K, R, E)
  """
  attended = []
  for axes in (3, 4, 5):
    these = [
      (part, mask_GNS)
      for part, mask_GNS in zip(parts, masks, strict=True)
      if part.keys.ndim == axes
    ]
    if these:
      attend = _attend_in_halves if axes == 3 else _attend
      attended.append(attend(config, q_GNKRE, these))
  out, _, total = functools.reduce(_merged, attended)
  return (out / total[..., None]).astype(q_GNKRE.dtype)


def _attend_in_halves(
  config: DecoderConfig,
  q_GNKRE: jax.Array,
  seen: Sequence[tuple[KeysValues, jax.Array]],
) -> _Attended:
  """`_attend`; on one CPU half of the queries beside the other half.

  A product with keys that all share is made by one thread, and what follows
  from it too.
  """
  mesh = partitioning.in_use()
  axis = 0 if q_GNKRE.shape[0] > 1 else 1  # groups, or lanes
  on_one_cpu = partitioning.platform() == 'cpu' and (not mesh or mesh.size == 1)
  if not on_one_cpu or q_GNKRE.shape[axis] == 1:
    return _attend(config, q_GNKRE, seen)
  parts, masks = zip(*seen, strict=True)
  halves = [
    _attend(config, queries, list(zip(parts, of_half, strict=True)))
    for queries, *of_half in zip(
      *(jnp.array_split(array, 2, axis) for array in (q_GNKRE, *masks)),
      strict=True,
    )
  ]
  return jax.tree.map(lambda *both: jnp.concatenate(both, axis), *halves)


def _attend(
  config: DecoderConfig,
  q_GNKRE: jax.Array,
  seen: Sequence[tuple[KeysValues, jax.Array]],
) -> _Attended:
  """Tokens attend to parts that as many share.

  Args:
    config: of the network.
    q_GNKRE: queries.
    seen: the parts, and the mask of each.
  """
  parts, masks = zip(*seen, strict=True)
  axes = parts[0].keys.ndim
  order = _PRODUCTS[axes].order
  # A lane's own parts before the last, which is always seen, are read only if a
  # token sees any of their places. On a CPU a decode step takes most of its
  # time to read from memory, and the suffixes of all lanes are much of that.
  # Whether a part is read depends on the longest lane, but no result does: the
  # weights of a part of which a token sees nothing are exactly 0, and so is
  # what is in the place of one that was not read.
  sometimes = axes == 5 and partitioning.platform() == 'cpu'

  def read(place, make, *given):
    if not sometimes or place == len(parts) - 1:
      return make(*given)
    empty = jax.eval_shape(make, *given)
    return jax.lax.cond(
      masks[place].any(),
      make,
      lambda *_: jnp.zeros(empty.shape, empty.dtype),
      *given,
    )

  scores = _joined(
    [read(place, _scores, q_GNKRE, part) for place, part in enumerate(parts)]
  )
  scores = capped(scores * scale(config), config.attention_soft_cap)
  # (G, N, 1, 1, S) with its axes in the order of the scores.
  back = [order.index(axis) for axis in range(4)]
  mask = _joined(masks)[:, :, None, None].transpose(*back, 4)
  scores = jnp.where(mask, scores, NEVER)
  top = scores.max(axis=-1)
  # Where the parts have nothing to see, their weights are 1, and then 0 beside
  # those that have the greatest score.
  weights = jnp.exp(scores - top[..., None])
  # Summed before the weights are rounded to the values' dtype.
  total = weights.sum(axis=-1)
  weighed = functools.partial(_weighed, q_GNKRE.dtype)
  ends = list(itertools.accumulate(mask.shape[-1] for mask in masks))
  of_parts = jnp.split(weights, ends[:-1], axis=-1)
  out = sum(
    read(place, weighed, of_part, part)
    for place, (of_part, part) in enumerate(zip(of_parts, parts, strict=True))
  )
  return _Attended(
    out.transpose(*order, 4), top.transpose(order), total.transpose(order)
  )


def _scores(q_GNKRE: jax.Array, part: KeysValues) -> jax.Array:
  """Products of queries and a part's keys, in the order of _PRODUCTS."""
  scores = jnp.einsum(
    _PRODUCTS[part.keys.ndim].scores,
    q_GNKRE,
    part.keys.astype(q_GNKRE.dtype),
    preferred_element_type=jnp.float32,
  )
  if part.key_scales is not None:
    scores = scores * _beside_scores(part.key_scales)
  return scores


def _weighed(dtype: Any, weights: jax.Array, part: KeysValues) -> jax.Array:
  """The sum of a part's values by their weights, float32."""
  if part.value_scales is not None:
    weights = weights * _beside_scores(part.value_scales)
  return jnp.einsum(
    _PRODUCTS[part.values.ndim].values.format(part.values_axes),
    weights.astype(dtype),
    part.values.astype(dtype),
    preferred_element_type=jnp.float32,
  )


def _joined(arrays: Sequence[jax.Array]) -> jax.Array:
  """Places of several parts beside each other."""
  return arrays[0] if len(arrays) == 1 else jnp.concatenate(arrays, axis=-1)


def _merged(a: _Attended, b: _Attended) -> _Attended:
  """Two parts as one. A part of which a token sees nothing adds exactly 0."""
  top = jnp.maximum(a.top, b.top)
  share_a, share_b = jnp.exp(a.top - top), jnp.exp(b.top - top)
  return _Attended(
    share_a[..., None] * a.out + share_b[..., None] * b.out,
    top,
    share_a * a.total + share_b * b.total,
  )


def _beside_scores(scales: jax.Array) -> jax.Array:
  """Scales (…, 1, S) as they stand beside scores, in any order of _PRODUCTS."""
  *leading, one, places = scales.shape
  return scales.reshape(*leading, *(one,) * (5 - len(leading) - 1), places)
