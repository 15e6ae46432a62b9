"""The local executor: what it skips, retries, refuses, and takes with it."""

import dataclasses
import io
import os
import pathlib
import signal
import subprocess
import sys
import threading
import time

import fake_stage
import pytest
from fake_stage import starts

from rest_jax.artifacts import leases, store_leases
from rest_jax.executors import memory_errors
from rest_jax.executors.console import Console
from rest_jax.executors.jobs import Job
from rest_jax.executors.ledger import Configuration, Ledger
from rest_jax.executors.local import LocalExecutor
from rest_jax.executors.retry_policy import RetryPolicy
from rest_jax.executors.scheduler import Scheduler

FAKE = str(fake_stage.PATH)


def job(run_dir, name, *, needs=(), inputs=(), retries=2, **flags):
  flags = {'OUT': f'{run_dir}/{name}', 'VALUE': 'v'} | flags
  if inputs:
    flags['IN'] = inputs[0]
  return Job(
    name=name,
    stage='score',
    arguments=tuple(f'--gin.{k}={v}' for k, v in flags.items()),
    needs=tuple(needs),
    inputs=tuple(inputs),
    outputs=(f'{run_dir}/{name}',),
    retry=RetryPolicy(retries=retries, preemptions=3, backoff_seconds=0.01),
  )


def launch(run_dir, jobs, **bindings):
  """(exit code, what was printed) of one launch."""
  out = io.StringIO()
  ledger = Ledger(str(run_dir), Configuration(bindings=bindings, others=[]))
  executor = Scheduler(
    str(run_dir),
    [],
    ledger,
    Console([j.name for j in jobs], out),
    LocalExecutor([sys.executable, FAKE]),
  )
  return executor.run(jobs), out.getvalue()


def states(text):
  return [
    line.split()[:2]
    for line in text.splitlines()
    if line[:1].isalpha() and not line.startswith('run ')
  ]


def test_finished_jobs_are_not_started_again(tmp_path):
  first = job(tmp_path, 'a')
  second = job(tmp_path, 'b', needs=['a'], inputs=first.outputs)
  code, text = launch(tmp_path, [first, second])
  assert (code, states(text)) == (0, [['done', 'a'], ['done', 'b']])
  code, text = launch(tmp_path, [first, second])
  assert (code, states(text)) == (0, [['kept', 'a'], ['kept', 'b']])
  assert starts(tmp_path, 'a') == starts(tmp_path, 'b') == 1


def test_a_lost_output_or_a_changed_input_starts_the_jobs_that_it_concerns(
  tmp_path,
):
  first = job(tmp_path, 'a')
  second = job(tmp_path, 'b', inputs=first.outputs)
  third = job(tmp_path, 'c')
  launch(tmp_path, [first, second, third])
  (tmp_path / 'a' / 'manifest.json').unlink()
  (tmp_path / 'a' / 'started.json').unlink()
  changed = job(tmp_path, 'a', VALUE='w')
  code, text = launch(tmp_path, [changed, second, third])
  assert code == 0, text
  assert states(text) == [['done', 'a'], ['done', 'b'], ['kept', 'c']]


def test_a_killed_launch_does_not_hide_work_downstream(tmp_path):
  # a grows in a launch that dies before b; the next one must still do b.
  first = job(tmp_path, 'a')
  second = job(tmp_path, 'b', inputs=first.outputs)
  launch(tmp_path, [first, second])
  for name in ('manifest.json', 'started.json'):
    (tmp_path / 'a' / name).unlink()
  grown = job(tmp_path, 'a', VALUE='w')
  launch(tmp_path, [grown])
  assert states(launch(tmp_path, [grown, second])[1]) == [
    ['kept', 'a'],
    ['done', 'b'],
  ]


def test_a_job_looks_only_at_the_macros_that_it_can_reach(tmp_path):
  one = job(tmp_path, 'a')  # stage score: %NUM_WORKERS and others
  bindings = {'NUM_WORKERS': '%CORES', 'CORES': '2', 'NUM_ITERATIONS': '1'}
  launch(tmp_path, [one], **bindings)
  _, text = launch(tmp_path, [one], **bindings | {'NUM_ITERATIONS': '5'})
  assert states(text) == [['kept', 'a']]
  _, text = launch(tmp_path, [one], **bindings | {'CORES': '3'})
  assert states(text) == [['done', 'a']]


