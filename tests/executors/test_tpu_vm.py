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
import fake_stage
import pytest
from fake_stage import starts
from processes import until

from rest_jax.artifacts import storage
from rest_jax.commands import status, stop
from rest_jax.config import configuration
from rest_jax.executors import exit_codes, launch_record, scheduler
from rest_jax.executors.console import Console
from rest_jax.executors.jobs import Job
from rest_jax.executors.ledger import Configuration, Ledger
from rest_jax.executors.local import LocalExecutor
from rest_jax.executors.orders import Orders
from rest_jax.executors.retry_policy import RetryPolicy
from rest_jax.executors.scheduler import Scheduler
from rest_jax.executors.tpu_vm import (
  agent,
  attempts,
  queued_resources,
  reports,
  tpu_vm,
)
from rest_jax.executors.tpu_vm.settings import TpuVmConfig

FAKE = fake_stage.PATH
CONFIG = TpuVmConfig(image='docker.example/image:1', zone='us-east5-a')
# What hosts run in the agent's place: quick to tell, and with a fake stage.
AGENT = """
import sys
from rest_jax.executors.tpu_vm import agent
from rest_jax.executors.tpu_vm import reports
agent.SECONDS = reports.BEAT_SECONDS = 0.1
agent.KEEP_SECONDS = {keep}
agent.Agent.__init__.__defaults__ = ((sys.executable, {stage!r}),)
sys.exit(agent.main())
"""


def run_by_agents(tmp_path, stage, keep=60):
  """Writes the program of the agents; returns its path.

  Args:
    tmp_path: where.
    stage: what they run.
    keep: seconds for which they wait for another attempt.
  """
  file = tmp_path / 'agent.py'
  file.write_text(AGENT.format(stage=str(stage), keep=keep))
  return str(file)


