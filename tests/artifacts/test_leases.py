"""A folder has one writer at a time, on a disk and on gs://."""

import concurrent.futures
import json
import os
import subprocess
import sys
import threading
import time

import pytest

from rest_jax.artifacts import (
  file_leases,
  generations,
  held_folders,
  holders,
  leases,
  processes,
  stage_work,
  storage,
  store_leases,
  store_patience,
)
from rest_jax.config import configuration

HOLD = """
import sys, time
from rest_jax.artifacts import leases
with leases.hold(sys.argv[1], purpose='a test'):
  print('held', flush=True)
  time.sleep(60)
"""


@pytest.fixture
def holder(tmp_path):
  process = subprocess.Popen(
    [sys.executable, '-c', HOLD, str(tmp_path / 'run')],
    stdout=subprocess.PIPE,
    text=True,
  )
  assert process.stdout.readline() == 'held\n'
  yield process
  process.kill()
  process.wait()


def test_a_second_process_is_told_who_holds_the_folder(holder, tmp_path):
  with pytest.raises(held_folders.HeldError) as caught:
    with leases.hold(tmp_path / 'run', purpose='other'):
      raise AssertionError('held twice')
  text = str(caught.value)
  assert str(holder.pid) in text and 'a test' in text
  assert text.startswith(f'{tmp_path}/run: held by')
  with leases.hold(tmp_path / 'another', purpose='other'):
    pass


def test_a_killed_holder_holds_nothing(holder, tmp_path):
  holder.kill()
  holder.wait()
  with leases.hold(tmp_path / 'run', purpose='next'):
    pass


def test_a_holder_that_is_dying_is_waited_for(holder, tmp_path, monkeypatch):
  monkeypatch.setattr(file_leases, 'GRACE_SECONDS', 30.0)
  threading.Timer(0.3, holder.kill).start()
  started = time.monotonic()
  with leases.hold(tmp_path / 'run', purpose='next'):
    assert 0.2 < time.monotonic() - started < 20


def test_a_lease_ends_with_its_block_even_by_an_error(tmp_path):
  for _ in range(2):
    with pytest.raises(KeyError):
      with leases.hold(tmp_path / 'run', purpose='x'):
        raise KeyError


def test_the_held_folder_itself_may_be_renamed(tmp_path):
  (tmp_path / 'run').mkdir()
  with leases.hold(tmp_path / 'run', purpose='x'):
    storage.set_aside(tmp_path / 'run')
    with pytest.raises(held_folders.HeldError):
      with leases.hold(tmp_path / 'run', purpose='y'):
        pass


ELSEWHERE = {
  'host': 'elsewhere',
  'pid': 7,
  'purpose': 'sample',
  'since': 'noon',
  'machine': 'another machine',
  'started': '1',
  'job': 'iteration_01/sample',
  'run': 'token',
}


@pytest.fixture
def quick(monkeypatch):
  """Seconds that a test can wait for, in the same order as the real ones."""
  monkeypatch.setattr(store_leases, 'HEARTBEAT_SECONDS', 0.05)
  monkeypatch.setattr(store_leases, 'RENEW_SECONDS', 2.0)
  monkeypatch.setattr(store_leases, 'STALE_SECONDS', 3.0)
  monkeypatch.setattr(held_folders, 'POLL_SECONDS', 0.02)


def left_behind(store, **changes):
  """Puts the lease of a holder elsewhere into the store."""
  text = json.dumps(ELSEWHERE | changes)
  return store.put('bucket/.run.lease', text.encode())


def purpose(store):
  return json.loads(store.objects['bucket/.run.lease'].data)['purpose']


def test_a_store_lease_has_one_holder_and_ends_with_its_block(bucket, store):
  with leases.hold(f'{bucket}/run', purpose='first'):
    with pytest.raises(held_folders.HeldError, match='first'):
      with leases.hold(f'{bucket}/run', purpose='second'):
        pass
    assert purpose(store) == 'first'
  assert not store.objects


def test_a_lease_that_is_not_renewed_is_taken_over(bucket, store, quick):
  left_behind(store)
  with leases.hold(f'{bucket}/run', purpose='next'):
    assert purpose(store) == 'next'


def test_a_lease_that_is_renewed_elsewhere_is_respected(bucket, store, quick):
  left_behind(store)
  timer = threading.Timer(0.3, left_behind, [store], {'written': 'again'})
  timer.start()
  with pytest.raises(
    held_folders.HeldError, match='process 7 on host elsewhere'
  ):
    with leases.hold(f'{bucket}/run', purpose='next'):
      pass
  timer.join()
  assert purpose(store) == 'sample'


def test_a_killed_holder_of_this_machine_is_replaced_at_once(bucket, store):
  process = subprocess.Popen(
    [sys.executable, '-c', HOLD, f'{bucket}/run'],
    stdout=subprocess.PIPE,
    text=True,
  )
  assert process.stdout.readline() == 'held\n'
  with pytest.raises(held_folders.HeldError, match=str(process.pid)):
    with leases.hold(f'{bucket}/run', purpose='next'):
      pass
  process.kill()
  process.wait()
  # The real STALE_SECONDS would be longer than any test may last.
  with leases.hold(f'{bucket}/run', purpose='next'):
    assert purpose(store) == 'next'


def test_a_reused_process_number_is_another_process(bucket, store):
  # A process of this machine that has our number but started at another time.
  left_behind(store, machine=processes.machine(), pid=os.getpid())
  with leases.hold(f'{bucket}/run', purpose='next'):
    pass


