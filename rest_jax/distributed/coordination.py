"""Small JSON values that the processes of a job tell each other.

They go through the job's coordination service, not through the devices: what
hosts tell each other waits for no computation and cannot overtake one. The
service's client has no public name in jax (0.10): this module alone uses it.

Every method of `Service` that is marked collective must be called by every
process, in the same order. Values are numbered by these calls, which are the
same everywhere, and are deleted a generation of calls later.

A process that has died is noticed by the others' watchdogs (watchdog.py). A
process that lives but does not answer is named here: whoever waits for it
longer than `limit` seconds raises PeerError.
"""

import atexit
import functools
import json
import os
import socket
import time
from collections.abc import Callable, Sequence
from typing import Any

from jax._src import distributed

from rest_jax.config import configuration
from rest_jax.distributed import failures, watchdog

_GENERATION = 1000  # calls after which values of an older one are deleted
_POLL_MS = 2000  # between two looks at whether another process has failed
# The longest that a sound process is silent between two calls is a compilation
# of minutes, the loading of a large checkpoint, or the grading of D_val.
LIMIT_SECONDS = 3600.0
LINGER_SECONDS = 2.0
LIMIT_NAME = 'REST_JAX_PROCESS_TIMEOUT_SECONDS'


def limit_seconds() -> float:
  """How long a process is waited for: LIMIT_SECONDS or the environment's.

  Raises:
    ConfigurationError: the variable is no positive number.
  """
  text = os.environ.get(LIMIT_NAME)
  if text is None:
    return LIMIT_SECONDS
  try:
    value = float(text)
  except ValueError:
    value = 0.0
  if not value > 0:
    raise configuration.ConfigurationError(
      f'{LIMIT_NAME}: got {text!r}; allowed: a positive number of seconds, '
      f'{LIMIT_SECONDS:.0f} if it is not set.'
    )
  return value


