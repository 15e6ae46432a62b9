"""The scheduler and an executor that pretends: order and ends of jobs."""

import dataclasses
import io
import os
import random
import signal

import finished_stages
import pytest

from rest_jax.artifacts import stage_work, storage, store_patience
from rest_jax.executors import exit_codes, job_runs, launch_record
from rest_jax.executors.console import Console
from rest_jax.executors.executor import Ended
from rest_jax.executors.jobs import Job
from rest_jax.executors.ledger import Configuration, Ledger
from rest_jax.executors.retry_policy import RetryPolicy
from rest_jax.executors.scheduler import Scheduler


class Stub:
  """Runs nothing: an attempt ends after some looks, as its script says.

  Attributes:
    events: ('start' | 'end' | 'stop' | 'kill', name of a job or worker).
    kept: names of what has ended and was not released since.
    most: jobs that ran at a time.
  """

  command = ('stage',)
  outlives, stop_seconds = False, 60.0

  def __init__(self, room=1, ends=None, looks=lambda name: 1):
    self.room, self.ends, self.looks = room, ends or {}, looks
    self.events, self.running, self.most = [], set(), 0
    self.kept = set()
    self.wait_for = lambda: None

  def start(self, order, read):
    self.events.append(('start', order.name))
    self.kept.discard(order.name)  # it takes what is there
    self.running.add(order.job.name)
    self.most = max(self.most, len(self.running))
    read(f'said by {order.name}')
    codes = self.ends.get(order.name, [0])
    return _Task(self, order, codes[min(order.attempt, len(codes) - 1)])

  def wait(self, seconds):
    self.wait_for()


class _Task:
  def __init__(self, stub, order, code):
    self.stub, self.order, self.code = stub, order, code
    self.left = stub.looks(order.name)

  def poll(self):
    self.left -= 1
    if self.left > 0 or self.code is None:  # None: until it is asked to stop
      return None
    self.stub.running.discard(self.order.job.name)
    self.stub.events.append(('end', self.order.name))
    self.stub.kept.add(self.order.name)
    return Ended(self.code)

  def stop(self):
    self.stub.events.append(('stop', self.order.name))
    self.code, self.left = exit_codes.PREEMPTED, 1

  def kill(self):
    self.stub.events.append(('kill', self.order.name))
    self.code, self.left = -9, 1

  def release(self):
    self.stub.kept.discard(self.order.name)


def job(
  name, *needs, workers=1, retries=1, follows=(), serves=False, outputs=()
):
  return Job(
    name=name,
    stage='sample',
    needs=needs,
    follows=follows,
    serves=serves,
    outputs=outputs,
    workers=workers,
    retry=RetryPolicy(retries=retries, preemptions=1, backoff_seconds=0.0),
  )


def run(run_dir, jobs, stub):
  """(exit code, what was printed)."""
  out = io.StringIO()
  ledger = Ledger(str(run_dir), Configuration(bindings={}, others=[]))
  names = [one.name for one in jobs]
  work = Scheduler(str(run_dir), ['--flag'], ledger, Console(names, out), stub)
  return work.run(jobs), out.getvalue()


@pytest.mark.parametrize('room', [1, 2, 100])
def test_jobs_wait_for_what_they_need_and_for_room(tmp_path, room):
  draw = random.Random(room)
  for case in range(20):
    names = [f'{case}-{i}' for i in range(draw.randrange(1, 12))]
    jobs = [
      job(name, *draw.sample(names[:i], draw.randrange(i + 1)))
      for i, name in enumerate(names)
    ]
    stub = Stub(room, looks=lambda name: draw.randrange(1, 4))
    assert run(tmp_path, jobs, stub)[0] == 0
    assert stub.most <= room
    assert sorted(
      name for what, name in stub.events if what == 'end'
    ) == sorted(names)
    for one in jobs:
      start = stub.events.index(('start', one.name))
      assert all(stub.events.index(('end', n)) < start for n in one.needs)
    if room == 1:
      assert [n for what, n in stub.events if what == 'start'] == names


