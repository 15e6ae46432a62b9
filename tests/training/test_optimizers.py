"""The schedule at named steps, and what an update does to parameters."""

import jax
import jax.numpy as jnp
import meshes
import numpy as np
import optax
import pytest
import small_networks

from rest_jax.config import configuration
from rest_jax.training import optimizers, train_step
from rest_jax.training.hyperparameters import OptimizerConfig

MODEL = small_networks.network(num_layers=2)
PARAMS = {
  'block': {'query': jnp.full((4, 4), 2.0), 'norm': {'scale': jnp.ones(4)}},
  'embedding': jnp.full((8, 4), -1.0),
}


def config(**fields):
  return OptimizerConfig(
    **({'learning_rate': 0.1, 'schedule': 'constant'} | fields)
  )


def rates(**fields):
  schedule = optimizers.schedule(config(**fields), 100)
  return lambda step: float(schedule(step))


def update(grads, **fields):
  transform = optimizers.make(config(**fields), 100)
  return transform.update(grads, transform.init(PARAMS), PARAMS)[0]


def test_the_warm_up_is_linear_and_no_step_of_it_is_lost():
  rate = rates(warmup_steps=10)
  assert [rate(0), rate(4), rate(9), rate(10), rate(99)] == pytest.approx(
    [0.01, 0.05, 0.1, 0.1, 0.1]
  )
  assert rates(warmup_steps=1)(0) == pytest.approx(0.1)


def test_without_a_warm_up_the_first_step_has_the_full_rate():
  for schedule in ('constant', 'cosine', 'linear'):
    assert rates(schedule=schedule)(0) == pytest.approx(0.1)


def test_linear_and_cosine_end_at_their_fraction_of_the_rate():
  linear = rates(schedule='linear', warmup_steps=20, final_fraction=0.2)
  assert [linear(20), linear(60), linear(100), linear(200)] == pytest.approx(
    [0.1, 0.06, 0.02, 0.02]
  )
  cosine = rates(schedule='cosine', warmup_steps=20, final_fraction=0.2)
  assert [cosine(20), cosine(60), cosine(100)] == pytest.approx(
    [0.1, 0.06, 0.02]
  )
  assert cosine(40) == pytest.approx(0.02 + 0.08 * (1 + np.cos(np.pi / 4)) / 2)


@pytest.mark.parametrize(
  'name', ['adamw', 'adafactor', 'lion', 'nadamw', 'adam', 'sgd']
)
def test_weight_decay_is_rate_times_weight_and_spares_the_norms(name):
  grads = jax.tree.map(jnp.zeros_like, PARAMS)
  found = update(grads, name=name, weight_decay=0.5, clip_norm=0.0)
  np.testing.assert_allclose(found['block']['query'], -0.1 * 0.5 * 2.0)
  np.testing.assert_allclose(found['embedding'], 0.1 * 0.5 * 1.0)
  np.testing.assert_array_equal(found['block']['norm']['scale'], 0.0)


def test_adamws_first_update_is_the_rate_against_the_gradients_sign():
  grads = jax.tree.map(lambda w: w * 3, PARAMS)
  found = update(grads, clip_norm=0.0)
  for got, want in zip(
    jax.tree.leaves(found), jax.tree.leaves(grads), strict=True
  ):
    np.testing.assert_allclose(got, -0.1 * np.sign(want), rtol=1e-5)


def test_adafactor_goes_downhill_by_the_rate():
  found = update(jax.tree.map(lambda w: w * 3, PARAMS), name='adafactor')
  rms = np.sqrt(np.mean(np.square(found['embedding'])))
  assert rms == pytest.approx(0.1, rel=1e-3)  # unit updates times the rate
  assert (np.asarray(found['embedding']) > 0).all()  # its weights are negative


def test_clipping_bounds_the_global_norm_and_nothing_below_it():
  big = jax.tree.map(lambda w: w * 100, PARAMS)
  tiny = jax.tree.map(lambda w: w * 1e-3, PARAMS)
  # Adam's first moment shows the gradient that it was given.
  for grads, expected in (
    (big, 0.7),
    (tiny, float(optax.global_norm(tiny))),
  ):
    whole = optimizers.make(config(clip_norm=0.7, options={'b1': 0.9}), 100)
    _, state = whole.update(grads, whole.init(PARAMS), PARAMS)
    moment = optax.tree_utils.tree_get(state, 'mu')
    assert float(optax.global_norm(moment)) == pytest.approx(
      0.1 * expected, rel=1e-5
    )


def test_an_optimiser_of_optax_is_taken_by_its_name():
  grads = jax.tree.map(lambda w: w * 3, PARAMS)
  found = update(grads, name='lion', options={'b1': 0.5}, clip_norm=0.0)
  lion = optax.lion(0.1, b1=0.5, weight_decay=0.0)
  wanted = lion.update(grads, lion.init(PARAMS), PARAMS)[0]
  jax.tree.map(np.testing.assert_array_equal, found, wanted)


@pytest.mark.parametrize(
  'fields, message',
  [
    ({'name': 'adammw'}, 'Nearest: adamw'),
    ({'name': 'global_norm'}, 'allowed: an optimiser of optax'),
    ({'name': 'lion', 'options': {'beta': 1}}, "got 'beta'.*allowed.*b1, b2"),
    ({'name': 'lbfgs'}, 'more than gradients'),
  ],
)
def test_what_optax_does_not_have_is_refused(fields, message):
  with pytest.raises(configuration.ConfigurationError, match=message):
    optimizers.make(config(**fields), 10)


def test_adams_moments_are_split_as_their_parameters():
  mesh = meshes.mesh(data=2, fsdp=2, tensor=2)
  transform = optimizers.make(config(weight_decay=0.1), 100)
  abstract, where = train_step.shardings(MODEL, transform, mesh)
  split = sorted(
    str(leaf.sharding.spec)
    for leaf in jax.tree.leaves(abstract.params)
    if not leaf.sharding.is_fully_replicated
  )
  found = [
    str(sharding.spec)
    for sharding in jax.tree.leaves(where.opt_state)
    if not sharding.is_fully_replicated
  ]
  assert split
  assert sorted(found) == sorted(2 * split)
