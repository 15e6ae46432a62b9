"""The network against numpy written from the formulas, not from our code."""

import dataclasses
import functools
import re

import cached_decoding
import jax
import jax.numpy as jnp
import meshes
import numpy as np
import pytest
import tiny_run

from rest_jax.config import configuration
from rest_jax.distributed import partitioning
from rest_jax.models import network
from rest_jax.models.architecture import DecoderConfig
from rest_jax.models.checkpoints import policies

CONFIG = DecoderConfig(
  vocab_size=61,
  num_layers=3,
  embed_dim=24,
  num_heads=6,
  num_kv_heads=2,
  head_dim=8,
  mlp_dim=40,
  max_length=64,
  rope_theta=500.0,
)


@functools.cache
def parameters(config=CONFIG):
  params = tiny_run.fresh(config, seed=0)

  # Norm scales start at one: give them values that a mix-up would show.
  def shift(path, w):
    if 'scale' not in jax.tree_util.keystr(path):
      return w
    return w + np.broadcast_to(np.linspace(0, 0.3, w.shape[-1]), w.shape)

  return jax.tree_util.tree_map_with_path(shift, params)


@functools.partial(jax.jit, static_argnums=0)
def apply(config, params, tokens, positions, segments):
  net = network.Decoder(config)
  hidden, _ = net.apply(params, tokens, positions, segments)
  return net.apply(params, hidden, method='logits')


def one_sequence(config, params, tokens):
  length = len(tokens)
  logits = apply(
    config,
    params,
    jnp.asarray(tokens)[None],
    jnp.arange(length)[None],
    jnp.ones((1, length), jnp.int32),
  )
  return np.asarray(logits[0])


def numpy_logits(config, params, tokens):
  """A Llama forward pass in float64, head by head and position by position."""
  p = jax.tree.map(lambda w: np.asarray(w, np.float64), params)['params']

  def norm(x, scale):
    return x / np.sqrt((x**2).mean(-1, keepdims=True) + 1e-5) * scale

  def rope(x, position):
    half = len(x) // 2
    out = np.empty_like(x)
    for i in range(half):
      angle = position / config.rope_theta ** (2 * i / len(x))
      a, b = x[i], x[i + half]
      out[i] = a * np.cos(angle) - b * np.sin(angle)
      out[i + half] = a * np.sin(angle) + b * np.cos(angle)
    return out

  x = p['embedding'][np.asarray(tokens)]
  per_kv = config.num_heads // config.num_kv_heads
  for layer in range(config.num_layers):
    w = jax.tree.map(lambda a, i=layer: a[i], p['blocks'])
    h = norm(x, w['attention_norm']['scale'])
    out = np.zeros_like(x)
    for head in range(config.num_heads):
      kv, r = divmod(head, per_kv)
      q = [rope(t @ w['query'][:, kv, r], i) for i, t in enumerate(h)]
      k = [rope(t @ w['key'][:, kv], i) for i, t in enumerate(h)]
      v = h @ w['value'][:, kv]
      for i in range(len(tokens)):
        scores = np.array([q[i] @ k[j] for j in range(i + 1)])
        weights = np.exp(scores / np.sqrt(config.head_dim))
        weights /= weights.sum()
        out[i] += (weights @ v[: i + 1]) @ w['output'][kv, r]
    x = x + out
    h = norm(x, w['mlp_norm']['scale'])
    gate = h @ w['gate']
    x = x + (gate / (1 + np.exp(-gate)) * (h @ w['up'])) @ w['down']
  x = norm(x, p['final_norm']['scale'])
  unembedding = p.get('unembedding', p['embedding'])
  return x @ unembedding.T


@pytest.mark.parametrize('tied', [True, False])
def test_logits_equal_a_numpy_forward_pass(tied):
  config = dataclasses.replace(CONFIG, tie_embeddings=tied)
  params = parameters(config)
  assert ('unembedding' in params['params']) != tied
  tokens = np.random.default_rng(0).integers(0, 61, 11)
  expected = numpy_logits(config, params, tokens)
  np.testing.assert_allclose(
    one_sequence(config, params, tokens), expected, atol=2e-5
  )


def test_number_of_parameters_is_what_the_configuration_says():
  for tied in (True, False):
    config = dataclasses.replace(CONFIG, tie_embeddings=tied)
    leaves = jax.tree.leaves(parameters(config))
    assert sum(leaf.size for leaf in leaves) == config.num_parameters


def test_a_token_does_not_depend_on_later_tokens():
  params = parameters()
  tokens = np.arange(9)
  changed = tokens.copy()
  changed[6] = 50
  a, b = (one_sequence(CONFIG, params, t) for t in (tokens, changed))
  np.testing.assert_array_equal(a[:6], b[:6])
  assert np.abs(a[6:] - b[6:]).max() > 1e-3


def test_packed_segments_do_not_see_each_other():
  params = parameters()
  rng = np.random.default_rng(1)
  first, second = rng.integers(0, 61, 5), rng.integers(0, 61, 7)
  packed = apply(
    CONFIG,
    params,
    jnp.asarray(np.concatenate([first, second, [0, 0]]))[None],
    jnp.asarray([*range(5), *range(7), 0, 0])[None],
    jnp.asarray([1] * 5 + [2] * 7 + [0] * 2)[None],
  )[0]
  np.testing.assert_allclose(
    packed[:5], one_sequence(CONFIG, params, first), atol=1e-5
  )
  np.testing.assert_allclose(
    packed[5:12], one_sequence(CONFIG, params, second), atol=1e-5
  )


