"""The thread that ends a process whose job cannot go on, and says why."""

import threading
import time

import pytest
from coordination_store import Store

from rest_jax.config import configuration
from rest_jax.distributed import coordination, watchdog


def services(count, store=None):
  store = store or Store()
  return store, [
    coordination.Service(store, i, count, 20.0) for i in range(count)
  ]


@pytest.fixture
def watch():
  """Starts watchdogs, which end with the test."""
  started = []

  def start(service, store, *, limit=1e6, silent=1e6, poll=0.01):
    """(the watchdog, the codes that it ends with, when it has)."""
    codes, done = [], threading.Event()

    def end(code):
      codes.append(code)
      done.set()

    found = watchdog.Watchdog(
      service, store, limit, silent=silent, poll=poll, end=end
    )
    found.start()
    started.append(found)
    return found, codes, done

  yield start
  for one in started:
    one.stop()


def test_a_job_that_stands_still_is_ended_and_the_last_named(watch, capfd):
  # Both main threads are stuck in a device's collective, one of them earlier.
  store, both = services(2)
  both[0].vote(True)
  dogs = [watch(service, store, limit=0.3) for service in both]
  assert all(done.wait(20) for _, _, done in dogs)
  assert [codes for _, codes, _ in dogs] == [[watchdog.STUCK_CODE]] * 2
  told = capfd.readouterr().err
  assert 'after 0 exchanges: process 1 on host' in told
  assert 'process 0 on host' not in told


def test_a_process_without_a_pulse_is_named_by_all_others(watch, capfd):
  store, all_four = services(4)
  dogs = [watch(all_four[i], store, silent=0.2) for i in (0, 1, 3)]
  store.key_value_set('rest_jax/pulse/2', '7 12')  # its last
  assert all(done.wait(20) for _, _, done in dogs)
  assert [codes for _, codes, _ in dogs] == [[watchdog.GONE_CODE]] * 3
  told = capfd.readouterr().err.splitlines()
  assert len(told) == 3
  for line in told:
    assert line.startswith('process 2 on host') and 'killed' in line


@pytest.mark.parametrize('end', ['in order', 'with an error'])
def test_a_process_that_has_ended_is_not_missed(watch, capfd, end):
  store, both = services(2)
  first, _, _ = watch(both[0], store, silent=0.05)
  other, _, _ = watch(both[1], store)
  if end == 'in order':
    other.stop()
  else:
    both[1].fail(configuration.ConfigurationError('no such file'), 2)
    other._stop.set()
  looks = first._looks
  until = time.monotonic() + 20
  while first._thread.is_alive() and first._looks < looks + 20:
    assert time.monotonic() < until
    time.sleep(0.01)
  assert 'no sign of life' not in capfd.readouterr().err


def test_a_lost_service_is_process_0s_end(watch, capfd):
  store, both = services(2)
  _, codes, done = watch(both[1], store, poll=60.0)  # it rests
  time.sleep(0.2)
  store.lose()
  assert done.wait(20) and codes == [watchdog.GONE_CODE]
  told = capfd.readouterr().err
  assert told.startswith('process 0 on host') and 'UNAVAILABLE' in told


def test_an_echo_of_a_killed_process_waits_for_its_name(watch, capfd):
  """Process 1 says that a collective failed; process 2 was killed."""
  store, three = services(3)
  store.key_value_set('rest_jax/pulse/2', '7 12')
  three[1].fail(RuntimeError('connection reset'), watchdog.STUCK_CODE)
  _, codes, done = watch(three[0], store, silent=0.5)
  assert done.wait(20) and codes == [watchdog.GONE_CODE]
  told = capfd.readouterr().err
  assert told.startswith('process 2 on host') and 'reset' not in told


def test_a_watchdog_that_was_stopped_calls_the_client_no_more(watch):
  store, (service,) = services(1)
  found, _, _ = watch(service, store, poll=60.0)
  found.stop()  # though it sleeps
  assert not found._thread.is_alive()


def test_a_watchdog_stops_without_the_service_too(watch):
  store, (service,) = services(1)
  found, _, _ = watch(service, store)
  found._stop.set()
  store.lose()
  found.stop()
  assert not found._thread.is_alive()


def test_a_process_that_makes_calls_is_not_ended(watch):
  store, (service,) = services(1)
  _, codes, _ = watch(service, store, limit=0.5)
  for _ in range(40):
    service.vote(True)
    time.sleep(0.03)
  assert codes == []


def test_a_stuck_process_ends_with_the_exit_code_of_the_failed_one(
  watch, capfd
):
  store, both = services(2)
  _, codes, done = watch(both[0], store)
  both[1].fail(configuration.ConfigurationError('no such file'), 2)
  assert done.wait(20) and codes == [2]
  assert 'process 1 on host' in capfd.readouterr().err
