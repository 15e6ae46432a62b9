"""Leases of folders on gs://: objects that their holders renew.

Every write of one states the generation that it replaces, so that of two
processes only one can take it, and a holder that was replaced learns of it at
its next renewal. Another process takes the lease over

* at once, if the holder was a process of this machine that has ended, or an
  earlier attempt of the same job of the same launch (REST_JAX_RUN_TOKEN);
* else once the object has not changed for STALE_SECONDS, by its own clock. The
  time in which the store is away does not count: nobody can renew then.

A holder that could not renew for RENEW_SECONDS must expect that. It writes no
more until it has: the renewal fails where another process has taken over.
"""

import contextlib
import json
import sys
import threading
import time
import uuid

from rest_jax.artifacts import (
  generations,
  held_folders,
  holders,
  storage,
  store_patience,
)
from rest_jax.artifacts.held_folders import Lease, LostError, Owner

HEARTBEAT_SECONDS = 20.0
# A holder stops writing well before another process may take its lease over.
RENEW_SECONDS = 60.0
STALE_SECONDS = 90.0


class StoreLease(Lease):
  """A lease in an object; `renew` may be called from any thread."""

  def __init__(self, folder: storage.Path, path: storage.Path, owner: Owner):
    super().__init__(folder)
    self._record, self._owner = generations.StoreObject(path), owner
    self._lock = threading.Lock()
    self._generation = 0
    self._renewed = 0.0  # time.monotonic() before the last good renewal
    self._lost: str | None = None
    self._error: Exception | None = None  # of the last renewal
    # A rival's record: its generation, and since when it has stood.
    self._seen, self._since = 0, 0.0
    self._stop = threading.Event()
    self._beating: threading.Thread | None = None

  def attempt(self) -> bool:
    found = self._read()
    self.holder = None
    if found is None:
      return self._write(replaces=0, patiently=True) and self._start()
    self.holder = holders.parsed(found.data.decode(errors='replace'))
    if found.generation != self._seen:
      self._seen, self._since = found.generation, time.monotonic()
    since = max(self._since, store_patience.failed_at())
    stale = time.monotonic() - since >= STALE_SECONDS
    if not stale and not holders.may_replace(self.holder, self._owner):
      return False
    replaces = found.generation
    return self._write(replaces=replaces, patiently=True) and self._start()

  def living(self) -> str | None:
    found = self._read()
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
      time.sleep(held_folders.POLL_SECONDS)

  def _start(self) -> bool:
    def beat() -> None:
      while not self._stop.wait(HEARTBEAT_SECONDS):
        self.renew()

    self._beating = threading.Thread(target=beat, daemon=True)
    self._beating.start()
    self._taken()
    return True

  def renew(self) -> None:
    """Renews the lease, unless another process has taken it."""
    with self._lock:
      if self._lost is not None:
        return
      try:
        if self._write(replaces=self._generation):
          self._error = None
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
        self._error = error
        if store_patience.is_away(error):
          store_patience.note()

  def check(self) -> None:
    store_patience.patiently(self.folder, self._require_renewed)
    if self._lost is not None:
      raise LostError(
        f'{self.folder}: no longer held by this process: {self._lost}. It '
        'stops before it writes more; what is finished is kept. Start the same '
        'command again once no other process works there.'
      ) from self._error

  def _require_renewed(self) -> None:
    """Renews the lease where that is late; raises while the store is away."""
    if time.monotonic() - self._renewed > RENEW_SECONDS:
      self.renew()  # the thread may have been stopped with the whole process
    age = time.monotonic() - self._renewed
    if self._lost is not None or age <= RENEW_SECONDS:
      return
    if store_patience.is_away(self._error):
      raise self._error
    self._lost = f'its lease could not be renewed for {age:.0f} s'
    self._lost += f' ({self._error})'

  def give_up(self) -> None:
    super().give_up()
    self._stop.set()
    if time.monotonic() - self._renewed > 2 * HEARTBEAT_SECONDS:
      return  # the store is away, and would hold this process up; it gets stale
    self._beating.join()
    # Deletes the record if it is still ours; else it becomes stale.
    with self._lock, contextlib.suppress(OSError, generations.ChangedError):
      self._record.delete(generation=self._generation)

  def _read(self) -> generations.Version | None:
    return store_patience.patiently(self._record.path, self._record.read)

  def _write(self, *, replaces: int, patiently: bool = False) -> bool:
    """Writes the lease; returns whether `replaces` was still its generation."""
    before = time.monotonic()
    # `at` is for a person's look; machines go by whether the record changes.
    record = self._owner | {'written': uuid.uuid4().hex, 'at': time.time()}
    data = json.dumps(record).encode()

    def write() -> int:
      return self._record.write(data, replaces=replaces)

    try:
      if patiently:
        made = store_patience.patiently(self._record.path, write)
      else:
        made = write()
    except generations.ChangedError:
      return False
    self._generation, self._renewed = made, before
    return True