class Service:
  """The values of one job, seen from one of its processes."""

  def __init__(self, client: Any, index: int, count: int, limit: float):
    """Announces this process.

    Args:
      client: of the coordination service.
      index: of this process.
      count: of processes.
      limit: seconds that another process is waited for.
    """
    self._client, self.index, self._count = client, index, count
    self._limit = limit
    self._calls = 0
    self._hosts: dict[str, str] = {}
    client.key_value_set(_host_key(index), socket.gethostname())

  def failed(self) -> dict[str, Any] | None:
    """What another process told by `fail`, or None."""
    for key, told in self._folder('rest_jax/failed/'):
      if key != f'rest_jax/failed/{self.index}':
        return json.loads(told)
    return None

  def others(self) -> list[int]:
    """The other processes that have neither failed nor ended in order."""
    gone = {self.index}
    for key, _ in self._folder('rest_jax/failed/'):
      gone.add(int(key.rpartition('/')[2]))
    for index, pulse in watchdog.pulses(self._client).items():
      if watchdog.has_ended(pulse):
        gone.add(index)
    return [index for index in range(self._count) if index not in gone]

  @property
  def calls(self) -> int:
    """How many collective calls this process has made."""
    return self._calls

  def tell(self, value: Any) -> Any:
    """Process 0's value. Collective.

    Raises:
      PeerError: process 0 does not answer.
    """
    key = self._next()
    if self.index == 0:
      self._set(key, json.dumps(value))
      return value
    return json.loads(self._wait_for(key, lambda: [0]))

  def vote(self, value: Any) -> int:
    """Gives this process's value; returns the ballot's number. Collective."""
    key = self._next()
    self._set(f'{key}/{self.index}', json.dumps(value))
    return self._calls

  def votes(self, ballot: int) -> list[Any]:
    """Every process's value of a ballot, by index. Collective.

    Raises:
      PeerError: a process has not voted.
    """
    return self._collect(self._key(ballot))

  def fail(self, error: BaseException, exit_code: int) -> None:
    """Tells the others what ends this process: they end with it too."""
    told = failures.encode(error, self.index) | {'exit_code': exit_code}
    key = f'rest_jax/failed/{self.index}'
    self._set(key, json.dumps(told))

  def named(self, indices: Sequence[int]) -> str:
    """The processes' numbers and hosts, for a message."""
    return ', '.join(
      f'process {index} on host {self._host(index)}' for index in indices
    )

  def _collect(self, key: str) -> list[Any]:
    if self.index == 0:
      votes = [
        self._wait_for(f'{key}/{index}', lambda: self._missing(key))
        for index in range(self._count)
      ]
      self._set(f'{key}/all', json.dumps(votes))
    else:
      votes = json.loads(
        # All have voted, and process 0 alone is late, where none is missing.
        self._wait_for(f'{key}/all', lambda: self._missing(key) or [0])
      )
    return [json.loads(vote) for vote in votes]

  def _missing(self, key: str) -> list[int]:
    there = {name.rpartition('/')[2] for name, _ in self._folder(f'{key}/')}
    return [i for i in range(self._count) if str(i) not in there]

  def _folder(self, key: str) -> list[tuple[str, str]]:
    return self._client.key_value_dir_get(key)

  def _host(self, index: int) -> str:
    key = _host_key(index)
    if key not in self._hosts:  # kept: the service may be gone later
      try:
        self._hosts = dict(self._folder('rest_jax/host/'))
      except Exception:  # it is
        pass
    return self._hosts.get(key, '(unknown)')

  def _set(self, key: str, value: str) -> None:
    try:
      self._client.key_value_set(key, value)
    except Exception as error:
      raise self._lost(error) from error

  def _lost(self, error: Exception) -> failures.GoneError:
    return failures.GoneError(
      f'{self.named([0])}, which keeps the coordination service, has ended or '
      f'cannot be reached: {error}'
    )

  def _next(self) -> str:
    self._calls += 1
    if self._calls % _GENERATION == 0:
      # Once all have come this far, none waits for a call of a generation ago.
      generation = self._calls // _GENERATION
      key = f'rest_jax/generation/{generation}'
      self._set(f'{key}/{self.index}', 'true')
      self._collect(key)
      if self.index == 0 and generation > 1:
        self._client.key_value_delete(f'rest_jax/{generation - 2}/')
        self._client.key_value_delete(f'rest_jax/generation/{generation - 1}/')
    return self._key(self._calls)

  def _key(self, number: int) -> str:
    return f'rest_jax/{number // _GENERATION}/{number}'

  def _wait_for(self, key: str, missing: Callable[[], list[int]]) -> str:
    """The value of a key, once it is there.

    Args:
      key: that another process sets.
      missing: the processes that are waited for, for the error.
    """
    end = time.monotonic() + self._limit
    while True:
      left = max(1, min(_POLL_MS, int((end - time.monotonic()) * 1000)))
      try:
        return self._client.blocking_key_value_get(key, left)
      except Exception as error:
        if 'DEADLINE_EXCEEDED' not in str(error):
          raise self._lost(error) from error
      told = self.failed()
      if told is not None:
        raise failures.decode(told)
      if time.monotonic() >= end:
        raise failures.PeerError(
          f'waited {self._limit:.0f} s for {self.named(missing())}, which '
          f'lives but does not answer. Look at its log; {LIMIT_NAME} sets how '
          'long a process is waited for.'
        )


def _host_key(index: int) -> str:
  return f'rest_jax/host/{index}'


def size() -> tuple[int, int]:
  """(index of this process, how many there are), before any device is used."""
  state = distributed.global_state
  return (state.process_id, state.num_processes) if state.client else (0, 1)


@functools.cache
def service() -> Service:
  """The service of this process's job, which is watched from now on.

  Raises:
    ConfigurationError: the environment sets a wrong limit.
  """
  client = distributed.global_state.client
  limit = limit_seconds()
  index, count = size()
  result = Service(client, index, count, limit)
  failures.session = result
  # Whoever waits in `Service` can say more: it comes first.
  thread = watchdog.Watchdog(
    result,
    client,
    limit + 60.0,
    silent=watchdog.SILENT_SECONDS,
    poll=watchdog.POLL_SECONDS,
  )
  thread.start()
  atexit.register(thread.stop)
  if distributed.global_state.service is not None:
    server = _Lingering(distributed.global_state.service)
    distributed.global_state.service = server
  return result


class _Lingering:
  """The coordination service, which process 0 keeps a moment longer.

  All processes wait for each other when they end. Process 0 may be told first
  that all have come; were the service to go at once, the others' clients would
  take that for a failure and abort.
  """

  def __init__(self, service: Any):
    self._service = service

  def shutdown(self) -> None:
    time.sleep(LINGER_SECONDS)
    self._service.shutdown()
