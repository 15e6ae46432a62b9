"""The blocks of packed rows, and what each of them attends to by einsum.

A block is multiplied with the part of its row that its segments can reach, with
the parents that its segments continue, and with the row's prefix; the three
share one softmax.

Dimensions as in segments.py; T places of a block, S places that it sees.
"""

import functools
from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp

from rest_jax.distributed import partitioning
from rest_jax.distributed.partitioning import constrain
from rest_jax.models import attention
from rest_jax.models.architecture import DecoderConfig, LayerKind
from rest_jax.models.segments import BLOCK, Segments, SharedPrefix, Spans


class _Seen(NamedTuple):
  """Some keys and values, and which queries of a block see them.

  Attributes:
    keys: (B, S, K, E), or (1, S, K, E) where all rows have the same.
    values: of the same shape.
    positions_BS: of them in their texts.
    mask_BTS: whether a query sees them, windows apart.
  """

  keys: jax.Array
  values: jax.Array
  positions_BS: jax.Array
  mask_BTS: jax.Array

  def seen_BTS(
    self, config: DecoderConfig, kind: LayerKind, positions_BT: jax.Array
  ) -> jax.Array:
    """The mask with the window of a local layer, for queries there."""
    if kind != 'local':
      return self.mask_BTS
    distance_BTS = positions_BT[:, :, None] - self.positions_BS[:, None]
    return self.mask_BTS & (distance_BTS < config.window)


