"""One writer: a folder of a run is held by one process at a time.

On a local file system the lease is an flock, which the kernel drops with the
process, however it dies: a restart never waits. On an object store it is a
file with an owner and a heartbeat, stale after STALE_SECONDS.
"""

import contextlib
import json
import os
import socket
import threading
import time
from collections.abc import Iterator

from rest_jax.artifacts import storage
from rest_jax.config import configuration

# How long to wait for a local holder to go: a killed launcher's stage dies with
# it, but a large process takes a moment, and its restart may come at once.
GRACE_SECONDS = 3.0
HEARTBEAT_SECONDS = 20.0
STALE_SECONDS = 90.0


class HeldError(configuration.ConfigurationError):
  """Another living process holds the folder."""


@contextlib.contextmanager
def hold(folder: storage.PathLike, *, purpose: str) -> Iterator[None]:
  """Holds `folder` for this process while the block runs.

  Args:
    folder: what is to be written by one process alone; the lease lies beside
      it, so that the folder itself can be renamed.
    purpose: shown to whoever else wants the folder, such as 'sample'.

  Raises:
    HeldError: naming the holder (host, process, since when, for what).
  """
  folder = storage.path(folder)
  try:
    folder.parent.mkdir(parents=True, exist_ok=True)
  except OSError as error:
    raise storage.with_advice(error) from error
  owner = {
    'host': socket.gethostname(),
    'pid': os.getpid(),
    'purpose': purpose,
    'since': time.strftime('%Y-%m-%d %H:%M:%S'),
  }
  lease = folder.parent / f'.{folder.name}.lease'
  holder = _hold_remote if storage.is_remote(folder) else _hold_local
  with holder(lease, owner):
    yield


@contextlib.contextmanager
def _hold_local(lease: storage.Path, owner: dict) -> Iterator[None]:
  import fcntl

  try:
    file = open(os.fspath(lease), 'a+')
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
          raise _held(lease, file.read()) from None
        time.sleep(0.05)
    file.seek(0)
    file.truncate()
    file.write(json.dumps(owner))
    file.flush()
    yield  # the lock goes with the descriptor


@contextlib.contextmanager
def _hold_remote(lease: storage.Path, owner: dict) -> Iterator[None]:
  if lease.exists():
    text = lease.read_text()
    if time.time() - json.loads(text).get('heartbeat', 0) < STALE_SECONDS:
      raise _held(lease, text)
  stop = threading.Event()

  def beat():
    while True:
      lease.write_text(json.dumps(owner | {'heartbeat': time.time()}))
      if stop.wait(HEARTBEAT_SECONDS):
        return

  # A store has no lock: write, wait for a rival's write, look who won.
  lease.write_text(json.dumps(owner | {'heartbeat': time.time()}))
  time.sleep(float(os.environ.get('REST_JAX_LEASE_SETTLE_SECONDS', '1')))
  text = lease.read_text()
  seen = json.loads(text)
  if (seen['host'], seen['pid']) != (owner['host'], owner['pid']):
    raise _held(lease, text)
  thread = threading.Thread(target=beat, daemon=True)
  thread.start()
  try:
    yield
  finally:
    stop.set()
    thread.join()
    lease.unlink(missing_ok=True)


def _held(lease: storage.Path, text: str) -> HeldError:
  try:
    owner = json.loads(text)
  except json.JSONDecodeError:
    owner = {}
  folder = lease.parent / lease.name[1:].removesuffix('.lease')
  return HeldError(
    f'{folder}: held by process {owner.get("pid", "?")} on host '
    f'{owner.get("host", "?")} ({owner.get("purpose", "?")}, since '
    f'{owner.get("since", "?")}). Wait for it, stop it, or use another RUN_DIR.'
  )
