"""Which places the tokens of packed rows see, and in which blocks these lie.

A row sees the places of its prefix, 0 to P - 1, and behind them its own, P to
P + L - 1. Segments lie in one piece, and so what a token attends to is three
intervals of these places: of the prefix, of its parent, and of its own segment
up to itself. The window of local layers, which counts positions, shortens the
intervals: within a text, positions and places grow alike.

The kernels of tree_attention.py multiply blocks of queries with blocks of
places, and only those pairs of blocks of which some query sees some place.

Dimensions as in segments.py; S places that a row sees, T pairs of blocks.
"""

from typing import NamedTuple

import jax
import jax.numpy as jnp

from rest_jax.models.segments import OfRows, Segments

# Rows of `intervals`: the first place and the end of each.
PREFIX, PARENT, OWN = (0, 1), (2, 3), (4, 5)

# Bits of Pairs.edges_T.
FIRST_OF_QUERIES, LAST_OF_QUERIES = 1, 2
FIRST_OF_ROW, LAST_OF_ROW = 4, 8
FIRST_OF_PREFIX = 16


def intervals(
  segments: Segments, prefix_places: int, window: int | None
) -> jax.Array:
  """The three intervals of each place of a row, (B, 6, L), int32.

  Padding sees itself alone.

  Args:
    segments: of the rows.
    prefix_places: P.
    window: sees the last so many positions; None: all.
  """
  ids_BL, parents_BL, positions_BL, of_rows = segments
  places_BL = jax.lax.broadcasted_iota(jnp.int32, ids_BL.shape, 1)
  begins_BL = jnp.concatenate(
    [ids_BL[:, :1] >= 0, ids_BL[:, 1:] != ids_BL[:, :-1]], axis=1
  )
  is_real_BL = ids_BL > 0
  own_BL = jax.lax.cummax(jnp.where(begins_BL, places_BL, 0), axis=1)
  own_BL = jnp.where(is_real_BL, own_BL, places_BL)
  none_BL = jnp.zeros_like(places_BL)
  parent_BL, parent_end_BL, parent_at_BL = none_BL, none_BL, none_BL
  if parents_BL is not None:
    parent_BL, parent_end_BL, parent_at_BL = _of_parents(segments)
  prefix_BL, prefix_end_BL = none_BL, none_BL
  if of_rows is not None:
    lengths_B = of_rows.lengths_F[jnp.maximum(of_rows.index_B, 0)]
    lengths_B = jnp.where(of_rows.index_B >= 0, lengths_B, 0)
    prefix_end_BL = jnp.where(is_real_BL, lengths_B[:, None], 0)
  if window is not None:
    oldest_BL = positions_BL - window + 1
    prefix_BL = jnp.maximum(prefix_BL, oldest_BL)
    parent_BL = parent_BL + jnp.maximum(oldest_BL - parent_at_BL, 0)
    own_BL = jnp.maximum(own_BL, places_BL - window + 1)
  P = prefix_places
  return jnp.stack(
    [
      *(prefix_BL, prefix_end_BL),
      *(parent_BL + P, parent_end_BL + P),
      *(own_BL + P, places_BL + 1 + P),
    ],
    axis=1,
  ).astype(jnp.int32)


def _of_parents(segments: Segments) -> tuple[jax.Array, jax.Array, jax.Array]:
  """(first place, end, first position) of each place's parent.

  Without one, the end is not behind the first place.
  """
  ids_BL, parents_BL, positions_BL, _ = segments
  L = ids_BL.shape[1]
  is_parent_BLL = parents_BL[:, :, None] == ids_BL[:, None]
  places_L = jnp.arange(L, dtype=jnp.int32)[None, None]
  most = 2**30  # less the window, still an int32
  return (
    jnp.where(is_parent_BLL, places_L, L).min(axis=2),
    jnp.where(is_parent_BLL, places_L + 1, 0).max(axis=2),
    jnp.where(is_parent_BLL, positions_BL[:, None], most).min(axis=2),
  )


