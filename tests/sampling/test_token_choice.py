"""The choice of a token against numpy, and against its own distribution."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from rest_jax.sampling import identity, token_choice


@functools.cache
def compiled():
  return jax.jit(token_choice.choose)


def draw(logits, keys, position=0, temperature=1.0, top_k=0, top_p=1.0):
  tokens, logprobs, sampling = compiled()(
    jnp.asarray(logits, jnp.float32),
    keys,
    np.int32(position),
    token_choice.Settings(
      np.float32(temperature), np.int32(top_k), np.float32(top_p)
    ),
  )
  return np.asarray(tokens), np.asarray(logprobs), np.asarray(sampling)


def some_keys(rows, seed=0):
  names = [identity.words('e_step', 1, f'p{i}', i) for i in range(rows)]
  return identity.keys(seed, names)


def survivors(logits, temperature, top_k, top_p):
  """The distribution that should be drawn from, by sorting, in float64."""
  scaled = np.asarray(logits, np.float64)
  order = np.lexsort((np.arange(len(scaled)), -scaled))
  keep = order[:top_k] if top_k else order
  p = np.exp((scaled[keep] - scaled.max()) / temperature)
  p /= p.sum()
  if top_p < 1:
    number = int(np.searchsorted(np.cumsum(p), top_p - 1e-12)) + 1
    keep, p = keep[:number], p[:number] / p[:number].sum()
  result = np.zeros(len(scaled))
  result[keep] = p
  return result


@pytest.mark.parametrize(
  'temperature, top_k, top_p',
  [
    (1.0, 0, 1.0),
    (0.7, 40, 1.0),
    (0.7, 5, 1.0),
    (1.0, 0, 0.8),
    (1.3, 10, 0.7),
    (0.5, 100, 0.95),
    (1.0, 1, 1.0),
  ],
)
def test_tokens_follow_the_distribution_of_the_survivors(
  temperature, top_k, top_p
):
  logits = np.random.default_rng(0).normal(0, 2, 150).astype(np.float32)
  rows = 20_000
  tokens, _, sampling = draw(
    np.tile(logits, (rows, 1)),
    some_keys(rows),
    temperature=temperature,
    top_k=top_k,
    top_p=top_p,
  )
  expected = survivors(logits, temperature, top_k, top_p)
  assert expected[tokens].min() > 0  # never a token that was ruled out
  np.testing.assert_allclose(sampling, np.log(expected[tokens]), atol=2e-5)
  # Chi-square over cells of at least 20; false alarm under 1e-6 per case.
  counts = np.bincount(tokens, minlength=150)
  cells = expected * rows >= 20
  rest = expected[~cells].sum() * rows
  wanted = expected * rows
  chi = ((counts - wanted)[cells] ** 2 / wanted[cells]).sum()
  if rest >= 20:
    chi += (counts[~cells].sum() - rest) ** 2 / rest
  freedom = max(cells.sum() - 1, 1)
  assert chi < freedom + 5 * np.sqrt(2 * freedom) + 30


def test_model_log_probability_is_that_of_the_whole_softmax():
  logits = np.random.default_rng(1).normal(0, 3, (50, 90)).astype(np.float32)
  tokens, logprobs, _ = draw(
    logits, some_keys(50), temperature=0.4, top_k=3, top_p=0.9
  )
  exact = logits.astype(np.float64)
  exact -= np.log(np.exp(exact).sum(-1, keepdims=True))
  np.testing.assert_allclose(logprobs, exact[np.arange(50), tokens], atol=1e-5)


def test_zero_temperature_is_greedy_and_ties_go_to_the_lower_id():
  logits = np.zeros((3, 80), np.float32)
  logits[1, [7, 40]] = 2
  logits[2, 79] = 1
  tokens, _, sampling = draw(logits, some_keys(3), temperature=0)
  np.testing.assert_array_equal(tokens, [0, 7, 79])
  np.testing.assert_array_equal(sampling, 0)


def test_the_short_list_chooses_as_the_whole_vocabulary_does(monkeypatch):
  rng = np.random.default_rng(2)
  # Integer logits: ties at every boundary.
  logits = rng.integers(0, 6, (400, 300)).astype(np.float32)
  keys = some_keys(400)
  choices = {}
  for short in (64, 4):
    monkeypatch.setattr(token_choice, 'SHORT_LIST', short)
    function = jax.jit(lambda *a: token_choice.choose(*a))  # noqa: B023
    choices[short] = np.asarray(
      function(
        jnp.asarray(logits),
        keys,
        np.int32(3),
        token_choice.Settings(np.float32(0.9), np.int32(40), np.float32(0.9)),
      )[0]
    )
  np.testing.assert_array_equal(choices[64], choices[4])
  assert len(np.unique(choices[64])) > 20


def test_another_temperature_top_k_or_top_p_compiles_nothing():
  keys = some_keys(4)
  logits = np.random.default_rng(3).normal(size=(4, 70))
  draw(logits, keys, temperature=0.7, top_k=40, top_p=0.9)
  before = compiled()._cache_size()
  seen = {
    tuple(draw(logits, keys, temperature=t, top_k=k, top_p=p)[0])
    for t, k, p in [(0.0, 0, 1.0), (2.5, 0, 1.0), (2.5, 8, 1.0), (2.5, 0, 0.3)]
  }
  assert compiled()._cache_size() == before
  assert len(seen) > 1


@pytest.mark.parametrize('top_p', [1.0, 0.95])
def test_a_sure_token_is_always_drawn_from_a_large_vocabulary(top_p):
  """All others together have a probability of 1.2e-8."""
  logits = np.zeros((64, 128_256), np.float32)
  logits[:, 5] = 30
  tokens, logprobs, sampling = draw(logits, some_keys(64), top_p=top_p)
  np.testing.assert_array_equal(tokens, 5)
  np.testing.assert_allclose(logprobs, 0, atol=1e-6)
  np.testing.assert_allclose(sampling, 0, atol=1e-6)


def test_a_masked_candidate_is_never_drawn():
  """Nor where all that is left is far less probable than it would be."""
  logits = np.full((256, 70), -np.inf, np.float32)
  logits[:, [3, 60]] = [-80.0, -81.0]
  for top_k in (0, 2, 5):
    tokens, _, sampling = draw(logits, some_keys(256), top_k=top_k)
    assert set(tokens) == {3, 60}
    assert np.isfinite(sampling).all()


def test_draws_from_128k_tokens_follow_their_probabilities():
  """Chi-squared over ten cells of about equal probability; 384 draws."""
  logits = 3 * np.random.default_rng(5).normal(size=128_256)
  p = np.exp(logits - logits.max())
  p /= p.sum()
  order = np.argsort(p)
  cells = np.empty(len(p), int)
  cells[order] = np.minimum(10 * np.cumsum(p[order]), 9).astype(int)
  expected = np.bincount(cells, p, 10)
  found = np.zeros(10)
  keys = some_keys(384)
  for start in range(0, 384, 32):  # 32 rows at once: 16 MB an array
    rows = np.broadcast_to(logits, (32, len(p)))
    tokens, *_ = draw(rows, keys[start : start + 32])
    found += np.bincount(cells[tokens], minlength=10)
  chi2 = ((found - 384 * expected) ** 2 / (384 * expected)).sum()
  assert chi2 < 45  # 9 degrees of freedom: false alarm 9e-7


def test_keep_top_k_keeps_exactly_k_also_among_equals():
  rng = np.random.default_rng(4)
  logits = rng.integers(-3, 3, (200, 500)).astype(np.float32)
  for k in (1, 7, 65, 499):
    kept = np.isfinite(
      token_choice.keep_top_k(jnp.asarray(logits), np.int32(k))
    )
    np.testing.assert_array_equal(kept.sum(-1), k)
    for row in range(5):
      order = np.lexsort((np.arange(500), -logits[row]))
      expected = sorted(order[:k])
      np.testing.assert_array_equal(np.flatnonzero(kept[row]), expected)