@pytest.mark.parametrize('remat', ['full', 'attention', 'dots'])
def test_rematerialisation_changes_memory_and_not_gradients(remat):
  params = parameters()
  tokens = jnp.asarray(np.random.default_rng(2).integers(0, 61, (2, 16)))
  positions = jnp.tile(jnp.arange(16)[None], (2, 1))

  def loss(params, config):
    net = network.Decoder(config)
    hidden, _ = net.apply(params, tokens, positions, positions * 0 + 1)
    return jnp.mean(jnp.square(net.apply(params, hidden, method='logits')))

  def compiled(config):
    gradient = jax.jit(jax.grad(lambda p: loss(p, config)))
    program = gradient.lower(params).compile()
    return program(params), program.memory_analysis().temp_size_in_bytes

  plain, plain_bytes = compiled(CONFIG)
  again, again_bytes = compiled(dataclasses.replace(CONFIG, remat=remat))
  assert again_bytes < plain_bytes
  jax.tree.map(
    lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-6),
    plain,
    again,
  )


@pytest.mark.parametrize('decode_loop', ['unroll', 'scan'])
def test_prefill_and_decode_equal_one_full_pass(decode_loop):
  config = dataclasses.replace(CONFIG, decode_loop=decode_loop)
  params = parameters()
  rng = np.random.default_rng(3)
  sequences = rng.integers(0, 61, (2, 12))
  lengths = np.array([7, 4])
  prefix = 3
  sequences[1, :prefix] = sequences[0, :prefix]
  full = np.stack([one_sequence(CONFIG, params, s) for s in sequences])
  prompts = [s[:length] for s, length in zip(sequences, lengths, strict=True)]
  for shared in (0, prefix):
    fed = cached_decoding.Fed(
      config, params, prompts, new=6, lanes=3, prefix=shared, chunk=2
    )
    for time in range(6):
      newest = sequences[[0, 1], lengths - 1 + time]
      tokens = np.repeat(newest[:, None], 3, 1)
      if time:
        tokens[:, 1] = rng.integers(0, 61, 2)  # a neighbour of its own way
      logits = fed.feed(tokens)
      for g, length in enumerate(lengths):
        np.testing.assert_allclose(
          logits[g, 0], full[g, length - 1 + time], atol=1e-5
        )
        np.testing.assert_allclose(logits[g, 2], logits[g, 0], atol=1e-6)


@pytest.mark.parametrize(
  'change, text',
  [
    ({'num_kv_heads': 4}, 'divisor of num_heads = 6'),
    ({'head_dim': 7}, 'even'),
    ({'activation': 'relu'}, "'silu' | 'gelu'"),
    ({'num_layers': 2.0}, 'expected int'),
  ],
)
def test_impossible_configurations_name_the_field_and_the_fix(change, text):
  error = configuration.ConfigurationError
  with pytest.raises(error, match=re.escape(text)) as caught:
    dataclasses.replace(CONFIG, **change)
  assert next(iter(change)) in str(caught.value)


@pytest.mark.parametrize('tensor', [1, 2])
def test_states_that_are_laid_in_rows_are_neither_changed_nor_gathered(
  monkeypatch, tensor
):
  """As on TPUs, whose compiler is told how the states lie in memory."""
  config = dataclasses.replace(
    CONFIG, embed_dim=32, num_kv_heads=6, mlp_dim=48, vocab_size=64
  )
  grid = meshes.mesh(data=2, fsdp=4 // tensor, tensor=tensor)
  rows = partitioning.sharding(grid, ('batch', 'length'), (8, 20), 'tokens')
  tokens = jax.device_put(jnp.arange(160).reshape(8, 20) % 61, rows)
  places = jax.device_put(jnp.tile(jnp.arange(20)[None], (8, 1)), rows)
  abstract = policies.abstract(config, grid)
  params = jax.device_put(
    parameters(config), jax.tree.map(lambda leaf: leaf.sharding, abstract)
  )

  def loss(params):
    hidden, _ = network.Decoder(config).apply(
      params, tokens, places, places * 0 + 1
    )
    return jnp.sum(jnp.square(hidden))

  def found():
    with partitioning.use(grid):
      lowered = jax.jit(jax.value_and_grad(loss)).lower(params)
    compiled = lowered.compile()
    return lowered.as_text(), compiled.as_text(), compiled(params)

  _, plain, expected = found()
  monkeypatch.setattr(partitioning, 'platform', lambda mesh=None: 'tpu')
  asked, text, got = found()
  assert 'LayoutConstraint' in asked
  gathered = re.findall(r'= \w+\[([\d,]*)\]\S* all-gather\(', text)
  assert gathered and not {g for g in gathered if g.endswith('20,32')}
  # Nor are the gradients of states summed once more.
  sums = re.compile(r'20,32\][^=]* all-reduce\(')
  assert len(sums.findall(text)) == len(sums.findall(plain))
  for a, b in zip(jax.tree.leaves(got), jax.tree.leaves(expected), strict=True):
    near = 1e-5 * float(jnp.abs(b).max())
    np.testing.assert_allclose(a, b, atol=near)
