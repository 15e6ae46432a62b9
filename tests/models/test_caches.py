"""Caches in int8: what is kept of keys and values, and where it is written."""

import functools

import jax
import jax.numpy as jnp
import meshes
import numpy as np
import pytest
import small_networks
import tiny_run

from rest_jax.distributed import partitioning
from rest_jax.models import cache_writes, caches, decoding, layered
from rest_jax.models.cached_attention import KeysValues, PlacesLast
from rest_jax.sampling import sampling_engine
from rest_jax.sampling.requests import Request, Text
from rest_jax.sampling.streams import EngineConfig, Stream

MODEL = small_networks.network(num_layers=2, vocab_size=64, max_length=64)


ORDERS = pytest.mark.parametrize(
  'order', [KeysValues, PlacesLast], ids=lambda order: order.__name__
)


def drawn(seed, *leading, places, order=KeysValues):
  """The same numbers in every order."""
  draw = np.random.default_rng(seed)
  keys = draw.normal(size=(*leading, 8, places))
  values = draw.normal(size=(*leading, places, 8))
  if order is PlacesLast:
    values = np.swapaxes(values, -1, -2)
  return order(jnp.asarray(keys, 'float32'), jnp.asarray(values, 'float32'))


def upright(entry):
  """The values as (…, S, E)."""
  is_last = isinstance(entry, PlacesLast)
  return np.swapaxes(entry.values, -1, -2) if is_last else entry.values


def whole(entry):
  """Keys (…, E, S) and values (…, S, E), times their scales."""
  return (
    np.asarray(entry.keys) * np.asarray(entry.key_scales),
    upright(entry) * np.swapaxes(entry.value_scales, -1, -2),
  )


@ORDERS
def test_each_token_and_head_is_within_half_a_step_of_what_it_was(order):
  entry = drawn(0, 3, 2, places=5, order=order)
  # One token a thousand times as large: the others keep their precision.
  entry = entry._replace(keys=entry.keys.at[0, 0, :, 2].multiply(1000.0))
  [kept] = cache_writes.rounded(MODEL, [entry], ('group', *caches.PREFIX))
  assert kept.keys.dtype == kept.values.dtype == jnp.int8
  assert kept.key_scales.shape == kept.value_scales.shape == (3, 2, 1, 5)
  assert type(kept) is order
  were = entry.keys, upright(entry)
  for got, given, axis in zip(whole(kept), were, (2, 3), strict=True):
    step = np.abs(given).max(axis=axis, keepdims=True) / 127
    assert (np.abs(got - given) <= step / 2 * 1.0001).all()
    assert (np.abs(got - given).max(axis=axis, keepdims=True) > 0).all()


def test_a_token_of_zeros_stays_one():
  entry = KeysValues(jnp.zeros((1, 1, 8, 4)), jnp.zeros((1, 1, 4, 8)))
  [kept] = cache_writes.rounded(MODEL, [entry], ('group', *caches.PREFIX))
  assert all(not array.any() for array in whole(kept))
  assert np.isfinite(kept.key_scales).all()


