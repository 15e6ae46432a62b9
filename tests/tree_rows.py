"""Rows whose segments have parents, and what their tokens attend to."""

from collections.abc import Callable, Sequence
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from rest_jax.models.architecture import DecoderConfig, LayerKind
from rest_jax.models.segments import OfRows, Segments, SharedPrefix

# (segment, its parent, places) of three rows of 300 places: no segment ends
# where a block does.
ROWS = [
  [(1, -1, 70), (2, 1, 150), (3, 1, 30), (4, -1, 20), (0, -1, 30)],
  [(1, -1, 3), (2, 1, 130), (3, -1, 40), (4, 3, 41), (5, 3, 86)],
  [(1, -1, 60), (2, 1, 2), (3, -1, 98), (0, -1, 140)],
]


class Case(NamedTuple):
  """A layer that attends in rows behind prefixes.

  Attributes:
    config: of the network.
    kind: of the layer.
    places: of a prefix; 0: there are none.
    of_row: the prefix of each row, -1: none.
  """

  config: DecoderConfig
  kind: LayerKind
  places: int
  of_row: Sequence[int]

  def given(self, rows, lengths: Sequence[int], dtype: str = 'float32'):
    """(the rows as segments, their numbers).

    Args:
      rows: the pieces of each.
      lengths: of the prefixes, if there are any.
      dtype: of the numbers.
    """
    made = segments(rows, lengths if self.places else (), self.of_row)
    return made, numbers(self.config, made, self.places, dtype)


def row(pieces: Sequence[tuple[int, int, int]], first: int = 0):
  """(ids, parents, positions) of one row.

  Args:
    pieces: (segment, its parent or -1, places), in order.
    first: position of a text's first token in the row.
  """
  ids, parents, positions = [], [], []
  length = {-1: first}
  for segment, parent, places in pieces:
    ids += [segment] * places
    parents += [parent] * places
    positions += range(length[parent], length[parent] + places)
    length[segment] = length[parent] + places
  return ids, parents, positions


def segments(rows, lengths: Sequence[int], of_row: Sequence[int]) -> Segments:
  """Rows behind prefixes.

  Args:
    rows: the pieces of each, as `row` takes them, all of one length.
    lengths: of the prefixes, if there are any.
    of_row: the prefix of each row, -1: none.
  """
  made = [
    row(pieces, 0 if prefix < 0 else lengths[prefix])
    for pieces, prefix in zip(rows, of_row, strict=True)
  ]
  arrays = (jnp.asarray(np.array(x, np.int32)) for x in zip(*made, strict=True))
  if not lengths:
    return Segments(*arrays)
  of_rows = OfRows(*(jnp.asarray(x, jnp.int32) for x in (lengths, of_row)))
  return Segments(*arrays, of_rows)


def prefix(rows: Segments, shared: Sequence) -> SharedPrefix | None:
  """The prefixes' keys and values for these rows, if there are any."""
  return SharedPrefix(rows.of_rows, *shared) if shared else None


def mask(given: Segments, window: int | None, places: int):
  """What each token of each row sees, (B, L, places + L), by its definition.

  Args:
    given: the rows; without prefixes where of_rows is None.
    window: sees the last so many positions; None: all.
    places: of a prefix, which stand in front of the row's own.
  """
  ids, parents, positions = (
    None if x is None else np.asarray(x) for x in given[:3]
  )
  B, L = ids.shape
  sees = np.zeros((B, L, places + L), bool)
  for b in range(B):
    before = 0
    if given.of_rows is not None and given.of_rows.index_B[b] >= 0:
      before = int(given.of_rows.lengths_F[given.of_rows.index_B[b]])
    for t in range(L):
      wanted = [ids[b, t]] + ([] if parents is None else [parents[b, t]])
      sees[b, t, places : places + t + 1] = np.isin(ids[b, : t + 1], wanted)
      sees[b, t, :before] = ids[b, t] > 0
    if window is not None:
      at = np.concatenate([np.arange(places), positions[b]])
      sees[b] &= positions[b][:, None] - at[None] < window
  return sees


def numbers(c, rows: Segments, places: int, dtype='float32', seed: int = 0):
  """(q, k, v, keys and values of two prefixes, the output's gradient).

  Args:
    c: of the network.
    rows: that they are of.
    places: of a prefix; 0: there are none.
    dtype: of all.
    seed: of the draw.
  """
  draw = np.random.default_rng(seed).standard_normal
  B, L = rows.ids_BL.shape
  K, R, E = c.num_kv_heads, c.num_heads // c.num_kv_heads, c.head_dim

  def of(*shape):
    return jnp.asarray(draw(shape), dtype)

  kv = [of(B, L, K, E), of(B, L, K, E)]
  shared = [of(2, places, K, E), of(2, places, K, E)] if places else []
  # No gradient comes from padding.
  real = (rows.ids_BL > 0)[..., None, None, None]
  return of(B, L, K, R, E), *kv, *shared, of(B, L, K, R, E) * real


def outputs(attend: Callable, rows: Segments, q, k, v, *rest):
  """(output, gradients of q, k, v and of the prefixes' keys and values).

  Args:
    attend: takes the rows, their prefix, q, k and v.
    rows: the rows.
    q, k, v, *rest: as `numbers` gives them.
  """
  *shared, do = rest

  def attended(q, k, v, *shared):
    return attend(rows, prefix(rows, shared), q, k, v)

  out, pullback = jax.vjp(attended, q, k, v, *shared)
  return out, *pullback(do)


def brute_force(c, kind, rows: Segments, q, k, v, *shared):
  """Attention in float64, of all scores at once.

  Args:
    c, kind: the network and the kind of layer.
    rows: the rows.
    q, k, v, *shared: as `numbers` gives them, without the output's gradient.
  """
  q, k, v = (np.asarray(x, np.float64) for x in (q, k, v))
  places = shared[0].shape[1] if shared else 0
  if shared:
    of_row = np.maximum(np.asarray(rows.of_rows.index_B), 0)
    k, v = (
      np.concatenate([np.asarray(of_prefix, np.float64)[of_row], own], axis=1)
      for of_prefix, own in zip(shared, (k, v), strict=True)
    )
  scores = np.einsum('blkre,bske->bkrls', q, k) * c.head_dim**-0.5
  if c.attention_soft_cap:
    scores = c.attention_soft_cap * np.tanh(scores / c.attention_soft_cap)
  sees = mask(rows, c.window if kind == 'local' else None, places)
  scores = np.where(sees[:, None, None], scores, -np.inf)
  weights = np.exp(scores - scores.max(-1, keepdims=True))
  weights /= weights.sum(-1, keepdims=True)
  return np.einsum('bkrls,bske->blkre', weights, v)
