"""Jobs as processes that somebody else starts, and their launcher."""

import dataclasses
import io
import json
import os
import signal
import subprocess
import sys
import threading

import fake_cloud
import fake_cluster
import fake_stage
import pytest
from fake_stage import starts
from processes import until

from rest_jax.config import configuration
from rest_jax.executors import exit_codes, launch_record, orders
from rest_jax.executors.console import Console
from rest_jax.executors.gke.gke import GkeExecutor
from rest_jax.executors.gke.settings import GkeConfig
from rest_jax.executors.jobs import Job
from rest_jax.executors.ledger import Configuration, Ledger
from rest_jax.executors.local import LocalExecutor
from rest_jax.executors.retry_policy import RetryPolicy
from rest_jax.executors.scheduler import Scheduler
from rest_jax.executors.tpu_vm import tpu_vm
from rest_jax.executors.tpu_vm.settings import TpuVmConfig
from rest_jax.executors.work_units import work_units

# What is started in a unit's place: with a fake stage.
UNIT = f"""
import sys
from rest_jax.executors.local import LocalExecutor
stage = {str(fake_stage.PATH)!r}
LocalExecutor.__init__.__defaults__ = ((sys.executable, stage),)
from rest_jax.executors.gke import gke
gke.POLL_SECONDS = 0.1
gke.GkeExecutor.__init__.__defaults__ = (print, (sys.executable, stage))
from rest_jax.executors.work_units import unit
sys.exit(unit.main())
"""


class Starter:
  """Starts the processes that a launcher asks for.

  Attributes:
    processes: name of the job to its process; of several, the last.
    asked: the names, in order.
  """

  def __init__(self, folder):
    self.processes, self.asked = {}, []
    self._script = folder / 'unit.py'
    self._script.write_text(UNIT)
    self._paths = os.pathsep.join(filter(None, sys.path))
    reading, writing = os.pipe()
    self.ask = os.fdopen(writing, 'w')
    self._lines = os.fdopen(reading)
    threading.Thread(target=self._serve, daemon=True).start()

  def _serve(self):
    for line in self._lines:
      asked = json.loads(line)
      module, *arguments = asked['arguments'][1:]
      assert module == 'rest_jax.executors.work_units.unit'
      self.asked.append(asked['name'])
      self.processes[asked['name']] = subprocess.Popen(
        [sys.executable, str(self._script), *arguments],
        env=os.environ | {'PYTHONPATH': self._paths},
      )


@pytest.fixture
def starter(tmp_path):
  found = Starter(tmp_path)
  yield found
  for process in found.processes.values():
    process.kill()
    process.wait()


def job(run_dir, name, *, needs=(), retries=1, topology=None, **flags):
  flags = {'OUT': f'{run_dir}/{name}', 'VALUE': 'v'} | flags
  return Job(
    name=name,
    stage='fake',
    arguments=tuple(f'--gin.{k}={v}' for k, v in flags.items()),
    environment=(('X', 'y'),),
    needs=tuple(needs),
    outputs=(f'{run_dir}/{name}',),
    accelerator='tpu' if topology else 'cpu',
    topology=topology,
    retry=RetryPolicy(retries=retries, preemptions=3, backoff_seconds=0.01),
  )


def launch(run_dir, jobs, starter, inner=None, at_a_time=10):
  """(exit code, what was printed) of one launch."""
  out = io.StringIO()
  ledger = Ledger(str(run_dir), Configuration(bindings={}, others=[]))
  console = Console([one.name for one in jobs], out)
  executor = work_units.WorkUnitExecutor(
    inner or LocalExecutor(),
    run_dir=str(run_dir),
    ask=starter.ask,
    at_a_time=at_a_time,
    say=console.say,
  )
  work = Scheduler(str(run_dir), [], ledger, console, executor)
  return work.run(jobs), out.getvalue()


@pytest.fixture
def launched(monkeypatch, starter):
  """Starts a launch in a thread; gives where its (code, text) will be."""

  def start(run_dir, jobs, inner=None):
    result = []
    # Signals belong to the main thread.
    monkeypatch.setattr(signal, 'signal', lambda *_: None)
    thread = threading.Thread(
      target=lambda: result.append(launch(run_dir, jobs, starter, inner)),
      daemon=True,
    )
    thread.start()
    return lambda: thread.join(timeout=60) or result[0]

  return start


def test_an_order_comes_out_of_json_as_it_went_in(tmp_path):
  one = job(tmp_path, 'a', topology='v5e:2x4', needs=['b'])
  order = orders.Orders('run', ['--f'], token='t', digests='d').make(one)
  text = json.dumps(dataclasses.asdict(order))
  assert orders.parsed(json.loads(text)) == order


def test_jobs_run_beside_each_other_each_in_a_process_that_was_asked_for(
  tmp_path, starter, launched
):
  run = tmp_path / 'run'
  jobs = [
    job(run, 'a', ON_START='wait'),
    job(run, 'b', ON_START='warn'),
    job(run, 'c', needs=['a', 'b']),
  ]
  ended = launched(run, jobs)
  until((run / 'b' / 'manifest.json').exists)
  assert starter.processes['b'].wait(30) == 0
  assert starter.processes['a'].poll() is None
  (run / 'a.go').touch()
  code, text = ended()
  assert code == 0, text
  assert starter.asked == ['a', 'b', 'c']
  assert 'warning: two were left out' in text
  assert f'fake: wrote {run}/a' in (run / 'logs' / 'a.log').read_text()


def test_no_more_run_at_a_time_than_was_said(tmp_path, starter):
  run = tmp_path / 'run'
  code, text = launch(run, [job(run, 'a'), job(run, 'b')], starter, at_a_time=1)
  assert code == 0
  assert text.index('done    a') < text.index('run     b')


