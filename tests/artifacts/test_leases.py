"""One writer at a time, here and on gs://; the dead hold nothing."""

import json
import subprocess
import sys
import threading
import time

import pytest

from rest_jax.artifacts import leases, storage

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
  with pytest.raises(leases.HeldError) as caught:
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
  monkeypatch.setattr(leases, 'GRACE_SECONDS', 30.0)
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
    with pytest.raises(leases.HeldError):
      with leases.hold(tmp_path / 'run', purpose='y'):
        pass


def test_a_store_has_one_holder_and_a_stale_one_is_passed_over(bucket):
  folder = f'{bucket}/run'
  lease = storage.path(f'{bucket}/.run.lease')
  with leases.hold(folder, purpose='first'):
    with pytest.raises(leases.HeldError, match='first'):
      with leases.hold(folder, purpose='second'):
        pass
    assert lease.exists()
  assert not lease.exists()
  old = {'host': 'gone', 'pid': 1, 'purpose': 'dead', 'since': 'long ago'}
  old['heartbeat'] = time.time() - leases.STALE_SECONDS - 1
  lease.write_text(json.dumps(old))
  with leases.hold(folder, purpose='third'):
    assert json.loads(lease.read_text())['purpose'] == 'third'


def test_the_heartbeat_keeps_a_store_lease_fresh(bucket, monkeypatch):
  monkeypatch.setattr(leases, 'HEARTBEAT_SECONDS', 0.02)
  lease = storage.path(f'{bucket}/.run.lease')
  with leases.hold(f'{bucket}/run', purpose='x'):
    first = json.loads(lease.read_text())['heartbeat']
    time.sleep(0.2)
    assert json.loads(lease.read_text())['heartbeat'] > first
  assert threading.active_count() == 1 or not lease.exists()


def test_of_two_that_start_together_on_a_store_one_writes(bucket, monkeypatch):
  # The rival's lease lands between our write and our second look.
  monkeypatch.setenv('REST_JAX_LEASE_SETTLE_SECONDS', '0.3')
  lease = storage.path(f'{bucket}/.run.lease')
  rival = {'host': 'other', 'pid': 7, 'purpose': 'rival', 'since': 'now'}
  rival['heartbeat'] = time.time() + 60
  timer = threading.Timer(0.1, lambda: lease.write_text(json.dumps(rival)))
  timer.start()
  with pytest.raises(leases.HeldError, match='rival'):
    with leases.hold(f'{bucket}/run', purpose='x'):
      pass
  timer.join()
