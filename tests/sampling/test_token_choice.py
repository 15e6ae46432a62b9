"""The choice of a token against numpy, and against its own distribution."""

import functools

import jax
import jax.numpy as jnp
import meshes
import numpy as np
import pytest

from rest_jax.sampling import candidates, identity, limits, token_choice
from rest_jax.sampling.streams import Stream


@functools.cache
def compiled():
  return jax.jit(token_choice.choose, static_argnums=4)


def stream(temperature, top_k, top_p, min_p):
  return Stream(
    name='e_step',
    num_samples=1,
    temperature=temperature,
    top_k=top_k,
    top_p=top_p,
    min_p=min_p,
  )


def draw(
  logits, keys, position=0, temperature=1.0, top_k=0, top_p=1.0, min_p=0.0
):
  how = stream(temperature, top_k, top_p, min_p)
  tokens, logprobs, sampling = compiled()(
    jnp.asarray(logits, jnp.float32),
    keys,
    np.full(len(keys), position),
    token_choice.settings(how),
    token_choice.road(how),
  )
  return np.asarray(tokens), np.asarray(logprobs), np.asarray(sampling)


def some_keys(rows, seed=0):
  names = [identity.words('e_step', 1, f'p{i}', i) for i in range(rows)]
  return identity.keys(seed, names)


def survivors(logits, temperature, top_k, top_p, min_p):
  """The distribution that should be drawn from, by sorting, in float64."""
  scaled = np.asarray(logits, np.float64)
  order = np.lexsort((np.arange(len(scaled)), -scaled))
  keep = order[:top_k] if top_k else order
  p = np.exp((scaled[keep] - scaled.max()) / temperature)
  p /= p.sum()
  if top_p < 1:
    number = int(np.searchsorted(np.cumsum(p), top_p - 1e-12)) + 1
    keep, p = keep[:number], p[:number] / p[:number].sum()
  keep, p = keep[p >= min_p * p.max()], p[p >= min_p * p.max()]
  p /= p.sum()
  result = np.zeros(len(scaled))
  result[keep] = p
  return result


@pytest.mark.parametrize(
  'temperature, top_k, top_p, min_p',
  [
    (1.0, 0, 1.0, 0.0),
    (0.7, 40, 1.0, 0.0),
    (0.7, 5, 1.0, 0.0),
    (1.0, 0, 0.8, 0.0),
    (1.3, 10, 0.7, 0.0),
    (0.5, 100, 0.95, 0.0),
    (1.0, 1, 1.0, 0.0),
    (1.0, 0, 1.0, 0.05),
    (0.8, 50, 0.9, 0.1),
    (1.0, 100, 0.9, 0.03),
  ],
)
def test_tokens_follow_the_distribution_of_the_survivors(
  temperature, top_k, top_p, min_p
):
  logits = np.random.default_rng(0).normal(0, 2, 150).astype(np.float32)
  rows = 20_000
  tokens, _, sampling = draw(
    np.tile(logits, (rows, 1)),
    some_keys(rows),
    temperature=temperature,
    top_k=top_k,
    top_p=top_p,
    min_p=min_p,
  )
  expected = survivors(logits, temperature, top_k, top_p, min_p)
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


def test_logits_that_are_no_numbers_give_an_id_and_no_probability():
  logits = np.full((2, 80), np.nan, np.float32)
  tokens, logprobs, _ = draw(logits, some_keys(2), temperature=0)
  assert (tokens < 80).all() and not np.isfinite(logprobs).any()


def test_zero_temperature_is_greedy_and_ties_go_to_the_lower_id():
  logits = np.zeros((3, 80), np.float32)
  logits[1, [7, 40]] = 2
  logits[2, 79] = 1
  tokens, _, sampling = draw(logits, some_keys(3), temperature=0)
  np.testing.assert_array_equal(tokens, [0, 7, 79])
  np.testing.assert_array_equal(sampling, 0)


@functools.cache
def split_over_eight(road):
  spec = jax.sharding.PartitionSpec
  return jax.jit(
    jax.shard_map(
      functools.partial(token_choice.choose, road=road, axis='tensor'),
      mesh=meshes.mesh(tensor=8),
      in_specs=(spec(None, 'tensor'), spec(), spec(), spec()),
      out_specs=spec(),
      check_vma=False,
    )
  )


