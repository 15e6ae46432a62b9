"""Checkpoints come back bit by bit; only the best and the newest stay."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import small_networks
from meshes import mesh

from rest_jax.config import configuration
from rest_jax.models.checkpoints import orbax_items, policies, trained
from rest_jax.training import checkpointing, optimizers, train_step
from rest_jax.training.checkpointing import OPTIMIZER, Saver
from rest_jax.training.hyperparameters import OptimizerConfig

MODEL = small_networks.network(
  vocab_size=16, embed_dim=8, head_dim=4, mlp_dim=16, max_length=16
)
TRANSFORM = optimizers.make(OptimizerConfig(learning_rate=0.1), 10)


def state(step, on=None):
  """A state of random bits, some of them awkward, that differs by step."""
  abstract, where = train_step.shardings(MODEL, TRANSFORM, on or mesh())
  rng = np.random.default_rng(step)

  def draw(leaf, place):
    if leaf.dtype == jnp.int32:
      value = np.full(leaf.shape, step, np.int32)
    else:
      value = rng.normal(size=leaf.shape).astype(leaf.dtype)
      value.flat[0] = np.float32(1e-42)  # denormal
    return jax.device_put(value, place)

  made = jax.tree.map(draw, abstract, where)
  return made._replace(step=jax.device_put(np.int32(step), where.step))


def restore(folder, on=None):
  """The newest state and its progress; None where nothing was saved."""
  saver = Saver(folder)
  found = saver.progress()
  if found is not None:
    step, progress = found
    where = train_step.shardings(MODEL, TRANSFORM, on or mesh())
    found = saver.restore(step, *where), progress
  saver.close()
  return found


def bits(tree):
  return [np.asarray(leaf).tobytes() for leaf in jax.tree.leaves(tree)]


def steps_in(folder):
  return sorted(int(p.name) for p in folder.iterdir() if p.name.isdigit())


def test_a_state_comes_back_bit_by_bit_with_its_progress(tmp_path):
  progress = {'validations': [[0, 0.5], [3, 0.1 + 0.2]], 'stopped': False}
  saver = Saver(tmp_path)
  saver.save(state(3), progress, best=3)
  saver.close()
  found, read = restore(tmp_path)
  assert bits(found) == bits(state(3))
  assert read == progress
  assert int(found.step) == 3


def test_an_array_above_the_limit_of_copies_is_saved(tmp_path, monkeypatch):
  monkeypatch.setattr(checkpointing, '_COPIED_GB', 1e-9)
  largest = max(leaf.nbytes for leaf in jax.tree.leaves(state(3).params))
  saver = Saver(tmp_path, largest)
  saver.save(state(3), {}, best=3)
  saver.close()
  assert bits(restore(tmp_path)[0]) == bits(state(3))


def test_a_state_comes_back_from_an_object_store(bucket, store):
  """Orbax and TensorStore themselves, against a server of gs://'s API."""
  folder = f'{bucket}/run/lr'
  saver = Saver(folder)
  for step, best in ((2, 2), (4, 2)):
    saver.save(state(step), {'stopped': step == 4}, best=best)
  saver.close()
  found, read = restore(folder)
  assert bits(found) == bits(state(4)) and read == {'stopped': True}
  assert {name.split('/')[3] for name in store.objects} >= {'2', '4'}
  again = Saver(folder)
  again.prune(2)
  again.close()
  assert not [n for n in store.objects if n.startswith('bucket/run/lr/4/')]
  found, _ = restore(folder)
  assert bits(found) == bits(state(2))


def test_a_state_comes_back_on_another_mesh(tmp_path):
  saver = Saver(tmp_path)
  saver.save(state(3), {}, best=3)
  saver.close()
  on = mesh(data=2, fsdp=2, tensor=2)
  found, _ = restore(tmp_path, on)
  assert bits(found) == bits(state(3))
  assert found.params['params']['embedding'].sharding.mesh.size == 8


def test_the_last_step_of_a_training_has_no_optimiser_state(tmp_path):
  saver = Saver(tmp_path)
  saver.save(state(2), {}, best=2)
  saver.save(state(4), {'stopped': True}, best=4, is_last=True)
  assert saver.progress() == (4, {'stopped': True})
  assert saver.holds(4) and not saver.holds(3)
  saver.close()
  assert (tmp_path / '2' / OPTIMIZER).is_dir()
  assert not (tmp_path / '4' / OPTIMIZER).exists()
  assert bits(
    orbax_items.restore(
      tmp_path / '4' / trained.PARAMS, policies.abstract(MODEL, mesh())
    )
  ) == bits(state(4).params)


def test_nothing_saved_restores_nothing(tmp_path):
  assert restore(tmp_path / 'new') is None


def test_only_the_best_and_the_newest_are_kept(tmp_path):
  saver = Saver(tmp_path)
  for step, best in ((0, 0), (2, 2), (4, 2), (6, 2), (8, 2)):
    saver.save(state(step), {}, best=best)
  saver.wait()
  assert steps_in(tmp_path) == [2, 6, 8]  # 6 stood while 8 was written
  saver.prune(2)
  saver.close()
  assert steps_in(tmp_path) == [2]
  assert bits(
    orbax_items.restore(
      tmp_path / '2' / trained.PARAMS, policies.abstract(MODEL, mesh())
    )
  ) == bits(state(2).params)


def test_while_a_save_is_under_way_the_standing_ones_need_nothing_else(
  tmp_path, monkeypatch
):
  """Killed at any moment of a save: the newest that stands, and its best."""
  saver = Saver(tmp_path)
  saver.save(state(2), {}, best=2)
  saver.save(state(4), {}, best=2)
  saver.wait()
  monkeypatch.setattr(saver._manager, 'save', lambda *a, **k: None)  # killed
  saver.save(state(6), {}, best=6)
  assert steps_in(tmp_path) == [2, 4]
  assert bits(restore(tmp_path)[0]) == bits(state(4))


def test_a_half_written_checkpoint_is_not_resumed_from(tmp_path):
  saver = Saver(tmp_path)
  saver.save(state(2), {'at': 2}, best=2)
  saver.close()
  half = tmp_path / '4.orbax-checkpoint-tmp-17' / trained.PARAMS
  half.mkdir(parents=True)
  found, progress = restore(tmp_path)
  assert int(found.step) == 2 and progress == {'at': 2}
  assert not half.exists()


def test_a_step_that_stands_is_not_written_again(tmp_path):
  saver = Saver(tmp_path)
  saver.save(state(2), {'at': 'first'}, best=2)
  saver.save(state(2), {'at': 'second'}, best=2)
  saver.close()
  assert restore(tmp_path)[1] == {'at': 'first'}
  assert (tmp_path / '2' / OPTIMIZER).is_dir()


def test_another_network_is_refused_naming_the_file(tmp_path):
  saver = Saver(tmp_path)
  saver.save(state(2), {}, best=2)
  saver.close()
  other = dataclasses.replace(MODEL, mlp_dim=24)
  with pytest.raises(
    configuration.ConfigurationError, match=r'blocks/down: .*MODEL needs'
  ):
    orbax_items.restore(
      tmp_path / '2' / trained.PARAMS, policies.abstract(other, mesh())
    )
