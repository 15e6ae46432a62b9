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
import jax.numpy as jnp
import numpy as np
from jax.experimental import multihost_utils
from jax.sharding import Mesh, NamedSharding, PartitionSpec

from rest_jax import configuration, manifests, preemption, storage

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
  told = _broadcast(told)
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
    asked = bool(_any(asked))
  if asked:
    raise preemption.Preempted(
      f'{where}: stopped by SIGTERM, state saved; start it again'
    )


class Vote:
  """Whether SIGTERM has come to any process, known to all one call late.

  The answer is read one call after it was asked, so that a training loop never
  waits for the device to vote.
  """

  def __init__(self):
    self._pending: jax.Array | None = None

  def asked(self) -> bool:
    """The answer to the call before (one process: to this one). Together."""
    if jax.process_count() == 1:
      return preemption.asked()
    before, self._pending = self._pending, _any(preemption.asked())
    return before is not None and bool(before)


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


def _broadcast(value: Any) -> Any:
  data = json.dumps(value).encode()
  size = int(multihost_utils.broadcast_one_to_all(np.int32(len(data))))
  # Padded to a power of two: another shape would compile another program.
  room = np.zeros(1 << max(size - 1, 255).bit_length(), np.uint8)
  if is_writer():
    room[:size] = np.frombuffer(data, np.uint8)
  room = multihost_utils.broadcast_one_to_all(room)
  return json.loads(np.asarray(room, np.uint8)[:size].tobytes())


@functools.cache
def _hosts() -> Mesh:
  devices = sorted(jax.devices(), key=lambda d: (d.process_index, d.id))
  grid = np.array(devices).reshape(jax.process_count(), -1)
  return Mesh(grid, ('process', 'local'))


def _any(flag: bool) -> jax.Array:
  where = NamedSharding(_hosts(), PartitionSpec('process'))
  mine = np.array([flag], np.int32)
  return _maximum()(jax.make_array_from_process_local_data(where, mine))


@functools.cache
def _maximum():
  return jax.jit(
    jnp.max, out_shardings=NamedSharding(_hosts(), PartitionSpec())
  )