def test_what_needs_nothing_of_each_other_runs_beside_each_other(tmp_path):
  jobs = [job('a'), job('b'), job('c', 'a'), job('d', 'b')]
  stub = Stub(100, looks=lambda name: 5)
  run(tmp_path, jobs, stub)
  assert stub.events[:2] == [('start', 'a'), ('start', 'b')] and stub.most == 2


def test_what_can_follow_a_job_starts_beside_it_and_what_needs_it_waits(
  tmp_path,
):
  jobs = [
    job('draw'),
    job('grade', 'draw', follows=['draw']),
    job('read', 'draw'),
    job('count', 'grade'),
  ]
  stub = Stub(100, looks=lambda name: 5 if name == 'draw' else 1)
  assert run(tmp_path, jobs, stub)[0] == 0
  assert stub.events[:2] == [('start', 'draw'), ('start', 'grade')]
  at = stub.events.index
  assert at(('end', 'draw')) < at(('start', 'read'))
  assert at(('end', 'grade')) < at(('start', 'count'))


@pytest.mark.parametrize('room, needs', [(1, ()), (100, ('before',))])
def test_what_can_follow_waits_for_room_and_for_its_other_needs(
  tmp_path, room, needs
):
  jobs = [
    job('draw'),
    job('before'),
    job('grade', 'draw', *needs, follows=['draw']),
  ]
  stub = Stub(room, looks=lambda name: 9 if name == 'before' else 5)
  assert run(tmp_path, jobs, stub)[0] == 0
  start = stub.events.index(('start', 'grade'))
  assert stub.events.index(('end', 'before')) < start


@pytest.mark.parametrize('says', [False, True])
def test_a_job_that_has_made_a_part_before_is_followed_once_it_says_so(
  tmp_path, says
):
  """What stands may be extended: it says that it is done, and is not."""
  finished_stages.finish(tmp_path / 'samples', 'sample')
  jobs = [
    job('draw', outputs=[str(tmp_path / 'samples')]),
    job('grade', 'draw', follows=['draw']),
  ]
  stub = Stub(100, looks=lambda name: 5)
  start = stub.start

  def told(order, read):
    if order.name == 'draw':
      stub.wait_for = lambda: says and read('@settled')
    return start(order, read)

  stub.start = told
  assert run(tmp_path, jobs, stub)[0] == 0
  at = stub.events.index
  assert (at(('start', 'grade')) < at(('end', 'draw'))) == says
  assert '@settled' not in (tmp_path / 'logs' / 'draw.log').read_text()


def test_what_follows_a_job_that_fails_is_stopped_and_not_started_again(
  tmp_path,
):
  jobs = [job('draw', retries=0), job('grade', 'draw', follows=['draw'])]
  stub = Stub(100, ends={'draw': [2], 'grade': [None]}, looks=lambda name: 3)
  code, text = run(tmp_path, jobs, stub)
  assert code == exit_codes.CONFIGURATION
  assert ('stop', 'grade') in stub.events
  assert stub.events.count(('start', 'grade')) == 1
  assert 'start the same command again' in text


@pytest.mark.parametrize('room', [1, 100])
def test_what_serves_a_job_starts_with_it_whatever_room_there_is(
  tmp_path, room
):
  jobs = [
    job('train'),
    job('grade', 'train', follows=['train'], serves=True),
    job('next', 'train'),
  ]
  stub = Stub(room, looks=lambda name: 5 if name == 'train' else 7)
  assert run(tmp_path, jobs, stub)[0] == 0
  assert stub.events[:2] == [('start', 'train'), ('start', 'grade')]
  at = stub.events.index
  # It takes no other job's room either.
  assert at(('end', 'train')) < at(('start', 'next')) < at(('end', 'grade'))