@pytest.fixture
def cloud(tmp_path, monkeypatch):
  for module, name in (
    (tpu_vm, 'POLL_SECONDS'),
    (tpu_vm, '_RETRY_SECONDS'),
    (agent, 'SECONDS'),
    (reports, 'BEAT_SECONDS'),
  ):
    monkeypatch.setattr(module, name, 0.1)
  environment = {
    'PYTHONPATH': os.pathsep.join(filter(None, sys.path)),
    'FAKE_AGENT': run_by_agents(tmp_path, FAKE),
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
  record = reports.Record(f'{run}/r')
  script = queued_resources.startup_script('rj-x', record, order, config)
  queued_resources.QueuedResources(config).create('rj-x', order, script)
  until(lambda: len(cloud.hosts.get('rj-x', ())) == 4)
  (create,) = cloud.calls('create')
  assert {'--node-count=2', '--node-prefix=rj-x', '--spot'} <= set(create)
  assert '--project=p' in create
  until(lambda: starts(run, 'a') >= 1)  # the others find the folder held


def test_vms_that_nobody_deletes_delete_themselves(tmp_path, cloud):
  run = tmp_path / 'run'
  run_by_agents(tmp_path, FAKE, keep=0.3)
  order = Orders(str(run), [], token='t', digests='d').make(job(run, 'a'))
  record = reports.Record(f'{run}/r')
  script = queued_resources.startup_script('rj-x', record, order, CONFIG)
  queued_resources.QueuedResources(CONFIG).create('rj-x', order, script)
  until((run / 'a' / 'manifest.json').exists)
  until(lambda: not cloud.requests())


@pytest.mark.parametrize('how', ['exit 7', 'crash', 'preempt'])
def test_what_dies_starts_again_on_the_vms_that_it_has(tmp_path, cloud, how):
  run = tmp_path / 'run'
  code, text = launch(run, [job(run, 'a', ON_START=f'{how},ok')])
  assert code == 0 and starts(run, 'a') == 2, text
  assert 'starts again on rj-' in text
  assert len(cloud.calls('create')) == 1
  until(lambda: not cloud.requests())


def test_vms_of_a_job_that_is_given_up_are_given_back(tmp_path, cloud):
  run = tmp_path / 'run'
  code, text = launch(run, [job(run, 'a', ON_START='exit 7')])
  assert code == 1 and starts(run, 'a') == 2, text
  assert len(cloud.calls('create')) == 1
  until(lambda: not cloud.requests())


def test_vms_between_two_attempts_are_given_back_by_a_signal(
  tmp_path, cloud, launched, monkeypatch
):
  monkeypatch.setattr(scheduler.launch_record, 'LOOK_SECONDS', 0.0)
  run = tmp_path / 'run'
  waits = dataclasses.replace(
    job(run, 'a', ON_START='exit 7'),
    retry=RetryPolicy(retries=1, backoff_seconds=300.0),
  )
  ended = launched(run, [waits])
  until(lambda: (run / 'jobs' / 'a.json').exists())
  time.sleep(0.5)
  assert len(cloud.requests()) == 1  # for the next attempt
  launch_record.ask_to_stop(run)
  code, text = ended()
  assert code == exit_codes.PREEMPTED and starts(run, 'a') == 1, text
  until(lambda: not cloud.requests())


@pytest.mark.parametrize('how', ['kill_agent', 'reboot'])
def test_a_host_that_is_lost_comes_back_without_new_vms(
  tmp_path, cloud, launched, how
):
  (cloud.folder / 'hasty').touch()  # its pauses
  run = tmp_path / 'run'
  ended = launched(run, [job(run, 'a', ON_START='wait,ok')])
  until(lambda: starts(run, 'a') == 1)
  (name,) = cloud.requests()
  getattr(cloud, how)(name)
  code, text = ended()
  assert code == 0 and starts(run, 'a') == 2, text
  assert 'its agent was killed' in (run / 'logs' / 'a.log').read_text()
  assert len(cloud.calls('create')) == 1
  until(lambda: not cloud.requests())


# A program of four hosts. In its first attempt one dies and the others hang,
# deaf to SIGTERM; in the second, each says which of the first it has met.
PROGRAM = """
import os, pathlib, signal, sys, time
folder = pathlib.Path(__file__).parent
me = os.environ['JAX_PROCESS_ID']
first = folder / f'first-{me}'
if not first.exists():
  signal.signal(signal.SIGTERM, signal.SIG_IGN)
  first.write_text(str(os.getpid()))
  while len(list(folder.glob('first-*'))) < 4:
    time.sleep(0.01)
  if me == '2':
    sys.exit(1)
  time.sleep(600)
met = [f for f in folder.glob('first-*')
       if pathlib.Path(f'/proc/{f.read_text()}').exists()]
(folder / f'second-{me}').write_text(str(len(met)))
"""


def test_all_hosts_start_again_together_and_no_old_process_lives_on(
  tmp_path, cloud, monkeypatch
):
  monkeypatch.setattr(attempts, 'PEERS_SECONDS', 0.3)
  program = tmp_path / 'program.py'
  program.write_text(PROGRAM)
  run_by_agents(tmp_path, program)
  run = tmp_path / 'run'
  one = dataclasses.replace(
    job(run, 'a', topology='v5p:2x2x2'), slices=2, outputs=()
  )
  code, text = launch(run, [one])
  assert code == 0, text
  met = [file.read_text() for file in tmp_path.glob('second-*')]
  assert met == ['0'] * 4
  assert len(cloud.calls('create')) == 1
  until(lambda: not cloud.requests())


def test_vms_that_say_nothing_are_replaced(
  tmp_path, cloud, launched, monkeypatch
):
  monkeypatch.setattr(attempts, 'SILENT_SECONDS', 1.0)
  run = tmp_path / 'run'
  ended = launched(run, [job(run, 'a', ON_START='wait,ok')])
  until(lambda: starts(run, 'a') == 1)
  (name,) = cloud.requests()
  os.killpg(cloud.hosts[name][0].pid, signal.SIGSTOP)
  code, text = ended()
  assert code == 0 and starts(run, 'a') == 2, text
  assert 'has said nothing for' in (run / 'logs' / 'a.log').read_text()
  assert len(cloud.calls('create')) == 2


def test_a_request_whose_answer_was_lost_is_not_made_twice(tmp_path, cloud):
  cloud.lose_answers()
  run = tmp_path / 'run'
  code, text = launch(run, [job(run, 'a')])
  assert code == 0 and starts(run, 'a') == 1, text
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


def test_what_died_without_a_launcher_goes_on_where_it_was(
  tmp_path, cloud, launcher
):
  (cloud.folder / 'hasty').touch()
  run = tmp_path / 'run'
  first = launcher()
  until(lambda: starts(run, 'a') == 1)
  first.kill()
  first.wait()
  (name,) = cloud.requests()
  cloud.kill_agent(name)
  (file,) = run.glob('ledger/tpu_vm/*/node-*.json')
  until(lambda: json.loads(file.read_text())['exit_code'] == 137)
  (run / 'a.go').touch()
  second = launcher()
  text, _ = second.communicate(timeout=60)
  assert second.returncode == 0 and f'starts again on {name}' in text
  assert starts(run, 'a') == 2 and len(cloud.calls('create')) == 1
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
  (record,) = run.glob('ledger/tpu_vm/*/node-*.json')
  assert json.loads(record.read_text())['exit_code'] == 42
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