class Pairs(NamedTuple):
  """Pairs of a block of queries and a block of places that it sees.

  Rows that have one prefix follow each other, then the blocks of queries of a
  row, then the blocks of places that these see.

  Attributes:
    row_T: of the pair.
    query_T: the number of its block of queries.
    key_T: the number of its block of places.
    own_T: the number of a block within the row: the pair's own, or the next.
    edges_T: bits, as FIRST_OF_QUERIES and those beside it.
    prefix_B: which prefix each row has, 0 where it has none.
    number: () of pairs; those behind are meaningless.
  """

  row_T: jax.Array
  query_T: jax.Array
  key_T: jax.Array
  own_T: jax.Array
  edges_T: jax.Array
  prefix_B: jax.Array
  number: jax.Array


def pairs(
  intervals_B6L: jax.Array,
  of_rows: OfRows | None,
  prefix_places: int,
  block: int,
) -> Pairs:
  """The pairs of blocks that some query of the one sees some place of.

  Every block of queries is there: each place sees itself.

  Args:
    intervals_B6L: of `intervals`.
    of_rows: the rows' prefixes; None: there are none.
    prefix_places: P.
    block: places of a block; divides L and P.
  """
  B, _, L = intervals_B6L.shape
  queries, shared = L // block, prefix_places // block
  starts_11S = jnp.arange(0, prefix_places + L, block, dtype=jnp.int32)[
    None, None
  ]
  sees_BLS = jnp.zeros((B, L, starts_11S.shape[2]), bool)
  for first, end in (PREFIX, PARENT, OWN):
    first_BL1 = intervals_B6L[:, first, :, None]
    end_BL1 = intervals_B6L[:, end, :, None]
    sees_BLS |= (
      (first_BL1 < starts_11S + block)
      & (end_BL1 > starts_11S)
      & (first_BL1 < end_BL1)
    )
  sees_BQS = sees_BLS.reshape(B, queries, block, -1).any(axis=2)
  if of_rows is None:
    prefix_B = jnp.zeros(B, jnp.int32)
  else:
    prefix_B = jnp.maximum(of_rows.index_B, 0).astype(jnp.int32)
  order_B = jnp.argsort(prefix_B).astype(jnp.int32)
  sees_BQS = sees_BQS[order_B]
  # Stable: those that are there come first, in their order.
  chosen_T = jnp.argsort(~sees_BQS.reshape(-1), stable=True).astype(jnp.int32)
  number = sees_BQS.sum(dtype=jnp.int32)
  place_T, key_T = jnp.divmod(chosen_T, sees_BQS.shape[2])
  row_T, query_T = jnp.divmod(place_T, queries)
  next_BQ = jnp.argmax(sees_BQS[:, :, shared:], axis=2).astype(jnp.int32)
  own_T = jnp.where(key_T < shared, next_BQ[row_T, query_T], key_T - shared)
  row_T = order_B[row_T]
  at_T = jnp.arange(len(row_T))

  def changes_T(value_T):
    return (value_T != jnp.roll(value_T, 1)) | (at_T == 0)

  def ends_T(value_T):
    return (value_T != jnp.roll(value_T, -1)) | (at_T == number - 1)

  edges_T = sum(
    bit * is_edge_T.astype(jnp.int32)
    for bit, is_edge_T in (
      (FIRST_OF_QUERIES, changes_T(row_T * queries + query_T)),
      (LAST_OF_QUERIES, ends_T(row_T * queries + query_T)),
      (FIRST_OF_ROW, changes_T(row_T)),
      (LAST_OF_ROW, ends_T(row_T)),
      (FIRST_OF_PREFIX, changes_T(prefix_B[row_T])),
    )
  )
  return Pairs(row_T, query_T, key_T, own_T, edges_T, prefix_B, number)
