"""A step with LoRA: what it changes, however it is split."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
import small_networks
import tiny_run
from meshes import mesh

from rest_jax.artifacts import records
from rest_jax.models import adapters, lora
from rest_jax.models.lora import LoraConfig
from rest_jax.training import batches, optimizers, packing, train_step
from rest_jax.training.hyperparameters import OptimizerConfig

MODEL = small_networks.network(max_length=16)
LORA = LoraConfig(rank=2, alpha=8.0)
ROWS = 8


@functools.cache
def packer():
  rng = np.random.default_rng(0)
  rows = [
    records.Example(
      problem_id=f'p{index}',
      sample_index=0,
      token_ids=rng.integers(3, 32, 12).tolist(),
      weight=1.0,
      segment_types=[records.PROMPT] * (2 + index % 5)
      + [records.TARGET] * (10 - index % 5),
    )
    for index in range(ROWS)
  ]
  table = records.to_table(records.Example, rows)
  return packing.Packer(table, row_length=16, seed=0, loss_normalizer='token')


TRANSFORM = optimizers.make(
  OptimizerConfig(learning_rate=0.01, schedule='constant'), 10
)


@functools.cache
def base():
  return jax.device_get(tiny_run.fresh(MODEL, seed=1))


@functools.cache
def start():
  """Adapters whose B is not zero: at zero no gradient reaches A."""
  made = adapters.fresh(MODEL, LORA, jax.random.key(0))
  return jax.tree.map(lambda w: np.asarray(w) + np.float32(0.02), made)


def take_step(on, *, microbatches=1):
  """(base after, state after, metrics)."""
  _, where = train_step.shardings(MODEL, TRANSFORM, on, LORA)
  params = jax.device_put(start(), where.params)
  beside = jax.tree.map(
    lambda w, target: jax.device_put(w, target.sharding),
    base(),
    train_step.frozen(MODEL, on, LORA),
  )
  init = jax.jit(TRANSFORM.init, out_shardings=where.opt_state)
  state = train_step.TrainState(jnp.int32(0), params, init(params))
  step = jax.jit(
    train_step.make_step(
      MODEL, TRANSFORM, on, microbatches=microbatches, lora=LORA
    ),
    donate_argnums=(0,),
    out_shardings=(where, None),
  )
  places = batches.batch_shardings(on, ROWS)
  batch = batches.put_batch(packer(), 0, ROWS, places)
  state, metrics = step(state, batch, beside)
  return jax.device_get((beside, state, metrics))


alone = functools.cache(lambda: take_step(mesh()))


def test_a_step_moves_every_adapter_and_nothing_else():
  beside, state, _ = alone()
  for a, b in zip(
    jax.tree.leaves(beside), jax.tree.leaves(base()), strict=True
  ):
    assert np.array_equal(a, b)
  for a, b in zip(
    jax.tree.leaves(state.params), jax.tree.leaves(start()), strict=True
  ):
    assert (a != b).all()


def test_the_optimiser_holds_moments_of_adapters_alone():
  _, state, metrics = alone()
  held = lora.num_parameters(MODEL, LORA)
  arrays = [x for x in jax.tree.leaves(state.opt_state) if np.ndim(x)]
  assert sum(x.size for x in arrays) == 2 * held < MODEL.num_parameters
  norm = optax.global_norm(state.params)
  assert metrics['param_norm'] == pytest.approx(float(norm), rel=1e-5)


@pytest.mark.parametrize(
  'axes, microbatches',
  [((1, 1, 1), 4), ((2, 2, 2), 1), ((1, 4, 1), 2)],
)
def test_devices_and_micro_batches_do_not_change_the_step(axes, microbatches):
  _, one, before = alone()
  _, many, after = take_step(mesh(*axes), microbatches=microbatches)
  assert after['loss'] == pytest.approx(before['loss'], rel=1e-5)
  assert after['grad_norm'] == pytest.approx(before['grad_norm'], rel=1e-4)
  for a, b in zip(
    jax.tree.leaves(one.params), jax.tree.leaves(many.params), strict=True
  ):
    # Adam's first update is a sign times the rate.
    np.testing.assert_allclose(a, b, rtol=0, atol=1e-3)
