"""The blocks of packed rows, and what each of them attends to by einsum.

A block is multiplied with the part of its row that its segments can reach, with
the parents that its segments continue, and with the row's prefix; the three
share one softmax.

Blocks of the same number of places can be computed together, as if each was a
row of its own: X rows then, B for each block, one block after the other.

Dimensions as in segments.py; T places of a block, S places that it sees.
"""

import functools
from collections.abc import Callable, Sequence
from typing import NamedTuple

import jax
import jax.numpy as jnp

from rest_jax.models.architecture import DecoderConfig, LayerKind
from rest_jax.models.row_softmax import Seen, softmax
from rest_jax.models.segments import BLOCK, Segments, SharedPrefix, Spans


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

  def attended(
    self, q_XTKRE: jax.Array, starts: Sequence[jax.Array | int], width: int
  ) -> jax.Array:
    """What blocks of as many places attend to, of the shape of their queries.

    Args:
      q_XTKRE: the queries of the blocks.
      starts: the place where each begins.
      width: how many places, up to a block's last, its segments can reach.
    """
    size = q_XTKRE.shape[1]
    firsts = [_first(start, size, width) for start in starts]
    own = functools.partial(cut, starts=starts, size=size)
    parts = [self._own(own, firsts, width)]
    parents = min(self._parents(size), self._most_before(firsts))
    if self.segments.parents_BL is not None and parents:
      parts.append(self._parents_before(own, firsts, parents))
    if self.prefix is not None:
      parts.append(self._prefix(own, len(starts)))
    positions_XT = own(self.segments.positions_BL)
    return softmax(self.config, self.kind, q_XTKRE, positions_XT, parts)

  def whole(self) -> tuple[jax.Array, jax.Array, jax.Array]:
    """(keys (B, S, K, E), values, mask (B, L, S)) of all that the row sees."""
    parts = [self._own(_uncut, [0], self.length)]
    if self.prefix is not None:
      parts.insert(0, self._prefix(_uncut, 1))
    rows = self.q_BLKRE.shape[0]
    keys, values = (
      jnp.concatenate(
        [jnp.broadcast_to(x, (rows, *x.shape[1:])) for x in arrays], axis=1
      )
      for arrays in zip(*((p.keys, p.values) for p in parts), strict=True)
    )
    masks = [
      part.seen_XTS(self.config, self.kind, self.segments.positions_BL)
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

  def _most_before(self, firsts: Sequence[jax.Array | int]) -> int:
    """Places that lie before `firsts`, at most."""
    known = [first for first in firsts if isinstance(first, int)]
    return max(known) if len(known) == len(firsts) else self.length

  def _own(
    self,
    own: Callable[..., jax.Array],
    firsts: Sequence[jax.Array | int],
    width: int,
  ) -> Seen:
    """The `width` places from `firsts` on, of which the blocks are parts.

    Args:
      own: the blocks of an array.
      firsts: a place for each block.
      width: up to the block's last place.
    """
    seen = functools.partial(cut, starts=firsts, size=width)
    ids_BL, parents_BL = self.segments.ids_BL, self.segments.parents_BL
    ids_X1S = seen(ids_BL)[:, None]
    mask_XTS = own(ids_BL)[:, :, None] == ids_X1S
    if parents_BL is not None:
      mask_XTS |= own(parents_BL)[:, :, None] == ids_X1S
    places_1L = jnp.arange(self.length)[None]
    places_NT, places_NS = own(places_1L), seen(places_1L)
    causal_NTS = places_NT[:, :, None] >= places_NS[:, None]
    mask_XTS &= jnp.repeat(causal_NTS, ids_BL.shape[0], axis=0)
    return Seen(
      seen(self.k_BLKE),
      seen(self.v_BLKE),
      seen(self.segments.positions_BL),
      mask_XTS,
    )

  def _parents_before(
    self,
    own: Callable[..., jax.Array],
    firsts: Sequence[jax.Array | int],
    most: int,
  ) -> Seen:
    """The parents of the blocks' segments that lie before `firsts`.

    Args:
      own: the blocks of an array.
      firsts: where the places begin that `_own` gives.
      most: places of parents, at most.
    """
    ids_BL, number = self.segments.ids_BL, len(firsts)
    rows = ids_BL.shape[0]
    ids_XL = jnp.tile(ids_BL, (number, 1))
    first_X1 = jnp.repeat(jnp.asarray(firsts), rows)[:, None]
    parents_XT = own(self.segments.parents_BL)
    wanted_XL = jnp.any(parents_XT[:, :, None] == ids_XL[:, None], axis=1)
    wanted_XL &= jnp.arange(self.length)[None] < first_X1
    # Stable: those that are wanted come first, in their order.
    chosen_XS = jnp.argsort(~wanted_XL, axis=1, stable=True)[:, :most]
    chosen_BNS = chosen_XS.reshape(number, rows, most).swapaxes(0, 1)

    def of(array_BL):
      index = chosen_BNS.reshape(rows, -1)
      index = jnp.expand_dims(index, range(2, array_BL.ndim))
      taken = jnp.take_along_axis(array_BL, index, axis=1)
      taken = taken.reshape(rows, number, most, *array_BL.shape[2:])
      return taken.swapaxes(0, 1).reshape(-1, *taken.shape[2:])

    is_wanted_XS = jnp.take_along_axis(wanted_XL, chosen_XS, axis=1)
    mask_XTS = parents_XT[:, :, None] == of(ids_BL)[:, None]
    return Seen(
      of(self.k_BLKE),
      of(self.v_BLKE),
      of(self.segments.positions_BL),
      mask_XTS & is_wanted_XS[:, None],
    )

  def _prefix(self, own: Callable[..., jax.Array], number: int) -> Seen:
    """The prefix of each row, for `number` blocks of it."""
    (lengths_F, index_B), keys, values = self.prefix
    index_X = jnp.tile(index_B, number)
    places_1S = jnp.arange(keys.shape[1])[None]
    known_X = jnp.maximum(index_X, 0)
    if keys.shape[0] > 1:
      keys, values = keys[known_X], values[known_X]
    seen_XS = places_1S < lengths_F[known_X][:, None]
    seen_XS &= (index_X >= 0)[:, None]
    is_real_XT = own(self.segments.ids_BL) > 0
    return Seen(
      keys,
      values,
      jnp.broadcast_to(places_1S, seen_XS.shape),
      seen_XS[:, None] & is_real_XT[:, :, None],
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


def _first(start: jax.Array | int, size: int, width: int) -> jax.Array | int:
  """The first of the `width` places up to the last of a block."""
  if isinstance(start, int):
    return max(start + size - width, 0)
  return jnp.maximum(start + size - width, 0)


def cut(
  array: jax.Array, starts: Sequence[jax.Array | int], size: int
) -> jax.Array:
  """(B, L, …) as (X, size, …): the places from each of `starts` on."""
  pieces = [
    jax.lax.dynamic_slice_in_dim(array, start, size, axis=1) for start in starts
  ]
  return pieces[0] if len(pieces) == 1 else jnp.concatenate(pieces)


def as_rows(array: jax.Array, blocks: int) -> jax.Array:
  """(B, blocks x T, …) as (X, T, …)."""
  rows, *more = array.shape[0], *array.shape[2:]
  apart = array.reshape(rows, blocks, -1, *more)
  return apart.swapaxes(0, 1).reshape(rows * blocks, -1, *more)


def from_rows(array: jax.Array, blocks: int) -> jax.Array:
  """(X, T, …) as (B, blocks x T, …)."""
  rows, *more = array.shape[0] // blocks, *array.shape[2:]
  apart = array.reshape(blocks, rows, -1, *more)
  return apart.swapaxes(0, 1).reshape(rows, -1, *more)


def _uncut(array: jax.Array) -> jax.Array:
  return array
