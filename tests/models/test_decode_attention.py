"""The kernel of a decode step, interpreted, against attention in numpy."""

import functools

import cached_decoding
import jax
import jax.numpy as jnp
import meshes
import numpy as np
import pytest
import small_networks
import tiny_run

from rest_jax.distributed import partitioning
from rest_jax.models import (
  architecture,
  attention,
  cache_writes,
  cached_attention,
  caches,
  decode_attention,
)

ORDERS = [cached_attention.KeysValues, cached_attention.PlacesLast]
G, N, K, R, E = 4, 3, 2, 2, 8
P, Q, T, C = 32, 16, 384, 16  # 384: three blocks of suffixes


def drawn(
  seed,
  dtype=jnp.float32,
  places=(P, Q, T, C),
  width=E,
  order=cached_attention.KeysValues,
):
  """Queries, and keys and values of all parts; place 5 of the chunk is new.

  The same numbers in every order.
  """
  draw = np.random.default_rng(seed)

  def normal(*shape):
    return jnp.asarray(draw.normal(size=shape), dtype)

  def part(*leading, length):
    keys = normal(*leading, width, length)
    values = normal(*leading, length, width)
    if order is cached_attention.PlacesLast:
      values = values.swapaxes(-1, -2)
    return order(keys, values)

  p, q, t, c = places
  return normal(G, N, K, R, width), [
    part(K, length=p),
    part(G, K, length=q),
    part(G, N, K, length=t),
    part(G, N, K, length=c),
  ]


def lengths(suffix):
  return decode_attention.Lengths(
    jnp.asarray(29),
    jnp.asarray([16, 1, 9, 0]),
    jnp.asarray(suffix),
    jnp.asarray(5),
  )


# Of the lanes of each group: none, up to a block, in the last block, all.
SUFFIX = [[0, 0, 0], [16, 128, 0], [368, 16, 144], [384, 384, 384]]


def whole(part):
  """(keys, values) of a part in float64, int8 ones times their scales.

  They are (…, E, S) and (…, S, E), in whichever order the part is.
  """
  keys, values, key_scales, value_scales = part
  keys, values = (np.asarray(array, np.float64) for array in (keys, values))
  if isinstance(part, cached_attention.PlacesLast):
    values = np.swapaxes(values, -1, -2)
  if key_scales is not None:
    keys = keys * np.asarray(key_scales)
    values = values * np.swapaxes(value_scales, -1, -2)
  return keys, values


def by_hand(config, kind, q, parts, has_prefix, here):
  """(G, N, K, R, E), float64: each query over the tokens that it sees."""
  arrays = [whole(part) for part in parts]
  q = np.asarray(q, np.float64)
  out = np.zeros(q.shape)
  prefix = int(here.prefix) if has_prefix else 0
  for g, n, k, r in np.ndindex(*q.shape[:4]):
    question, suffix = int(here.question_G[g]), int(here.suffix_GN[g, n])
    number = int(here.place) + 1
    seen = [
      (arrays[0], k, prefix),
      (arrays[1], (g, k), question),
      (arrays[2], (g, n, k), suffix),
      (arrays[3], (g, n, k), number),
    ]
    keys = np.concatenate([kv[0][at][:, :m].T for kv, at, m in seen])
    values = np.concatenate([kv[1][at][:m] for kv, at, m in seen])
    scores = keys @ q[g, n, k, r] / np.sqrt(q.shape[-1])
    if config.attention_soft_cap is not None:
      cap = config.attention_soft_cap
      scores = cap * np.tanh(scores / cap)
    if kind == 'local':
      scores, values = scores[-config.window :], values[-config.window :]
    weights = np.exp(scores - scores.max())
    out[g, n, k, r] = weights @ values / weights.sum()
  return out


def config(**fields):
  return small_networks.network(
    **{'num_heads': K * R, 'num_kv_heads': K, 'head_dim': E} | fields
  )


