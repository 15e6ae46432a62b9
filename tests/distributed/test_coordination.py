"""What processes of a job tell each other, and how the silent are named."""

import concurrent.futures
import random
import time
from unittest import mock

import pytest
from coordination_store import Store

from rest_jax.artifacts import held_folders
from rest_jax.config import configuration
from rest_jax.distributed import coordination, failures, preemption


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
    held_folders.LostError('x'),
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
    (held_folders.HeldError('x'), held_folders.HeldError),
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


def test_the_service_outlives_its_own_processs_end_for_a_moment(monkeypatch):
  ended, now = [], [0.0]
  monkeypatch.setattr(
    coordination.time, 'sleep', lambda s: now.__setitem__(0, now[0] + s)
  )
  real = mock.Mock(shutdown=lambda: ended.append(now[0]))
  coordination._Lingering(real).shutdown()
  assert ended == [coordination.LINGER_SECONDS] and ended[0] > 0


@pytest.mark.parametrize('text', ['', 'x', '0', '-1', 'nan'])
def test_a_wrong_limit_is_refused(monkeypatch, text):
  monkeypatch.setenv(coordination.LIMIT_NAME, text)
  with pytest.raises(configuration.ConfigurationError, match='positive'):
    coordination.limit_seconds()


def test_the_limit_is_the_environments(monkeypatch):
  monkeypatch.setenv(coordination.LIMIT_NAME, '60')
  assert coordination.limit_seconds() == 60.0
