"""Jobs on TPU VMs: the executor, its agent, a fake gcloud and its faults."""

import dataclasses
import io
import json
import os
import pathlib
import signal
import subprocess
import sys
import threading
import time

import fake_cloud
import pytest

from rest_jax.artifacts import storage
from rest_jax.commands import status, stop
from rest_jax.config import configuration
from rest_jax.executors import exit_codes, launch_record
from rest_jax.executors.console import Console
from rest_jax.executors.jobs import Job
from rest_jax.executors.ledger import Configuration, Ledger
from rest_jax.executors.local import LocalExecutor
from rest_jax.executors.orders import Orders
from rest_jax.executors.retry_policy import RetryPolicy
from rest_jax.executors.scheduler import Scheduler
from rest_jax.executors.tpu_vm import agent, queued_resources, tpu_vm
from rest_jax.executors.tpu_vm.settings import TpuVmConfig

FAKE = pathlib.Path(__file__).parent / 'fake_stage.py'
CONFIG = TpuVmConfig(image='docker.example/image:1', zone='us-east5-a')
# What hosts run in the agent's place: quick to tell, and with a fake stage.
AGENT = """
import sys
from rest_jax.executors.tpu_vm import agent
agent.SECONDS = 0.1
agent.run.__defaults__ = ((sys.executable, {stage!r}),)
sys.exit(agent.main())
"""


@pytest.fixture
def cloud(tmp_path, monkeypatch):
  for module, name in (
    (tpu_vm, 'POLL_SECONDS'),
    (tpu_vm, '_RETRY_SECONDS'),
    (agent, 'SECONDS'),
  ):
    monkeypatch.setattr(module, name, 0.1)
  quick = tmp_path / 'agent.py'
  quick.write_text(AGENT.format(stage=str(FAKE)))
  environment = {
    'PYTHONPATH': os.pathsep.join(filter(None, sys.path)),
    'FAKE_AGENT': str(quick),
  }
  with fake_cloud.FakeCloud(tmp_path / 'cloud', environment) as fake:
    monkeypatch.setenv('PATH', f'{fake.bin}:{os.environ["PATH"]}')
    yield fake


def job(run_dir, name, *, topology='v5e:2x4', needs=(), retries=1, **flags):
  flags = {'OUT': f'{run_dir}/{name}', 'VALUE': 'v'} | flags
  return Job(
    name=name,
    stage='fake',
    arguments=tuple(f'--gin.{k}={v}' for k, v in flags.items()),
    needs=tuple(needs),
    outputs=(f'{run_dir}/{name}',),
    accelerator='tpu' if topology else 'cpu',
    topology=topology,
    retry=RetryPolicy(retries=retries, preemptions=3, backoff_seconds=0.01),
  )


def launch(run_dir, jobs):
  """(exit code, what was printed) of one launch."""
  out = io.StringIO()
  ledger = Ledger(str(run_dir), Configuration(bindings={}, others=[]))
  console = Console([one.name for one in jobs], out)
  local = LocalExecutor([sys.executable, str(FAKE)])
  executor = tpu_vm.TpuVmExecutor(CONFIG, str(run_dir), console.say, local)
  work = Scheduler(str(run_dir), [], ledger, console, executor)
  return work.run(jobs), out.getvalue()


@pytest.fixture
def launched(monkeypatch):
  """Starts a launch in a thread; gives where its (code, text) will be."""
  threads = []

  def start(run_dir, jobs):
    result = []
    # Signals belong to the main thread.
    monkeypatch.setattr(signal, 'signal', lambda *_: None)
    thread = threading.Thread(
      target=lambda: result.append(launch(run_dir, jobs)), daemon=True
    )
    thread.start()
    threads.append(thread)
    return lambda: thread.join(timeout=60) or result[0]

  yield start


def starts(run_dir, name):
  file = run_dir / f'{name}.starts'
  return len(file.read_text()) if file.exists() else 0


def until(test):
  deadline = time.monotonic() + 30
  while not test():
    assert time.monotonic() < deadline
    time.sleep(0.02)


