"""One writer: a folder of a run is held by one process at a time.

On a local file system the lease is an flock. The kernel drops it with the
process, however it dies, so that a restart never waits.

On gs:// the lease is an object, renewed every HEARTBEAT_SECONDS. Every write of
it states the generation that it replaces, so that of two processes only one
can take it, and a holder that was replaced learns of it at its next renewal.
Another process takes the lease over

* at once, if the holder was a process of this machine that has ended, or an
  earlier attempt of the same job of the same launch (REST_JAX_RUN_TOKEN);
* else once the object has not changed for STALE_SECONDS, by its own clock.

A holder that could not renew for RENEW_SECONDS must expect that. `check` and
`check_all` then raise LostError; call them before each write.
"""

import contextlib
import json
import os
import socket
import sys
import threading
import time
import uuid
from collections.abc import Iterator
from typing import Any

from rest_jax.artifacts import generations, processes, storage

# How long to wait for a local holder to go: a killed launcher's stage dies with
# it, but a large process takes a moment, and its restart may come at once.
GRACE_SECONDS = 3.0
HEARTBEAT_SECONDS = 20.0
# A holder stops writing well before another process may take its lease over.
RENEW_SECONDS = 60.0
STALE_SECONDS = 90.0
POLL_SECONDS = 2.0

JOB, RUN_TOKEN = 'REST_JAX_JOB', 'REST_JAX_RUN_TOKEN'  # set by the executors


class LeaseError(RuntimeError):
  """The folder cannot be written now; the same command may succeed later."""


class HeldError(LeaseError):
  """Another living process holds the folder."""


class LostError(LeaseError):
  """This process held the folder and does so no longer."""


class Lease:
  """A folder that this process holds; see `hold`."""

  def __init__(self, folder: storage.Path):
    self.folder = folder

  def check(self) -> None:
    """Raises LostError if another process may have taken the folder over."""


_held: list[Lease] = []


def check_all() -> None:
  """Raises LostError if any folder that this process holds was lost."""
  for lease in list(_held):
    lease.check()


@contextlib.contextmanager
def hold(folder: storage.PathLike, *, purpose: str) -> Iterator[Lease]:
  """Holds `folder` for this process while the block runs.

  Args:
    folder: what is to be written by one process alone; the lease lies beside
      it, so that the folder itself can be renamed.
    purpose: shown to whoever else wants the folder, such as 'sample'.

  Yields:
    The lease, to be checked before each write.

  Raises:
    HeldError: naming the holder (host, process, since when, for what).
    OSError: the lease cannot be written.
  """
  folder = storage.path(folder)
  try:
    folder.parent.mkdir(parents=True, exist_ok=True)
  except OSError as error:
    raise storage.with_advice(error) from error
  path = folder.parent / f'.{folder.name}.lease'
  owner = _owner(purpose)
  if storage.is_remote(folder):
    holder = _hold_remote(folder, path, owner)
  else:
    holder = _hold_local(folder, path, owner)
  with holder as lease:
    _held.append(lease)
    try:
      yield lease
    finally:
      _held.remove(lease)


def _owner(purpose: str) -> dict[str, Any]:
  return {
    'host': socket.gethostname(),
    'pid': os.getpid(),
    'purpose': purpose,
    'since': time.strftime('%Y-%m-%d %H:%M:%S'),
    'machine': processes.machine(),
    'started': processes.start_time(os.getpid()),
    'job': os.environ.get(JOB, ''),
    'run': os.environ.get(RUN_TOKEN, ''),
  }


# ---- local files ------------------------------------------------------------


@contextlib.contextmanager
def _hold_local(
  folder: storage.Path, path: storage.Path, owner: dict[str, Any]
) -> Iterator[Lease]:
  import fcntl

  try:
    file = open(os.fspath(path), 'a+')
  except OSError as error:
    raise storage.with_advice(error) from error
  with file:
    give_up = time.monotonic() + GRACE_SECONDS
    while True:
      try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        break
      except BlockingIOError:
        if time.monotonic() >= give_up:
          file.seek(0)
          raise _held_error(folder, _parsed(file.read())) from None
        time.sleep(0.05)
    file.seek(0)
    file.truncate()
    file.write(json.dumps(owner))
    file.flush()
    yield Lease(folder)  # the lock goes with the descriptor


# ---- objects of a store -----------------------------------------------------


@contextlib.contextmanager
def _hold_remote(
  folder: storage.Path, path: storage.Path, owner: dict[str, Any]
) -> Iterator[Lease]:
  lease = _RemoteLease(folder, generations.StoreObject(path), owner)
  lease.take()
  stop = threading.Event()

  def beat() -> None:
    while not stop.wait(HEARTBEAT_SECONDS):
      lease.renew()

  thread = threading.Thread(target=beat, daemon=True)
  thread.start()
  try:
    yield lease
  finally:
    stop.set()
    thread.join()
    lease.give_up()


