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
PLACE = 'gs://bucket/run/file'


@pytest.fixture(autouse=True)
def quick(monkeypatch):
  monkeypatch.setattr(store_patience, 'AGAIN_SECONDS', 0.01)


class Failing:
  """Fails with each of these errors in turn, then answers."""

  def __init__(self, *errors):
    self.errors, self.calls = list(errors), 0

  def ask(self):
    self.calls += 1
    if self.errors:
      raise self.errors.pop(0)
    return 'x'


def wrapped(error):
  """As storage.write_bytes raises what a client says."""
  try:
    try:
      raise OSError(errno.EIO, str(error)) from error
    except OSError as middle:
      raise storage.with_advice(middle) from middle
  except OSError as result:
    return result


def test_a_request_is_made_again_until_the_store_answers_and_that_is_said():
  said = []
  failing = Failing(AWAY, wrapped(AWAY), TimeoutError())
  with store_patience.waiting(said.append):
    assert store_patience.patiently(PLACE, failing.ask) == 'x'
  assert failing.calls == 4
  clock = time.strftime('%H:%M')
  assert len(said) == 2
  assert said[0].startswith(f'gs://bucket has not answered since {clock}')
  assert 'the service is away' in said[0]
  assert said[1] == 'gs://bucket answers again'


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
  with store_patience.waiting():
    with pytest.raises(type(error)):
      store_patience.patiently(PLACE, failing.ask)
  assert failing.calls == 1


def test_a_command_that_does_not_wait_is_told_in_one_sentence():
  failing = Failing(AWAY, AWAY)
  with pytest.raises(store_patience.AwayError) as raised:
    store_patience.patiently(PLACE, failing.ask)
  assert failing.calls == 1
  text = 'gs://bucket does not answer (the service is away, 503). '
  assert str(raised.value) == text + 'Try again once it does.'


def test_the_waiting_ends_after_its_time_and_when_a_person_says_so(monkeypatch):
  failing = Failing(*[AWAY] * 10)

  def nested():
    return store_patience.patiently(PLACE, failing.ask)

  with store_patience.waiting(print, lambda: failing.calls == 3):
    with pytest.raises(store_patience.GivenUpError, match='^gs://bucket has'):
      store_patience.patiently(PLACE, nested)
  assert failing.calls == 3
  monkeypatch.setattr(store_patience, 'WAIT_SECONDS', -1.0)
  with store_patience.waiting():
    with pytest.raises(store_patience.AwayError, match='elsewhere goes on'):
      store_patience.patiently(PLACE, nested)
  assert failing.calls == 4


REQUESTS = {
  'exists': lambda path: path.exists(),
  'is_dir': lambda path: path.parent.is_dir(),
  'list': lambda path: sorted(p.name for p in path.parent.iterdir()),
  'glob': lambda path: [p.name for p in path.parent.glob('*.parquet')],
  'read': lambda path: path.read_bytes(),
  'write': lambda path: storage.write_bytes(path, b'new'),
  'delete': lambda path: path.unlink(),
  'move': lambda path: storage.set_aside(path.parent).name,
}


@pytest.mark.parametrize('name', REQUESTS)
def test_every_request_by_a_path_waits_and_none_is_answered_wrongly(
  name, bucket, store, away
):
  results = []
  for times in (0, 20):  # gcsfs itself asks six times
    store.clear()
    store.put('bucket/run/a.parquet', b'old')
    said = []
    with store_patience.waiting(said.append):
      away(times)
      result = REQUESTS[name](storage.path(f'{bucket}/run/a.parquet'))
    objects = {key: found.data for key, found in store.objects.items()}
    results.append((result, objects))
    assert bool(said) == bool(times)
  assert results[0] == results[1]


@pytest.mark.parametrize('name', REQUESTS)
def test_no_request_takes_an_absent_store_for_an_absent_file(
  name, bucket, store, away
):
  store.put('bucket/run/a.parquet', b'old')
  away(10**6)
  with pytest.raises(store_patience.AwayError, match='does not answer'):
    REQUESTS[name](storage.path(f'{bucket}/run/a.parquet'))


def lease_of(store):
  return next(name for name in store.objects if 'lease' in name)


def test_a_lease_that_could_not_be_renewed_is_waited_for_a_lost_one_is_not(
  store, bucket, away, monkeypatch
):
  monkeypatch.setattr(store_leases, 'HEARTBEAT_SECONDS', 1000.0)
  monkeypatch.setattr(store_leases, 'RENEW_SECONDS', 0.1)
  said = []
  with leases.hold(f'{bucket}/run', purpose='first'):
    with store_patience.waiting(said.append):
      time.sleep(0.2)
      away(3, 'lease')
      held_folders.check_all()  # raises nothing
      assert 'has not answered' in said[0] and len(said) == 2
      store.put(lease_of(store), b'{"pid": 7}')
      time.sleep(0.2)
      with pytest.raises(held_folders.LostError, match='taken it over'):
        held_folders.check_all()


@pytest.mark.parametrize('is_lost', [False, True])
def test_a_write_that_waited_is_made_only_by_who_still_holds_the_folder(
  is_lost, store, bucket, away, monkeypatch
):
  monkeypatch.setattr(store_leases, 'HEARTBEAT_SECONDS', 1000.0)
  monkeypatch.setattr(store_leases, 'RENEW_SECONDS', 0.5)
  with leases.hold(f'{bucket}/run', purpose='slow'), store_patience.waiting():
    held_folders.check_all()
    time.sleep(0.6)  # a renewal is due by the time of the second try
    if is_lost:
      store.put(lease_of(store), b'{"pid": 7}')
    away(8, '/upload.*run/part')
    if is_lost:
      with pytest.raises(held_folders.LostError, match='taken it over'):
        storage.write_bytes(f'{bucket}/run/part', b'x')
    else:
      storage.write_bytes(f'{bucket}/run/part', b'x')
    assert ('bucket/run/part' in store.objects) == (not is_lost)


def test_nobody_is_taken_for_dead_for_the_time_in_which_the_store_was_away(
  store, bucket, away, monkeypatch
):
  now = [1000.0]
  monkeypatch.setattr(store_leases.time, 'monotonic', lambda: now[0])
  store.put('bucket/.run.lease', b'{"pid": 7, "host": "elsewhere"}')
  lease = leases.of(f'{bucket}/run', 'rival')
  assert not lease.attempt()
  now[0] += store_leases.STALE_SECONDS + 1
  away(20, 'lease')
  with store_patience.waiting():
    assert not lease.attempt()
  now[0] += store_leases.STALE_SECONDS - 1
  assert not lease.attempt()
  now[0] += 2
  assert lease.attempt()
  lease.give_up()