def test_suffixes_lie_in_parts_of_whole_chunks_with_room_for_all_tokens():
  for length, chunk in ((1, 4), (31, 4), (33, 4), (100, 8), (4096, 32)):
    parts = caches.empty_suffix(MODEL, 2, 3, length=length, chunk=chunk)
    sizes = [caches.places(part) for part in parts]
    assert caches.starts(parts) == [
      sum(sizes[:index]) for index in range(len(sizes))
    ]
    assert all(size % chunk == 0 for size in sizes)
    assert sum(sizes) == -(-length // chunk) * chunk
    assert len(sizes) <= 8
    assert min(sizes[:-1], default=32) >= 32


@pytest.mark.parametrize('loop', ['unroll', 'scan'])
@pytest.mark.parametrize('parts', [(12,), (4, 8)])
@ORDERS
def test_a_chunk_is_rounded_when_it_is_committed(
  monkeypatch, loop, parts, order
):
  monkeypatch.setattr(caches, 'entry_type', lambda _: order)
  model = small_networks.network(num_layers=2, decode_loop=loop)
  leading = (2,) if loop == 'scan' else ()
  suffix = [
    caches.empty(model, 2, 3, length=part, kind='int8') for part in parts
  ]
  chunk = [
    drawn(layer, *leading, 2, 3, 2, places=4, order=order)
    for layer in range(1 if loop == 'scan' else 2)
  ]
  lengths = jnp.asarray([[0, 4, 8], [4, 0, 0]])
  suffix = cache_writes.commit(model, suffix, lengths, chunk)
  for given, *entries in zip(chunk, *suffix, strict=True):
    keys, values = zip(*map(whole, entries), strict=True)
    joined = np.concatenate(keys, axis=-1), np.concatenate(values, axis=-2)
    expected = given.keys, upright(given)
    for got, new, axis in zip(joined, expected, (-1, -2), strict=True):
      # Places first, and groups and lanes last.
      got, new = (np.moveaxis(np.asarray(a), axis, 0) for a in (got, new))
      first = 1 + len(leading)
      got, new = (
        np.moveaxis(a, (first, first + 1), (-2, -1)) for a in (got, new)
      )
      for g, n in np.ndindex(2, 3):
        expected = np.zeros(got.shape[:-2])
        expected[lengths[g, n] : lengths[g, n] + 4] = new[..., g, n]
        np.testing.assert_allclose(got[..., g, n], expected, atol=0.02)


@ORDERS
@pytest.mark.parametrize('loop', ['unroll', 'scan'])
def test_questions_read_a_prefix_of_int8_as_the_numbers_it_stands_for(
  monkeypatch, loop, order
):
  monkeypatch.setattr(caches, 'entry_type', lambda _: order)
  model = small_networks.network(
    num_layers=2, vocab_size=64, max_length=64, decode_loop=loop
  )
  params = tiny_run.fresh(model, seed=0)
  weights = layered.arrange(model, params)
  kept = cache_writes.rounded(
    model,
    jax.jit(functools.partial(decoding.read_prefix, model), static_argnums=2)(
      weights, jnp.arange(2, 14), 1
    ),
    caches.PREFIX,
  )
  assert all(type(entry) is order for entry in kept)
  meant = [KeysValues(*map(jnp.asarray, whole(entry))) for entry in kept]
  read = jax.jit(functools.partial(decoding.read_questions, model))
  tokens_BQ = jnp.arange(20, 36).reshape(2, 8)
  got, expected = (
    read(weights, caches.Prefix(cache, jnp.int32(11)), tokens_BQ)
    for cache in (kept, meant)
  )
  for one, other in zip(
    jax.tree.leaves(got), jax.tree.leaves(expected), strict=True
  ):
    np.testing.assert_allclose(one, other, atol=1e-5)


def test_values_of_narrow_heads_lie_as_keys_on_tpus_alone(monkeypatch):
  """Rows of 128 numbers would be half padding."""
  found = {}
  for platform in ('cpu', 'gpu', 'tpu'):
    monkeypatch.setattr(
      partitioning, 'platform', lambda mesh=None, p=platform: p
    )
    for width in (8, 64, 96, 128, 256):
      model = small_networks.network(head_dim=width)
      [first, *_] = caches.empty(model, 2, 3, length=5, kind='int8')
      found[platform, width] = first.values.shape[-2:]
      assert first.keys.shape[-2:] == (width, 5)
      assert first.key_scales.shape == first.value_scales.shape
  for (platform, width), shape in found.items():
    is_turned = platform == 'tpu' and width in (8, 64, 96)
    assert shape == ((width, 5) if is_turned else (5, width))


@pytest.mark.parametrize('cache', ['as_computed', 'int8'])
@pytest.mark.parametrize('axes', [(1, 1, 1), (2, 2, 2)])
def test_the_order_of_values_changes_no_sample(monkeypatch, axes, cache):
  expected = sampled_on(axes, cache)
  monkeypatch.setattr(caches, 'entry_type', lambda _: PlacesLast)
  got = sampled_on(axes, cache)
  assert got.keys() == expected.keys()
  for key, sample in got.items():
    assert sample.token_ids == expected[key].token_ids
    np.testing.assert_allclose(
      sample.logprobs, expected[key].logprobs, atol=1e-5
    )


@pytest.mark.parametrize('axes', [(1, 1, 1), (2, 2, 2)])
def test_an_engine_with_int8_caches_scores_nearly_the_same(axes):
  plain, int8 = (sampled_on(axes, cache) for cache in ('as_computed', 'int8'))
  same = [key for key in plain if plain[key].token_ids == int8[key].token_ids]
  assert plain.keys() == int8.keys() and len(same) > len(plain) / 2
  apart = max(
    np.abs(np.subtract(plain[key].logprobs, int8[key].logprobs)).max()
    for key in same
  )
  assert 1e-7 < apart < 0.02


def sampled_on(axes, cache):
  """{(problem, index): sample} of an engine on a mesh."""
  mesh = meshes.mesh(*axes)
  stream = Stream(name='e_step', num_samples=4, temperature=1.0, top_k=20)
  draw = np.random.default_rng(0)
  shared = draw.integers(2, 60, 9).tolist()
  asked = [
    Request(f'p{i}', [*shared, *draw.integers(2, 60, 3 + i)], range(4), 9)
    for i in range(6)
  ]

  config = EngineConfig(
    groups=4,
    lanes=2,
    greedy_groups=4,
    max_decode_length=20,
    prompt_bucket=8,
    chunk=4,
    seed=5,
    cache=cache,
  )
  params = tiny_run.fresh(MODEL, seed=0)
  engine = sampling_engine.Engine(
    MODEL,
    sampling_engine.variables(params, MODEL, config),
    config,
    mesh,
    Text(decode=str, vocab_size=60, eos_ids=[1], stop=()),
  )
  made = engine.generate(asked, stream=stream, iteration=1)
  return {(c.problem_id, c.sample_index): c for c in made}
