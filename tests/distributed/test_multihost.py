"""Two processes of one job: they compute together, and process 0 writes."""

import concurrent.futures
import json
import os
import random
import signal
import socket
import subprocess
import sys
import threading
import time

import numpy as np
import pytest
import tiny_run

from rest_jax.artifacts import manifests, records
from rest_jax.config import configuration
from rest_jax.distributed import multihost

# One line per stage: what each of the processes runs.
SCRIPT = """
import os, pathlib, sys
stage, folder = sys.argv[1], pathlib.Path(sys.argv[2])
sys.path[:0] = sys.argv[3:]
import tiny_run
from rest_jax import main, sample, train
from rest_jax.distributed import multihost, partitioning, preemption
from rest_jax.sampling.streams import Stream
from rest_jax.training.hyperparameters import (
  OptimizerConfig, TrainConfig, ValidationConfig)

def run():
  mesh = partitioning.MeshConfig(data=1, fsdp=2)
  if stage == 'train':
    train.train(
      examples_dir=str(folder / '../examples'),
      checkpoints_dir=str(folder / 'checkpoints'),
      init_path=None, iteration=1, model=tiny_run.MODEL,
      optimizer=OptimizerConfig(learning_rate=1.0), learning_rates=[0.01],
      config=TrainConfig(max_steps=6, batch_rows=4, row_length=32,
                         log_every=1, save_every=2),
      mesh=mesh, dval_dirs=[str(folder / '../problems')],
      validation=ValidationConfig(every=3),
      dval_stream=Stream(name='dval', num_samples=1, temperature=0.0),
      engine=tiny_run.ENGINE)
  else:
    sample.sample(
      problems_dirs=[str(folder / '../problems')],
      samples_dirs=[str(folder / 'samples')],
      stream_names=['e_step'], policy_dir=str(folder / 'checkpoints'),
      streams=[tiny_run.STREAM], iteration=1, model=tiny_run.MODEL,
      engine=tiny_run.ENGINE, mesh=mesh)

main.run = lambda arguments: run() or 0
main.main([])
"""


def start(root, stage, folder, count):
  """Starts `count` processes with two devices in all."""
  with socket.socket() as free:
    free.bind(('localhost', 0))
    port = free.getsockname()[1]
  folder.mkdir(exist_ok=True)
  started = []
  for index in range(count):
    environment = os.environ | {
      'JAX_PLATFORMS': 'cpu',
      'JAX_COMPILATION_CACHE_DIR': os.fspath(folder.parent / 'xla'),
      'JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS': '0',
      'XLA_FLAGS': f'--xla_force_host_platform_device_count={2 // count}',
    }
    if count > 1:
      environment |= {
        'JAX_COORDINATOR_ADDRESS': f'localhost:{port}',
        'JAX_NUM_PROCESSES': str(count),
        'JAX_PROCESS_ID': str(index),
      }
    started.append(
      subprocess.Popen(
        [
          *(sys.executable, '-c', SCRIPT, stage, os.fspath(folder)),
          *(os.fspath(root), os.fspath(root / 'tests')),
        ],
        env=environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
      )
    )
  return started


def wait(started, code=0):
  """The standard outputs; all must end with this exit code."""
  try:
    outputs = [process.communicate(timeout=180) for process in started]
  finally:
    for process in started:
      process.kill()
  codes = [process.returncode for process in started]
  assert codes == [code] * len(codes), '\n'.join(o[1][-3000:] for o in outputs)
  return [output[0] for output in outputs]


@pytest.fixture(scope='module')
def inputs(tmp_path_factory):
  folder = tmp_path_factory.mktemp('hosts')
  tiny_run.problems(folder / 'problems', {str(i): f'Q{i}:' for i in range(4)})
  pairs = [(f'1+6=7;Q{i}:', '#### 7') for i in range(12)]
  tiny_run.examples(folder / 'examples', pairs)
  return folder


def lines(folder):
  text = (folder / 'checkpoints/lr_0.01/metrics.jsonl').read_text()
  return [json.loads(line) for line in text.splitlines()]


def test_two_processes_train_and_sample_as_one_does(root, inputs):
  one, two = inputs / 'one', inputs / 'two'
  for stage in ('train', 'sample'):
    wait(start(root, stage, one, 1))
    out = wait(start(root, stage, two, 2))
    spoken = [
      [line for line in text.splitlines() if not line.startswith('[Gloo]')]
      for text in out
    ]
    assert f'{stage}: ' in spoken[0][-1]
    assert spoken[1] == []  # process 0 alone speaks
  assert [line['step'] for line in lines(one)] == [
    line['step'] for line in lines(two)
  ]
  for a, b in zip(lines(one), lines(two), strict=True):
    assert a.keys() == b.keys()
    for name in a.keys() & {'loss', 'grad_norm', 'padding', 'dval_reward'}:
      assert a[name] == pytest.approx(b[name], rel=1e-4), a['step']
  first, second = (
    {
      (row.problem_id, row.sample_index): row
      for row in manifests.load(folder / 'samples').records()
    }
    for folder in (one, two)
  )
  # D_val takes step 0 of both: policies of the same bits.
  assert first.keys() == second.keys() and len(first) == 4 * 8
  differing = 0
  for key, a in first.items():
    b = second[key]
    differing += a.token_ids != b.token_ids
    if a.token_ids == b.token_ids:
      np.testing.assert_allclose(a.logprobs, b.logprobs, atol=1e-4)
  print(f'{differing} of {len(first)} samples differ between host counts')
  assert differing <= 2
  validation = two / 'validation/lr_0.01/step_3/samples'
  part = validation / records.part_name(0, 1)
  assert records.read_part(part, records.Sample).num_rows == 4


