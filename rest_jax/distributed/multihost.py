"""Several processes of one stage, one per host: all compute, process 0 writes.

A function marked collective must be called by every process, in the same order.
What differs between hosts (files, signals, clocks) is decided by process 0, or
by all, and then told to all.
"""

import contextlib
import dataclasses
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import jax
import numpy as np
import pyarrow as pa
from jax.experimental import multihost_utils

from rest_jax.artifacts import (
  held_folders,
  manifests,
  stage_work,
  storage,
  workers,
)
from rest_jax.distributed import coordination, failures, joining, preemption


def initialize() -> None:
  """Joins the job's other processes, if any. Call it before jax is first used.

  Raises:
    ConfigurationError: the environment is half set, or this is a host of a TPU
      pod on which jax finds no TPU.
    PeerError: the other processes cannot be reached.
  """
  joining.join()
  if coordination.size()[1] > 1:
    coordination.service()  # watched before the devices are waited for


def is_writer() -> bool:
  """Whether this process writes, prints and holds leases."""
  return coordination.size()[0] == 0


def say(text: str) -> None:
  """Prints a line once, not once per process."""
  if is_writer():
    print(text, flush=True)


def from_writer(function: Callable[[], Any]) -> Any:
  """Process 0's result, or its error. Collective: all processes must call it.

  Args:
    function: called in process 0 alone, if it still holds its folders; returns
      something JSON-ready.

  Raises:
    BaseException: what process 0 raises; in the others one of the same class,
      so that all end with the same exit code (failures.py).
    PeerError: process 0 does not answer.
  """
  if coordination.size()[1] == 1:
    held_folders.check_all()
    return function()
  error, told = None, {}
  if is_writer():
    try:
      held_folders.check_all()
      told = {'value': function()}
    except BaseException as raised:
      error, told = raised, {'error': failures.encode(raised, 0)}
  told = coordination.service().tell(told)
  if error is not None:
    raise failures.share(error)
  if 'error' in told:
    raise failures.share(failures.decode(told['error']))
  return told['value']


def fetch(array: jax.Array) -> np.ndarray:
  """The whole of an array that may lie on several hosts. Collective.

  Args:
    array: of any shape.
  """
  if array.is_fully_addressable or array.is_fully_replicated:
    return np.asarray(array)
  return multihost_utils.process_allgather(array, tiled=True)


def check_preemption(where: str) -> None:
  """Raises where the job must stop. Collective: all processes must call it.

  Args:
    where: the stage and what it works on, for the message.

  Raises:
    Preempted: SIGTERM has come to any process.
    LostError: process 0 has lost a folder that it held.
  """
  if coordination.size()[1] == 1:
    held_folders.check_all()
    asked = preemption.asked()
  else:
    asked = _decided(
      coordination.service().votes(coordination.service().vote(_own_state()))
    )
  if asked:
    raise preemption.Preempted(
      f'{where}: stopped by SIGTERM, state saved; start it again'
    )


class Vote:
  """Whether SIGTERM has come to any process, told with a delay of one call.

  Each call gives this process's state and returns the common answer to the call
  before, when every process has long given its own. A training loop therefore
  does not wait for the slowest host, and stops at most one step later.
  """

  def __init__(self):
    self._pending: int | None = None

  def asked(self) -> bool:
    """The answer to the call before; alone, to this one. Collective.

    Raises:
      LostError: process 0 has lost a folder that it held.
    """
    if coordination.size()[1] == 1:
      held_folders.check_all()
      return preemption.asked()
    before = self._pending
    service = coordination.service()
    self._pending = service.vote(_own_state())
    return before is not None and _decided(service.votes(before))


def _own_state() -> dict[str, Any]:
  """What this process knows of why the job should stop, JSON-ready."""
  try:
    held_folders.check_all()
  except held_folders.LeaseError as error:
    lost = failures.encode(error, coordination.size()[0])
    return {'asked': False, 'lost': lost}
  return {'asked': preemption.asked(), 'lost': None}


def _decided(states: Sequence[Mapping[str, Any]]) -> bool:
  """Whether any process was asked to stop; raises where one lost its folder."""
  for state in states:
    if state['lost']:
      raise failures.share(failures.decode(state['lost']))
  return any(state['asked'] for state in states)


@contextlib.contextmanager
def work_on(folder: storage.PathLike, **how: Any) -> Iterator[stage_work.Work]:
  """stage_work.work_on, held by process 0 for all. Collective.

  In the other processes `has`, `write` and `finish` of the Work return what
  process 0 returns, and its `parts` are empty.

  Args:
    folder: the stage's output.
    **how: the other arguments of stage_work.work_on.
  """
  if coordination.size()[1] == 1:
    with stage_work.work_on(folder, **how) as work:
      yield work
    return
  with contextlib.ExitStack() as stack:
    held: list[stage_work.Work] = []

    def enter() -> dict[str, Any]:
      held.append(stack.enter_context(stage_work.work_on(folder, **how)))
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
      worker=how.get('worker', workers.ALONE),
      held=held[0] if held else None,
    )


@dataclasses.dataclass
class _Work(stage_work.Work):
  """A Work whose every method is collective; `held` is process 0's own."""

  held: stage_work.Work | None = None

  def has(self, name: str, *, source: str) -> bool:
    return from_writer(lambda: self.held.has(name, source=source))

  def write(self, name: str, rows: Sequence, *, source: str) -> None:
    from_writer(lambda: self.held.write(name, rows, source=source))

  def write_table(self, name: str, table: pa.Table, *, source: str) -> None:
    from_writer(lambda: self.held.write_table(name, table, source=source))

  def keep_unfinished(self, rows: Sequence) -> None:
    from_writer(lambda: self.held.keep_unfinished(rows))

  def claim(self, name: str, *, source: str) -> bool:
    return from_writer(lambda: self.held.claim(name, source=source))

  def rival(self, name: str) -> str:
    return from_writer(lambda: self.held.rival(name))

  def is_done(self) -> bool:
    def done() -> dict | None:
      return _to_json(self.held.done) if self.held.is_done() else None

    if self.done is None:
      self.done = _from_json(
        self.folder,
        from_writer(done),
      )
    return self.done is not None

  def describe_unfinished(self) -> list[dict]:
    # Every process reads the file itself, the one that process 0 means.
    return from_writer(lambda: self.held.describe_unfinished())

  def parts(self) -> list[dict]:
    return self.held.parts() if self.held else []

  def finish(self, **fields: Any) -> manifests.Manifest:
    made = from_writer(lambda: _to_json(self.held.finish(**fields)))
    self.done = _from_json(self.folder, made)
    return self.done


def _to_json(manifest: manifests.Manifest | None) -> dict | None:
  if manifest is None:
    return None
  names = [field.name for field in dataclasses.fields(manifest)]
  return {n: getattr(manifest, n) for n in names if n != 'folder'}


def _from_json(
  folder: storage.Path, value: dict | None
) -> manifests.Manifest | None:
  return value and manifests.Manifest(folder=folder, **value)