def test_a_job_looks_only_at_the_parameters_that_it_can_reach(tmp_path):
  one = job(tmp_path, 'a', NET='@models.Net()')
  bindings = {'/pkg.models.Net.width': '1', '/pkg.models.Other.width': '1'}
  launch(tmp_path, [one], **bindings)
  _, text = launch(tmp_path, [one], **bindings | {'/pkg.models.Other.w': '5'})
  assert states(text) == [['kept', 'a']]
  _, text = launch(tmp_path, [one], **bindings | {'/pkg.models.Net.width': '3'})
  assert states(text) == [['done', 'a']]


def test_a_run_can_be_moved(tmp_path):
  def both(run_dir):
    first = job(run_dir, 'a')
    return [first, job(run_dir, 'b', inputs=first.outputs)]

  here, there = tmp_path / 'here', tmp_path / 'there'
  launch(here, both(here), RUN_DIR=repr(str(here)))
  here.rename(there)
  _, text = launch(there, both(there), RUN_DIR=repr(str(there)))
  assert states(text) == [['kept', 'a'], ['kept', 'b']]


def test_a_crash_is_retried_as_often_as_the_job_says(tmp_path):
  code, text = launch(tmp_path, [job(tmp_path, 'a', ON_START='crash,ok')])
  assert (
    code == 0 and 'killed by SIGKILL' in text and starts(tmp_path, 'a') == 2
  )
  bad = job(tmp_path, 'b', ON_START='exit 7', retries=3)
  code, text = launch(tmp_path, [bad, job(tmp_path, 'c')])
  assert code == 1 and starts(tmp_path, 'b') == 4
  assert ['failed', 'b'] in states(text)
  assert not (tmp_path / 'c').exists()


def test_a_preempted_job_is_started_again_whatever_its_retries(tmp_path):
  one = job(tmp_path, 'a', ON_START='preempt,preempt,preempt,ok', retries=0)
  code, _ = launch(tmp_path, [one])
  assert (code, starts(tmp_path, 'a')) == (0, 4)


def test_a_job_that_is_always_preempted_is_given_up(tmp_path):
  code, text = launch(tmp_path, [job(tmp_path, 'a', ON_START='preempt')])
  assert (code, starts(tmp_path, 'a')) == (1, 4)  # 3 preemptions are allowed
  assert 'MAX_PREEMPTIONS' in text


def test_a_folder_that_another_process_holds_is_tried_again(tmp_path):
  one = job(tmp_path, 'a', retries=2)
  with leases.hold(tmp_path / 'a', purpose='another process'):
    code, text = launch(tmp_path, [one])
  assert (code, starts(tmp_path, 'a')) == (75, 3)
  assert 'another process holds its folder' in text
  assert launch(tmp_path, [one])[0] == 0


def test_every_attempt_of_a_launch_has_the_same_token(tmp_path):
  """By it a retry takes over what its killed predecessor held on a store."""
  script = (
    'import os; print(os.environ["REST_JAX_JOB"], '
    'os.environ["REST_JAX_RUN_TOKEN"]); os._exit(7)'
  )
  for _ in range(2):
    ledger = Ledger(str(tmp_path), Configuration(bindings={}, others=[]))
    executor = Scheduler(
      str(tmp_path),
      [],
      ledger,
      Console(['a'], io.StringIO()),
      LocalExecutor([sys.executable, '-c', script]),
    )
    executor.run([job(tmp_path, 'a', retries=1)])
  log = (tmp_path / 'logs' / 'a.log').read_text().splitlines()
  said = [line.split() for line in log if line.startswith('a ')]
  assert [name for name, _ in said] == ['a'] * 4
  tokens = [token for _, token in said]
  assert tokens[0] == tokens[1] != tokens[2] == tokens[3]


def test_a_wrong_configuration_is_not_retried_and_its_error_is_shown(tmp_path):
  code, text = launch(tmp_path, [job(tmp_path, 'a', ON_START='refuse')])
  assert (code, starts(tmp_path, 'a')) == (2, 1)
  assert 'VALUE: not to my taste' in text
  assert str(tmp_path / 'logs' / 'a.log') in text