@pytest.mark.parametrize(
  'how, code', [('exit 7,ok', 0), ('crash,ok', 0), ('crash', 137)]
)
def test_a_unit_lasts_over_the_attempts_and_ends_as_the_last(
  tmp_path, starter, how, code
):
  run = tmp_path / 'run'
  assert launch(run, [job(run, 'a', ON_START=how)], starter)[0] == bool(code)
  assert starts(run, 'a') == 2 and starter.asked == ['a']
  assert starter.processes['a'].wait(30) == code


def test_a_unit_that_is_killed_takes_its_stage_with_it_and_is_replaced(
  tmp_path, starter, launched
):
  run = tmp_path / 'run'
  ended = launched(run, [job(run, 'a', ON_START='wait,ok')])
  until(lambda: starts(run, 'a') == 1)
  starter.processes['a'].kill()
  code, text = ended()
  assert code == 0, text  # else the old stage would hold the folder
  assert starts(run, 'a') == 2 and starter.asked == ['a', 'a']


def test_a_unit_that_is_asked_to_end_saves_the_state_and_is_replaced(
  tmp_path, starter, launched
):
  run = tmp_path / 'run'
  ended = launched(run, [job(run, 'a', ON_START='wait,ok', retries=0)])
  log = run / 'logs' / 'a.log'
  until(lambda: log.exists() and 'waiting' in log.read_text())
  first = starter.processes['a']
  first.terminate()
  code, text = ended()
  assert code == 0 and 'preempted' in text, text
  assert first.wait(30) == exit_codes.PREEMPTED
  assert starts(run, 'a') == 2 and starter.asked == ['a', 'a']


def test_a_stop_reaches_the_stage_through_its_unit(
  tmp_path, starter, launched, monkeypatch
):
  monkeypatch.setattr(launch_record, 'LOOK_SECONDS', 0.0)
  run = tmp_path / 'run'
  ended = launched(run, [job(run, 'a', ON_START='hang')])
  log = run / 'logs' / 'a.log'
  until(lambda: log.exists() and 'hanging' in log.read_text())
  launch_record.ask_to_stop(run)
  assert ended()[0] == exit_codes.PREEMPTED
  assert starter.processes['a'].wait(30) == exit_codes.PREEMPTED
  assert 'fake' in log.read_text().rpartition('hanging')[2]


@pytest.fixture
def cluster(tmp_path, monkeypatch):
  """A fake cluster, which the units reach as well."""
  pytest.importorskip('kubernetes')
  folder = tmp_path / 'cluster'
  folder.mkdir()
  environment = {'PYTHONPATH': os.pathsep.join(filter(None, sys.path))}
  with fake_cluster.FakeCluster(folder, environment) as fake:
    monkeypatch.setenv('KUBECONFIG', str(fake.kubeconfig))
    yield fake


def on_the_cluster(run_dir):
  command = (sys.executable, str(fake_stage.PATH))
  return GkeExecutor(GkeConfig(image='image'), str(run_dir), print, command)


def test_units_have_a_cluster_run_their_jobs_by_jobsets_of_ours(
  tmp_path, starter, cluster
):
  run = tmp_path / 'run'
  jobs = [
    job(run, 'a', topology='v5e:2x4', ON_START='preempt,ok'),
    job(run, 'b', needs=['a']),
  ]
  code, text = launch(run, jobs, starter, on_the_cluster(run))
  assert code == 0, text
  assert starter.asked == ['a', 'b'] and starts(run, 'a') == 2
  assert 'started again by the cluster' in text
  assert len(cluster.jobsets) == 1  # of the TPUs; b is a plain Job
  assert len(cluster.jobs) == 2
  assert [starter.processes[n].wait(60) for n in 'ab'] == [0, 0]


def test_a_unit_that_is_killed_leaves_its_jobset_to_the_next(
  tmp_path, starter, cluster, launched
):
  run = tmp_path / 'run'
  one = job(run, 'a', topology='v5e:2x4', ON_START='wait')
  ended = launched(run, [one], on_the_cluster(run))
  until(lambda: starts(run, 'a') == 1)
  starter.processes['a'].kill()
  starter.processes['a'].wait()
  before = len(cluster.requests)
  # The next unit follows the output of what runs.
  until(lambda: any('/log' in p for _, p in cluster.requests[before:]))
  (run / 'a.go').touch()
  code, text = ended()
  assert code == 0, text
  assert 'runs already' in text
  assert starts(run, 'a') == 1 and len(cluster.jobsets) == 1


def test_a_unit_has_tpu_vms_run_its_job_and_says_what_these_refuse(
  tmp_path, starter, monkeypatch
):
  monkeypatch.setattr(tpu_vm, 'POLL_SECONDS', 0.1)
  environment = {'PYTHONPATH': os.pathsep.join(filter(None, sys.path))}
  with fake_cloud.FakeCloud(tmp_path / 'cloud', environment) as cloud:
    monkeypatch.setenv('PATH', f'{cloud.bin}:{os.environ["PATH"]}')
    config = TpuVmConfig(image='docker.example/image:1', zone='us-east5-a')
    run = tmp_path / 'run'
    inner = tpu_vm.TpuVmExecutor(config, str(run))
    cloud.refuse_images()
    one = job(run, 'a', topology='v5e:2x4')
    assert launch(run, [one], starter, inner)[0] == exit_codes.CONFIGURATION
    assert len(cloud.calls('create')) == 1
    assert starter.processes['a'].wait(60) == exit_codes.CONFIGURATION
    bad = dataclasses.replace(one, name='b', topology=None)
    with pytest.raises(configuration.ConfigurationError, match='TOPOLOGY'):
      launch(run, [bad], starter, inner)
