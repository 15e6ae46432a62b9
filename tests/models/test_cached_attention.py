"""Attention over the parts of a context, as one softmax over all of them."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import small_networks

from rest_jax.models import cached_attention
from rest_jax.models.cached_attention import KeysValues

MODEL = small_networks.network(
  embed_dim=32, num_heads=4, num_kv_heads=2, head_dim=8
)
G, N, K, R, E = 2, 3, 2, 2, 8
PLACES = (6, 5, 4, 4, 3)  # of a prefix, a question, suffixes, a chunk


def drawn(groups=G, lanes=N):
  draw = np.random.default_rng(0)

  def array(*shape):
    return jnp.asarray(draw.normal(size=shape), jnp.float32)

  leading = [(K,), (groups, K), *[(groups, lanes, K)] * 3]
  parts = [
    KeysValues(array(*first, E, places), array(*first, places, E))
    for first, places in zip(leading, PLACES, strict=True)
  ]
  return array(groups, lanes, K, R, E), parts


def masks(lengths):
  """Of suffixes of these lengths, (G, N)."""
  lengths = np.asarray(lengths)
  before = 0
  # The last token of the prefix is padding.
  seen = [np.arange(PLACES[0]) < PLACES[0] - 1, np.ones(PLACES[1], bool)]
  made = [np.broadcast_to(mask, (*lengths.shape, len(mask))) for mask in seen]
  for places in PLACES[2:4]:
    at = before + np.arange(places)
    made.append(at < lengths[..., None])
    before += places
  made.append(np.ones((*lengths.shape, PLACES[4]), bool))
  return list(map(jnp.asarray, made))


@jax.jit
def attend(q, parts, masks):
  return cached_attention.cached(MODEL, q, parts, masks)


@pytest.mark.parametrize(
  'lengths',
  [[[0, 3, 4], [5, 8, 1]], [[8], [0], [5]], [[2, 7, 1]], [[6]]],
  ids=['2 x 3', '3 x 1', '1 x 3', '1 x 1'],
)
def test_parts_share_one_softmax(lengths):
  """Of groups x lanes, odd ones too: a CPU divides them in halves."""
  q, parts = drawn(len(lengths), len(lengths[0]))
  seen = masks(lengths)
  got = attend(q, parts, seen)
  for g, n, k, r in np.ndindex(*q.shape[:4]):
    at = [k, (g, k), *[(g, n, k)] * 3]
    keys = np.concatenate(
      [np.asarray(p.keys)[i] for p, i in zip(parts, at, strict=True)], axis=-1
    )
    values = np.concatenate(
      [np.asarray(p.values)[i] for p, i in zip(parts, at, strict=True)]
    )
    counts = np.concatenate([np.asarray(mask)[g, n] for mask in seen])
    scores = np.asarray(q)[g, n, k, r].astype(np.float64) @ keys / E**0.5
    weights = np.where(counts, np.exp(scores - scores[counts].max()), 0)
    expected = weights @ values / weights.sum()
    np.testing.assert_allclose(got[g, n, k, r], expected, atol=1e-5)


def test_how_far_other_lanes_have_come_changes_no_bit():
  """A part that no lane has reached is not read; one that some have is."""
  q, parts = drawn()
  short = attend(q, parts, masks([[3, 0, 4], [4, 2, 1]]))
  long = attend(q, parts, masks([[3, 0, 8], [4, 2, 1]]))
  others = np.ones((G, N), bool)
  others[0, 2] = False
  assert (np.asarray(short)[others] == np.asarray(long)[others]).all()
  assert (np.asarray(short)[0, 2] != np.asarray(long)[0, 2]).any()