def test_a_refused_change_leaves_the_record_of_what_stands(tmp_path):
  one, other = job(tmp_path, 'a'), job(tmp_path, 'a', VALUE='w')
  launch(tmp_path, [one])
  before = (tmp_path / 'jobs' / 'a.json').read_text()
  code, text = launch(tmp_path, [other])
  assert code == 2 and "value: stands as 'v', asked for 'w'" in text
  assert (tmp_path / 'jobs' / 'a.json').read_text() == before
  assert states(launch(tmp_path, [one])[1]) == [['kept', 'a']]


def test_progress_is_shown_and_not_logged(tmp_path):
  class Terminal(io.StringIO):
    def isatty(self):
      return True

  out = Terminal()
  one = job(tmp_path, 'a', ON_START='talk')
  ledger = Ledger(str(tmp_path), Configuration(bindings={}, others=[]))
  Scheduler(
    str(tmp_path),
    [],
    ledger,
    Console(['a'], out),
    LocalExecutor([sys.executable, FAKE]),
  ).run([one])
  assert 'job 1 of 1 [###.......] 1/3 words' in out.getvalue()
  log = (tmp_path / 'logs' / 'a.log').read_text()
  assert '@progress' not in log and 'fake: wrote' in log


def test_a_warning_is_shown_and_logged(tmp_path):
  code, text = launch(tmp_path, [job(tmp_path, 'a', ON_START='warn')])
  assert code == 0
  assert states(text) == [['warning:', 'two'], ['done', 'a']]
  assert 'warning: two were left out' in text.splitlines()
  assert 'warning: two were left' in (tmp_path / 'logs' / 'a.log').read_text()


def test_a_failed_attempt_shows_its_own_lines_only(tmp_path):
  one = job(tmp_path, 'a', ON_START='refuse')
  launch(tmp_path, [one])
  two = job(tmp_path, 'a', ON_START='warn,exit 7', retries=0)
  code, text = launch(tmp_path, [two])
  assert code == 1 and 'VALUE: not to my taste' not in text
  log = (tmp_path / 'logs' / 'a.log').read_text()
  assert 'VALUE: not to my taste' in log  # the log keeps both


def test_a_job_that_is_killed_for_its_memory_is_told_in_dials(
  tmp_path, monkeypatch
):
  monkeypatch.setattr(
    memory_errors.KillWatch, 'killed', lambda self, code: code == -9
  )
  one = job(tmp_path, 'a', ON_START='crash,ok', NUM_WORKERS=8)
  code, text = launch(tmp_path, [one])
  assert code == 2 and starts(tmp_path, 'a') == 1
  assert 'out of memory in score: try NUM_WORKERS=4 (now 8)' in text


def test_a_run_on_a_store_keeps_its_logs_and_records_there(bucket):
  from rest_jax.artifacts import storage

  run_dir = f'{bucket}/run'
  one = Job(name='deep/a', stage='score')
  for state in ('done', 'kept'):
    out = io.StringIO()
    ledger = Ledger(run_dir, Configuration(bindings={}, others=[]))
    executor = Scheduler(
      run_dir,
      [],
      ledger,
      Console(['deep/a'], out),
      LocalExecutor([sys.executable, '-c', 'print("said")']),
    )
    assert executor.run([one]) == 0
    assert states(out.getvalue()) == [[state, 'deep/a']]
  log = storage.path(f'{run_dir}/logs/deep/a.log').read_text()
  assert log.splitlines()[1:] == ['said', '[exit code 0]']
  assert storage.read_json(f'{run_dir}/jobs/deep/a.json')['exit_code'] == 0


KILLED = """
import os, signal, sys
sys.path[:0] = sys.argv[1].split(':')
from rest_jax.artifacts import processes, stage_work, storage
folder = dict(a.split('=', 1) for a in sys.argv[2:])['--gin.OUT']
processes.machine = lambda: None  # as if each attempt had another machine
with stage_work.work_on(
  folder, stage='score', kind=None, semantic={}, inputs={}, version=1
) as work:
  if not storage.path(folder + '/begun').exists():
    storage.write_bytes(folder + '/begun', b'')
    os.kill(os.getpid(), signal.SIGKILL)
  work.finish()
"""