@pytest.mark.parametrize('differs', [None, 'run', 'job', 'purpose'])
def test_a_job_takes_over_what_its_own_last_attempt_held(
  bucket, store, monkeypatch, differs
):
  monkeypatch.setenv(holders.JOB, ELSEWHERE['job'])
  monkeypatch.setenv(holders.RUN_TOKEN, ELSEWHERE['run'])
  monkeypatch.setattr(held_folders, 'POLL_SECONDS', 0.02)
  monkeypatch.setattr(
    store_leases, 'STALE_SECONDS', 1e9 if differs is None else 0.05
  )
  left_behind(store, **({differs: 'other'} if differs else {}))
  waited = []
  monkeypatch.setattr(store_leases.time, 'sleep', waited.append)
  with leases.hold(f'{bucket}/run', purpose='sample'):
    assert bool(waited) == (differs is not None)


def test_the_replaced_holder_is_told_before_it_writes(bucket, store, quick):
  with leases.hold(f'{bucket}/run', purpose='slow') as lease:
    lease.check()
    left_behind(store)  # another process has taken it over
    deadline = time.monotonic() + 20
    with pytest.raises(
      held_folders.LostError, match='host elsewhere.*taken it over'
    ):
      while time.monotonic() < deadline:
        held_folders.check_all()
        time.sleep(0.01)
  assert purpose(store) == 'sample'  # and it leaves the other's lease alone
  held_folders.check_all()


def test_a_renewal_that_arrives_late_does_not_undo_a_takeover(
  bucket, store, quick
):
  with leases.hold(f'{bucket}/run', purpose='slow'):
    store.fault('POST.*lease', delay=0.4, status=None)
    deadline = time.monotonic() + 20
    while not any('lease' in f.pattern and not f.times for f in store.faults):
      assert time.monotonic() < deadline
      time.sleep(0.005)
    left_behind(store)  # while the renewal is under way
  assert purpose(store) == 'sample'


def test_a_holder_that_cannot_reach_the_store_stops_in_time(
  bucket, store, quick, monkeypatch
):
  monkeypatch.setattr(generations, 'RETRY_SECONDS', 0.05)
  with leases.hold(f'{bucket}/run', purpose='cut off') as lease:
    store.fault('lease', times=10**6)
    deadline = time.monotonic() + 30
    with pytest.raises(store_patience.AwayError, match='does not answer'):
      while time.monotonic() < deadline:
        lease.check()
        time.sleep(0.01)
    store.fault_nothing()


def test_a_dead_heartbeat_is_noticed(bucket, quick, monkeypatch):
  monkeypatch.setattr(store_leases, 'HEARTBEAT_SECONDS', 1e6)
  monkeypatch.setattr(store_leases, 'RENEW_SECONDS', 0.1)
  with leases.hold(f'{bucket}/run', purpose='x') as lease:
    first = lease._generation
    time.sleep(0.2)
    lease.check()  # renews it itself
    assert lease._generation > first
    monkeypatch.setattr(lease, '_write', lambda **_: 1 / 0)
    time.sleep(0.2)
    with pytest.raises(held_folders.LostError, match='division'):
      lease.check()


def test_a_lost_answer_is_not_taken_for_a_rival(
  bucket, store, quick, monkeypatch
):
  monkeypatch.setattr(store_leases, 'RENEW_SECONDS', 60.0)
  monkeypatch.setattr(store_leases, 'STALE_SECONDS', 90.0)
  # The store writes the lease, but its answer is lost: the client sends it
  # again and meets its own write.
  store.fault('POST.*lease', status=503, after=True)
  with leases.hold(f'{bucket}/run', purpose='first') as lease:
    store.fault('POST.*lease', status=503, after=True)
    before = lease._generation
    deadline = time.monotonic() + 20
    while lease._generation == before:
      assert time.monotonic() < deadline
      lease.check()
      time.sleep(0.01)


def test_of_many_that_start_together_on_a_store_one_holds(
  bucket, quick, monkeypatch
):
  monkeypatch.setattr(processes, 'machine', lambda: None)
  barrier, held = threading.Barrier(6), []
  done = threading.Event()

  def contend(name):
    barrier.wait()
    try:
      with leases.hold(f'{bucket}/run', purpose=name):
        held.append(name)
        done.wait(20)
    except held_folders.HeldError:
      return 'refused'

  with concurrent.futures.ThreadPoolExecutor(6) as pool:
    futures = [pool.submit(contend, str(i)) for i in range(6)]
    refused = 0
    for future in concurrent.futures.as_completed(futures):
      refused += future.result() == 'refused'
      if refused == 5:
        done.set()
  assert (refused, len(held)) == (5, 1)


def test_a_stage_that_lost_its_folder_writes_no_part_more(bucket, store, quick):
  with stage_work.work_on(
    f'{bucket}/run', stage='t', kind=None, semantic={}, inputs={}, version=1
  ) as work:
    left_behind(store)
    deadline = time.monotonic() + 20
    while work.lease._lost is None:
      assert time.monotonic() < deadline
      time.sleep(0.01)
    with pytest.raises(held_folders.LostError):
      work.finish()
  assert 'bucket/run/manifest.json' not in store.objects


def test_a_store_that_cannot_exclude_writers_is_refused():
  with pytest.raises(configuration.ConfigurationError, match='local or on gs'):
    generations.StoreObject('s3://bucket/run')


@pytest.mark.parametrize(
  ('status', 'error'),
  [(403, PermissionError), (404, configuration.ConfigurationError)],
)
def test_a_store_that_refuses_says_why(bucket, store, status, error):
  store.fault('POST.*lease', times=10, status=status)
  with pytest.raises(error):
    with leases.hold(f'{bucket}/run', purpose='x'):
      pass
