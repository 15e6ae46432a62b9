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

import abc
import contextlib
import json
import os
import sys
import threading
import time
import uuid
from collections.abc import Iterator
from typing import Any, TextIO

from rest_jax.artifacts import generations, holders, storage

# How long to wait for a local holder to go: a killed launcher's stage dies with
# it, but a large process takes a moment, and its restart may come at once.
GRACE_SECONDS = 3.0
HEARTBEAT_SECONDS = 20.0
# A holder stops writing well before another process may take its lease over.
RENEW_SECONDS = 60.0
STALE_SECONDS = 90.0
POLL_SECONDS = 2.0
SUFFIX = '.lease'

_Record = dict[str, Any]  # holders.record


class LeaseError(RuntimeError):
  """The folder cannot be written now; the same command may succeed later."""


class HeldError(LeaseError):
  """Another living process holds the folder."""


class LostError(LeaseError):
  """This process held the folder and does so no longer."""


class Lease(abc.ABC):
  """A folder, or a part of one, that one process holds at a time; see `hold`.

  Attributes:
    folder: what is held.
    holder: the record of the process by which the last `attempt` failed.
  """

  def __init__(self, folder: storage.Path):
    self.folder = folder
    self.holder: _Record | None = None

  @abc.abstractmethod
  def attempt(self) -> bool:
    """Takes the lease if no living process is known to hold it."""

  @abc.abstractmethod
  def take(self) -> None:
    """Waits until it is known whether the lease can be had, and takes it.

    Raises:
      HeldError: a living process holds it.
    """

  @abc.abstractmethod
  def check(self) -> None:
    """Raises LostError if another process may have taken it over."""

  @abc.abstractmethod
  def living(self) -> str | None:
    """Who holds it, in words; changes nothing."""

  def give_up(self) -> None:
    """Holds it no longer."""
    _held.remove(self)

  def _refused(self) -> HeldError:
    return HeldError(
      f'{self.folder}: held by {holders.described(self.holder or {})}. Wait '
      'for it, stop it, or use another RUN_DIR.'
    )


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
  try:
    storage.path(folder).parent.mkdir(parents=True, exist_ok=True)
  except OSError as error:
    raise storage.with_advice(error) from error
  lease = of(folder, purpose)
  lease.take()
  try:
    yield lease
  finally:
    lease.give_up()


def of(folder: storage.PathLike, purpose: str) -> Lease:
  """The lease of a folder, not taken yet.

  Args:
    folder: as of `hold`, in a folder that exists.
    purpose: as of `hold`.
  """
  folder = storage.path(folder)
  path = folder.parent / f'.{folder.name}{SUFFIX}'
  kind = _RemoteLease if storage.is_remote(folder) else _LocalLease
  return kind(folder, path, holders.record(purpose))


def holder_of(folder: storage.PathLike) -> str | None:
  """Who holds a folder, in words; None: no living process is known to.

  Args:
    folder: as of `hold`. On gs:// a holder that died shortly before counts as
      alive for STALE_SECONDS, unless it was one of this machine.
  """
  if not storage.path(folder).parent.exists():
    return None
  return of(folder, 'a look').living()


# ---- local files ------------------------------------------------------------


class _LocalLease(Lease):
  """A lock on a file; it goes with the descriptor, and so with the process."""

  def __init__(self, folder: storage.Path, path: storage.Path, owner: _Record):
    super().__init__(folder)
    self._path, self._owner = path, owner
    self._file: TextIO | None = None

  def attempt(self) -> bool:
    import fcntl

    try:
      file = open(os.fspath(self._path), 'a+')
    except OSError as error:
      raise storage.with_advice(error) from error
    try:
      fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
      with file:
        file.seek(0)
        self.holder = holders.parsed(file.read())
      return False
    file.seek(0)
    file.truncate()
    file.write(json.dumps(self._owner))
    file.flush()
    self._file = file
    _held.append(self)
    return True

  def living(self) -> str | None:
    import fcntl

    if not self._path.exists():
      return None
    with open(os.fspath(self._path)) as file:
      try:
        fcntl.flock(file, fcntl.LOCK_SH | fcntl.LOCK_NB)
      except BlockingIOError:
        return holders.described(holders.parsed(file.read()))
    return None

  def take(self) -> None:
    give_up = time.monotonic() + GRACE_SECONDS
    while not self.attempt():
      if time.monotonic() >= give_up:
        raise self._refused()
      time.sleep(0.05)

  def check(self) -> None:
    pass  # the kernel keeps it while this process lives

  def give_up(self) -> None:
    super().give_up()
    self._file.close()


