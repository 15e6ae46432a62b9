"""Attention of rows against brute force, whatever is cut into blocks."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import small_networks
import tree_rows

from rest_jax.models import row_attention
from rest_jax.models.segments import Segments, Spans

# (segment, its parent, places): two problems, the second without a question.
TREE = [(1, -1, 70), (2, 1, 150), (3, 1, 40), (4, 1, 131), (5, -1, 90)]
TREE += [(6, -1, 3), (7, 6, 61), (0, -1, 39)]


def rows(prefix_of_row):
  """Two rows: TREE, and TREE with its parents cut off."""
  alone = [(segment, -1, places) for segment, _, places in TREE]
  return tree_rows.segments([TREE, alone], [13, 7], prefix_of_row)


CASES = {
  'global': (small_networks.grouped(), 'global', [1, 0]),
  'a row without a prefix': (small_networks.grouped(), 'global', [-1, 1]),
  'window': (small_networks.windowed(90), 'local', [0, 0]),
  'soft cap': (
    small_networks.grouped(attention_soft_cap=2.0),
    'global',
    [1, 1],
  ),
}


@pytest.mark.parametrize('together', ['all blocks', 'two', 'one'])
@pytest.mark.parametrize('name', CASES)
def test_each_token_sees_its_segment_its_parent_and_the_prefix(
  name, together, monkeypatch
):
  if together != 'all blocks':
    monkeypatch.setattr(row_attention, '_TOGETHER', 0)
    turns = {'two': 3, 'one': 5}[together]
    monkeypatch.setattr(row_attention, '_MOST_TURNS', turns)
  c, kind, of_row = CASES[name]
  segments = rows(of_row)
  q, k, v, *shared, _ = tree_rows.numbers(c, segments, 16)
  prefix = tree_rows.prefix(segments, shared)
  expected = tree_rows.brute_force(c, kind, segments, q, k, v, *shared)
  for spans in (None, Spans(segment=150, parents=73)):
    got = jax.jit(
      functools.partial(row_attention.attend, spans=spans, config=c, kind=kind)
    )(segments, prefix=prefix, q_BLKRE=q, k_BLKE=k, v_BLKE=v)
    real = np.asarray(segments.ids_BL) > 0
    np.testing.assert_allclose(got[real], expected[real], atol=3e-6)


def test_gradients_do_not_depend_on_what_is_left_out_or_computed_again(
  monkeypatch,
):
  c, segments = small_networks.grouped(), rows([1, 0])
  given = tree_rows.numbers(c, segments, 16)

  def gradients(spans):
    def attend(rows, prefix, q, k, v):
      return row_attention.attend(rows, spans, prefix, c, 'global', q, k, v)

    return jax.jit(functools.partial(tree_rows.outputs, attend))(
      segments, *given
    )

  whole = gradients(None)
  cut = gradients(Spans(segment=150, parents=73))
  monkeypatch.setattr(row_attention, '_KEPT_BYTES', 0)
  again = gradients(Spans(segment=150, parents=73))
  for a, b, c in zip(whole, cut, again, strict=True):
    np.testing.assert_allclose(a, b, atol=1e-5)
    np.testing.assert_allclose(a, c, atol=1e-5)
  assert float(jnp.abs(whole[4]).max()) > 0.1  # the prefix has some too


def test_scores_of_a_long_row_never_exist_at_once():
  """4096 places of eight layers: one block after the other."""
  c, B, L = small_networks.grouped(num_layers=8), 4, 4096
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
