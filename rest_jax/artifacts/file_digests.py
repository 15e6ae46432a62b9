"""Digests of users' files, taken once for as long as a file stays as it is.

A run depends on files that it did not write: problems, a model, a grader. A
digest of a model of 16 GB takes a minute, and every job of a run needs it. So a
digest is kept with the size and the times of its files, in RUN_DIR/ledger, and
is taken again only when one of these has changed.
"""

import hashlib
import os
import time
from collections.abc import Callable, Sequence
from typing import Any

from rest_jax.artifacts import storage

CACHE = 'REST_JAX_FILE_DIGESTS'  # the cache's path, set by the executors
# An edit so soon before the digest may share its time with a later one.
_SETTLED_SECONDS = 2.0
_LARGE = 1 << 30  # bytes; below it, reading a file takes about a second


class Cache:
  """Digests by the files that they are of.

  Attributes:
    path: of the file that keeps them; '' without one.
  """

  def __init__(self, path: storage.PathLike | None = None):
    """Reads nothing yet.

    Args:
      path: a JSON file, made when a digest is first kept; None: every digest
        is taken anew.
    """
    self.path = os.fspath(path or '')
    self._path = storage.path(path) if path else None
    self._known: dict[str, Any] = {}

  def of(
    self, files: Sequence[storage.PathLike], compute: Callable[[], str]
  ) -> str:
    """The digest of some files.

    Args:
      files: all that the digest depends on. Two digests of the same files are
        the same.
      compute: takes the digest.

    Raises:
      FileNotFoundError: one of the files is not there.
    """
    if self._path is None:
      return compute()
    began = time.time_ns()
    name = ' '.join(str(file) for file in files)
    state = [_state(file) for file in files]
    # What this process has read, then what another has kept since.
    for known in (self._known, self._read()):
      entry = known.get(name)
      if isinstance(entry, dict) and entry.get('files') == state:
        self._known[name] = entry
        return entry['digest']
    size = sum(row['bytes'] for row in state)
    if size >= _LARGE:
      print(
        f'taking the digest of {name} ({size / 1e9:.1f} GB), once for this run',
        flush=True,
      )
    digest = compute()
    newest = max((row['modified_ns'] for row in state), default=0)
    settled = newest < began - _SETTLED_SECONDS * 1e9
    if settled and state == [_state(file) for file in files]:
      self._known[name] = {'files': state, 'digest': digest}
      storage.write_json(self._path, self._read() | self._known)
    return digest

  def content(self, file: storage.PathLike) -> str:
    """The digest of one file's bytes."""
    return self.of([file], lambda: content(file))

  def _read(self) -> dict[str, Any]:
    if not self._path.exists():
      return {}
    try:
      known = storage.read_json(self._path)
    except ValueError:
      return {}  # damaged: the digests are taken again
    return known if isinstance(known, dict) else {}


def of_this_process() -> Cache:
  """The cache of the run whose job this process is; else one that is empty."""
  return Cache(os.environ.get(CACHE))


def content(file: storage.PathLike) -> str:
  """A digest of a file's bytes: 32 hexadecimal digits of its sha256."""
  total = hashlib.sha256()
  with storage.path(file).open('rb') as stream:
    while block := stream.read(1 << 24):
      total.update(block)
  return total.hexdigest()[:32]


def _state(file: storage.PathLike) -> dict[str, int]:
  """What changes when a file is written: its size and its times."""
  if storage.is_remote(file):
    found = storage.path(file).stat()
    return {
      'bytes': found.length,
      'modified_ns': int((found.mtime or 0) * 10**9),
    }
  found = os.stat(file)
  return {
    'bytes': found.st_size,
    'modified_ns': found.st_mtime_ns,
    # `cp -p` and `touch -d` set the time above, and nobody sets this one.
    'changed_ns': found.st_ctime_ns,
  }
