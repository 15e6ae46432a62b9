"""The stage train: what it chooses, keeps, refuses, and how it resumes."""

import dataclasses
import json
import os
import signal

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import tiny_run

from rest_jax import train
from rest_jax.artifacts import (
  fingerprints,
  manifests,
  records,
  stage_work,
  storage,
)
from rest_jax.config import configuration
from rest_jax.distributed import partitioning, preemption
from rest_jax.models.checkpoints import orbax_items, policies, trained
from rest_jax.rewards import registry
from rest_jax.sampling.streams import Stream
from rest_jax.training import (
  batches,
  checkpointing,
  dval,
  metric_writer,
  optimizers,
)
from rest_jax.training.hyperparameters import (
  OptimizerConfig,
  TrainConfig,
  ValidationConfig,
)

PAIRS = [(f'Q{i}:', '#### 7') for i in range(12)]
CONFIG = TrainConfig(
  max_steps=10, batch_rows=4, row_length=32, log_every=2, save_every=4
)


@pytest.fixture(autouse=True)
def _one_device_and_no_signal(monkeypatch):
  with tiny_run.stage_alone(monkeypatch):
    yield


@pytest.fixture
def run(tmp_path):
  """Runs the stage on tmp_path/NAME; returns its manifest."""

  def run(name='iteration_01', *, pairs=PAIRS, dvals=(), **fields):
    arguments = {
      'examples_dir': tiny_run.examples(tmp_path / 'examples', pairs),
      'checkpoints_dir': os.fspath(tmp_path / name / 'checkpoints'),
      'init_path': None,
      'iteration': 1,
      'model': tiny_run.MODEL,
      'optimizer': OptimizerConfig(learning_rate=1.0, schedule='cosine'),
      'learning_rates': [0.01],
      'config': CONFIG,
      'mesh': partitioning.MeshConfig(),
      'dval_dirs': list(dvals),
      'validation': ValidationConfig(every=5),
      'dval_stream': Stream(name='dval', num_samples=1, temperature=0.0),
      'engine': tiny_run.ENGINE,
    }
    train.train(**(arguments | fields))
    return manifests.load(arguments['checkpoints_dir'], stage='train')

  return run


