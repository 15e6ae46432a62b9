"""Splash attention, interpreted on the CPU, against einsum attention."""

import contextlib
import dataclasses
import functools
import re

import jax
import jax.numpy as jnp
import meshes
import numpy as np
import pytest
import small_networks
import tiny_run
import tpu_step

from rest_jax.config import configuration
from rest_jax.distributed import partitioning
from rest_jax.models import (
  architecture,
  attention,
  network,
  row_attention,
  segments,
  splash,
)

# Of 4 query heads over 2 key heads; embed_dim plays no part.
config = functools.partial(
  small_networks.grouped, attention='einsum', num_layers=2
)
with_window = functools.partial(small_networks.windowed, attention='einsum')


def inputs(c, segments, seed=0):
  """Queries, keys, values and the output's gradient, all random."""
  B, L = segments.shape
  K, R, E = c.num_kv_heads, c.num_heads // c.num_kv_heads, c.head_dim
  draw = np.random.default_rng(seed).standard_normal
  shapes = (B, L, K, R, E), (B, L, K, E), (B, L, K, E), (B, L, K, R, E)
  return [jnp.asarray(draw(shape), jnp.float32) for shape in shapes]


def packed(*rows):
  """Segment ids from the lengths of each row's segments; 0 is padding."""
  return jnp.asarray(
    [
      np.concatenate([np.full(n, i, np.int32) for i, n in pieces])
      for pieces in rows
    ]
  )


def einsum(ids, c, kind, q, k, v):
  """The attention of rows on this machine, which has no kernel."""
  starts = jnp.arange(ids.shape[1])[None]
  rows = segments.Segments(ids, None, jnp.broadcast_to(starts, ids.shape))
  return row_attention.attend(rows, None, None, c, kind, q, k, v)


@functools.partial(jax.jit, static_argnums=(0, 1, 2))
def outputs(c, kind, fused, ids, q, k, v, do):
  """(output, gradients of q, k and v), by splash or by einsum attention."""

  def attend(q, k, v):
    if fused:
      return splash.causal(
        ids, c, kind, attention.scale(c), q, k, v, interpret=True
      )
    return einsum(ids, c, kind, q, k, v)

  out, pullback = jax.vjp(attend, q, k, v)
  return out, *pullback(do)


def compare(c, kind, segments):
  """Raises unless both attend alike, forward and backward."""
  given = inputs(c, segments)
  fused = outputs(c, kind, True, segments, *given)
  dense = outputs(c, kind, False, segments, *given)
  for got, expected in zip(fused, dense, strict=True):
    assert got.dtype == expected.dtype
    np.testing.assert_allclose(got, expected, atol=2e-5, rtol=2e-5)


@pytest.fixture
def blocks_of_128(monkeypatch):
  """A row of 300 tokens is three blocks, the last one padded."""
  monkeypatch.setattr(splash, '_BLOCKS', {128: 1})


ROWS = packed([(1, 190), (2, 30), (3, 80)], [(1, 131), (2, 3), (0, 166)])


@pytest.mark.parametrize(
  ('c', 'kind'),
  [
    (config(head_dim=128), 'global'),
    (with_window(150, head_dim=256, num_kv_heads=4), 'local'),
    (
      with_window(40, head_dim=80, num_kv_heads=1, attention_soft_cap=2.0),
      'local',
    ),
  ],
  ids=['global', 'window over a block', 'window in a block, capped'],
)
def test_outputs_and_gradients_equal_those_of_einsum(c, kind, blocks_of_128):
  """On rows of three blocks, with padding and segments of any length."""
  given = inputs(c, ROWS)
  fused = outputs(c, kind, True, ROWS, *given)
  dense = outputs(c, kind, False, ROWS, *given)
  for got, expected in zip(fused, dense, strict=True):
    assert got.dtype == expected.dtype
    np.testing.assert_allclose(got, expected, atol=2e-5, rtol=2e-5)


@pytest.mark.parametrize(
  ('window', 'kind'),
  [(1, 'local'), (2, 'local'), (128, 'local'), (999, 'local'), (1, 'global')],
)
def test_a_local_layer_sees_the_last_tokens_the_newest_included(window, kind):
  """Values name their places, so that a mean of them tells which were seen."""
  c = with_window(window, head_dim=64, query_pre_attn_scalar=40.0)
  length = 140
  segments = jnp.ones((1, length), jnp.int32)
  q, k, v, _ = inputs(c, segments)
  places = jnp.arange(length, dtype=jnp.float32)
  out = splash.causal(
    *(segments, c, kind, attention.scale(c)),
    *(q, jnp.zeros_like(k), jnp.zeros_like(v) + places[None, :, None, None]),
    interpret=True,
  )
  first = np.maximum(0, places - window + 1) if kind == 'local' else 0
  expected = (first + places) / 2  # equal scores: the mean of what is seen
  np.testing.assert_allclose(out[0, :, 0, 0, 0], expected, atol=1e-4)


