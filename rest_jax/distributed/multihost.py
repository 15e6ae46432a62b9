"""Several processes of one stage, one per host: all compute, process 0 writes.

A process joins the others where the environment says that there are some:

    JAX_COORDINATOR_ADDRESS, JAX_NUM_PROCESSES, JAX_PROCESS_ID    anywhere
    REST_JAX_DISTRIBUTED=1       a TPU slice of several hosts, found by jax

Every function here that says "together" is a collective: all processes call it,
in the same order. What differs between hosts (files, signals, clocks) is
decided by process 0, or by all, and then known to all.
"""

import contextlib
import dataclasses
import functools
import json
import os
from collections.abc import Callable, Iterator
from typing import Any

import jax
import numpy as np
from jax._src import distributed  # its client has no public name yet
from jax.experimental import multihost_utils

from rest_jax.artifacts import manifests, storage
from rest_jax.config import configuration
from rest_jax.distributed import preemption

_GENERATION = 1000  # calls after which values of an older one are deleted
_FOR_EVER_MS = 7 * 24 * 3600 * 1000
_NAMES = ('JAX_COORDINATOR_ADDRESS', 'JAX_NUM_PROCESSES', 'JAX_PROCESS_ID')


def initialize() -> None:
  """Joins the job's other processes, if any. Before jax is first used.

  Raises:
    ConfigurationError: the environment is half set.
  """
  if jax.distributed.is_initialized():
    return
  if os.environ.get('REST_JAX_DISTRIBUTED') == '1':
    jax.distributed.initialize()
    return
  found = [os.environ.get(name) for name in _NAMES]
  if not any(found):
    return
  try:
    count, index = int(found[1]), int(found[2])
    if not found[0]:
      raise ValueError
  except (TypeError, ValueError):
    shown = ', '.join(f'{n}={v!r}' for n, v in zip(_NAMES, found, strict=True))
    raise configuration.ConfigurationError(
      f'several processes: got {shown}; set all three, the last two to '
      'numbers, or none.'
    ) from None
  if count > 1:
    # The CPU's collectives (gloo) wait for each other: two in flight, begun in
    # another order elsewhere, would wait for ever. A TPU runs them in order.
    jax.config.update('jax_cpu_enable_async_dispatch', False)
    jax.distributed.initialize(found[0], count, index)


def is_writer() -> bool:
  """Whether this process writes, prints and holds leases."""
  return jax.process_index() == 0


def say(text: str) -> None:
  """Prints a line once, not once per process."""
  if is_writer():
    print(text, flush=True)


def from_writer(function: Callable[[], Any]) -> Any:
  """Process 0's result, or its error. Together.

  Args:
    function: called in process 0 alone; returns something JSON-ready.

  Raises:
    ConfigurationError: in the others, whatever error process 0 raises.
  """
  if jax.process_count() == 1:
    return function()
  error, told = None, {}
  if is_writer():
    try:
      told = {'value': function()}
    except Exception as raised:
      error, told = raised, {'error': f'process 0: {raised}'}
  told = _service().tell(told)
  if error is not None:
    raise error
  if 'error' in told:
    raise configuration.ConfigurationError(told['error'])
  return told['value']


def fetch(array: jax.Array) -> np.ndarray:
  """The whole of an array that may lie on several hosts. Together."""
  if array.is_fully_addressable or array.is_fully_replicated:
    return np.asarray(array)
  return multihost_utils.process_allgather(array, tiled=True)


def check_preemption(where: str) -> None:
  """Raises Preempted in all if SIGTERM has come to any. Together."""
  asked = preemption.asked()
  if jax.process_count() > 1:
    asked = _service().any(_service().vote(asked))
  if asked:
    raise preemption.Preempted(
      f'{where}: stopped by SIGTERM, state saved; start it again'
    )


class Vote:
  """Whether SIGTERM has come to any process, known to all one call late.

  The answer is read one call after it was asked, when every process has long
  given its own, so that a training loop does not wait for the slowest host.
  """

  def __init__(self):
    self._pending: int | None = None

  def asked(self) -> bool:
    """The answer to the call before (one process: to this one). Together."""
    if jax.process_count() == 1:
      return preemption.asked()
    before = self._pending
    self._pending = _service().vote(preemption.asked())
    return before is not None and _service().any(before)