@pytest.mark.parametrize('has_prefix', [True, False])
@pytest.mark.parametrize('cap', [None, 2.0])
@pytest.mark.parametrize('window', [None, 7, 40, 400])
def test_each_lane_attends_to_what_was_fed_to_it(has_prefix, cap, window):
  kind = 'global' if window is None else 'local'
  model = config(
    attention_soft_cap=cap,
    **({} if window is None else {'layer_pattern': (kind,), 'window': window}),
  )
  q, parts = drawn(0)
  here = lengths(SUFFIX)
  if not has_prefix:
    here = here._replace(prefix=jnp.asarray(0))
  got = decode_attention.cached(
    model,
    kind,
    q,
    parts[0] if has_prefix else None,
    *parts[1:],
    here,
    interpret=True,
  )
  expected = by_hand(model, kind, q, parts, has_prefix, here)
  np.testing.assert_allclose(got, expected, atol=2e-6)


def test_bfloat16_products_are_summed_in_float32():
  q, parts = drawn(1, jnp.bfloat16)
  got = decode_attention.cached(
    config(dtype='bfloat16'),
    'global',
    q,
    *parts,
    lengths(SUFFIX),
    interpret=True,
  )
  assert got.dtype == jnp.bfloat16
  expected = by_hand(config(), 'global', q, parts, True, lengths(SUFFIX))
  # Queries, weights and the result are rounded to 8 bits, sums are not.
  np.testing.assert_allclose(np.asarray(got, np.float64), expected, atol=2e-2)


def test_what_lies_behind_the_lengths_changes_no_bit():
  q, parts = drawn(2)
  here = lengths(SUFFIX)
  attend = functools.partial(
    decode_attention.cached, config(), 'global', q, interpret=True
  )
  expected = attend(*parts, here)
  prefix, question, suffix, chunk = (
    cached_attention.KeysValues(*(np.array(array) for array in part[:2]))
    for part in parts
  )
  for keys, values, length in [(*prefix[:2], 29), (*chunk[:2], 6)]:
    keys[..., length:] = 1e4
    values[..., length:, :] = 1e4
  for g in range(G):
    question[0][g, ..., int(here.question_G[g]) :] = 1e4
    question[1][g, :, int(here.question_G[g]) :] = 1e4
    for n in range(N):
      suffix[0][g, n, ..., SUFFIX[g][n] :] = 1e4
      suffix[1][g, n, :, SUFFIX[g][n] :] = 1e4
  got = attend(prefix, question, suffix, chunk, here)
  np.testing.assert_array_equal(got, expected)


def test_a_lane_does_not_depend_on_how_far_its_neighbours_are():
  # They decide how many blocks are fetched.
  q, parts = drawn(3)
  attend = functools.partial(
    decode_attention.cached, config(), 'global', q, *parts, interpret=True
  )
  near = attend(lengths([[16, 0, 0]] * G))
  far = attend(lengths([[16, 384, 160]] * G))
  np.testing.assert_array_equal(near[:, 0], far[:, 0])


@pytest.mark.parametrize('axes', [(1, 4, 2), (2, 2, 2)])
def test_a_mesh_computes_the_same(axes):
  q, parts = drawn(4)
  here = lengths(SUFFIX)
  expected = decode_attention.cached(
    config(), 'global', q, *parts, here, interpret=True
  )
  mesh = meshes.mesh(*axes)

  @jax.jit
  def attend(q, parts, here):
    with partitioning.use(mesh):
      return decode_attention.cached(
        config(), 'global', q, *parts, here, interpret=True
      )

  got = attend(q, parts, here)
  np.testing.assert_allclose(got, expected, atol=1e-6)


def test_a_short_suffix_is_one_block():
  q, parts = drawn(5, places=(P, Q, 48, C))
  here = lengths([[0, 16, 48]] * G)
  got = decode_attention.cached(
    config(), 'global', q, *parts, here, interpret=True
  )
  expected = by_hand(config(), 'global', q, parts, True, here)
  np.testing.assert_allclose(got, expected, atol=2e-6)


@pytest.mark.parametrize('has_prefix', [True, False])
def test_int8_caches_are_multiplied_with_their_scales(has_prefix):
  q, parts = drawn(6)
  model = config()
  chunk = parts.pop()
  rounded = [cache_writes._rounded(part) for part in parts]
  assert rounded[2].keys.dtype == jnp.int8
  here = lengths(SUFFIX)
  if not has_prefix:
    here = here._replace(prefix=jnp.asarray(0))
  got = decode_attention.cached(
    model,
    'global',
    q,
    rounded[0] if has_prefix else None,
    *rounded[1:],
    chunk,
    here,
    interpret=True,
  )
  expected = by_hand(model, 'global', q, [*rounded, chunk], has_prefix, here)
  np.testing.assert_allclose(got, expected, atol=2e-6)
  # Rounding to 8 bits is seen, and small.
  plain = by_hand(model, 'global', q, [*parts, chunk], has_prefix, here)
  assert 1e-4 < np.abs(got - plain).max() < 0.05