@pytest.mark.parametrize(
  ('length', 'expected'),
  [
    (128, (128, 128)),
    (140, (256, 256)),
    (512, (512, 512)),
    (640, (384, 768)),
    (1150, (384, 1152)),
    (1280, (512, 1536)),
    (2048, (512, 2048)),
  ],
)
def test_a_row_is_cut_into_the_blocks_that_cost_least(length, expected):
  assert splash.block_size(length) == expected


NETWORK = config(max_length=200, head_dim=8, embed_dim=32, qk_norm=True)


def gradients(c, mesh=None):
  """Of the squared hidden states of a packed batch, by the parameters."""
  params = tiny_run.fresh(c, seed=0)
  segments = packed(
    *[[(1, 60 + 10 * row), (2, 140 - 10 * row)] for row in range(4)]
  )
  tokens = jnp.arange(800).reshape(4, 200) * 7 % c.vocab_size
  positions = jnp.broadcast_to(jnp.arange(200)[None], (4, 200))

  @jax.jit
  @jax.grad
  def gradient(params):
    with contextlib.ExitStack() as stack:
      if mesh is not None:
        stack.enter_context(partitioning.use(mesh))
      hidden, _ = network.Decoder(c).apply(params, tokens, positions, segments)
      return jnp.mean(hidden**2)

  return gradient(params)


@pytest.fixture
def on_tpu(monkeypatch):
  """The network believes that it runs on a TPU; counts the kernel's uses."""
  used = []

  def causal(*args, **named):
    used.append(args)
    return interpreted(*args, **named, interpret=True)

  interpreted = splash.causal
  monkeypatch.setattr(splash, 'causal', causal)
  monkeypatch.setattr(partitioning, 'platform', lambda: 'tpu')
  return used


@pytest.mark.parametrize(
  ('remat', 'shape'), [('dots', None), ('none', (2, 2, 2))]
)
def test_a_networks_gradients_are_the_same(remat, shape, on_tpu):
  mesh = None
  if shape:
    mesh = meshes.mesh(*shape)
  expected = gradients(dataclasses.replace(NETWORK, attention='einsum'))
  assert not on_tpu
  got = gradients(
    dataclasses.replace(NETWORK, attention='auto', remat=remat), mesh
  )
  assert on_tpu
  leaves = jax.tree.leaves(expected)
  assert max(np.abs(leaf).max() for leaf in leaves) > 1e-2
  for a, b in zip(jax.tree.leaves(got), leaves, strict=True):
    np.testing.assert_allclose(a, b, atol=2e-5, rtol=2e-4)


@pytest.mark.parametrize(
  ('dtype', 'asked', 'expected'),
  [
    ('float32', 'float32', 'HIGHEST'),
    ('float32', 'bfloat16', 'DEFAULT'),
    # The compiler refuses a kernel that multiplies bfloat16 in float32.
    ('bfloat16', 'float32', 'DEFAULT'),
  ],
)
def test_the_backward_pass_has_the_precision_of_the_forward_pass(
  dtype, asked, expected
):
  c = config(head_dim=64, matmul_precision=asked)
  *given, do = (x.astype(dtype) for x in inputs(c, ROWS))

  def gradients(q, k, v):
    def loss(q, k, v):
      with jax.default_matmul_precision(asked):  # as the network's layers
        out = splash.causal(ROWS, c, 'global', 1.0, q, k, v)
        return jnp.sum(out * do)

    return jax.grad(loss, (0, 1, 2))(q, k, v)

  text = str(jax.make_jaxpr(gradients)(*given))
  found = re.findall(r'precision=\(?(?:Precision\.)?(\w+)', text)
  # Of the kernels: 2 products forward, 3 for the queries' gradient, 4 for the
  # others; and one of the output with its gradient.
  assert len(found) == 10 and set(found) == {expected}


def test_the_kernel_is_of_tpus():
  auto = config(attention='auto')
  assert architecture.attention_on('tpu', auto) == 'splash'
  assert architecture.attention_on('tpu', config()) == 'einsum'
  for platform in ('cpu', 'gpu'):
    assert architecture.attention_on(platform, auto) == 'einsum'
  c = config(attention='splash')
  with pytest.raises(configuration.ConfigurationError) as error:
    einsum(ROWS, c, 'global', *inputs(c, ROWS)[:3])
  assert "of the kind 'cpu'" in str(error.value)
  assert '--gin.ATTENTION=auto' in str(error.value)


@tpu_step.needs_libtpu
def test_a_training_step_with_the_kernel_compiles_for_a_tpu_that_is_not_here():
  """With GQA, local layers, a soft cap, padded rows and recomputation."""
  found = tpu_step.kernels('dots', shares=False)
  # Each of the pattern's two layers: forward, not again for the backward pass,
  # and the gradients of queries and of keys with values.
  assert found.count('splash_mha_fwd') == 2
  assert found.count('splash_mha_dq') == 2
  assert found.count('splash_mha_dkv') == 2
