"""What processes of a job tell each other, and how the silent are named."""

import concurrent.futures
import random
import threading
import time
from unittest import mock

import pytest

from rest_jax.artifacts import leases
from rest_jax.config import configuration
from rest_jax.distributed import coordination, failures, preemption


class Store:
  """What a coordination service's client does, within one process."""

  def __init__(self):
    self.values, self.changed = {}, threading.Condition()
    self.largest = 0

  def key_value_set(self, key, value, allow_overwrite=False):
    with self.changed:
      assert allow_overwrite or key not in self.values
      self.values[key] = value
      self.largest = max(self.largest, len(self.values))
      self.changed.notify_all()

  def blocking_key_value_get(self, key, timeout_ms):
    with self.changed:
      there = self.changed.wait_for(
        lambda: key in self.values, timeout=timeout_ms / 1000
      )
      if not there:  # as jaxlib 0.10 says it
        raise RuntimeError(f'DEADLINE_EXCEEDED: GetKeyValue() timed out: {key}')
      return self.values[key]

  def key_value_dir_get(self, key):
    with self.changed:
      return [(k, v) for k, v in self.values.items() if k.startswith(key)]

  def key_value_delete(self, key):
    with self.changed:
      for k in [k for k in self.values if k.startswith(key)]:
        del self.values[k]


def together(count, run, limit=20.0):
  """What `run(service)` gives in each of several processes (threads here)."""
  store = Store()
  services = [
    coordination.Service(store, index, count, limit) for index in range(count)
  ]
  with concurrent.futures.ThreadPoolExecutor(count) as pool:
    return [f for f in map(lambda s: pool.submit(run, s), services)], store


def test_what_processes_tell_each_other_is_the_same_for_all(monkeypatch):
  monkeypatch.setattr(coordination, '_GENERATION', 8)
  count, rounds = 3, 60

  def run(service):
    heard, pending = [], service.vote(False)
    rng = random.Random(service.index)
    for number in range(rounds):
      time.sleep(rng.random() * 1e-3)
      heard.append(service.tell([service.index, number]))
      ballot = service.vote(service.index == number % 7)
      heard.append(service.votes(pending))  # a call late, as Vote does
      pending = ballot
    return heard

  futures, store = together(count, run)
  first, *others = [future.result() for future in futures]
  assert all(other == first for other in others)
  assert first[::2] == [[0, number] for number in range(rounds)]
  voted = [[i == number % 7 for i in range(count)] for number in range(rounds)]
  assert first[1::2] == [[False] * count, *voted[:-1]]
  assert store.largest < 8 * 3 * (count + 2)  # old values are taken away


@pytest.fixture
def quick(monkeypatch):
  monkeypatch.setattr(coordination, '_POLL_MS', 20)


def test_a_silent_process_is_named_by_all_that_wait_for_it(quick):
  def run(service):
    if service.index == 2:
      return None  # it lives but does not answer
    return service.votes(service.vote(True))

  futures, _ = together(4, run, limit=0.2)
  for index in (0, 1, 3):
    with pytest.raises(failures.PeerError, match='process 2 on host') as caught:
      futures[index].result()
    assert 'process 1' not in str(caught.value)
    assert coordination.LIMIT_NAME in str(caught.value)


def test_a_silent_process_0_is_named(quick):
  def run(service):
    return service.tell('x') if service.index else None

  futures, _ = together(2, run, limit=0.1)
  with pytest.raises(failures.PeerError, match='process 0 on host'):
    futures[1].result()


@pytest.mark.parametrize(
  'error',
  [
    configuration.ConfigurationError('x'),
    preemption.Preempted('x'),
    leases.LostError('x'),
    PermissionError(13, 'x'),
    KeyError('x'),
  ],
)
def test_a_process_that_fails_ends_those_that_wait_with_its_error(quick, error):
  def run(service):
    if service.index == 1:
      service.fail(error, 7)
      return None
    return service.votes(service.vote(True))

  futures, _ = together(3, run)
  for index in (0, 2):
    with pytest.raises(type(error), match='process 1 on host .*x'):
      futures[index].result()


