"""Rotary frequencies against the functions of transformers."""

import math
import types

import jax
import jax.numpy as jnp
import numpy as np
import published_llama as published
import pytest
import small_networks

from rest_jax.config import configuration
from rest_jax.models import rotary
from rest_jax.models.architecture import DecoderConfig, RopeScaling


class Tensor(np.ndarray):
  """What transformers' functions use of a tensor, over numpy."""

  def to(self, *, dtype, **_):
    return self.astype(dtype)


# torch is not installed here; these are the functions of it that are called.
TORCH = types.SimpleNamespace(
  arange=lambda *args, dtype: np.arange(*args).astype(dtype).view(Tensor),
  where=lambda mask, a, b: np.where(mask, a, b),
  int64=np.int64,
  float=np.float32,
)


def theirs(monkeypatch, theta, parameters):
  """The frequencies of transformers' Llama with these rope_parameters."""
  transformers = pytest.importorskip('transformers')
  utils = pytest.importorskip('transformers.modeling_rope_utils')
  monkeypatch.setattr(utils, 'torch', TORCH, raising=False)
  config = transformers.LlamaConfig(
    hidden_size=512,
    num_attention_heads=4,
    max_position_embeddings=131072,
    rope_parameters={'rope_theta': theta, **parameters},
  )
  init = utils.ROPE_INIT_FUNCTIONS[parameters['rope_type']]
  found, attention_factor = init(config, None)
  assert attention_factor == 1
  return np.asarray(found)


def ours(theta, scaling):
  return rotary.frequencies(
    small_networks.network(head_dim=128, rope_theta=theta, rope_scaling=scaling)
  )


@pytest.mark.parametrize(
  'theta, numbers',
  [
    (500_000.0, (8.0, 1.0, 4.0, 8192)),  # Llama 3.1
    (500_000.0, (32.0, 1.0, 4.0, 8192)),  # Llama 3.2
    (10_000.0, (4.0, 2.0, 3.0, 512)),
  ],
)
def test_llama3_scaling_is_that_of_transformers(monkeypatch, theta, numbers):
  factor, low, high, length = numbers
  expected = theirs(
    monkeypatch,
    theta,
    {
      'rope_type': 'llama3',
      'factor': factor,
      'low_freq_factor': low,
      'high_freq_factor': high,
      'original_max_position_embeddings': length,
    },
  )
  scaling = RopeScaling(
    kind='llama3',
    factor=factor,
    low_freq_factor=low,
    high_freq_factor=high,
    original_max_length=length,
  )
  found = np.asarray(ours(theta, scaling))
  np.testing.assert_allclose(found, expected, rtol=1e-6)
  # Some frequencies stay, some are divided, and some are in between.
  shares = np.asarray(ours(theta, None)) / found
  assert shares.min() == 1 and math.isclose(shares.max(), factor, rel_tol=1e-6)
  assert ((shares > 1.01) & (shares < factor - 0.01)).any()


def test_linear_scaling_is_that_of_transformers(monkeypatch):
  expected = theirs(
    monkeypatch, 10_000.0, {'rope_type': 'linear', 'factor': 4.0}
  )
  scaling = RopeScaling(kind='linear', factor=4.0)
  np.testing.assert_allclose(ours(10_000.0, scaling), expected, rtol=1e-6)


def test_a_late_position_turns_in_float32_whatever_the_dtype():
  """bfloat16 has no 2,049: the rotation must not be computed in it."""
  x = jnp.ones((1, 2, 1, 8), jnp.bfloat16)
  frequencies = np.asarray([1.0, 0.5, 0.25, 0.125])
  config = small_networks.network(head_dim=8, rope_theta=16.0)
  turned = rotary.rotate(
    x, rotary.turns(config, jnp.asarray([[2048, 2049]]))['global']
  )
  assert turned.dtype == jnp.bfloat16
  angles = np.asarray([2048, 2049])[:, None] * frequencies
  expected = np.cos(angles) - np.sin(angles)
  np.testing.assert_allclose(
    np.asarray(turned[0, :, 0, :4], np.float32), expected, atol=0.01
  )


@pytest.mark.parametrize('dtype', ['float32', 'bfloat16'])
@pytest.mark.parametrize('heads', [(), (3,), (2, 3)])
def test_halves_swapped_by_a_product_turn_alike(dtype, heads):
  config = small_networks.network(head_dim=16)
  draw = np.random.default_rng(0)
  x, gradient = (
    jnp.asarray(draw.standard_normal((2, 5, *heads, 16)), dtype)
    for _ in range(2)
  )
  positions = jnp.asarray(draw.integers(0, 9000, (2, 5)))
  turns = rotary.turns(config, positions)['global']

  @jax.jit
  def both(turns):
    turned, back = jax.vjp(lambda x: rotary.rotate(x, turns), x)
    return turned, *back(gradient)

  near = 1e-6 if dtype == 'float32' else 0.02
  for by_halves, by_product in zip(
    both(turns), both(rotary.whole(turns)), strict=True
  ):
    assert by_product.dtype == by_halves.dtype == x.dtype
    np.testing.assert_allclose(
      *(np.asarray(y, np.float32) for y in (by_product, by_halves)), atol=near
    )


def test_a_tpu_swaps_halves_by_a_product(monkeypatch):
  config = small_networks.network()
  positions = jnp.arange(3)[None]
  for platform, kind in (
    ('cpu', rotary.Turns),
    ('gpu', rotary.Turns),
    ('tpu', rotary.WholeTurns),
  ):
    monkeypatch.setattr(rotary.partitioning, 'platform', lambda p=platform: p)
    found = rotary.turns(config, positions)
    assert {*map(type, found.values())} == {kind}


def test_the_network_turns_by_the_scaled_frequencies(tmp_path):
  found = published.matrices(tied=True)
  folder = published.write_safetensors(
    tmp_path / 'm',
    found,
    config={'rope_scaling': {'rope_type': 'linear', 'factor': 4.0}},
  )
  tokens = [3, 60, 7, 7, 21, 0, 44]
  scaling = RopeScaling(kind='linear', factor=4.0)
  config = DecoderConfig(**published.SIZES, rope_scaling=scaling)
  expected = published.forward(found, tokens, rope_factor=4)
  assert np.abs(published.forward(found, tokens) - expected).max() > 0.01
  got = published.our_logits(folder, config, tokens)
  np.testing.assert_allclose(got, expected, atol=2e-5)


@pytest.mark.parametrize(
  'field, value', [('factor', 0.5), ('high_freq_factor', 1.0)]
)
def test_a_scaling_that_cannot_be_is_refused(field, value):
  with pytest.raises(configuration.ConfigurationError, match=field):
    RopeScaling(**{'kind': 'llama3', 'factor': 8.0} | {field: value})
