"""Leases of folders on a file system: locks of the kernel.

The kernel drops one with the process, however it dies, so that a restart never
waits.
"""

import json
import os
import time
from typing import TextIO

from rest_jax.artifacts import holders, storage
from rest_jax.artifacts.held_folders import Lease, Owner

# How long to wait for a local holder to go: a killed launcher's stage dies with
# it, but a large process takes a moment, and its restart may come at once.
GRACE_SECONDS = 3.0


class FileLease(Lease):
  """A lock on a file; it goes with the descriptor, and so with the process."""

  def __init__(self, folder: storage.Path, path: storage.Path, owner: Owner):
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
    self._taken()
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
