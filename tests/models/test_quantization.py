"""Int8 matrices: rounded to nearest, the same on every mesh, close in logits.

The oracle rounds in numpy, in float64, one output channel after the other, and
runs the unquantised network on the numbers that it gives back.
"""

import dataclasses
import functools

import cached_decoding
import jax
import jax.numpy as jnp
import meshes
import numpy as np
import pytest
import small_networks
import tiny_run

from rest_jax.models import matrices, network, quantization
from rest_jax.models.checkpoints import policies
from rest_jax.sampling import sampling_engine

MODEL = small_networks.network(
  vocab_size=64,
  num_layers=3,
  embed_dim=32,
  num_heads=4,
  mlp_dim=64,
  layer_pattern=('local', 'global'),  # two stacks, blocks and rest
  window=5,
)
# Of the logits of a random network, as a share of their standard deviation:
# the stated tolerance of int8. bfloat16 has half of these gaps here.
LARGEST_GAP, MEAN_GAP = 0.15, 0.02


@functools.cache
def parameters(model=MODEL):
  return tiny_run.fresh(model, seed=4)


@functools.cache
def quantized(model=MODEL):
  return jax.jit(quantization.quantize)(parameters(model))


@functools.partial(jax.jit, static_argnums=0)
def logits(model, variables, tokens_BL):
  places_BL = jnp.broadcast_to(
    jnp.arange(tokens_BL.shape[1])[None], tokens_BL.shape
  )
  net = network.Decoder(model)
  hidden, _ = net.apply(variables, tokens_BL, places_BL, places_BL * 0 + 1)
  return net.apply(variables, hidden, method='logits')


def tokens(rows=4, length=16):
  rng = np.random.default_rng(0)
  return jnp.asarray(rng.integers(0, MODEL.vocab_size, (rows, length)))


def is_quantized(name):
  return name in matrices.MATRICES or name.endswith('embedding')


def by_name(tree):
  flat, _ = jax.tree_util.tree_flatten_with_path(tree)
  return {tuple(entry.key for entry in path): leaf for path, leaf in flat}


def as_channels(name, array):
  """(channels, inputs) of a matrix, or of a stack of them."""
  array = np.asarray(array, np.float64)
  if name.endswith('embedding'):
    return array
  matrix = matrices.MATRICES[name]
  count = array.shape[0]
  size = int(np.prod(matrix.shape(MODEL)[: len(matrix.inputs)]))
  return np.swapaxes(array.reshape(count, size, -1), 1, 2).reshape(-1, size)


def back(name, channels, shape):
  if name.endswith('embedding'):
    return channels
  size = channels.shape[1]
  stacked = channels.reshape(shape[0], -1, size)
  return np.swapaxes(stacked, 1, 2).reshape(shape)


def numpy_rounded(params):
  """The parameters after int8 and back, in float64."""

  def rounded(path, array):
    name = path[-1].key
    if not is_quantized(name):
      return array
    channels = as_channels(name, array).copy()
    for weights in channels:
      scale = np.abs(weights).max() / 127
      weights[:] = np.rint(weights / scale) * scale
    return back(name, channels, array.shape).astype(np.float32)

  return jax.tree_util.tree_map_with_path(rounded, params)


@pytest.mark.parametrize('tied', [True, False])
def test_the_network_multiplies_the_rounded_matrices(tied):
  model = dataclasses.replace(MODEL, tie_embeddings=tied)
  params = parameters(model)
  assert ('unembedding' in params['params']) != tied
  exact = np.asarray(logits(model, params, tokens()))
  found = logits(model, quantized(model), tokens())
  expected = logits(model, numpy_rounded(params), tokens())
  np.testing.assert_allclose(found, expected, atol=1e-4)
  gap = np.abs(np.asarray(found) - exact) / exact.std()
  assert 1e-3 < gap.max() < LARGEST_GAP and gap.mean() < MEAN_GAP


def test_the_tolerance_holds_in_bfloat16_too():
  """The scale is applied in float32, behind the product."""
  model = dataclasses.replace(MODEL, dtype='bfloat16')
  exact = np.asarray(logits(MODEL, parameters(), tokens()))
  found = logits(model, quantized(), tokens())
  assert found.dtype == jnp.float32
  gap = np.abs(np.asarray(found) - exact) / exact.std()
  assert gap.max() < LARGEST_GAP and gap.mean() < MEAN_GAP


