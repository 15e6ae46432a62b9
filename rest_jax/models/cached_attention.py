"""Attention over the caches of decoding: one softmax over all of their parts.

Rows of training: row_attention.py. Dimensions as in attention.py.
"""

import functools
import itertools
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from rest_jax.distributed import partitioning
from rest_jax.models.architecture import DecoderConfig
from rest_jax.models.attention import NEVER, capped, scale


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


class _Seen(NamedTuple):
  """A part of a context as some tokens see it.

  Attributes:
    part: its keys and values.
    mask_GNS: the places that count.
    sometimes: it is read only if a token sees any of its places. Whether it is
      depends on the longest lane, but no result does: the weights of a part of
      which a token sees nothing are exactly 0, and so is what is in the place
      of one that was not read.
  """

  part: KeysValues
  mask_GNS: jax.Array
  sometimes: bool

  def read(self, make: Callable[..., jax.Array], *given: Any) -> jax.Array:
    """What `make` makes of other things and the part."""
    if not self.sometimes:
      return make(*given, self.part)
    empty = jax.eval_shape(make, *given, self.part)
    return jax.lax.cond(
      self.mask_GNS.any(),
      make,
      lambda *_: jnp.zeros(empty.shape, empty.dtype),
      *(*given, self.part),
    )


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
  # On a CPU a decode step takes most of its time to read from memory, and the
  # lanes' suffixes are much of that. The last part is the newest: all see it.
  on_cpu = partitioning.platform() == 'cpu'
  by_axes: dict[int, list[_Seen]] = {}
  for place, (part, mask_GNS) in enumerate(zip(parts, masks, strict=True)):
    axes = part.keys.ndim
    sometimes = on_cpu and axes == 5 and place < len(parts) - 1
    by_axes.setdefault(axes, []).append(_Seen(part, mask_GNS, sometimes))
  out, _, total = functools.reduce(
    _merged,
    [
      (_attend_in_halves if axes == 3 else _attend)(config, q_GNKRE, seen)
      for axes, seen in sorted(by_axes.items())
    ],
  )
  return (out / total[..., None]).astype(q_GNKRE.dtype)


def _attend_in_halves(
  config: DecoderConfig, q_GNKRE: jax.Array, seen: Sequence[_Seen]
) -> _Attended:
  """`_attend`; on one CPU half of the queries beside the other half.

  A product with keys that all share is made by one thread, and what follows
  from it too.
  """
  axis = 0 if q_GNKRE.shape[0] > 1 else 1  # groups, or lanes
  on_one_cpu = partitioning.platform() == 'cpu' and not partitioning.is_split()
  if not on_one_cpu or q_GNKRE.shape[axis] == 1:
    return _attend(config, q_GNKRE, seen)
  masks = (of_part.mask_GNS for of_part in seen)
  halves = zip(
    *(jnp.array_split(array, 2, axis) for array in (q_GNKRE, *masks)),
    strict=True,
  )
  attended = [
    _attend(
      config,
      queries,
      [s._replace(mask_GNS=m) for s, m in zip(seen, of_half, strict=True)],
    )
    for queries, *of_half in halves
  ]
  return jax.tree.map(lambda *both: jnp.concatenate(both, axis), *attended)


def _attend(
  config: DecoderConfig, q_GNKRE: jax.Array, seen: Sequence[_Seen]
) -> _Attended:
  """Tokens attend to parts that as many share.

  Args:
    config: of the network.
    q_GNKRE: queries.
    seen: the parts.
  """
  order = _PRODUCTS[seen[0].part.keys.ndim].order
  scores = _joined(
    [of_part.read(functools.partial(_scores, q_GNKRE)) for of_part in seen]
  )
  scores = capped(scores * scale(config), config.attention_soft_cap)
  # (G, N, 1, 1, S) with its axes in the order of the scores.
  back = [order.index(axis) for axis in range(4)]
  mask = _joined([of_part.mask_GNS for of_part in seen])
  mask = mask[:, :, None, None].transpose(*back, 4)
  scores = jnp.where(mask, scores, NEVER)
  top = scores.max(axis=-1)
  # Where the parts have nothing to see, their weights are 1, and then 0 beside
  # those that have the greatest score.
  weights = jnp.exp(scores - top[..., None])
  # Summed before the weights are rounded to the values' dtype.
  total = weights.sum(axis=-1)
  weighed = functools.partial(_weighed, q_GNKRE.dtype)
  ends = list(itertools.accumulate(s.mask_GNS.shape[-1] for s in seen))
  of_parts = jnp.split(weights, ends[:-1], axis=-1)
  out = sum(
    of_part.read(weighed, its_weights)
    for of_part, its_weights in zip(seen, of_parts, strict=True)
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