# ---- objects of a store -----------------------------------------------------


class _RemoteLease(Lease):
  """A lease in an object; `renew` may be called from any thread."""

  def __init__(self, folder: storage.Path, path: storage.Path, owner: _Record):
    super().__init__(folder)
    self._record, self._owner = generations.StoreObject(path), owner
    self._lock = threading.Lock()
    self._generation = 0
    self._renewed = 0.0  # time.monotonic() before the last good renewal
    self._lost: str | None = None
    self._error = 'no renewal was tried'
    # A rival's record: its generation, and since when it has stood.
    self._seen, self._since = 0, 0.0
    self._stop = threading.Event()
    self._beating: threading.Thread | None = None

  def attempt(self) -> bool:
    found = self._record.read()
    self.holder = None
    if found is None:
      return self._write(replaces=0) and self._start()
    self.holder = holders.parsed(found.data.decode(errors='replace'))
    if found.generation != self._seen:
      self._seen, self._since = found.generation, time.monotonic()
    stale = time.monotonic() - self._since >= STALE_SECONDS
    if not stale and not holders.may_replace(self.holder, self._owner):
      return False
    return self._write(replaces=found.generation) and self._start()

  def living(self) -> str | None:
    found = self._record.read()
    if found is None:
      return None
    holder = holders.parsed(found.data.decode(errors='replace'))
    age = time.time() - holder.get('at', time.time())
    if age > STALE_SECONDS or holders.may_replace(holder, self._owner):
      return None
    return holders.described(holder)

  def take(self) -> None:
    first = None
    while not self.attempt():
      if self.holder is None:  # a rival was faster, or it is gone again
        continue
      if first is None:
        first = self._seen
        if holders.may_replace(self.holder, self._owner):
          continue  # a rival was faster
        if holders.is_of_this_machine(self.holder):
          raise self._refused()
        print(
          f'{self.folder}: {holders.described(self.holder)} held it last; '
          f'waiting up to {STALE_SECONDS:.0f} s to see whether it is still '
          'there',
          file=sys.stderr,
          flush=True,
        )
      elif self._seen != first:  # renewed, or taken by a rival: it lives
        raise self._refused()
      time.sleep(POLL_SECONDS)

  def _start(self) -> bool:
    def beat() -> None:
      while not self._stop.wait(HEARTBEAT_SECONDS):
        self.renew()

    self._beating = threading.Thread(target=beat, daemon=True)
    self._beating.start()
    _held.append(self)
    return True

  def renew(self) -> None:
    """Renews the lease, unless another process has taken it."""
    with self._lock:
      if self._lost is not None:
        return
      try:
        if self._write(replaces=self._generation):
          return
        found = self._record.read()
        data = found.data.decode(errors='replace') if found else ''
        holder = holders.parsed(data)
        self._lost = (
          f'{holders.described(holder)} has taken it over'
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
    super().give_up()
    self._stop.set()
    self._beating.join()
    # Deletes the record if it is still ours; else it becomes stale.
    with self._lock, contextlib.suppress(OSError, generations.ChangedError):
      self._record.delete(generation=self._generation)

  def _write(self, *, replaces: int) -> bool:
    """Writes the lease; returns whether `replaces` was still its generation."""
    before = time.monotonic()
    # `at` is for a person's look; machines go by whether the record changes.
    record = self._owner | {'written': uuid.uuid4().hex, 'at': time.time()}
    try:
      self._generation = self._record.write(
        json.dumps(record).encode(), replaces=replaces
      )
    except generations.ChangedError:
      return False
    self._renewed = before
    return True