@pytest.fixture
def rewards(tmp_path, monkeypatch):
  """D_val with given rewards: {learning rate: [at 0, 5, 10, …]}."""
  table, asked = {}, []

  def reward(self, params, folder):
    rate = float(folder.parent.name.removeprefix('lr_'))
    step = int(folder.name.removeprefix('step_'))
    asked.append((rate, step))
    return table[rate][step // self.config.every]

  monkeypatch.setattr(dval.Validator, 'reward', reward)
  folder = tiny_run.problems(tmp_path / 'dval', {'a': 'Q1:'})

  def use(**rates):
    table.update({float(rate): values for rate, values in rates.items()})
    return {'dvals': [folder], 'learning_rates': list(table)}

  use.asked = asked
  return use


def params_of(manifest):
  mesh = partitioning.make_mesh(partitioning.MeshConfig())
  found = policies.load(manifest.folder, tiny_run.MODEL, mesh)
  return [np.asarray(leaf) for leaf in jax.tree.leaves(found)]


def same(a, b):
  return all(x.tobytes() == y.tobytes() for x, y in zip(a, b, strict=True))


def lines(manifest):
  """The lines of metrics.jsonl without what a clock gives."""
  text = (manifest.folder / 'lr_0.01' / 'metrics.jsonl').read_text()
  return [
    {
      k: v
      for k, v in json.loads(line).items()
      if k not in ('tokens_per_second', 'goodput') and 'seconds/' not in k
    }
    for line in text.splitlines()
  ]


def files(folder):
  return {
    path: path.stat().st_mtime_ns
    for path in folder.rglob('*')
    if path.is_file() and '.lease' not in path.name
  }


def sigterm_at(monkeypatch, step):
  """SIGTERM comes while this step is under way."""
  add = metric_writer.StepMeter.add

  def patched(self, done, *arguments, **fields):
    if done == step:
      os.kill(os.getpid(), signal.SIGTERM)
    return add(self, done, *arguments, **fields)

  monkeypatch.setattr(metric_writer.StepMeter, 'add', patched)


def test_without_dval_the_last_step_is_taken_and_alone_is_kept(run):
  manifest = run()
  assert manifest.statistics['chosen'] == 'lr_0.01/10'
  assert manifest.statistics['reward'] is None
  steps = [p.name for p in (manifest.folder / 'lr_0.01').iterdir()]
  assert [name for name in steps if name.isdigit()] == ['10']
  losses = [line['token_loss'] for line in lines(manifest)]
  assert [line['step'] for line in lines(manifest)] == [2, 4, 6, 8, 10]
  assert losses[-1] < losses[0] - 1
  assert not list(manifest.folder.glob('lr_*/*/optimizer'))


def test_a_finished_stage_runs_again_at_once_and_changes_nothing(
  run, tmp_path, capsys
):
  run()
  before = files(tmp_path / 'iteration_01')
  capsys.readouterr()
  run()
  assert (
    files(tmp_path / 'iteration_01').items()
    >= {
      path: time for path, time in before.items() if 'started' not in path.name
    }.items()
  )
  out = capsys.readouterr().out
  assert out.startswith('train: ') and out.count('\n') == 1


@pytest.mark.parametrize('step', [4, 5])
def test_stopped_by_sigterm_and_resumed_equals_never_stopped(
  run, monkeypatch, step
):
  straight = run('straight')
  with monkeypatch.context() as patch:
    sigterm_at(patch, step)
    with pytest.raises(preemption.Preempted, match=f'step {step}'):
      run('stopped')
  preemption._asked.clear()
  resumed = run('stopped')
  assert same(params_of(straight), params_of(resumed))
  assert lines(straight) == lines(resumed)
  assert resumed.digest == straight.digest


@pytest.mark.parametrize('step', [0, 5])
def test_stopped_by_sigterm_in_a_validation_and_resumed_is_the_same(
  run, tmp_path, monkeypatch, step
):
  folder = tiny_run.problems(tmp_path / 'dval', {'a': 'Q1:', 'b': 'Q2:'})
  straight = run('straight', dvals=[folder])
  reward = dval.Validator.reward

  def patched(self, params, where):
    if where.name == f'step_{step}':
      os.kill(os.getpid(), signal.SIGTERM)
    return reward(self, params, where)

  with monkeypatch.context() as patch:
    patch.setattr(dval.Validator, 'reward', patched)
    with pytest.raises(preemption.Preempted, match='validation'):
      run('stopped', dvals=[folder])
  validation = tmp_path / 'stopped' / 'validation' / 'lr_0.01'
  assert not (validation / f'step_{step}').exists()
  preemption._asked.clear()
  resumed = run('stopped', dvals=[folder])
  assert resumed.digest == straight.digest
  assert lines(straight) == lines(resumed)


@pytest.mark.parametrize(
  'where', ['manifest', 'result', 'between save and flush', 'second save']
)
def test_killed_anywhere_and_started_again_gives_the_same(
  run, monkeypatch, where
):
  class Killed(BaseException):
    pass

  def kill(*_, **__):
    raise Killed

  straight = run('straight')
  with monkeypatch.context() as patch:
    if where == 'manifest':
      patch.setattr(stage_work.Work, 'finish', kill)
    elif where == 'result':
      patch.setattr(checkpointing.Saver, 'prune', kill)
    else:
      save, calls = checkpointing.Saver.save, []

      def dying(self, *arguments, **fields):
        save(self, *arguments, **fields)
        calls.append(1)
        if where == 'second save' and len(calls) == 2:
          kill()
        if where == 'between save and flush':
          kill()

      patch.setattr(checkpointing.Saver, 'save', dying)
    with pytest.raises(Killed):
      run('killed')
  resumed = run('killed')
  assert same(params_of(straight), params_of(resumed))
  assert lines(straight) == lines(resumed)
  assert resumed.digest == straight.digest


def test_a_training_starts_from_the_base_and_leaves_it_untouched(run, tmp_path):
  base = run('base')
  before = files(tmp_path / 'base')
  one = run('one', init_path=os.fspath(base.folder), learning_rates=[1e-12])
  for a, b in zip(params_of(base), params_of(one), strict=True):
    np.testing.assert_allclose(a, b, atol=1e-8)
  assert files(tmp_path / 'base') == before
  # Adam's first update has the size of the rate: its moments are fresh.
  config = dataclasses.replace(CONFIG, max_steps=1)
  two = run('two', init_path=os.fspath(base.folder), config=config)
  moved = np.concatenate(
    [
      np.abs(a - b).ravel()
      for a, b in zip(params_of(base), params_of(two), strict=True)
    ]
  )
  assert moved.max() == pytest.approx(0.01, rel=1e-2)


def test_dval_chooses_among_all_steps_of_all_learning_rates(run, rewards):
  grid = rewards(**{'0.01': [0.2, 0.3, 0.25], '0.02': [0.2, 0.6, 0.5]})
  manifest = run(**grid)
  chosen = manifest.statistics
  assert chosen['chosen'] == 'lr_0.02/5'
  assert chosen['reward'] == 0.6
  assert rewards.asked == [
    (rate, step) for rate in (0.01, 0.02) for step in (0, 5, 10)
  ]
  assert len(chosen['trainings']) == 2
  assert (manifest.folder / 'lr_0.02' / '5' / 'params').is_dir()


def test_what_no_step_can_go_on_from_or_return_to_is_not_saved(
  run, rewards, monkeypatch
):
  saved, save = [], checkpointing.Saver.save

  def seen(self, state, progress, *, best, is_last=False):
    saved.append((int(state.step), is_last))
    return save(self, state, progress, best=best, is_last=is_last)

  monkeypatch.setattr(checkpointing.Saver, 'save', seen)
  for name, course, expected in (
    ('middle', [0.2, 0.6, 0.5], [(5, False)]),
    ('end', [0.2, 0.3, 0.5], [(5, False), (10, True)]),
    ('start', [0.7, 0.6, 0.5], [(5, False), (0, True)]),
  ):
    config = dataclasses.replace(CONFIG, save_every=100)
    manifest = run(name, config=config, **rewards(**{'0.01': course}))
    assert saved == expected, name
    assert len(params_of(manifest)) > 0
    saved.clear()


def test_of_equal_rewards_the_earlier_rate_and_the_untouched_base_win(
  run, rewards
):
  grid = rewards(**{'0.02': [0.3, 0.3, 0.3], '0.01': [0.3, 0.2, 0.3]})
  chosen = run(**grid).statistics
  assert chosen['chosen'] == 'lr_0.02/0'


def test_the_stop_rule_ends_a_training_before_its_last_step(run, rewards):
  grid = rewards(**{'0.01': [0.3, 0.2, 0.9]})
  validation = ValidationConfig(every=5, rule='first_non_increase')
  manifest = run(**grid, validation=validation)
  assert manifest.statistics['chosen_step'] == 0
  assert rewards.asked == [(0.01, 0), (0.01, 5)]


def test_a_finished_training_of_the_grid_is_not_done_again(
  run, rewards, monkeypatch
):
  grid = rewards(**{'0.01': [0.2, 0.6, 0.5], '0.02': [0.2, 0.3, 0.25]})
  with monkeypatch.context() as patch:
    patch.setattr(
      dval.Validator,
      'reward',
      lambda self, params, folder: (
        (
          os.kill(os.getpid(), signal.SIGTERM)
          if '0.02' in folder.parent.name
          else None
        )
        or dict(zip((0, 5, 10), (0.2, 0.6, 0.5), strict=True))[
          int(folder.name.removeprefix('step_'))
        ]
      ),
    )
    with pytest.raises(preemption.Preempted):
      run(**grid)
  preemption._asked.clear()
  chosen = run(**grid).statistics
  assert chosen['chosen'] == 'lr_0.01/5'
  assert {rate for rate, _ in rewards.asked} == {0.02}


def test_a_validation_that_was_saved_keeps_its_line_when_resumed(
  run, rewards, monkeypatch
):
  grid = rewards(**{'0.01': [0.2, 0.6, 0.5]})
  straight = run('straight', **grid)
  with monkeypatch.context() as patch:
    sigterm_at(patch, 1)
    with pytest.raises(preemption.Preempted):
      run('stopped', **grid)
  preemption._asked.clear()
  # As if the save at step 1 had not been finished in time.
  folder = straight.folder.parent.parent / 'stopped/checkpoints/lr_0.01/1'
  folder.rmtree()
  assert lines(run('stopped', **grid)) == lines(straight)


@pytest.mark.parametrize(
  'param_dtype, weights',
  [('float32', 'as_trained'), ('bfloat16', 'int8')],
)
def test_dval_is_sampled_graded_and_written_and_the_network_learns_it(
  run, tmp_path, param_dtype, weights
):
  folder = tiny_run.problems(
    tmp_path / 'dval', {str(i): f'Q{i}:' for i in range(5)}
  )
  manifest = run(
    dvals=[folder],
    pairs=[('1+6=7;' + prompt, target) for prompt, target in PAIRS],
    config=dataclasses.replace(CONFIG, max_steps=40, log_every=20),
    validation=ValidationConfig(every=40, num_problems=4),
    learning_rates=[0.02],
    model=dataclasses.replace(tiny_run.MODEL, param_dtype=param_dtype),
    engine=dataclasses.replace(tiny_run.ENGINE, weights=weights),
  )
  validations = dict(map(tuple, manifest.statistics['validations']))
  assert validations[0] == 0.0
  assert manifest.statistics['reward'] == max(validations.values()) > 0.7
  for step, reward in validations.items():
    place = manifest.folder.parent / f'validation/lr_0.02/step_{step}'
    name = records.part_name(0, 1)
    samples = records.to_records(
      records.Sample,
      records.read_part(place / f'samples/{name}', records.Sample),
    )
    verdicts = records.to_records(
      records.Verdict,
      records.read_part(place / f'verdicts/{name}', records.Verdict),
    )
    assert len(samples) == 4  # num_problems
    again = [
      registry.grade(
        'number',
        completion=sample.text,
        reference='7',
        finish_reason=sample.finish_reason,
      ).reward
      for sample in samples
    ]
    assert [verdict.reward for verdict in verdicts] == again
    assert np.mean(again) == reward


def test_a_loss_that_is_no_number_names_the_step_and_keeps_the_checkpoint(
  run, tmp_path, monkeypatch
):
  def jump(config, max_steps):
    return lambda step: jnp.where(step < 3, 1e-3, 1e38)

  monkeypatch.setattr(optimizers, 'schedule', jump)
  with pytest.raises(configuration.ConfigurationError) as error:
    run(
      learning_rates=[1e-3],
      config=dataclasses.replace(CONFIG, save_every=1),
    )
  for word in ('step ', 'loss', 'gradient norm', 'parameter norm'):
    assert word in str(error.value)
  at = int(str(error.value).split('step ')[1].split(':')[0])
  assert at > 3
  folder = tmp_path / 'iteration_01/checkpoints/lr_0.001'
  kept = [int(p.name) for p in folder.iterdir() if p.name.isdigit()]
  assert max(kept) == at - 1
  saver = checkpointing.Saver(folder)
  mesh = partitioning.make_mesh(partitioning.MeshConfig())
  saved = orbax_items.restore(
    saver._folder / str(at - 1) / 'params',
    policies.abstract(tiny_run.MODEL, mesh),
  )
  saver.close()
  assert all(np.isfinite(leaf).all() for leaf in jax.tree.leaves(saved))


def test_examples_longer_than_a_row_are_counted_and_said(run, capsys):
  long = [('Q' * 40, '7'), *PAIRS]
  manifest = run(pairs=long, config=dataclasses.replace(CONFIG, max_steps=1))
  assert manifest.statistics['examples_too_long'] == 1
  assert manifest.statistics['examples'] == len(PAIRS)
  assert (
    'warning: 1 of 13 examples are longer than a row' in capsys.readouterr().out
  )


def test_epochs_limit_the_steps(run):
  config = dataclasses.replace(CONFIG, max_epochs=1.5)
  found = run(config=config).statistics
  rows = found['rows_per_epoch']
  assert found['chosen_step'] == int(np.ceil(1.5 * rows / 4)) < 10


def test_another_semantic_binding_is_refused_with_the_differences(run):
  config = dataclasses.replace(CONFIG, max_steps=2)
  run(config=config)
  with pytest.raises(fingerprints.FingerprintError) as error:
    run(config=dataclasses.replace(config, batch_rows=8), iteration=2)
  assert 'config.batch_rows: stands as 4, asked for 8' in str(error.value)
  assert 'iteration: stands as 1, asked for 2' in str(error.value)
  # How often it is saved is no part of the result.
  run(config=dataclasses.replace(config, save_every=1, log_every=1))


@pytest.mark.parametrize(
  'saved, counts',
  [
    ([], False),
    (['lr_0.01/metrics.jsonl', 'validation/lr_0.01/step_0/samples'], False),
    (['lr_0.01/0/params', 'lr_0.01/tensorboard/events'], False),
    (['lr_0.01/0/params', 'lr_0.01/5/params'], True),
    (['lr_0.01/0/params', 'lr_0.01/result.json'], True),
  ],
)
def test_work_is_a_step_that_was_trained_and_saved(tmp_path, saved, counts):
  for name in ['started.json', *saved]:
    storage.write_bytes(tmp_path / name, b'{}')
  assert train.has_trained(storage.path(tmp_path)) == counts


def test_a_training_without_a_step_takes_another_configuration(
  run, tmp_path, monkeypatch
):
  """As after the first step ran out of memory."""

  def fail(*_):
    raise MemoryError

  with monkeypatch.context() as patch:
    patch.setattr(batches, 'put_batch', fail)
    with pytest.raises(MemoryError):
      run(config=dataclasses.replace(CONFIG, max_steps=2))
  config = dataclasses.replace(CONFIG, max_steps=2, row_length=24)
  assert run(config=config).statistics['chosen_step'] == 2
  assert (tmp_path / 'iteration_01/checkpoints.superseded-1').exists()


def test_other_examples_set_the_old_checkpoints_aside(run, tmp_path):
  config = dataclasses.replace(CONFIG, max_steps=2)
  first = run(config=config)
  old = params_of(first)
  second = run(config=config, pairs=PAIRS[:9])
  assert second.digest != first.digest
  aside = manifests.load(
    tmp_path / 'iteration_01/checkpoints.superseded-1', stage='train'
  )
  assert aside.digest == first.digest
  assert same(params_of(aside), old)


@pytest.mark.parametrize(
  'fields, message',
  [
    ({'learning_rates': []}, 'at least one'),
    ({'learning_rates': [0.1, 0.1]}, 'none twice'),
    ({'learning_rates': [0.1, 0.2]}, 'DVAL_DIRS'),
    ({'examples_dir': 'nowhere'}, 'nowhere: not there'),
    ({'init_path': 'nowhere'}, 'nowhere: no checkpoint'),
  ],
)
def test_what_cannot_be_trained_is_refused_at_the_start(run, fields, message):
  with pytest.raises(configuration.ConfigurationError, match=message):
    run(**fields)


@pytest.mark.parametrize('vocab_size', [256, 32_000])
def test_a_vocabulary_that_does_not_fit_is_refused_before_training(
  run, rewards, tmp_path, vocab_size
):
  (tmp_path / 'model.safetensors').write_bytes(b'')
  model = dataclasses.replace(tiny_run.MODEL, vocab_size=vocab_size)
  fields = rewards(**{'0.01': [0.5]})
  with pytest.raises(configuration.ConfigurationError, match='VOCABULARY'):
    run(model=model, init_path=os.fspath(tmp_path), **fields)


def test_a_training_that_chose_step_0_is_the_policy_that_it_started_from(
  run, rewards, capsys
):
  config = dataclasses.replace(CONFIG, max_steps=2)
  base = run('base', iteration=0, config=config)
  worse = rewards(**{'0.01': [0.5, 0.4, 0.3]})
  same = run('iteration_01', init_path=os.fspath(base.folder), **worse)
  assert (
    'warning: iteration 1 is the base: no step of 10 raised the reward on '
    'D_val, 0.50.' in capsys.readouterr().out
  )
  assert policies.digest(same.folder) == policies.digest(base.folder)
  assert policies.iteration(same.folder) == 0
  assert trained.same_as(same.folder) == 'base'
  # The next one starts from it, and is trained.
  better = rewards(**{'0.01': [0.5, 0.6, 0.7]})
  other = run(
    'iteration_02', iteration=2, init_path=os.fspath(same.folder), **better
  )
  assert 'iteration 2 is' not in capsys.readouterr().out
  assert policies.digest(other.folder) == other.digest
  assert policies.iteration(other.folder) == 2
  assert trained.same_as(other.folder) is None
