"""The loss against numpy on the logits; the step however it is split."""

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

from rest_jax.artifacts import records
from rest_jax.models import network
from rest_jax.training import batches, optimizers, packing, train_step
from rest_jax.training.hyperparameters import OptimizerConfig

MODEL = small_networks.network(max_length=24)
EOS = 2
NORMALIZERS = ('token', 'sequence_sum', 'sequence_mean')


@functools.cache
def examples():
  """Twelve examples of 3 to 14 tokens; weights 0, 0.25, 1 and 2."""
  rng = np.random.default_rng(0)
  rows = []
  for index in range(12):
    prompt, target = 1 + index % 4, 1 + (index * 5) % 9
    rows.append(
      records.Example(
        problem_id=f'p{index}',
        sample_index=0,
        token_ids=[*rng.integers(3, 32, prompt + target).tolist(), EOS],
        weight=(1.0, 0.0, 0.25, 2.0)[index % 4],
        segment_types=[records.PROMPT] * prompt
        + [records.TARGET] * (target + 1),
      )
    )
  return rows


def packer(chosen=None, *, row_length=24, loss_normalizer='token'):
  table = records.to_table(records.Example, chosen or examples())
  return packing.Packer(
    table, row_length=row_length, seed=0, loss_normalizer=loss_normalizer
  )


@functools.cache
def params():
  made = tiny_run.fresh(MODEL, seed=1)
  return jax.tree.map(lambda w: np.asarray(w) * 1.5, made)


@functools.cache
def transform(name='adamw'):
  return optimizers.make(
    OptimizerConfig(name=name, learning_rate=0.01, schedule='constant'), 10
  )


@functools.cache
def compiled(on, microbatches=1, name='adamw'):
  return jax.jit(
    train_step.make_step(MODEL, transform(name), on, microbatches=microbatches),
    out_shardings=(train_step.shardings(MODEL, transform(name), on)[1], None),
  )


@functools.cache
def _first(on, name):
  where = train_step.shardings(MODEL, transform(name), on)[1]
  return jax.jit(transform(name).init, out_shardings=where.opt_state)


def take_step(
  made, rows, *, on=None, microbatches=1, name='adamw', times=1, first=0
):
  """(parameters after, metrics of the last step)."""
  on = on or mesh()
  _, where = train_step.shardings(MODEL, transform(name), on)
  placed = jax.device_put(params(), where.params)
  opt_state = _first(on, name)(placed)
  state = train_step.TrainState(jnp.int32(0), placed, opt_state)
  places = batches.batch_shardings(on, rows)
  step = compiled(on, microbatches, name)
  for number in range(times):
    batch = batches.put_batch(made, first + number * rows, rows, places)
    state, metrics = step(state, batch)
  return jax.device_get(state.params), jax.device_get(metrics)


@functools.cache
def log_probabilities():
  """Per example, of each token but the first, by one pass each, unpacked."""
  net = network.Decoder(MODEL)

  @jax.jit
  def forward(tokens_BL):
    places_BL = jnp.arange(tokens_BL.shape[1])[None]
    hidden, _ = net.apply(params(), tokens_BL, places_BL, places_BL * 0 + 1)
    return net.apply(params(), hidden, method='logits')

  result = []
  for example in examples():
    ids = np.array(example.token_ids)
    padded = np.zeros((1, 24), np.int32)  # causal: what follows changes nothing
    padded[0, : len(ids)] = ids
    logits = np.asarray(forward(padded), np.float64)[0, : len(ids) - 1]
    norms = np.log(np.exp(logits).sum(-1))
    result.append(logits[np.arange(len(ids) - 1), ids[1:]] - norms)
  return result


def formula(normalizer):
  """The paper's loss over all examples, in numpy."""
  total = weights = tokens = 0.0
  for example, logprobs in zip(examples(), log_probabilities(), strict=True):
    learned = np.array(example.segment_types[1:]) == records.TARGET
    nll = -logprobs[learned].sum()
    if normalizer == 'sequence_mean':
      nll /= learned.sum()
    total += example.weight * nll
    weights += example.weight
    tokens += example.weight * learned.sum()
  return total / (tokens if normalizer == 'token' else weights)


def assert_near(a, b, tolerance=1e-5):
  for x, y in zip(jax.tree.leaves(a), jax.tree.leaves(b), strict=True):
    np.testing.assert_allclose(x, y, rtol=0, atol=tolerance)


@pytest.mark.parametrize('normalizer', NORMALIZERS)
def test_the_loss_is_the_formula_over_the_whole_batch(normalizer):
  made = packer(row_length=13, loss_normalizer=normalizer)
  _, metrics = take_step(made, made.rows_per_epoch)
  assert metrics['loss'] == pytest.approx(formula(normalizer), rel=1e-5)
  assert len({round(formula(name), 4) for name in NORMALIZERS}) == 3
  if normalizer == 'token':
    assert metrics['token_loss'] == pytest.approx(metrics['loss'], rel=1e-6)


@jax.jit
def _loss(weights, arrays):
  total, _ = train_step.loss_sums(MODEL, weights, arrays)
  return total / arrays['normalizers'].sum()


_gradient = jax.jit(jax.grad(_loss))


def gradient(made):
  """Over all rows, with empty ones up to twelve (one shape, one compile)."""
  batch = made.batch(range(made.rows_per_epoch)).arrays()
  empty = 12 - made.rows_per_epoch
  padded = {
    name: np.pad(array, [(0, empty)] + [(0, 0)] * (array.ndim - 1))
    for name, array in batch.items()
  }
  return _gradient(params(), padded)