def test_a_job_gets_its_vms_and_they_are_gone_when_it_is_done(tmp_path, cloud):
  run = tmp_path / 'run'
  jobs = [
    job(run, 'a', topology=None),
    job(run, 'b', needs=['a'], ON_START='warn'),
  ]
  code, text = launch(run, jobs)
  assert code == 0, text
  assert 'warning: two were left out' in text
  assert f'fake: wrote {run}/b' in (run / 'logs' / 'b.log').read_text()
  (create,) = cloud.calls('create')
  assert '--accelerator-type=v5litepod-8' in create
  assert '--runtime-version=v2-alpha-tpuv5-lite' in create
  until(lambda: not cloud.requests())


def test_slices_become_nodes_and_every_host_runs_the_job(tmp_path, cloud):
  run = tmp_path / 'run'
  one = dataclasses.replace(
    job(run, 'a', topology='v5p:2x2x2', ON_START='hang'), slices=2
  )
  order = Orders(str(run), [], token='t', digests='d').make(one)
  config = dataclasses.replace(CONFIG, spot=True, project='p')
  script = queued_resources.startup_script('rj-x', f'{run}/r', order, config)
  queued_resources.QueuedResources(config).create('rj-x', order, script)
  until(lambda: len(cloud.hosts.get('rj-x', ())) == 4)
  (create,) = cloud.calls('create')
  assert {'--node-count=2', '--node-prefix=rj-x', '--spot'} <= set(create)
  assert '--project=p' in create
  until(lambda: starts(run, 'a') >= 1)  # the others find the folder held


def test_vms_that_nobody_deletes_delete_themselves(tmp_path, cloud):
  run = tmp_path / 'run'
  (cloud.folder / 'hasty').touch()  # ten minutes pass at once
  order = Orders(str(run), [], token='t', digests='d').make(job(run, 'a'))
  script = queued_resources.startup_script('rj-x', f'{run}/r', order, CONFIG)
  queued_resources.QueuedResources(CONFIG).create('rj-x', order, script)
  until((run / 'a' / 'manifest.json').exists)
  until(lambda: not cloud.requests())


@pytest.mark.parametrize('how', ['exit 7', 'crash'])
def test_what_dies_is_tried_again_on_new_vms(tmp_path, cloud, how):
  run = tmp_path / 'run'
  code, text = launch(run, [job(run, 'a', ON_START=f'{how},ok')])
  assert code == 0 and starts(run, 'a') == 2, text
  assert len(cloud.calls('create')) == 2
  until(lambda: not cloud.requests())


def test_what_is_wrong_is_said_once(tmp_path, cloud):
  run = tmp_path / 'run'
  code, text = launch(run, [job(run, 'a', ON_START='refuse')])
  assert code == exit_codes.CONFIGURATION and starts(run, 'a') == 1
  assert 'VALUE: not to my taste' in text
  until(lambda: not cloud.requests())


def test_vms_that_are_taken_away_are_asked_for_again(tmp_path, cloud, launched):
  run = tmp_path / 'run'
  ended = launched(run, [job(run, 'a', ON_START='wait', retries=0)])
  until(lambda: starts(run, 'a') == 1)
  time.sleep(0.5)  # until it listens
  (first,) = cloud.requests()
  cloud.preempt(first)
  until(lambda: starts(run, 'a') == 2)
  (run / 'a.go').touch()
  code, text = ended()
  assert code == 0 and 'preempted' in text
  assert first not in cloud.requests()


def test_a_request_that_fails_says_why(tmp_path, cloud, launched, monkeypatch):
  monkeypatch.setattr(fake_cloud, '_STATES', ('ACCEPTED', 'X'))
  run = tmp_path / 'run'
  ended = launched(run, [job(run, 'a', retries=0)])
  until(cloud.requests)
  cloud.fail(next(iter(cloud.requests())), 'no capacity in this zone')
  code, text = ended()
  assert code == 1 and 'no capacity in this zone' in text
  until(lambda: not cloud.requests())


def test_a_quota_and_an_image_that_is_not_there_are_said(
  tmp_path, cloud, bucket
):
  run = tmp_path / 'run'
  cloud.refuse_images()
  for where in (run, f'{bucket}/run'):
    code, _ = launch(where, [job(where, 'a')])
    assert code == exit_codes.CONFIGURATION
  cloud.refuse()
  with pytest.raises(configuration.ConfigurationError, match='Quota limit'):
    launch(run, [job(run, 'b')])