@pytest.mark.parametrize('fails', ['train', 'grade'])
def test_a_job_and_what_serves_it_go_on_together_or_not_at_all(tmp_path, fails):
  jobs = [
    job('train', retries=0),
    job('grade', 'train', follows=['train'], serves=True, retries=0),
  ]
  ends = {'train': [None], 'grade': [None]} | {fails: [2]}
  stub = Stub(1, ends=ends, looks=lambda name: 3)
  looks = []

  def wait():
    looks.append(1)
    assert len(looks) < 50, 'the other goes on'

  stub.wait_for = wait
  code, text = run(tmp_path, jobs, stub)
  assert code == exit_codes.CONFIGURATION
  other = {'train': 'grade', 'grade': 'train'}[fails]
  assert ('stop', other) in stub.events
  assert len([event for event in stub.events if event[0] == 'start']) == 2
  assert 'start the same command again' in text


def _stands(folder):
  with stage_work.work_on(
    folder, stage='train', kind=None, semantic={}, inputs={}, version=1
  ) as work:
    work.finish()


def test_what_serves_a_job_waits_until_what_stood_is_set_aside(
  tmp_path, monkeypatch
):
  """It ends where the job is done: what stands may be an earlier one's."""
  monkeypatch.setattr(job_runs, '_LOOK_SECONDS', 0.0)
  _stands(tmp_path / 'checkpoints')
  jobs = [
    job('train', outputs=[str(tmp_path / 'checkpoints')]),
    job('grade', 'train', follows=['train'], serves=True),
  ]
  stub = Stub(1, looks=lambda name: 9 if name == 'train' else 1)
  looks = []

  def wait():
    looks.append(('start', 'grade') in stub.events)
    if len(looks) == 4:
      storage.set_aside(tmp_path / 'checkpoints')

  stub.wait_for = wait
  assert run(tmp_path, jobs, stub)[0] == 0
  assert looks[:5] == [False] * 4 + [True]


def test_what_serves_a_job_starts_though_another_has_failed_but_not_alone(
  tmp_path, monkeypatch
):
  monkeypatch.setattr(job_runs, '_LOOK_SECONDS', 0.0)
  folders = {name: tmp_path / name for name in ('good', 'bad')}
  for folder in folders.values():
    _stands(folder)
  jobs = [
    job('other', retries=0),
    job('good', outputs=[str(folders['good'])]),
    job('bad', outputs=[str(folders['bad'])], retries=0),
    job('serves good', 'good', follows=['good'], serves=True),
    job('serves bad', 'bad', follows=['bad'], serves=True),
  ]
  stub = Stub(
    100,
    ends={'other': [7], 'bad': [7]},
    looks=lambda name: {'other': 2, 'bad': 4, 'good': 20}.get(name, 1),
  )
  looks = []

  def wait():
    looks.append(1)
    if len(looks) == 6:  # both have failed by then
      for folder in folders.values():
        storage.set_aside(folder)

  stub.wait_for = wait
  assert run(tmp_path, jobs, stub)[0] == exit_codes.UNKNOWN
  assert ('start', 'serves good') in stub.events
  assert ('start', 'serves bad') not in stub.events


def test_what_follows_outlives_the_preemptions_of_both(tmp_path):
  jobs = [job('draw'), job('grade', 'draw', follows=['draw'])]
  stub = Stub(
    100, ends={'draw': [42, 0], 'grade': [42, 0]}, looks=lambda name: 4
  )
  assert run(tmp_path, jobs, stub)[0] == 0
  assert stub.events.count(('start', 'draw')) == 2
  assert stub.events.count(('start', 'grade')) == 2


def test_after_a_failure_nothing_starts_and_what_runs_is_finished(tmp_path):
  jobs = [job('bad'), job('long'), job('next', 'bad'), job('other', 'long')]
  stub = Stub(
    100, ends={'bad': [7]}, looks=lambda name: 9 if name == 'long' else 1
  )
  code, text = run(tmp_path, jobs, stub)
  assert code == exit_codes.UNKNOWN
  assert [n for what, n in stub.events if what == 'end'] == [
    *('bad', 'bad'),
    'long',
  ]
  assert ('start', 'next') not in stub.events
  assert ('start', 'other') not in stub.events
  assert 'said by bad' in text  # the end of its log


