"""rest-jax status and stop, beside launchers that live, and ones that died."""

import pathlib
import subprocess
import sys
import time

import fake_stage
import pytest

from rest_jax import main
from rest_jax.artifacts import storage
from rest_jax.commands import status, stop
from rest_jax.config import configuration
from rest_jax.executors import launch_record
from rest_jax.executors.jobs import Job

FAKE = str(fake_stage.PATH)
LAUNCHER = f"""
import sys
sys.path[:0] = {[p for p in sys.path if p]!r}
from rest_jax.artifacts import leases
from rest_jax.executors import launch_record
from rest_jax.executors.console import Console
from rest_jax.executors.jobs import Job
from rest_jax.executors.ledger import Configuration, Ledger
from rest_jax.executors.local import LocalExecutor
from rest_jax.executors.scheduler import Scheduler
run = sys.argv[1]
def job(name, what, *needs):
  flags = dict(OUT=f'{{run}}/{{name}}', VALUE='v', ON_START=what)
  return Job(
    name=name,
    stage='score',
    arguments=tuple(f'--gin.{{k}}={{v}}' for k, v in flags.items()),
    outputs=(f'{{run}}/{{name}}',),
    needs=needs,
  )
jobs = [job('first', 'ok'), job('second', 'hang', 'first'), job('third', 'ok')]
jobs[2] = job('third', 'ok', 'second')
ledger = Ledger(run, Configuration(bindings={{}}, others=[]))
executor = LocalExecutor([sys.executable, {FAKE!r}])
launch_record.LOOK_SECONDS = 0.1
with leases.hold(run, purpose='launcher'):
  launch_record.write(run, jobs, 'local', {{}})
  work = Scheduler(run, [], ledger, Console([j.name for j in jobs]), executor)
  sys.exit(work.run(jobs, before=lambda job: ledger.begin(job)))
"""


@pytest.fixture
def launcher(tmp_path):
  """A launcher whose second job of three hangs: (process, RUN_DIR)."""
  run = tmp_path / 'run'
  process = subprocess.Popen(
    [sys.executable, '-c', LAUNCHER, str(run)], stdout=subprocess.DEVNULL
  )
  deadline = time.monotonic() + 60
  log = run / 'logs' / 'second.log'
  while not (log.exists() and 'hanging' in log.read_text()):
    assert time.monotonic() < deadline and process.poll() is None
    time.sleep(0.02)
  yield process, str(run)
  process.kill()
  process.wait()


def states(run):
  return [line.split()[0] for line in list(status.lines(run))[:3]]


def test_each_job_has_a_state_and_the_launcher_is_named(launcher):
  process, run = launcher
  assert states(run) == ['done', 'running', 'to']
  text = '\n'.join(status.lines(run))
  assert f'process {process.pid} on host' in text
  assert 'watches over it; executor local' in text and '.log, ' in text


def test_a_launcher_that_died_watches_no_more(launcher):
  process, run = launcher
  process.kill()
  process.wait()
  assert states(run) == ['done', 'stopped', 'to']
  assert 'no launcher watches over it' in '\n'.join(status.lines(run))


def test_stop_ends_the_jobs_which_save_their_state(launcher, capsys):
  process, run = launcher
  assert main.run(['stop', run]) == 0
  assert process.wait(timeout=10) == 42
  assert 'stopped; the same command' in capsys.readouterr().out
  assert states(run) == ['done', 'stopped', 'to']
  log = pathlib.Path(run) / 'logs' / 'second.log'
  assert '[exit code 42]' in log.read_text()
  assert stop.run([run]) == 0  # nothing runs any more
  assert 'nothing runs' in capsys.readouterr().out


def test_a_request_of_an_earlier_launch_stops_nothing(tmp_path):
  run = str(tmp_path)
  jobs = [Job(name='a', stage='score')]
  launch_record.write(run, jobs, 'local', {})
  launch_record.ask_to_stop(run)
  launch_record.write(run, jobs, 'local', {})
  requests = launch_record.StopRequests(run)
  requests._looked = 0.0
  assert not requests.asked()
  launch_record.ask_to_stop(run)
  requests._looked = 0.0
  assert requests.asked()


def test_a_launch_of_an_earlier_version_is_read(tmp_path):
  launch_record.write(
    str(tmp_path), [Job(name='a', stage='score')], 'local', {}
  )
  file = tmp_path / 'ledger' / 'launch.json'
  value = storage.read_json(file)
  del value['workers']
  storage.write_json(file, value)
  assert launch_record.read(tmp_path).workers == {}
  assert next(status.lines(str(tmp_path))).split() == ['to', 'do', 'a']


def test_where_nothing_was_launched_it_is_said(tmp_path):
  for command in ('status', 'stop'):
    with pytest.raises(configuration.ConfigurationError, match='no run was'):
      main.run([command, str(tmp_path)])
    with pytest.raises(
      configuration.ConfigurationError, match='no such folder'
    ):
      main.run([command, str(tmp_path / 'nothing')])


def test_a_run_on_a_store_has_a_state_too(bucket):
  run = f'{bucket}/run'
  launch_record.write(run, [Job(name='a', stage='score')], 'local', {})
  storage.write_json(f'{run}/jobs/a.json', {'exit_code': 7, 'seconds': 61})
  first, *_, last = status.lines(run)
  assert first.split() == ['failed', 'a', '1:01']
  assert 'the same command again' in last


def test_a_detached_launcher_says_where_it_is_and_goes_on(
  tmp_path, monkeypatch, capsys
):
  monkeypatch.chdir(tmp_path)
  flags = ['--gin.NUM_TRAIN=8', '--gin.NUM_DVAL=4', '--gin.NUM_TEST=4']
  code = main.run(
    [
      'run',
      '--gin_file=runs/arithmetic.gin',
      '--gin.RUN_DIR=run',
      '--gin.CORPUS_DOCUMENTS=50',
      '--until=prepare',
      '--detach',
      *flags,
    ]
  )
  said = capsys.readouterr().out
  assert code == 0 and 'rest-jax status run' in said
  deadline = time.monotonic() + 60
  log = tmp_path / 'run' / 'launcher.log'
  while not (log.exists() and 'done ' in log.read_text()):
    assert time.monotonic() < deadline, log.read_text()
    time.sleep(0.1)
  assert next(iter(status.lines('run'))).split()[:2] == ['done', 'prepare']