def test_a_killed_stage_of_a_run_on_a_store_is_retried_at_once(bucket, store):
  """Its lease still lives; the retry is of the same job and launch."""
  run_dir = f'{bucket}/run'
  out = io.StringIO()
  command = [sys.executable, '-c', KILLED, ':'.join(filter(None, sys.path))]
  executor = Scheduler(
    run_dir,
    [],
    Ledger(run_dir, Configuration(bindings={}, others=[])),
    Console(['a'], out),
    LocalExecutor(command),
  )
  started = time.monotonic()
  assert executor.run([job(run_dir, 'a')]) == 0, out.getvalue()
  assert [state for state, _ in states(out.getvalue())] == ['again', 'done']
  assert time.monotonic() - started < store_leases.STALE_SECONDS
  assert 'bucket/run/a/manifest.json' in store.objects
  assert not [name for name in store.objects if name.endswith('.lease')]


LAUNCHER = f"""
import sys
sys.path[:0] = {[p for p in sys.path if p]!r}
sys.path.insert(0, {str(pathlib.Path(__file__).parent)!r})
import test_local
jobs = [test_local.job(sys.argv[1], 'a', ON_START='hang')]
code, text = test_local.launch(__import__('pathlib').Path(sys.argv[1]), jobs)
sys.exit(code)
"""


@pytest.fixture
def hanging(tmp_path):
  """A launcher in its own process, whose stage hangs: (launcher, stage pid)."""
  launcher = subprocess.Popen([sys.executable, '-c', LAUNCHER, str(tmp_path)])
  log = tmp_path / 'logs' / 'a.log'
  deadline = time.monotonic() + 60
  while not (log.exists() and 'hanging' in log.read_text()):
    assert time.monotonic() < deadline and launcher.poll() is None
    time.sleep(0.02)
  children = f'/proc/{launcher.pid}/task/{launcher.pid}/children'
  stage = int(pathlib.Path(children).read_text().split()[0])
  yield launcher, stage
  launcher.kill()
  launcher.wait()


def gone(pid):
  deadline = time.monotonic() + 5
  while time.monotonic() < deadline:
    try:
      state = pathlib.Path(f'/proc/{pid}/stat').read_text().rsplit(')')[1]
    except (FileNotFoundError, ProcessLookupError):
      return True
    if state.split()[0] == 'Z':
      return True
    time.sleep(0.02)
  return False


def test_a_killed_launcher_takes_its_stage_with_it(hanging):
  launcher, stage = hanging
  launcher.send_signal(signal.SIGKILL)
  assert gone(stage)


@pytest.mark.parametrize('name', ['SIGTERM', 'SIGINT'])
def test_a_signal_asks_the_stage_to_save_its_state(hanging, name, tmp_path):
  launcher, stage = hanging
  launcher.send_signal(getattr(signal, name))
  assert launcher.wait(timeout=30) == 42
  assert gone(stage)
  assert '[exit code 42]' in (tmp_path / 'logs' / 'a.log').read_text()


def test_a_signal_ends_the_pause_before_a_retry(tmp_path):
  slow = dataclasses.replace(
    job(tmp_path, 'a', ON_START='exit 7'),
    retry=RetryPolicy(backoff_seconds=60.0),
  )

  def signals():
    while not (tmp_path / 'jobs' / 'a.json').exists():
      time.sleep(0.02)
    time.sleep(0.2)
    os.kill(os.getpid(), signal.SIGTERM)

  thread = threading.Thread(target=signals)
  thread.start()
  started = time.monotonic()
  assert launch(tmp_path, [slow])[0] == 42
  thread.join()
  assert time.monotonic() - started < 30


def test_an_impatient_second_signal_kills(tmp_path):
  # A stage that does not listen: SIGTERM alone would wait for a long time.
  deaf = [
    sys.executable,
    '-c',
    'import signal, time; signal.signal(signal.SIGTERM, lambda *_: 0); '
    'print("deaf", flush=True); time.sleep(60)',
  ]
  one = job(tmp_path, 'a')
  ledger = Ledger(str(tmp_path), Configuration(bindings={}, others=[]))
  executor = Scheduler(
    str(tmp_path),
    [],
    ledger,
    Console(['a'], io.StringIO()),
    LocalExecutor(deaf),
  )
  log = tmp_path / 'logs' / 'a.log'

  def signals():
    while not (log.exists() and 'deaf' in log.read_text()[-10:]):
      time.sleep(0.02)
    for _ in range(2):
      os.kill(os.getpid(), signal.SIGTERM)
      time.sleep(0.3)

  thread = threading.Thread(target=signals)
  thread.start()
  started = time.monotonic()
  assert executor.run([one]) == 42
  thread.join()
  assert time.monotonic() - started < 20