def test_what_an_attempt_keeps_is_kept_for_the_next_and_no_longer(tmp_path):
  stub = Stub(100, ends={'bad': [7, 7, 7], 's.0': [7]}, looks=lambda name: 2)
  kept = []
  stub.wait_for = lambda: kept.append(set(stub.kept))
  waits = dataclasses.replace(
    job('bad', retries=1),
    retry=RetryPolicy(retries=1, backoff_seconds=0.05),
  )
  run(tmp_path, [waits, job('s', workers=2)], stub)
  assert {'bad'} in kept  # in the pause before its retry
  assert not any(names & {'s.0', 's.1'} for names in kept)  # s.1 was done
  assert not stub.kept


@pytest.mark.parametrize(
  'ends, expected',
  [([2], exit_codes.CONFIGURATION), ([75], exit_codes.HELD), ([9], 1)],
)
def test_the_launch_ends_with_the_code_of_what_failed(tmp_path, ends, expected):
  assert run(tmp_path, [job('a')], Stub(ends={'a': ends}))[0] == expected


def test_workers_are_numbered_and_the_job_is_done_once(tmp_path):
  stub = Stub(looks=lambda name: int(name[-1]) + 1 if '.' in name else 1)
  seen = []
  start = stub.start

  def spy(order, read):
    seen.append((order.worker, order.arguments))
    return start(order, read)

  stub.start = spy
  code, text = run(tmp_path, [job('s', workers=3), job('t', 's')], stub)
  assert code == 0 and text.count('done ') == 2
  assert [(index, args[-2:]) for index, args in seen[:3]] == [
    (i, (f'--worker_index={i}', '--num_workers=3')) for i in range(3)
  ]
  assert seen[3] == (0, ('--run_mode=sample', '--flag'))
  # The first that says so has found the whole folder done.
  assert stub.events[3:6] == [('end', 's.0'), ('stop', 's.1'), ('stop', 's.2')]
  assert stub.events.index(('start', 't')) > stub.events.index(('end', 's.2'))
  for i in range(3):
    assert f'said by s.{i}' in (tmp_path / f'logs/s.{i}.log').read_text()


def test_a_worker_that_is_given_up_costs_the_job_nothing(tmp_path):
  stub = Stub(ends={'s.1': [7]}, looks=lambda name: 9 if name != 's.1' else 1)
  code, text = run(tmp_path, [job('s', workers=3)], stub)
  assert code == 0
  assert stub.events.count(('start', 's.1')) == 2  # one retry
  assert stub.events.count(('start', 's.0')) == 1
  assert 's.1: again: exit code 7' in text
  assert 's.1: failed: exit code 7' in text


def test_a_job_fails_once_all_of_its_workers_are_given_up(tmp_path):
  stub = Stub(ends={'s.0': [7], 's.1': [7]})
  code, text = run(tmp_path, [job('s', workers=2), job('t', 's')], stub)
  assert code == 1 and ('start', 't') not in stub.events
  assert len([e for e in stub.events if e[0] == 'start']) == 4
  assert 'The last lines of' in text


def test_a_signal_stops_all_that_runs_and_nothing_starts_again(tmp_path):
  stub = Stub(100, ends={'a': [None], 's.0': [None], 's.1': [None]})
  looks = []

  def wait():
    looks.append(1)
    if len(looks) == 3:
      os.kill(os.getpid(), signal.SIGTERM)

  stub.wait_for = wait
  jobs = [job('a'), job('s', workers=2), job('b', 'a')]
  code, text = run(tmp_path, jobs, stub)
  assert code == exit_codes.PREEMPTED
  assert {n for what, n in stub.events if what == 'stop'} == {
    *('a', 's.0', 's.1')
  }
  assert ('start', 'b') not in stub.events
  assert len([e for e in stub.events if e[0] == 'start']) == 3
  assert text.count('start the same command again') == 2


def test_a_second_signal_kills_what_does_not_listen(tmp_path, monkeypatch):
  stub = Stub(100, ends={'a': [None], 'b': [None]})
  monkeypatch.setattr(
    _Task, 'stop', lambda self: stub.events.append(('stop', self.order.name))
  )
  looks = []

  def wait():
    looks.append(1)
    if len(looks) in (2, 4):
      os.kill(os.getpid(), signal.SIGINT)

  stub.wait_for = wait
  assert run(tmp_path, [job('a'), job('b')], stub)[0] == exit_codes.PREEMPTED
  assert {('kill', 'a'), ('kill', 'b')} <= set(stub.events)