class _Odd(configuration.ConfigurationError):
  """An error whose class takes other arguments than a text."""

  def __init__(self, where, what):
    super().__init__(f'{where}: {what}')


class _Stranger(Exception):
  def __init__(self, a, b, c):
    super().__init__(a)


@pytest.mark.parametrize(
  ('error', 'kind'),
  [
    (configuration.ConfigurationError('x'), configuration.ConfigurationError),
    (_Odd('x', 'y'), configuration.ConfigurationError),
    (leases.HeldError('x'), leases.HeldError),
    (OSError(5, 'x'), OSError),
    (ConnectionResetError(104, 'x'), ConnectionResetError),
    (UnicodeDecodeError('utf-8', b'x', 0, 1, 'x'), UnicodeError),
    (_Stranger('x', 1, 2), failures.PeerError),
    (Exception('x'), failures.PeerError),
  ],
)
def test_an_error_keeps_its_class_or_the_nearest_that_it_can(error, kind):
  made = failures.decode(failures.encode(error, 3))
  assert type(made) is kind
  assert 'process 3 on host' in str(made) and 'x' in str(made)
  assert getattr(made, 'errno', None) == getattr(error, 'errno', None)


def ends(service, store, limit, poll=0.01):
  """The exit codes with which a watchdog ends its process."""
  codes, done = [], threading.Event()

  def end(code):
    codes.append(code)
    done.set()

  coordination.Watchdog(service, store, limit, poll=poll, end=end).start()
  return codes, done


def test_a_job_that_stands_still_is_ended_and_the_last_named(capfd):
  # Both main threads are stuck in a device's collective, one of them earlier.
  store = Store()
  services = [coordination.Service(store, i, 2, 20.0) for i in range(2)]
  services[0].vote(True)
  codes, done = zip(*(ends(s, store, 0.3) for s in services), strict=True)
  assert all(event.wait(20) for event in done)
  assert codes == ([1], [1])
  told = capfd.readouterr().err
  assert 'after 0 exchanges: process 1 on host' in told
  assert 'process 0 on host' not in told


def test_a_watchdog_that_was_stopped_calls_the_client_no_more():
  store = Store()
  service = coordination.Service(store, 0, 1, 20.0)
  watchdog = coordination.Watchdog(service, store, 20.0, poll=60.0)
  watchdog.start()
  watchdog.stop()  # though it sleeps
  assert not watchdog._thread.is_alive()


def test_the_service_outlives_its_own_processs_end_for_a_moment(monkeypatch):
  ended, now = [], [0.0]
  monkeypatch.setattr(
    coordination.time, 'sleep', lambda s: now.__setitem__(0, now[0] + s)
  )
  real = mock.Mock(shutdown=lambda: ended.append(now[0]))
  coordination._Lingering(real).shutdown()
  assert ended == [coordination.LINGER_SECONDS] and ended[0] > 0


def test_a_process_that_makes_calls_is_not_ended():
  store = Store()
  service = coordination.Service(store, 0, 1, 20.0)
  codes, _ = ends(service, store, 0.5)
  for _ in range(40):
    service.vote(True)
    time.sleep(0.03)
  assert codes == []


def test_a_stuck_process_ends_with_the_exit_code_of_the_one_that_failed(capfd):
  store = Store()
  services = [coordination.Service(store, i, 2, 20.0) for i in range(2)]
  codes, done = ends(services[0], store, 1e6)
  services[1].fail(configuration.ConfigurationError('no such file'), 2)
  assert done.wait(20) and codes == [2]
  assert 'process 1 on host' in capfd.readouterr().err


@pytest.mark.parametrize('text', ['', 'x', '0', '-1', 'nan'])
def test_a_wrong_limit_is_refused(monkeypatch, text):
  monkeypatch.setenv(coordination.LIMIT_NAME, text)
  with pytest.raises(configuration.ConfigurationError, match='positive'):
    coordination.limit_seconds()


def test_the_limit_is_the_environments(monkeypatch):
  monkeypatch.setenv(coordination.LIMIT_NAME, '60')
  assert coordination.limit_seconds() == 60.0