class _RemoteLease(Lease):
  """A lease in an object; `renew` may be called from any thread."""

  def __init__(
    self,
    folder: storage.Path,
    record: generations.StoreObject,
    owner: dict[str, Any],
  ):
    super().__init__(folder)
    self._record, self._owner = record, owner
    self._lock = threading.Lock()
    self._generation = 0
    self._renewed = 0.0  # time.monotonic() before the last good renewal
    self._lost: str | None = None
    self._error = 'no renewal was tried'

  def take(self) -> None:
    """Waits until it is known whether the lease can be had, and takes it."""
    seen, since = None, 0.0
    while True:
      found = self._record.read()
      if found is None:
        if self._write(replaces=0):
          return
        continue
      holder = _parsed(found.data.decode(errors='replace'))
      if seen is None:
        seen, since = found.generation, time.monotonic()
        if not _may_replace(holder, self._owner):
          if _is_of_this_machine(holder):
            raise _held_error(self.folder, holder)
          print(
            f'{self.folder}: {_described(holder)} held it last; waiting up to '
            f'{STALE_SECONDS:.0f} s to see whether it is still there',
            file=sys.stderr,
            flush=True,
          )
      elif found.generation != seen:  # renewed: it lives
        raise _held_error(self.folder, holder)
      stale = time.monotonic() - since >= STALE_SECONDS
      if stale or _may_replace(holder, self._owner):
        if self._write(replaces=found.generation):
          return
        seen = -1  # taken by a rival: whoever holds it now lives
        continue
      time.sleep(POLL_SECONDS)

  def renew(self) -> None:
    """Renews the lease, unless another process has taken it."""
    with self._lock:
      if self._lost is not None:
        return
      try:
        if self._write(replaces=self._generation):
          return
        found = self._record.read()
        holder = _parsed(found.data.decode(errors='replace')) if found else {}
        self._lost = (
          f'{_described(holder)} has taken it over'
          if found
          else 'its lease was deleted'
        )
      except Exception as error:  # a thread of its own: `check` says it
        self._error = str(error)

  def check(self) -> None:
    if time.monotonic() - self._renewed > RENEW_SECONDS:
      self.renew()  # the thread may have been stopped with the whole process
    reason = self._lost
    age = time.monotonic() - self._renewed
    if reason is None and age > RENEW_SECONDS:
      reason = f'its lease could not be renewed for {age:.0f} s ({self._error})'
    if reason is not None:
      raise LostError(
        f'{self.folder}: no longer held by this process: {reason}. It stops '
        'before it writes more; what is finished is kept. Start the same '
        'command again once no other process works there.'
      )

  def give_up(self) -> None:
    """Deletes the lease if it is still ours; else it becomes stale."""
    with self._lock, contextlib.suppress(OSError, generations.ChangedError):
      self._record.delete(generation=self._generation)

  def _write(self, *, replaces: int) -> bool:
    """Writes the lease; returns whether `replaces` was still its generation."""
    before = time.monotonic()
    record = self._owner | {'written': uuid.uuid4().hex}
    try:
      self._generation = self._record.write(
        json.dumps(record).encode(), replaces=replaces
      )
    except generations.ChangedError:
      return False
    self._renewed = before
    return True


# ---- who holds it -----------------------------------------------------------


def _may_replace(holder: dict[str, Any], owner: dict[str, Any]) -> bool:
  """Whether the holder is known to be gone, or is this job's last attempt."""
  if _is_of_this_machine(holder):
    return processes.start_time(holder.get('pid')) != holder.get('started')
  same = all(
    owner[name] and owner[name] == holder.get(name) for name in ('run', 'job')
  )
  return same and owner['purpose'] == holder.get('purpose')


def _is_of_this_machine(holder: dict[str, Any]) -> bool:
  machine = processes.machine()
  return machine is not None and holder.get('machine') == machine


def _parsed(text: str) -> dict[str, Any]:
  try:
    value = json.loads(text)
  except json.JSONDecodeError:
    value = None
  return value if isinstance(value, dict) else {}


def _described(holder: dict[str, Any]) -> str:
  return (
    f'process {holder.get("pid", "?")} on host {holder.get("host", "?")} '
    f'({holder.get("purpose", "?")}, since {holder.get("since", "?")})'
  )


def _held_error(folder: storage.Path, holder: dict[str, Any]) -> HeldError:
  return HeldError(
    f'{folder}: held by {_described(holder)}. Wait for it, stop it, or use '
    'another RUN_DIR.'
  )
