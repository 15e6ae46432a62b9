"""Parts are claimed by one worker at a time, on a disk and on gs://."""

import json
import os
import subprocess
import sys
import time

import pytest

from rest_jax.artifacts import (
  held_folders,
  leases,
  records,
  stage_work,
  storage,
  store_leases,
  workers,
)

PART = 'part-00000-of-00001.parquet'


@pytest.fixture(params=['disk', 'store'])
def folder(request, tmp_path):
  if request.param == 'disk':
    return tmp_path
  return request.getfixturevalue('bucket') + '/folder'


@pytest.fixture
def quick(monkeypatch):
  monkeypatch.setattr(store_leases, 'HEARTBEAT_SECONDS', 0.05)
  monkeypatch.setattr(store_leases, 'RENEW_SECONDS', 2.0)
  monkeypatch.setattr(store_leases, 'STALE_SECONDS', 1.0)


def test_a_part_has_one_claimant_until_it_is_given_up(folder):
  with (
    workers.Claims(folder, purpose='first') as first,
    workers.Claims(folder, purpose='second') as second,
  ):
    assert first.take(PART) and first.take(PART)
    assert not second.take(PART)
    assert f'process {os.getpid()}' in second.rival(PART)
    assert '(first, since' in second.rival(PART)
    assert second.take('another')
    first.give_up(PART)
    assert second.take(PART) and not first.take(PART)


def test_what_was_claimed_is_free_at_the_end_of_the_block(folder):
  with workers.Claims(folder, purpose='first') as first:
    assert first.take(PART)
  with workers.Claims(folder, purpose='second') as second:
    assert second.take(PART)


def test_on_a_disk_a_killed_process_has_claimed_nothing(tmp_path):
  script = (
    'import sys, time\n'
    'from rest_jax.artifacts import workers\n'
    'claims = workers.Claims(sys.argv[1], purpose="a test")\n'
    'print(claims.take(sys.argv[2]), flush=True)\n'
    'time.sleep(60)\n'
  )
  process = subprocess.Popen(
    [sys.executable, '-c', script, os.fspath(tmp_path), PART],
    stdout=subprocess.PIPE,
    text=True,
  )
  assert process.stdout.readline() == 'True\n'
  with workers.Claims(tmp_path, purpose='next') as claims:
    assert not claims.take(PART)
    assert f'process {process.pid} ' in claims.rival(PART)
    process.kill()
    process.wait()
    assert claims.take(PART)


def test_on_a_store_a_claim_without_heartbeat_is_taken_over(
  bucket, store, quick
):
  left = {'host': 'elsewhere', 'pid': 7, 'purpose': 'sample', 'machine': 'x'}
  store.put(f'bucket/folder/.{PART}.lease', json.dumps(left).encode())
  with workers.Claims(f'{bucket}/folder', purpose='next') as claims:
    began = time.monotonic()
    tries = 0
    while not claims.take(PART):  # each try returns at once
      tries += 1
      assert time.monotonic() - began < 20
      time.sleep(0.05)
    assert tries > 3
    assert time.monotonic() - began >= store_leases.STALE_SECONDS


def test_on_a_store_a_claim_that_was_lost_is_said_before_a_write(
  bucket, store, quick
):
  with workers.Claims(f'{bucket}/folder', purpose='slow') as claims:
    assert claims.take(PART)
    claims.check(PART)
    store.put(f'bucket/folder/.{PART}.lease', b'{"host": "elsewhere"}')
    with pytest.raises(held_folders.LostError, match='host elsewhere'):
      while True:
        claims.check(PART)
        time.sleep(0.02)


@pytest.mark.parametrize('number', [1, 3, 4])
def test_every_part_and_file_belongs_to_one_worker(number):
  team = [workers.Worker(index, number) for index in range(number)]
  for part in range(20):
    assert sum(worker.owns(part) for worker in team) == 1
  # Also what an earlier, larger team has left.
  for index in range(7):
    name = workers.Worker(index, 7).unfinished
    assert sum(worker.takes_over(name) for worker in team) == 1
  assert len({worker.unfinished for worker in team}) == number
  assert len({worker.purpose('sample') for worker in team}) == number
  assert not any(w.takes_over('part-00000.parquet') for w in team)


def test_a_folder_that_others_hold_for_moments_is_waited_for(
  tmp_path, monkeypatch
):
  monkeypatch.setattr(held_folders, 'POLL_SECONDS', 0.02)
  lease = leases.of(tmp_path / 'x', 'another worker')
  assert lease.attempt()
  monkeypatch.setattr(
    workers.time,
    'sleep',
    lambda _: lease in held_folders._held and lease.give_up(),
  )
  with workers.hold(tmp_path / 'x', 'this one'):
    assert lease not in held_folders._held
  monkeypatch.setattr(workers, 'PATIENCE_SECONDS', 0.0)
  with leases.hold(tmp_path / 'x', purpose='a run'):
    with pytest.raises(held_folders.HeldError, match='a run'):
      with workers.hold(tmp_path / 'x', 'this one'):
        pass


def test_a_process_alone_is_refused_while_a_worker_is_at_a_part(folder, quick):
  folder = storage.path(folder)
  with workers.Claims(folder, purpose='sample, worker 1 of 2') as claims:
    assert claims.take(PART)
    with (
      pytest.raises(held_folders.HeldError, match='worker 1 of 2'),
      _alone(folder),
    ):
      raise AssertionError
  with _alone(folder) as work:
    assert work.done is None


def _alone(folder):
  return stage_work.work_on(
    folder,
    stage='sample',
    kind=records.Sample,
    semantic={},
    inputs={},
    version=1,
  )