@contextlib.contextmanager
def work_on(folder: storage.PathLike, **how: Any) -> Iterator[manifests.Work]:
  """manifests.work_on, held by process 0 for all. Together.

  In the other processes `has`, `write` and `finish` of the Work do as process 0
  tells, and its `parts` are empty.
  """
  if jax.process_count() == 1:
    with manifests.work_on(folder, **how) as work:
      yield work
    return
  with contextlib.ExitStack() as stack:
    held: list[manifests.Work] = []

    def enter():
      held.append(stack.enter_context(manifests.work_on(folder, **how)))
      return {
        'fingerprint': held[0].fingerprint,
        'done': _to_json(held[0].done),
        'previous': _to_json(held[0].previous),
      }

    told = from_writer(enter)
    folder = storage.path(folder)
    yield _Work(
      folder,
      how['stage'],
      how['kind'],
      told['fingerprint'],
      done=_from_json(folder, told['done']),
      previous=_from_json(folder, told['previous']),
      held=held[0] if held else None,
    )


@dataclasses.dataclass
class _Work(manifests.Work):
  """A Work whose every method is together; `held` is process 0's own."""

  held: manifests.Work | None = None

  def has(self, name, *, source):
    return from_writer(lambda: self.held.has(name, source=source))

  def write(self, name, rows, *, source):
    from_writer(lambda: self.held.write(name, rows, source=source))

  def write_table(self, name, table, *, source):
    from_writer(lambda: self.held.write_table(name, table, source=source))

  def parts(self):
    return self.held.parts() if self.held else []

  def finish(self, **fields):
    made = from_writer(lambda: _to_json(self.held.finish(**fields)))
    self.done = _from_json(self.folder, made)
    return self.done


def _to_json(manifest: manifests.Manifest | None) -> dict | None:
  if manifest is None:
    return None
  names = [field.name for field in dataclasses.fields(manifest)]
  return {n: getattr(manifest, n) for n in names if n != 'folder'}


def _from_json(folder, value: dict | None) -> manifests.Manifest | None:
  return value and manifests.Manifest(folder=folder, **value)


class _Service:
  """Small JSON values, passed by the job's coordination service.

  It needs no device: what hosts tell each other waits for no computation and
  cannot overtake one. Values are numbered by the calls, which are the same
  everywhere, and are taken away again a generation later.
  """

  def __init__(self, client: Any, index: int, count: int):
    """Args:
    client: of the coordination service.
    index: of this process.
    count: of processes.
    """
    self._client, self._index, self._count = client, index, count
    self._calls = 0

  def tell(self, value: Any) -> Any:
    """Process 0's value. Together."""
    key = self._next()
    if self._index == 0:
      self._client.key_value_set(key, json.dumps(value))
      return value
    return json.loads(self._wait_for(key))

  def vote(self, value: bool) -> int:
    """Gives this process's vote; returns the number of the ballot. Together."""
    key = self._next()
    self._client.key_value_set(f'{key}/{self._index}', json.dumps(value))
    return self._calls

  def any(self, ballot: int) -> bool:
    """Whether any process voted yes. Together."""
    key = self._key(ballot)
    if self._index == 0:
      votes = [self._wait_for(f'{key}/{i}') for i in range(self._count)]
      result = any(json.loads(vote) for vote in votes)
      self._client.key_value_set(f'{key}/any', json.dumps(result))
      return result
    return json.loads(self._wait_for(f'{key}/any'))

  def _next(self) -> str:
    self._calls += 1
    if self._calls % _GENERATION == 0:
      # Nobody is more than one call behind after this; older keys are read.
      generation = self._calls // _GENERATION
      name = f'rest_jax/generation/{generation}'
      self._client.wait_at_barrier(name, _FOR_EVER_MS)
      if self._index == 0 and generation > 1:
        self._client.key_value_delete(f'rest_jax/{generation - 2}/')
    return self._key(self._calls)

  def _key(self, number: int) -> str:
    return f'rest_jax/{number // _GENERATION}/{number}'

  def _wait_for(self, key: str) -> str:
    # A process that died is noticed by the service, which ends the others.
    return self._client.blocking_key_value_get(key, _FOR_EVER_MS)


@functools.cache
def _service() -> _Service:
  client = distributed.global_state.client
  return _Service(client, jax.process_index(), jax.process_count())