def test_while_google_cloud_is_silent_the_job_goes_on(
  tmp_path, cloud, launched
):
  run = tmp_path / 'run'
  ended = launched(run, [job(run, 'a', ON_START='wait')])
  until(lambda: starts(run, 'a') == 1)
  cloud.silence()
  before = len(cloud.calls('compute'))
  until(lambda: len(cloud.calls('compute')) > before + 1)
  (run / 'a.go').touch()
  until((run / 'a' / 'manifest.json').exists)
  cloud.silence(False)
  code, text = ended()
  assert code == 0 and starts(run, 'a') == 1
  assert 'does not answer' in text


LAUNCHER = f"""
import sys
sys.path[:0] = {[p for p in sys.path if p]!r}
sys.path.insert(0, {str(pathlib.Path(__file__).parent)!r})
import pathlib, test_tpu_vm
from rest_jax.executors import launch_record
from rest_jax.executors.tpu_vm import agent, tpu_vm
tpu_vm.POLL_SECONDS = agent.SECONDS = 0.1
run = pathlib.Path(sys.argv[1])
jobs = [test_tpu_vm.job(run, 'a', ON_START='wait')]
code, text = test_tpu_vm.launch(run, jobs)
print(text)
sys.exit(code)
"""


@pytest.fixture
def launcher(tmp_path, cloud):
  """Starts launchers, each in its own process, of a job that waits."""
  started = []

  def start():
    started.append(
      subprocess.Popen(
        [sys.executable, '-c', LAUNCHER, str(tmp_path / 'run')],
        stdout=subprocess.PIPE,
        text=True,
      )
    )
    return started[-1]

  yield start
  for process in started:
    process.kill()
    process.wait()


def test_a_launcher_that_dies_is_followed_by_one_that_goes_on(
  tmp_path, cloud, launcher
):
  run = tmp_path / 'run'
  first = launcher()
  until(lambda: starts(run, 'a') == 1)
  first.kill()
  first.wait()
  before = len(cloud.calls('list'))
  second = launcher()
  until(lambda: len(cloud.calls('list')) > before + 1)
  (run / 'a.go').touch()
  text, _ = second.communicate(timeout=60)
  assert second.returncode == 0 and 'is asked for already' in text
  assert starts(run, 'a') == 1 and len(cloud.calls('create')) == 1
  until(lambda: not cloud.requests())


def test_a_signal_lets_the_job_save_its_state_and_deletes_the_vms(
  tmp_path, cloud, launcher
):
  run = tmp_path / 'run'
  process = launcher()
  until(lambda: starts(run, 'a') == 1)
  time.sleep(0.5)
  process.terminate()
  text, _ = process.communicate(timeout=60)
  assert process.returncode == exit_codes.PREEMPTED, text
  (record,) = run.glob('ledger/tpu_vm/*/*.json')
  assert json.loads(record.read_text()) == {'exit_code': 42}
  until(lambda: not cloud.requests())


def test_stop_sweeps_what_a_dead_launcher_has_left(
  tmp_path, cloud, launcher, capsys
):
  run = tmp_path / 'run'
  process = launcher()
  until(lambda: starts(run, 'a') == 1)
  process.kill()
  process.wait()
  jobs = [job(run, 'a')]
  launch_record.write(str(run), jobs, 'tpu_vm', dataclasses.asdict(CONFIG))
  storage.write_json(run / 'jobs' / 'a.json', {'exit_code': None})
  assert next(status.lines(str(run))).split() == ['running', 'a']
  cloud.silence()
  assert next(status.lines(str(run))).split() == ['unknown', 'a']
  cloud.silence(False)
  assert stop.run([str(run)]) == 0
  assert '1 of its jobs were ended' in capsys.readouterr().out
  until(lambda: not cloud.requests())
  assert next(status.lines(str(run))).split() == ['stopped', 'a']


def test_without_gcloud_or_a_zone_it_is_said_at_once(tmp_path, monkeypatch):
  monkeypatch.setenv('PATH', str(tmp_path))
  with pytest.raises(configuration.ConfigurationError, match='needs gcloud'):
    tpu_vm.TpuVmExecutor(CONFIG, str(tmp_path))
  with pytest.raises(configuration.ConfigurationError, match='TPU_VM_ZONE'):
    TpuVmConfig(image='x')
  with pytest.raises(configuration.ConfigurationError, match='IMAGE'):
    TpuVmConfig(zone='x')
