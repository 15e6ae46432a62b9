"""Two processes of one job: they compute together, and process 0 writes."""

import json
import signal
import socket

import numpy as np
import pytest
import tiny_run
from processes import start, wait

from rest_jax.artifacts import manifests, records, stage_work
from rest_jax.config import configuration
from rest_jax.distributed import coordination, multihost, watchdog

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
      engine=tiny_run.ENGINE,
      # As rows over the hosts: the weights go from one mesh to the other.
      dval_mesh=partitioning.MeshConfig(data=-1, fsdp=1))
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


# What each of two processes does, by its number.
FAILURES = """
import os, sys, time
what, root = sys.argv[1], sys.argv[3]
sys.path.insert(0, root)
from rest_jax import main
from rest_jax.config import configuration
from rest_jax.distributed import (
  coordination, failures, multihost, preemption, watchdog)

def fail(error):
  raise error

def run():
  if 'killed' in what or 'stopped' in what:
    watchdog.SILENT_SECONDS, watchdog.POLL_SECONDS = 4.0, 0.5
  multihost.initialize()
  index, count = coordination.size()
  multihost.from_writer(lambda: 'all have started')
  preemption.watch()
  print('started', flush=True)
  if what == 'a store that does not answer':
    multihost.from_writer(lambda: fail(ConnectionResetError(104, 'reset')))
  elif what == 'a preemption of process 0':
    multihost.from_writer(lambda: fail(preemption.Preempted('soon')))
  elif what == 'a wrong file on host 1':
    if index == 1:
      fail(configuration.ConfigurationError('no such file'))
    multihost.check_preemption('test')
  elif what == 'a bug on host 1':
    if index == 1:
      fail(AssertionError('a bug'))
    multihost.check_preemption('test')
  elif what == 'an error while the devices wait':
    from jax.experimental import multihost_utils
    if index == 1:
      fail(configuration.ConfigurationError('no such file'))
    multihost_utils.sync_global_devices('never')
  elif 'killed' in what and 'devices' in what:
    from jax.experimental import multihost_utils
    for number in range(10**6):
      multihost_utils.sync_global_devices(str(number))
      time.sleep(0.01)
  elif 'killed' in what or 'stopped' in what or 'SIGTERM' in what:
    vote = multihost.Vote()
    while not vote.asked():
      time.sleep(0.01)
    raise preemption.Preempted('saved')
  elif what == 'a host that hangs':
    failures.SECONDS_TO_BE_HEARD = 1.0  # by nobody
    if index == 1:
      time.sleep(120)
    multihost.check_preemption('test')

main.run = lambda arguments: run() or 0
main.main([])
"""


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
    wait(start(root, SCRIPT, one, stage))
    out = wait(start(root, SCRIPT, two, stage, count=2))
    spoken = [
      [line for line in text.splitlines() if not line.startswith('[Gloo]')]
      for text, _ in out
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
  started = start(root, SCRIPT, folder, 'train', count=2)
  for line in started[0].stdout:
    if ' step 0: D_val' in line:  # the training step is compiled next
      break
  started[1].send_signal(signal.SIGTERM)  # not the one that writes
  wait(started, code=42)
  assert not (folder / 'checkpoints/manifest.json').exists()
  wait(start(root, SCRIPT, folder, 'train', count=2))
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
  started = start(root, SCRIPT, folder, 'sample', count=2)
  wait(started, code=2)


@pytest.mark.parametrize(
  ('what', 'codes', 'told'),
  [
    ('a store that does not answer', {0: 1, 1: 1}, 'process 0 on host'),
    ('a preemption of process 0', {0: 42, 1: 42}, 'process 0 on host'),
    ('a wrong file on host 1', {0: 2, 1: 2}, 'process 1 on host'),
    ('a bug on host 1', {0: 1, 1: 1}, 'process 1 on host'),
    ('an error while the devices wait', {0: 2, 1: 2}, 'process 1 on host'),
    ('a host that hangs', {0: 1}, 'process 1 on host'),
  ],
)
def test_all_processes_end_as_the_one_that_failed(
  root, tmp_path, monkeypatch, what, codes, told
):
  if what == 'a host that hangs':
    monkeypatch.setenv(coordination.LIMIT_NAME, '4')
  started = start(root, FAILURES, tmp_path / 'x', what, count=2)
  try:
    errors = {i: started[i].communicate(timeout=90)[1] for i in codes}
  finally:
    for process in started:
      process.kill()
      process.wait()
  assert {i: started[i].returncode for i in codes} == codes, errors
  listener = 0 if told.startswith('process 1') else 1
  assert told in errors[listener]


@pytest.mark.parametrize(
  ('what', 'count', 'sent'),
  [
    ('killed while the others vote', 2, signal.SIGKILL),
    ('killed in a collective of the devices', 4, signal.SIGKILL),
    ('stopped', 2, signal.SIGSTOP),
  ],
)
def test_a_process_that_is_no_more_is_named_and_ends_the_others(
  root, tmp_path, what, count, sent
):
  started = start(root, FAILURES, tmp_path / 'x', what, count=count)
  victim = count - 1
  others = [i for i in range(count) if i != victim]
  try:
    for process in started:
      assert process.stdout.readline() == 'started\n'
    started[victim].send_signal(sent)
    errors = {i: started[i].communicate(timeout=90)[1] for i in others}
  finally:
    for process in started:
      process.kill()
      process.wait()
  # Others may end at once with the collective's error; process 0 stays for it.
  codes = [started[i].returncode for i in others]
  assert codes[0] == watchdog.GONE_CODE, errors
  assert {*codes} <= {watchdog.GONE_CODE, watchdog.STUCK_CODE}, errors
  assert f'process {victim} on host {socket.gethostname()}' in errors[0]


def test_sigterm_to_one_of_four_processes_ends_all_as_preempted(root, tmp_path):
  started = start(root, FAILURES, tmp_path / 'x', 'SIGTERM', count=4)
  for process in started:
    assert process.stdout.readline() == 'started\n'
  started[2].send_signal(signal.SIGTERM)
  wait(started, code=42)


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
    assert type(work) is stage_work.Work