@pytest.mark.parametrize(
  'temperature, top_k, top_p, min_p',
  [
    (0.0, 0, 1.0, 0.0),
    (0.7, 40, 1.0, 0.0),
    (0.7, 40, 0.8, 0.05),
    (1.0, 0, 1.0, 0.0),
    (1.0, 0, 0.9, 0.0),
    (1.2, 300, 0.9, 0.01),
  ],
)
@pytest.mark.parametrize('ties', [False, True])
def test_a_split_vocabulary_is_chosen_from_as_a_whole_one(
  temperature, top_k, top_p, min_p, ties
):
  """Over 8 devices whose parts do not end where blocks of ids do."""
  rng = np.random.default_rng(9)
  logits = rng.normal(0, 2, (32, 5000)).astype(np.float32)
  logits[:, 4990:] = -np.inf
  if ties:
    logits = np.round(logits)
  how = stream(temperature, top_k, top_p, min_p)
  road = token_choice.road(how)
  arguments = (
    jnp.asarray(logits),
    some_keys(32),
    np.arange(32),
    token_choice.settings(how),
  )
  whole = compiled()(*arguments, road)
  split = split_over_eight(road)(*arguments)
  np.testing.assert_array_equal(split[0], whole[0])
  np.testing.assert_allclose(split[1], whole[1], atol=1e-5)
  np.testing.assert_allclose(split[2], whole[2], atol=1e-5)


@pytest.mark.parametrize('number', [1, 5, 64])
@pytest.mark.parametrize('vocabulary', [64, 65, 300, 5000])
def test_the_best_tokens_are_those_of_a_sort(number, vocabulary):
  rng = np.random.default_rng(vocabulary)
  # Few distinct values, so that there are ties at every boundary.
  logits = rng.integers(0, 6, (40, vocabulary)).astype(np.float32)
  logits[:20] += rng.normal(size=(20, vocabulary))
  logits[7, : vocabulary // 2] = -np.inf
  best = jax.jit(candidates.best, static_argnums=1)
  values, ids, tops = best(logits, number)
  np.testing.assert_array_equal(tops, logits.max(axis=1))
  for row in range(40):
    order = np.lexsort((np.arange(vocabulary), -logits[row]))[:number]
    np.testing.assert_array_equal(ids[row], order)
    np.testing.assert_array_equal(values[row], logits[row, order])


def test_rows_are_chosen_as_if_each_were_alone():
  """With their own settings, bit for bit, whatever the other rows ask for."""
  rng = np.random.default_rng(6)
  logits = rng.normal(0, 2, (6, 700)).astype(np.float32)
  keys = some_keys(6)
  settings = [
    (0.7, 0, 1.0, 0.0),
    (1.0, 0, 0.9, 0.0),
    (1.3, 100, 1.0, 0.0),
    (0.5, 0, 1.0, 0.1),
    (1.0, 500, 0.8, 0.02),
    (0.0, 0, 1.0, 0.0),
  ]
  mixed = token_choice.Settings(
    *(
      np.array(column, dtype)
      for column, dtype in zip(
        zip(*settings, strict=True), ('f4', 'i4', 'f4', 'f4'), strict=True
      )
    )
  )
  whole = token_choice.Road.LIMITED
  together = compiled()(logits, keys, np.arange(6), mixed, whole)
  for row in range(6):
    own = token_choice.Settings(*(column[row] for column in mixed))
    alone = compiled()(
      np.repeat(logits[row : row + 1], 6, 0),
      jnp.repeat(keys[row : row + 1], 6, 0),
      np.full(6, row),
      own,
      whole,
    )
    for one, many in zip(alone, together, strict=True):
      np.testing.assert_array_equal(one, np.repeat(many[row], 6))


def test_another_temperature_top_k_or_top_p_compiles_nothing():
  keys = some_keys(4)
  logits = np.random.default_rng(3).normal(size=(4, 70))
  draw(logits, keys, temperature=0.7, top_k=40, top_p=0.9)
  draw(logits, keys, temperature=0.7, top_p=0.9)
  before = compiled()._cache_size()
  seen = {
    tuple(draw(logits, keys, temperature=t, top_k=k, top_p=p)[0])
    for t, k, p in [(2.5, 8, 1.0), (2.5, 0, 0.3), (1.0, 65, 0.9), (0.1, 1, 1.0)]
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
      limits.keep_top_k(
        jnp.asarray(logits), np.full(200, k), limits.Vocabulary(500)
      )
    )
    np.testing.assert_array_equal(kept.sum(-1), k)
    for row in range(5):
      order = np.lexsort((np.arange(500), -logits[row]))
      expected = sorted(order[:k])
      np.testing.assert_array_equal(np.flatnonzero(kept[row]), expected)
