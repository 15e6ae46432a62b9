"""bfloat16 parameters: rounded without bias, the same anywhere, and they learn.

The neighbours of a number come from numpy's own bits.
"""

import dataclasses
import functools

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
import small_networks
import tiny_run
from meshes import mesh

from rest_jax.training import optimizers, stochastic_rounding, train_step
from rest_jax.training.hyperparameters import OptimizerConfig

MODEL = small_networks.network()
STEPS = 100
ROWS, LENGTH = 4, 12


@functools.cache
def batch():
  rng = np.random.default_rng(0)
  tokens = rng.integers(3, 32, (ROWS, LENGTH + 1)).astype(np.int32)
  places = np.broadcast_to(np.arange(LENGTH, dtype=np.int32), (ROWS, LENGTH))
  ones = np.ones((ROWS, LENGTH), np.int32)
  return {
    'tokens': tokens[:, :-1],
    'targets': tokens[:, 1:],
    'positions': places,
    'segment_ids': ones,
    'loss_weights': ones.astype(np.float32),
    'normalizers': np.full(ROWS, LENGTH, np.float32),
  }


@functools.cache
def transform():
  # A learning rate of fine-tuning: 1e-4 of weights of up to 0.5.
  config = OptimizerConfig(
    name='adamw', learning_rate=1e-4, schedule='constant'
  )
  return optimizers.make(config, STEPS)


def first_state(param_dtype):
  """The same numbers in both dtypes."""
  params = tiny_run.fresh(MODEL, seed=1)
  params = jax.tree.map(
    lambda w: w.astype(jnp.bfloat16).astype(param_dtype), params
  )
  opt_state = jax.jit(transform().init)(params)
  return train_step.TrainState(jnp.int32(0), params, opt_state)


def new_step(param_dtype):
  model = dataclasses.replace(MODEL, param_dtype=param_dtype)
  return jax.jit(train_step.make_step(model, transform(), mesh()))


@functools.cache
def step(param_dtype):
  return new_step(param_dtype)


def final_loss(param_dtype, made=None):
  state = first_state(param_dtype)
  for _ in range(STEPS):
    state, metrics = (made or step(param_dtype))(state, batch())
  return float(metrics['loss'])


def test_bfloat16_parameters_learn_what_float32_ones_learn(monkeypatch):
  exact = final_loss('float32')
  assert abs(final_loss('bfloat16') - exact) < 0.02
  # Rounded to nearest, most weights never move.
  monkeypatch.setattr(
    stochastic_rounding,
    'apply_updates',
    lambda params, updates, key: optax.apply_updates(params, updates),
  )
  assert final_loss('bfloat16', new_step('bfloat16')) > exact + 0.3


def bits(array):
  return np.asarray(array).view(np.uint16).astype(np.int64)


def numbers():
  """Of both signs and many magnitudes, with some that bfloat16 holds."""
  rng = np.random.default_rng(1)
  sizes = 10.0 ** rng.uniform(-30, 30, 500)
  some = (rng.choice([-1, 1], 500) * sizes).astype(np.float32)
  edges = np.array([0.0, -0.0, 1.0, -3.0, 2.0**-126, 1e-40], np.float32)
  return np.concatenate([some, edges])


def test_a_number_becomes_one_of_its_two_neighbours_and_the_mean_is_right():
  """6 standard deviations for each of 506 means: 1 false alarm in a million.

  And ten draws more, for shares near 0 and 1, whose counts are not normal.
  """
  exact, draws = numbers(), 4096
  many = jnp.asarray(np.tile(exact, (draws, 1)))
  found = jax.jit(stochastic_rounding.to_bfloat16)(many, jax.random.key(5))
  below = exact.view(np.uint32) >> 16  # towards zero
  low, high = (
    (upper << 16).astype(np.uint32).view(np.float32).astype(np.float64)
    for upper in (below, below + 1)
  )
  up = bits(found) - below
  share = (exact.astype(np.float64) - low) / (high - low)
  assert set(np.unique(up)) == {0, 1}
  assert not up[:, share == 0].any() and (share == 0).sum() >= 4
  deviation = np.sqrt(share * (1 - share) / draws)
  assert (np.abs(up.mean(0) - share) <= 6 * deviation + 10 / draws).all()