def test_sigterm_to_one_process_stops_both_and_they_resume(root, inputs):
  folder = inputs / 'stopped'
  started = start(root, 'train', folder, 2)
  for line in started[0].stdout:
    if line.startswith('@progress 1/'):
      break
  started[1].send_signal(signal.SIGTERM)  # not the one that writes
  wait(started, code=42)
  assert not (folder / 'checkpoints/manifest.json').exists()
  wait(start(root, 'train', folder, 2))
  whole = inputs / 'two'
  if (whole / 'checkpoints/manifest.json').exists():
    resumed, straight = (
      manifests.load(place / 'checkpoints') for place in (folder, whole)
    )
    assert resumed.statistics == straight.statistics
    for a, b in zip(lines(folder), lines(whole), strict=True):
      assert a.get('loss') == b.get('loss')


def test_an_error_of_process_0_is_every_processs_error(root, inputs):
  folder = inputs / 'refused'
  (folder / 'samples').mkdir(parents=True)
  (folder / 'samples/manifest.json').write_text('{}')
  (folder / 'checkpoints').symlink_to(inputs / 'two/checkpoints')
  started = start(root, 'sample', folder, 2)
  wait(started, code=2)


class Store:
  """What a coordination service's client does, within one process."""

  def __init__(self, count):
    self.values, self.changed = {}, threading.Condition()
    self.barrier = threading.Barrier(count)
    self.largest = 0

  def key_value_set(self, key, value):
    with self.changed:
      assert key not in self.values
      self.values[key] = value
      self.largest = max(self.largest, len(self.values))
      self.changed.notify_all()

  def blocking_key_value_get(self, key, timeout_ms):
    with self.changed:
      assert self.changed.wait_for(lambda: key in self.values, timeout=10), key
      return self.values[key]

  def key_value_delete(self, key):
    with self.changed:
      gone = [k for k in self.values if k.startswith(key)]
      for k in gone:
        del self.values[k]

  def wait_at_barrier(self, name, timeout_ms):
    self.barrier.wait(timeout=10)


def test_what_processes_tell_each_other_is_the_same_for_all(monkeypatch):
  monkeypatch.setattr(multihost, '_GENERATION', 8)
  count, rounds = 3, 60
  store = Store(count)

  def run(index):
    service = multihost._Service(store, index, count)
    heard, pending = [], service.vote(False)
    rng = random.Random(index)
    for number in range(rounds):
      time.sleep(rng.random() * 1e-3)
      heard.append(service.tell([index, number]))
      ballot = service.vote(index == number % 7)
      heard.append(service.any(pending))  # a call late, as Vote does
      pending = ballot
    return heard

  with concurrent.futures.ThreadPoolExecutor(count) as pool:
    first, *others = pool.map(run, range(count))
  assert all(other == first for other in others)
  assert first[::2] == [[0, number] for number in range(rounds)]
  voted = [number % 7 < count for number in range(rounds)]
  assert first[1::2] == [False, *voted[:-1]]
  assert store.largest < 8 * 3 * (count + 1)  # old values are taken away


@pytest.mark.parametrize(
  'environment',
  [
    {'JAX_COORDINATOR_ADDRESS': 'localhost:1'},
    {'JAX_NUM_PROCESSES': '2', 'JAX_PROCESS_ID': '0'},
    {
      'JAX_COORDINATOR_ADDRESS': 'localhost:1',
      'JAX_NUM_PROCESSES': 'two',
      'JAX_PROCESS_ID': '0',
    },
  ],
)
def test_a_half_set_environment_is_refused(monkeypatch, environment):
  for name, value in environment.items():
    monkeypatch.setenv(name, value)
  with pytest.raises(
    configuration.ConfigurationError, match='JAX_PROCESS_ID.*set all three'
  ):
    multihost.initialize()


def test_alone_everything_is_its_own(monkeypatch, tmp_path):
  multihost.initialize()
  assert multihost.is_writer()
  assert multihost.from_writer(lambda: {'a': 1}) == {'a': 1}
  with pytest.raises(OSError, match='disk'):
    multihost.from_writer(lambda: (_ for _ in ()).throw(OSError('disk')))
  assert not multihost.Vote().asked()
  with multihost.work_on(
    tmp_path / 'x', stage='t', kind=None, semantic={}, inputs={}, version=1
  ) as work:
    assert type(work) is manifests.Work