@pytest.mark.parametrize('has_prefix', [True, False])
@pytest.mark.parametrize(
  'kept, atol', [('float32', 4e-6), ('bfloat16', 2e-2), ('int8', 4e-6)]
)
@pytest.mark.parametrize('road', ['kernel', 'einsum'])
def test_values_of_narrow_heads_that_lie_as_keys_do(
  road, kept, atol, has_prefix
):
  dtype = 'bfloat16' if kept == 'bfloat16' else 'float32'
  model = config(head_dim=64, dtype=dtype)
  q, parts = drawn(
    8, jnp.dtype(dtype), (P, Q, 128, C), 64, cached_attention.PlacesLast
  )
  assert parts[2].values.shape == (G, N, K, 64, 128)
  if kept == 'int8':
    parts[:3] = map(cache_writes._rounded, parts[:3])
    assert type(parts[2]) is cached_attention.PlacesLast
    assert parts[2].values.dtype == jnp.int8
  here = lengths([[0, 16, 128]] * G)
  if not has_prefix:
    here = here._replace(prefix=jnp.asarray(0))
  prefix = parts[0] if has_prefix else None
  if road == 'kernel':
    got = decode_attention.cached(
      model, 'global', q, prefix, *parts[1:], here, interpret=True
    )
  else:
    got = by_einsum(model, q, prefix, *parts[1:], here)
  assert got.dtype == dtype
  expected = by_hand(model, 'global', q, parts, has_prefix, here)
  np.testing.assert_allclose(np.asarray(got, np.float64), expected, atol=atol)


def by_einsum(model, q, prefix, question, suffix, chunk, here):
  newest = here.prefix + here.question_G[:, None] + here.suffix_GN + here.place
  sight = attention.Sight(model, newest)
  seen = [
    *([(prefix, 0, here.prefix)] if prefix else []),
    (question, here.prefix, here.question_G[:, None]),
    (suffix, newest - here.place - here.suffix_GN, here.suffix_GN),
    (chunk, newest - here.place, here.place + 1),
  ]
  masks = [
    sight.mask('global', start, length, part.keys.shape[-1])
    for part, start, length in seen
  ]
  return cached_attention.cached(model, q, [part for part, *_ in seen], masks)


@pytest.mark.parametrize('width', [8, 64])
def test_both_orders_give_the_same(width):
  q, parts = drawn(9, width=width)
  _, others = drawn(9, width=width, order=cached_attention.PlacesLast)
  got, expected = (
    decode_attention.cached(
      config(head_dim=width),
      *('global', q, *these, lengths(SUFFIX)),
      interpret=True,
    )
    for these in (others, parts)
  )
  np.testing.assert_allclose(got, expected, atol=2e-6)


@pytest.mark.parametrize('loop', ['unroll', 'scan'])
@pytest.mark.parametrize('order', ORDERS, ids=lambda order: order.__name__)
def test_decoding_with_the_kernel_has_the_same_logits(monkeypatch, order, loop):
  def logits(max_length):
    model = small_networks.network(
      max_length=max_length,
      num_layers=4,
      num_heads=4,
      layer_pattern=('local', 'global'),
      window=6,
      decode_loop=loop,
    )
    params = tiny_run.fresh(model, seed=0)
    draw = np.random.default_rng(0)
    prompts = [[1, 2, 3, *draw.integers(4, 30, n).tolist()] for n in (2, 5)]
    fed = cached_decoding.Fed(
      model, params, prompts, new=12, lanes=2, prefix=3, chunk=4
    )
    return [fed.feed(draw.integers(0, 30, (2, 2))) for _ in range(10)]

  expected = logits(64)
  monkeypatch.setattr(caches, 'entry_type', lambda _: order)
  monkeypatch.setattr(architecture, 'attention_on', lambda *_: 'splash')
  monkeypatch.setattr(
    decode_attention,
    'cached',
    functools.partial(decode_attention.cached, interpret=True),
  )
  # Another length, or the programs above would be taken.
  other = 65 + ORDERS.index(order)
  np.testing.assert_allclose(logits(other), expected, atol=2e-5)