@pytest.mark.parametrize('answer, stops', [('', False), ('n', True)])
def test_ctrl_c_asks_what_becomes_of_jobs_that_could_go_on(
  tmp_path, monkeypatch, answer, stops
):
  stub = Stub(100, ends={'a': [None]})
  stub.outlives = True
  monkeypatch.setattr('sys.stdin.isatty', lambda: True, raising=False)
  monkeypatch.setattr('builtins.input', lambda question: answer)
  looks = []

  def wait():
    looks.append(1)
    if len(looks) == 2:
      os.kill(os.getpid(), signal.SIGINT)

  stub.wait_for = wait
  code, text = run(tmp_path, [job('a'), job('b', 'a')], stub)
  assert code == exit_codes.PREEMPTED
  assert (('stop', 'a') in stub.events) == stops
  assert ('the same command watches it again' in text) != stops
  assert ('start', 'b') not in stub.events


def test_a_third_signal_ends_a_launcher_that_waits_for_a_cluster(tmp_path):
  stub = Stub()

  def start(order, read):
    for _ in range(3):
      os.kill(os.getpid(), signal.SIGINT)
    raise AssertionError('it goes on')

  stub.start = start
  with pytest.raises(KeyboardInterrupt):
    run(tmp_path, [job('a')], stub)


def test_what_does_not_listen_is_killed_once_after_the_executors_time(
  tmp_path, monkeypatch
):
  stub = Stub(ends={'a': [None]}, looks=lambda name: 9)
  stub.stop_seconds = 0.0
  monkeypatch.setattr(_Task, 'stop', lambda self: None)
  looks = []

  def wait():
    looks.append(1)
    if len(looks) == 2:
      os.kill(os.getpid(), signal.SIGTERM)

  stub.wait_for = wait
  assert run(tmp_path, [job('a')], stub)[0] == exit_codes.PREEMPTED
  assert stub.events.count(('kill', 'a')) == 1


def test_a_store_that_is_away_ends_neither_the_launcher_nor_its_jobs(
  away, bucket, monkeypatch
):
  monkeypatch.setattr(launch_record, 'LOOK_SECONDS', 0.0)
  stub = Stub(ends={'a': [7, 0]}, looks=lambda name: 3)
  looks = []

  def wait():
    looks.append(1)
    if len(looks) in (2, 5):  # while the first attempt runs, and the second
      away(50)

  stub.wait_for = wait
  code, text = run(f'{bucket}/run', [job('a'), job('b', 'a')], stub)
  assert code == 0, text
  assert [event for event in stub.events if event[0] == 'start'] == [
    *[('start', 'a')] * 2,
    ('start', 'b'),
  ]
  assert text.count('gs://bucket has not answered since') == 2
  assert text.count('gs://bucket answers again') == 2
  record = storage.read_json(f'{bucket}/run/jobs/a.json')
  assert record['exit_code'] == 0


def test_a_person_can_leave_while_the_store_is_away(away, bucket, monkeypatch):
  monkeypatch.setattr(launch_record, 'LOOK_SECONDS', 0.0)
  stub = Stub(100, ends={'a': [7], 'b': [None]}, looks=lambda name: 2)
  stub.outlives = True
  monkeypatch.setattr('sys.stdin.isatty', lambda: True, raising=False)
  monkeypatch.setattr('builtins.input', lambda question: '')
  stub.wait_for = lambda: away(10**9)  # the record of a cannot be written

  def say(self, text):
    if 'has not answered' in text:
      os.kill(os.getpid(), signal.SIGINT)
    self.out.write(f'{text}\n')

  monkeypatch.setattr(Console, 'say', say)
  with pytest.raises(store_patience.GivenUpError, match='has not answered'):
    run(f'{bucket}/run', [job('a'), job('b')], stub)
  assert ('stop', 'b') not in stub.events
