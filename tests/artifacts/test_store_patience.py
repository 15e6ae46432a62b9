"""Waiting for a store that is away: who waits, for what, and until when."""

import errno
import time

import pytest

from rest_jax.artifacts import (
  held_folders,
  leases,
  storage,
  store_leases,
  store_patience,
)

GCS = pytest.importorskip('gcsfs.retry')
AWAY = GCS.HttpError({'code': 503, 'message': 'the service is away'})


@pytest.fixture(autouse=True)
def quick(monkeypatch):
  monkeypatch.setattr(store_patience, '_AGAIN_SECONDS', 0.01)


class Failing:
  """Fails with each of these errors in turn, then answers."""

  def __init__(self, *errors):
    self.errors, self.calls = list(errors), 0

  @store_patience.patient
  def ask(self, what):
    self.calls += 1
    if self.errors:
      raise self.errors.pop(0)
    return what


def wrapped(error):
  """As storage.write_bytes raises what a client says."""
  try:
    try:
      raise OSError(errno.EIO, str(error)) from error
    except OSError as middle:
      raise storage.with_advice(middle) from middle
  except OSError as result:
    return result


def test_a_call_is_made_again_until_the_store_answers_and_that_is_said():
  said = []
  failing = Failing(AWAY, wrapped(AWAY), TimeoutError())
  with store_patience.waiting('gs://bucket/run', said.append):
    assert failing.ask('x') == 'x' and failing.calls == 4
  clock = time.strftime('%H:%M')
  assert len(said) == 2
  assert said[0].startswith(f'gs://bucket/run has not answered since {clock}')
  assert 'the service is away' in said[0]
  assert said[1] == 'gs://bucket/run answers again'


@pytest.mark.parametrize(
  'error',
  [
    FileNotFoundError('x'),
    PermissionError(errno.EACCES, 'Forbidden'),
    OSError(errno.ENOSPC, 'full'),
    ValueError('x'),
    GCS.HttpError({'code': 400, 'message': 'bad'}),
  ],
)
def test_what_another_try_would_not_change_is_raised_at_once(error):
  failing = Failing(error)
  with store_patience.waiting('gs://bucket/run'):
    with pytest.raises(type(error)):
      failing.ask('x')
  assert failing.calls == 1


def test_only_a_launcher_waits_and_only_for_a_store():
  failing = Failing(AWAY, AWAY)
  with pytest.raises(GCS.HttpError):
    failing.ask('x')
  with store_patience.waiting('/folder'), pytest.raises(GCS.HttpError):
    failing.ask('x')


def test_the_waiting_ends_after_its_time_and_when_a_person_says_so(monkeypatch):
  failing = Failing(*[AWAY] * 10)

  @store_patience.patient
  def nested():
    return failing.ask('x')

  with store_patience.waiting('gs://b/run', print, lambda: failing.calls == 3):
    with pytest.raises(store_patience.GivenUpError, match='gs://b/run has not'):
      nested()
  assert failing.calls == 3
  monkeypatch.setattr(store_patience, 'WAIT_SECONDS', -1.0)
  with store_patience.waiting('gs://b/run'):
    with pytest.raises(store_patience.AwayError, match='What runs elsewhere'):
      nested()
  assert failing.calls == 4


def test_a_lease_that_could_not_be_renewed_is_waited_for_a_lost_one_is_not(
  store, bucket, monkeypatch
):
  monkeypatch.setattr(store_leases, 'HEARTBEAT_SECONDS', 1000.0)
  monkeypatch.setattr(store_leases, 'RENEW_SECONDS', 0.1)
  monkeypatch.setattr(store_leases.generations, 'RETRY_SECONDS', 0.1)
  check = store_patience.patient(held_folders.check_all)
  said = []
  with leases.hold(f'{bucket}/run', purpose='first'):
    with store_patience.waiting(f'{bucket}/run', said.append):
      time.sleep(0.2)
      store.fault('lease', times=3)
      check()  # raises nothing
      assert 'could not be renewed' in said[0] and len(said) == 2
      name = next(name for name in store.objects if 'lease' in name)
      store.put(name, b'{"pid": 7}')
      time.sleep(0.2)
      with pytest.raises(held_folders.LostError, match='taken it over'):
        check()