def test_packed_and_one_example_a_row_give_the_same_gradient():
  packed = packer()
  alone = packer()
  alone.rows = [[index] for index in range(12)]
  assert packed.rows_per_epoch < alone.rows_per_epoch
  assert_near(gradient(packed), gradient(alone), 1e-6)


def test_prompt_tokens_have_zero_loss_weight():
  """Another prompt token moves the loss by attention alone, not as a target."""
  example = examples()[3]  # four prompt tokens
  batch = packer([example]).batch([0] * 8)
  prompt = np.array(example.segment_types[1:]) == records.PROMPT
  size = len(prompt)
  assert prompt.any()
  assert not batch.loss_weights[0, :size][prompt].any()
  arrays = batch.arrays()

  def total(targets):
    arrays['targets'] = targets
    return float(_loss(params(), arrays))

  before = total(batch.targets)
  other = batch.targets.copy()
  other[0, :size][prompt] = 31
  assert total(other) == before
  other[0, size - 1] = 31  # where EOS is the target
  assert batch.targets[0, size - 1] == EOS
  assert total(other) != before


def test_an_example_of_weight_zero_changes_nothing():
  weighted = [e for e in examples() if e.weight]
  assert len(weighted) < len(examples())
  a, b = packer(), packer(weighted)
  assert_near(gradient(a), gradient(b), 1e-6)


@pytest.mark.parametrize('normalizer', NORMALIZERS)
def test_one_and_four_micro_batches_make_the_same_step(normalizer):
  made = packer(row_length=13, loss_normalizer=normalizer)
  whole, one = take_step(made, 8)
  pieces, four = take_step(made, 8, microbatches=4)
  assert four['loss'] == pytest.approx(one['loss'], rel=1e-5)
  assert four['grad_norm'] == pytest.approx(one['grad_norm'], rel=1e-4)
  assert_near(whole, pieces, 1e-4)


def test_the_norms_are_those_of_the_step_and_of_what_it_leaves():
  after, metrics = take_step(packer(row_length=13), 8)
  moved = jax.tree.map(np.subtract, after, params())
  for name, tree in (('param_norm', after), ('update_norm', moved)):
    squares = [np.square(leaf).sum() for leaf in jax.tree.leaves(tree)]
    assert metrics[name] == pytest.approx(np.sqrt(sum(squares)), rel=1e-5)


@pytest.mark.parametrize('name', ['adamw', 'adafactor'])
def test_one_device_and_eight_make_the_same_step(name):
  made = packer(row_length=13)
  on = mesh(data=2, fsdp=2, tensor=2)
  alone, one = take_step(made, 8, name=name)
  spread, eight = take_step(made, 8, on=on, name=name)
  assert abs(float(one['loss']) - float(eight['loss'])) < 1e-5
  assert eight['grad_norm'] == pytest.approx(one['grad_norm'], rel=1e-4)
  assert eight['update_norm'] == pytest.approx(one['update_norm'], rel=1e-3)
  assert_near(alone, spread, 1e-3)  # Adam's first update is a sign times rate


def test_micro_batches_on_the_mesh_keep_the_loss_too():
  made = packer(row_length=13)
  on = mesh(data=2, fsdp=2, tensor=2)
  _, one = take_step(made, 8)
  _, many = take_step(made, 8, on=on, microbatches=2)
  assert abs(float(one['loss']) - float(many['loss'])) < 1e-5


def test_the_normaliser_is_summed_over_the_global_batch():
  """Rows of unequal weight: a mean of per-device means would differ."""
  made = packer(row_length=13)
  batch = made.batch(range(8))
  shares = batch.normalizers.reshape(4, 2).sum(1)
  assert shares.max() > 1.5 * shares.min()
  _, metrics = take_step(made, 8, on=mesh(data=2, fsdp=2, tensor=2))
  expected = float(_loss(params(), batch.arrays()))
  assert metrics['loss'] == pytest.approx(expected, rel=1e-5)


def test_some_steps_lower_the_loss_and_move_every_parameter():
  made = packer(row_length=13)
  _, first = take_step(made, 8)
  after, last = take_step(made, 8, times=8)
  assert last['loss'] < first['loss'] - 0.1
  for new, old in zip(
    jax.tree.leaves(after), jax.tree.leaves(params()), strict=True
  ):
    assert not np.array_equal(new, old)


def test_gradients_of_bfloat16_parameters_are_summed_in_float32():
  model = dataclasses.replace(MODEL, param_dtype='bfloat16')
  params = tiny_run.fresh(model, seed=0)
  change = optax.sgd(1.0)
  rows = batches.put_batch(packer(), 0, 1, batches.batch_shardings(mesh(), 1))
  norms = []
  for count in (1, 64):  # the same row again and again has the same gradient
    batch = {name: jnp.repeat(x, count, axis=0) for name, x in rows.items()}
    step = train_step.make_step(model, change, mesh(), microbatches=count)
    state = train_step.TrainState(jnp.int32(0), params, change.init(params))
    state, metrics = jax.jit(step)(state, batch)
    norms.append(float(metrics['grad_norm']))
    assert {leaf.dtype for leaf in jax.tree.leaves(state.params)} == {
      jnp.dtype('bfloat16')
    }
  assert norms[0] == pytest.approx(norms[1], rel=1e-4)