def test_every_weight_is_rounded_to_the_nearest_step_of_its_own_channel():
  made = quantized()
  scales = by_name(made['scales'])
  numbers = by_name(made['params'])
  for path, exact in by_name(parameters()['params']).items():
    name = path[-1]
    if not is_quantized(name):
      assert path not in scales
      np.testing.assert_array_equal(numbers[path], exact)
      continue
    assert numbers[path].dtype == jnp.int8
    assert numbers[path].shape == exact.shape
    q = as_channels(name, numbers[path])
    scale = np.asarray(scales[path], np.float64).reshape(-1, 1)
    error = np.abs(as_channels(name, exact) - q * scale)
    assert (error <= scale / 2 * (1 + 1e-5)).all()
    np.testing.assert_array_equal(np.abs(q).max(axis=1), 127)


def test_a_channel_of_zeros_stays_zero_and_one_of_nan_shows_itself():
  weights = np.ones((2, 8, 16), np.float32)
  weights[0, :, 3] = 0
  weights[1, 2, 5] = np.nan
  made = quantization.quantize({'params': {'blocks': {'gate': weights}}})
  numbers = np.asarray(made['params']['blocks']['gate'])
  scales = np.asarray(made['scales']['blocks']['gate'])
  assert not numbers[0, :, 3].any()
  assert np.isnan(scales[1, 5]) and np.isfinite(scales).sum() == 31


@pytest.mark.parametrize('decode_loop', ['unroll', 'scan'])
def test_decoding_over_caches_equals_one_full_pass(decode_loop):
  model = dataclasses.replace(MODEL, decode_loop=decode_loop)
  variables = quantized()
  ids = tokens(rows=2, length=9)
  full = np.asarray(logits(MODEL, variables, ids))
  fed = cached_decoding.Fed(model, variables, ids[:, :6], new=4)
  for time in range(4):
    found = fed.feed(ids[:, 5 + time][:, None])
    np.testing.assert_allclose(found[:, 0], full[:, 5 + time], atol=1e-4)


def test_numbers_and_scales_are_the_same_on_every_mesh_and_split_as_weights():
  single = quantized()
  mesh = meshes.mesh(data=2, fsdp=2, tensor=2)
  where = jax.tree.map(lambda t: t.sharding, policies.abstract(MODEL, mesh))
  placed = jax.device_put(parameters(), where)
  before = {path: w.sharding for path, w in by_name(placed['params']).items()}
  split = quantization.quantize_on(mesh, placed)
  numbers = by_name(split['params'])
  for path, one in by_name(single['params']).items():
    np.testing.assert_array_equal(numbers[path], one)
    assert numbers[path].sharding.is_equivalent_to(before[path], one.ndim)
  scales = by_name(split['scales'])
  for path, one in by_name(single['scales']).items():
    np.testing.assert_array_equal(scales[path], one)
  gate = scales['blocks', 'layers_0', 'gate']
  assert gate.sharding.spec == jax.sharding.PartitionSpec(None, 'tensor')
  assert by_name(placed['params'])['blocks', 'layers_0', 'gate'].is_deleted()


def test_d_val_and_the_stage_sample_round_to_the_same_numbers():
  """One from the weights in training, one from those that it loads."""
  model = dataclasses.replace(MODEL, dtype='bfloat16')
  engine = dataclasses.replace(tiny_run.ENGINE, weights='int8')
  mesh = meshes.mesh()
  inside = jax.jit(
    lambda params: sampling_engine.variables(params, model, engine)
  )(parameters())
  loaded = jax.tree.map(lambda w: w.astype(jnp.bfloat16), parameters())
  outside = sampling_engine.variables_on(mesh, loaded, model, engine)
  jax.tree.map(np.testing.assert_array_equal, inside, outside)
  plain = sampling_engine.variables(parameters(), model, tiny_run.ENGINE)
  assert plain.outer.keys() == plain.layers[0].keys() == {'params'}
