"""What shows a training's metrics, and that it never stops one."""

import importlib.util
import json
import sys
import types

import pytest

from rest_jax.config import configuration
from rest_jax.training import hyperparameters, metric_writer


def scalars(folder):
  """(step, value) of the loss, as TensorBoard itself reads them."""
  from tensorboard.backend.event_processing import event_accumulator

  found = event_accumulator.EventAccumulator(str(folder))
  found.Reload()
  return [(event.step, event.value) for event in found.Scalars('loss')]


@pytest.mark.parametrize('where', ['local', 'remote'])
def test_tensorboard_shows_each_step_once(
  where, request, tmp_path, store, monkeypatch
):
  """After a restart the events of steps that are done again are not shown."""
  # TensorBoard then reads without TensorFlow, whose import takes seconds.
  notf = types.ModuleType('tensorboard.compat.notf')
  monkeypatch.setitem(sys.modules, notf.__name__, notf)
  if where == 'local':
    folder = seen = tmp_path / 'lr'
  else:
    folder, seen = f'{request.getfixturevalue("bucket")}/lr', tmp_path / 'seen'
  first = metric_writer.MetricsLog(
    folder, first_step=0, tracker_names=['tensorboard']
  )
  for step in (1, 2, 3):
    first.write(step, {'loss': float(step)})
  first.flush()
  again = metric_writer.MetricsLog(
    folder, first_step=3, tracker_names=['tensorboard']
  )
  for step in (3, 4):
    again.write(step, {'loss': float(10 * step)})
    again.flush()
  for name, made in store.objects.items():
    target = seen / name.removeprefix('bucket/lr/')
    target.parent.mkdir(parents=True, exist_ok=True)
    target.write_bytes(made.data)
  assert scalars(seen / 'tensorboard') == [
    *((1, 1.0), (2, 2.0), (3, 30.0), (4, 40.0))
  ]


@pytest.mark.parametrize('status', [400, 403])
def test_events_that_cannot_be_uploaded_do_not_stop_a_training(
  bucket, store, capsys, status
):
  log = metric_writer.MetricsLog(
    f'{bucket}/lr', first_step=0, tracker_names=['tensorboard']
  )
  log.write(1, {'loss': 1.0})
  store.fault('POST.*tensorboard', times=10**6, status=status)
  log.flush()
  assert 'warning: TensorBoard' in capsys.readouterr().out
  assert 'bucket/lr/metrics.jsonl' in store.objects
  store.fault_nothing()
  log.flush()
  assert any('tensorboard/events' in name for name in store.objects)


def test_no_tracker_writes_metrics_alone(tmp_path):
  log = metric_writer.MetricsLog(tmp_path, first_step=0, tracker_names=())
  log.write(1, {'loss': 1.0})
  log.flush()
  log.close()
  assert [path.name for path in tmp_path.iterdir()] == ['metrics.jsonl']


def config(trackers):
  return hyperparameters.TrainConfig(
    max_steps=1, batch_rows=1, trackers=trackers
  )


def test_trackers_are_named_and_installed_before_anything_is_trained(
  monkeypatch,
):
  assert config([]).trackers == ()
  with pytest.raises(configuration.ConfigurationError, match='tensorboard'):
    config(['tensorbord'])
  find = importlib.util.find_spec
  monkeypatch.setattr(
    importlib.util,
    'find_spec',
    lambda name: None if name == 'wandb' else find(name),
  )
  with pytest.raises(configuration.ConfigurationError, match=r'\[wandb\]'):
    config(['wandb'])


def test_trackers_are_no_part_of_what_a_result_depends_on():
  some, none = map(
    configuration.semantics, (config(['tensorboard']), config([]))
  )
  assert some == none


class FakeRun:
  """What a run of wandb has; raises after `good` calls of `log`."""

  def __init__(self, good):
    self.good, self.logged, self.finished = good, [], False

  def define_metric(self, name, step_metric):
    assert (name, step_metric) == ('*', 'step')

  def log(self, values):
    if len(self.logged) == self.good:
      raise RuntimeError('the service is away')
    self.logged.append(values)

  def finish(self):
    self.finished = True


@pytest.fixture
def fake(monkeypatch):
  """Installs a module wandb; returns what its init was given, and its runs."""
  calls, runs = [], []

  def init(**arguments):
    calls.append(arguments)
    runs.append(FakeRun(good=2))
    return runs[-1]

  module = types.ModuleType('wandb')
  module.init = init
  monkeypatch.setitem(sys.modules, 'wandb', module)
  return calls, runs


def open_log(folder, first_step=0):
  return metric_writer.MetricsLog(
    folder / 'run/iteration_01/checkpoints/lr_0.1',
    first_step=first_step,
    tracker_names=['wandb'],
  )


def test_a_restarted_training_goes_on_in_the_same_run_of_wandb(tmp_path, fake):
  calls, runs = fake
  for first_step in (0, 2):
    log = open_log(tmp_path, first_step)
    log.write(first_step + 1, {'loss': 0.5})
    log.close()
  first, second = calls
  assert first['id'] == second['id'] and first['resume'] == 'allow'
  assert (first['group'], first['name']) == ('run', 'iteration_01/lr_0.1')
  assert [run.logged for run in runs] == [
    [{'step': 1, 'loss': 0.5}],
    [{'step': 3, 'loss': 0.5}],
  ]
  assert all(run.finished for run in runs)


def test_a_service_that_is_away_costs_a_warning(tmp_path, fake, capsys):
  _, [*runs] = fake
  log = open_log(tmp_path)
  for step in range(1, 6):
    log.write(step, {'loss': float(step)})
  log.flush()
  log.close()
  said = capsys.readouterr().out
  assert said.count('warning: Weights & Biases') == 1
  assert 'the service is away' in said
  text = (log.folder / 'metrics.jsonl').read_text()
  assert [json.loads(line)['step'] for line in text.splitlines()] == [
    *range(1, 6)
  ]


def test_wandb_itself_writes_without_a_network(tmp_path, monkeypatch):
  pytest.importorskip('wandb')
  monkeypatch.setenv('WANDB_MODE', 'offline')
  monkeypatch.setenv('WANDB_SILENT', 'true')
  for first_step in (0, 2):
    log = open_log(tmp_path, first_step)
    log.write(first_step + 1, {'loss': 0.5})
    log.flush()
    log.close()
  assert list(log.folder.glob('wandb/offline-run-*/run-*.wandb'))
