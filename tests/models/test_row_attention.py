"""Attention of rows against brute force, whatever is cut into blocks."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import small_networks

from rest_jax.models import row_attention
from rest_jax.models.segments import OfRows, Segments, SharedPrefix, Spans

# (segment, its parent, places): two problems, the second without a question.
TREE = [(1, -1, 70), (2, 1, 150), (3, 1, 40), (4, 1, 131), (5, -1, 90)]
TREE += [(6, -1, 3), (7, 6, 61), (0, -1, 39)]
PLACES = sum(places for *_, places in TREE)


def config(**changes):
  return small_networks.network(num_heads=4, num_kv_heads=2, **changes)


def rows(prefix_of_row):
  """Two rows: TREE, and TREE with its parents cut off."""
  ids, parents, positions = (np.zeros((2, PLACES), np.int32) for _ in range(3))
  at, length = 0, {-1: 0}
  for segment, parent, places in TREE:
    here = slice(at, at + places)
    ids[:, here] = segment
    parents[0, here], parents[1, here] = parent, -1
    positions[:, here] = length[parent] + np.arange(places)
    length[segment] = length[parent] + places
    at += places
  of_rows = OfRows(jnp.asarray([13, 7]), jnp.asarray(prefix_of_row))
  return Segments(*map(jnp.asarray, (ids, parents, positions)), of_rows)


def brute_force(segments, prefix, c, kind, q, k, v):
  """Token by token, in float64."""
  ids, parents, positions = map(np.asarray, segments[:3])
  lengths, of_row = map(np.asarray, segments.of_rows)
  out = np.zeros(q.shape)
  for row in range(len(ids)):
    before = 0 if prefix is None or of_row[row] < 0 else lengths[of_row[row]]
    for place in range(PLACES):
      segment = ids[row, place]
      keys, values, at = [], [], []
      for other in range(place + 1):
        if ids[row, other] in (segment, parents[row, place]):
          keys.append(k[row, other])
          values.append(v[row, other])
          at.append(positions[row, other])
      if segment and before:
        keys += list(prefix.keys[of_row[row], :before])
        values += list(prefix.values[of_row[row], :before])
        at += range(before)
      keys, values, at = map(np.float64, (keys, values, at))
      scores = np.einsum('kre,ske->krs', np.float64(q[row, place]), keys)
      scores *= c.head_dim**-0.5
      if c.attention_soft_cap:
        scores = c.attention_soft_cap * np.tanh(scores / c.attention_soft_cap)
      if kind == 'local':
        scores[..., positions[row, place] - at >= c.window] = -np.inf
      weights = np.exp(scores - scores.max(-1, keepdims=True))
      weights /= weights.sum(-1, keepdims=True)
      out[row, place] = np.einsum('krs,ske->kre', weights, values)
  return out


@functools.cache
def numbers(seed=0):
  draw = np.random.default_rng(seed).standard_normal
  of = lambda *shape: np.float32(draw(shape))  # noqa: E731
  c = config()
  K, R, E = c.num_kv_heads, 2, c.head_dim
  qkv = of(2, PLACES, K, R, E), of(2, PLACES, K, E), of(2, PLACES, K, E)
  return qkv, (of(2, 16, K, E), of(2, 16, K, E)), of(2, PLACES, K, R, E)


CASES = {
  'global': (config(), 'global', [1, 0]),
  'a row without a prefix': (config(), 'global', [-1, 1]),
  'window': (
    config(layer_pattern=('global', 'local'), window=90, num_layers=2),
    'local',
    [0, 0],
  ),
  'soft cap': (config(attention_soft_cap=2.0), 'global', [1, 1]),
}


@pytest.mark.parametrize('name', CASES)
def test_each_token_sees_its_segment_its_parent_and_the_prefix(name):
  c, kind, of_row = CASES[name]
  segments = rows(of_row)
  (q, k, v), keys_values, _ = numbers()
  # As the windows count them, tokens of a row stand behind its prefix.
  before = [0 if i < 0 else int(segments.of_rows.lengths_F[i]) for i in of_row]
  segments = segments._replace(
    positions_BL=segments.positions_BL + jnp.asarray(before)[:, None]
  )
  prefix = SharedPrefix(segments.of_rows, *keys_values)
  expected = brute_force(segments, prefix, c, kind, q, k, v)
  for spans in (None, Spans(segment=150, parents=73)):
    got = jax.jit(
      functools.partial(row_attention.attend, spans=spans, config=c, kind=kind)
    )(segments, prefix=prefix, q_BLKRE=q, k_BLKE=k, v_BLKE=v)
    real = np.asarray(segments.ids_BL) > 0
    np.testing.assert_allclose(got[real], expected[real], atol=3e-6)


def test_gradients_do_not_depend_on_what_is_left_out_or_computed_again(
  monkeypatch,
):
  c, segments = config(), rows([1, 0])
  qkv, keys_values, cotangent = numbers()

  def gradients(spans):
    def attend(qkv, keys_values):
      prefix = SharedPrefix(segments.of_rows, *keys_values)
      return row_attention.attend(segments, spans, prefix, c, 'global', *qkv)

    @jax.jit
    def both(qkv, keys_values):
      made, pull = jax.vjp(attend, qkv, keys_values)
      return made, pull(jnp.asarray(cotangent))

    return both(qkv, keys_values)

  whole = gradients(None)
  cut = gradients(Spans(segment=150, parents=73))
  monkeypatch.setattr(row_attention, '_KEPT_BYTES', 0)
  again = gradients(Spans(segment=150, parents=73))
  for a, b, c in zip(*map(jax.tree.leaves, (whole, cut, again)), strict=True):
    np.testing.assert_allclose(a, b, atol=1e-5)
    np.testing.assert_allclose(a, c, atol=1e-5)
  assert float(jnp.abs(whole[1][1][0]).max()) > 0.1  # the prefix has some too


def test_scores_of_a_long_row_never_exist_at_once():
  """4096 places of eight layers: one block after the other."""
  c, B, L = config(num_layers=8), 4, 4096
  q = jax.ShapeDtypeStruct((B, L, 2, 2, 8), jnp.float32)
  kv = jax.ShapeDtypeStruct((B, L, 2, 8), jnp.float32)
  ids = jnp.ones((B, L), jnp.int32)
  segments = Segments(ids, None, ids)

  def loss(q, k, v):
    out = row_attention.attend(segments, None, None, c, 'global', q, k, v)
    return jnp.sum(out**2)

  compiled = jax.jit(jax.grad(loss, (0, 1, 2))).lower(q, kv, kv).compile()
  scores = 4 * B * 4 * L * L  # of four heads, in float32: 1 GB
  assert compiled.memory_analysis().temp_size_in_bytes < scores / 3