def test_what_is_not_finite_stays():
  odd = jnp.asarray([np.inf, -np.inf, np.nan], jnp.float32)
  found = stochastic_rounding.to_bfloat16(odd, jax.random.key(0))
  np.testing.assert_array_equal(np.asarray(found, np.float32), odd)


def test_float32_parameters_are_updated_as_ever_and_draw_no_noise():
  state = first_state('float32')
  updates = jax.tree.map(lambda w: jnp.sin(w) / 3, state.params)
  key = stochastic_rounding.key(0, jnp.int32(7))
  jax.tree.map(
    np.testing.assert_array_equal,
    stochastic_rounding.apply_updates(state.params, updates, key),
    optax.apply_updates(state.params, updates),
  )
  texts = [
    step(dtype).lower(first_state(dtype), batch()).as_text()
    for dtype in ('float32', 'bfloat16')
  ]
  assert ['threefry' in text for text in texts] == [False, True]


def test_the_noise_is_the_same_on_every_mesh():
  """Of the same sums; those of gradients differ in their last bits."""
  params = first_state('bfloat16').params
  updates = jax.tree.map(
    lambda w: jnp.cos(w.astype(jnp.float32)) * 1e-4, params
  )
  apply = jax.jit(stochastic_rounding.apply_updates)
  key = stochastic_rounding.key(3, jnp.int32(9))
  one = apply(params, updates, key)
  model = dataclasses.replace(MODEL, param_dtype='bfloat16')
  for axes in ({'fsdp': 8}, {'data': 2, 'fsdp': 2, 'tensor': 2}):
    where, _ = train_step.shardings(model, transform(), mesh(**axes))
    places = jax.tree.map(lambda leaf: leaf.sharding, where.params)
    placed = jax.device_put((params, updates), (places, places))
    other = jax.jit(stochastic_rounding.apply_updates, out_shardings=places)(
      *placed, key
    )
    jax.tree.map(
      lambda a, b: np.testing.assert_array_equal(bits(a), bits(b)), one, other
    )


def test_a_resumed_training_draws_the_noise_of_an_unbroken_one():
  state = first_state('bfloat16')
  for _ in range(2):
    state, _ = step('bfloat16')(state, batch())
  saved = jax.device_get(state)
  unbroken, _ = step('bfloat16')(state, batch())
  resumed, _ = step('bfloat16')(jax.device_put(saved), batch())
  jax.tree.map(np.testing.assert_array_equal, unbroken, resumed)
  later, _ = step('bfloat16')(state._replace(step=jnp.int32(7)), batch())
  same = jax.tree.map(
    lambda a, b: np.mean(bits(a) == bits(b)), unbroken.params, later.params
  )
  assert 0.3 < np.mean(jax.tree.leaves(same)) < 0.99


def test_another_step_seed_or_parameter_has_other_noise():
  exact = {name: jnp.full(1000, 1 + 2**-9, jnp.float32) for name in 'ab'}
  params = jax.tree.map(lambda x: x.astype(jnp.bfloat16), exact)
  change = jax.tree.map(lambda x, p: x - p.astype(jnp.float32), exact, params)
  key = stochastic_rounding.key
  found = [
    leaf
    for one in (key(0, 1), key(0, 2), key(1, 1))
    for leaf in stochastic_rounding.apply_updates(params, change, one).values()
  ]
  assert len({bits(leaf).tobytes() for leaf in found}) == 6


@pytest.mark.parametrize('name', ['adamw', 'adafactor', 'lion', 'sgd'])
def test_the_optimisers_state_is_float32_whatever_the_parameters_are(name):
  config = OptimizerConfig(name=name, learning_rate=1e-4)
  optimizer = optimizers.make(config, 10)
  params = first_state('bfloat16').params
  gradients = jax.tree.map(lambda w: w * 1e-3, params)
  state = jax.eval_shape(optimizer.init, params)
  updates, after = jax.eval_shape(optimizer.update, gradients, state, params)
  assert {str(leaf.dtype) for leaf in jax.tree.leaves(updates)} == {'float32'}
  kinds = [[leaf.dtype for leaf in jax.tree.leaves(s)] for s in (state, after)]
  assert kinds[0] == kinds[1]
  assert 'bfloat16' not in map(str, kinds[0])