class Row(NamedTuple):
  """Rows, all cut alike: what row_attention.attend is given."""

  segments: Segments
  spans: Spans | None
  prefix: SharedPrefix | None
  config: DecoderConfig
  kind: LayerKind
  q_BLKRE: jax.Array
  k_BLKE: jax.Array
  v_BLKE: jax.Array

  @property
  def length(self) -> int:
    return self.q_BLKRE.shape[1]

  def blocks(self, size: int) -> list['Block']:
    """The row in blocks of so many places; the last may have fewer."""
    return [
      Block(start, min(size, self.length - start), self)
      for start in range(0, self.length, size)
    ]

  def block(self, start: jax.Array | int, size: int, width: int) -> jax.Array:
    """o_BTKRE of the block of `size` places that begins at `start`.

    Args:
      start: of the block.
      size: of the block.
      width: how many places, up to its last, its segments can reach.
    """
    first = jnp.maximum(start + size - width, 0)
    cut = functools.partial(_cut, start=start, size=size)
    parts = [self._own(start, size, first, width)]
    parents = self._parents(size)
    if self.segments.parents_BL is not None and parents:
      parts.append(self._parents_before(cut, first, parents))
    if self.prefix is not None:
      parts.append(self._prefix(cut))
    return _softmax(
      self.config,
      self.kind,
      cut(self.q_BLKRE),
      cut(self.segments.positions_BL),
      parts,
    )

  def whole(self) -> tuple[jax.Array, jax.Array, jax.Array]:
    """(keys (B, S, K, E), values, mask (B, L, S)) of all that the row sees."""
    parts = [self._own(0, self.length, 0, self.length)]
    if self.prefix is not None:
      parts.insert(0, self._prefix(lambda array: array))
    rows = self.q_BLKRE.shape[0]
    keys, values = (
      jnp.concatenate(
        [jnp.broadcast_to(x, (rows, *x.shape[1:])) for x in arrays], axis=1
      )
      for arrays in zip(*((p.keys, p.values) for p in parts), strict=True)
    )
    masks = [
      part.seen_BTS(self.config, self.kind, self.segments.positions_BL)
      for part in parts
    ]
    return keys, values, jnp.concatenate(masks, axis=2)

  def reach(self) -> int:
    """Places from a segment's first to its last, at most."""
    return self.length if self.spans is None else self.spans.segment

  def _parents(self, size: int) -> int:
    """Places of parents, at most, that a block's segments continue."""
    if self.spans is None:
      return self.length
    # They are counted in BLOCK places; a longer block sees those of all in it.
    return min(self.length, self.spans.parents * -(-size // BLOCK))

  def _own(
    self, start: jax.Array | int, size: int, first: jax.Array, width: int
  ) -> _Seen:
    """The `width` places from `first` on, of which the block is a part."""
    seen = functools.partial(_cut, start=first, size=width)
    ids_BL, parents_BL = self.segments.ids_BL, self.segments.parents_BL
    ids_B1S = seen(ids_BL)[:, None]
    mask_BTS = _cut(ids_BL, start, size)[:, :, None] == ids_B1S
    if parents_BL is not None:
      mask_BTS |= _cut(parents_BL, start, size)[:, :, None] == ids_B1S
    places_T, places_S = start + jnp.arange(size), first + jnp.arange(width)
    mask_BTS &= (places_T[:, None] >= places_S[None])[None]
    return _Seen(
      seen(self.k_BLKE),
      seen(self.v_BLKE),
      seen(self.segments.positions_BL),
      mask_BTS,
    )

  def _parents_before(
    self, cut: Callable[..., jax.Array], first: jax.Array, most: int
  ) -> _Seen:
    """The parents of the block's segments that lie before `first`.

    Args:
      cut: the block of an array.
      first: where the places begin that `_own` gives.
      most: places of parents, at most.
    """
    ids_BL = self.segments.ids_BL
    parents_BT = cut(self.segments.parents_BL)
    wanted_BL = jnp.any(parents_BT[:, :, None] == ids_BL[:, None], axis=1)
    wanted_BL &= (jnp.arange(self.length) < first)[None]
    # Stable: those that are wanted come first, in their order.
    chosen_BS = jnp.argsort(~wanted_BL, axis=1, stable=True)[:, :most]

    def of(array):
      index = jnp.expand_dims(chosen_BS, range(2, array.ndim))
      return jnp.take_along_axis(array, index, axis=1)

    mask_BTS = parents_BT[:, :, None] == of(ids_BL)[:, None]
    return _Seen(
      of(self.k_BLKE),
      of(self.v_BLKE),
      of(self.segments.positions_BL),
      mask_BTS & of(wanted_BL)[:, None],
    )

  def _prefix(self, cut: Callable[..., jax.Array]) -> _Seen:
    """The prefix of each row."""
    (lengths_F, index_B), keys, values = self.prefix
    places_1S = jnp.arange(keys.shape[1])[None]
    known_B = jnp.maximum(index_B, 0)
    if keys.shape[0] > 1:
      keys, values = keys[known_B], values[known_B]
    seen_BS = places_1S < lengths_F[known_B][:, None]
    seen_BS &= (index_B >= 0)[:, None]
    is_real_BT = cut(self.segments.ids_BL) > 0
    return _Seen(
      keys,
      values,
      jnp.broadcast_to(places_1S, seen_BS.shape),
      seen_BS[:, None] & is_real_BT[:, :, None],
    )


class Block(NamedTuple):
  """A block of a row's queries.

  Attributes:
    start: its first place.
    size: its places.
    row: that it is of.
  """

  start: int
  size: int
  row: Row

  @property
  def width(self) -> int:
    """How many places, up to its last, its segments can reach."""
    return min(self.row.reach() - 1 + self.size, self.start + self.size)

  @property
  def scores(self) -> int:
    """Scores of one head of one row."""
    prefix = self.row.prefix
    shared = 0 if prefix is None else prefix.keys.shape[1]
    return self.size * (self.width + shared)


def _cut(array: jax.Array, start: jax.Array | int, size: int) -> jax.Array:
  return jax.lax.dynamic_slice_in_dim(array, start, size, axis=1)


def _softmax(
  config: DecoderConfig,
  kind: LayerKind,
  q_BTKRE: jax.Array,
  positions_BT: jax.Array,
  parts: list[_Seen],
) -> jax.Array:
  """One softmax over all parts; see attention.py for its precision."""
  B, T, K, R, E = q_BTKRE.shape
  # Key heads first, and a head's queries as one matrix: other orders cost a CPU
  # more time to transpose than to multiply. Scaled before the product, where
  # there are fewer numbers; in float32, as a scale that bfloat16 rounds would
  # shift all scores alike.
  q_KBRTE = q_BTKRE.astype(jnp.float32) * attention.scale(config)
  q_KBRTE = q_KBRTE.astype(q_BTKRE.dtype).transpose(2, 0, 3, 1, 4)
  scores, tops = [], []
  for part in parts:
    scores_KBRTS = _product('KBME,KBSE->KBMS', q_KBRTE, part.keys)
    scores_KBRTS = attention.capped(scores_KBRTS, config.attention_soft_cap)
    mask_BTS = part.seen_BTS(config, kind, positions_BT)
    scores_KBRTS = jnp.where(
      mask_BTS[None, :, None], scores_KBRTS, attention.NEVER
    )
    scores.append(scores_KBRTS)
    tops.append(jax.lax.stop_gradient(scores_KBRTS).max(axis=-1))
  # Every token sees itself, so that the greatest score is a real one.
  top_KBRT = functools.reduce(jnp.maximum, tops)
  out_KBRTE, total_KBRT = jnp.float32(0), jnp.float32(0)
  for part, scores_KBRTS in zip(parts, scores, strict=True):
    weights_KBRTS = jnp.exp(scores_KBRTS - top_KBRT[..., None])
    # Summed before the weights are rounded to the values' dtype.
    total_KBRT = total_KBRT + weights_KBRTS.sum(axis=-1)
    out_KBRTE = out_KBRTE + _product(
      'KBMS,KBSE->KBME', weights_KBRTS.astype(part.values.dtype), part.values
    )
  out_KBRTE = out_KBRTE / total_KBRT[..., None]
  return out_KBRTE.transpose(1, 3, 0, 2, 4).astype(q_BTKRE.dtype)


def _product(einsum: str, a_KBRTX: jax.Array, b_BSKE: jax.Array) -> jax.Array:
  """The product of each row and key head, in float32.

  Args:
    einsum: in which M stands for R and T; without B where all rows have the
      same second factor.
    a_KBRTX: queries or weights.
    b_BSKE: keys or values; a leading 1: of all rows.
  """
  K, B, R, T, X = a_KBRTX.shape
  a, b = a_KBRTX.reshape(K, B, R * T, X), b_BSKE.transpose(2, 0, 1, 3)
  if b.shape[1] == 1:
    einsum, a, b = einsum.replace('B', ''), a.reshape(K, -1, X), b[:, 0]
  elif (
    not partitioning.is_split()
  ):  # one batch dimension: as block.py's products
    einsum = einsum.replace('B', '')
    a, b = (x.reshape(K * B, *x.shape[2:]) for x in (a, b))
  made = jnp.einsum(einsum, a, b, preferred_element_type=jnp.float32)
  made = made.reshape(K, B, R, T, -1)
  return constrain(made, 'kv_heads', 'batch', None, 'length', None)
