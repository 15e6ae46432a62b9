"""Copies on this machine's disk of files that lie on a store.

For formats that are read in place (GGUF). A file is copied once for a machine,
to XDG_CACHE_HOME or ~/.cache, and again when it has changed; several processes
wait for the one that copies.
"""

import contextlib
import fcntl
import hashlib
import os
import pathlib
import tempfile

from rest_jax.artifacts import storage

_FOLDER = 'rest_jax'
_BLOCK = 1 << 26  # bytes


def of(source: storage.PathLike) -> str:
  """The path of a file on this machine's disk.

  Args:
    source: the file; one that is here already is not copied.

  Raises:
    FileNotFoundError: it is not there.
    OSError: the store fails, or the disk is full.
  """
  if not storage.is_remote(source):
    return os.fspath(source)
  remote = storage.path(source)
  found = remote.stat()
  place = _root() / _digest(os.fspath(source))
  place.mkdir(exist_ok=True)
  state = _digest(f'{found.length} {found.mtime}')
  target = place / f'{state}-{remote.name}'
  with _alone(place), storage.disk_errors(place):
    if not target.exists():
      print(
        f'copying {remote} ({found.length / 1e9:.1f} GB) to {place}, once for '
        'this machine',
        flush=True,
      )
      for older in place.glob(f'*-{remote.name}'):
        older.unlink()  # who reads it still has it
      try:
        _copy(remote, target, found.length)
      except OSError as error:
        raise storage.with_advice(error) from error
  return str(target)


def _copy(remote: storage.Path, target: pathlib.Path, length: int) -> None:
  """Copies the file beside its name, then gives it its name."""
  beside = target.with_name('copying')
  with remote.open('rb') as stream, open(beside, 'wb') as file:
    while block := stream.read(_BLOCK):
      file.write(block)
  if beside.stat().st_size != length:
    raise OSError(f'{remote}: changed while it was copied; try again')
  os.replace(beside, target)


@contextlib.contextmanager
def _alone(place: pathlib.Path):
  """Only one process of this machine is within the block."""
  with open(place / 'lock', 'w') as lock:
    fcntl.flock(lock, fcntl.LOCK_EX)
    yield


def _root() -> pathlib.Path:
  """A folder that can be written; a container may have no home."""
  cache = os.environ.get('XDG_CACHE_HOME') or os.path.expanduser('~/.cache')
  for place in (cache, tempfile.gettempdir()):
    folder = pathlib.Path(place) / _FOLDER
    with contextlib.suppress(OSError):
      folder.mkdir(parents=True, exist_ok=True)
      if os.access(folder, os.W_OK):
        return folder
  raise storage.with_advice(PermissionError(13, 'no cache folder', cache))


def _digest(text: str) -> str:
  return hashlib.sha256(text.encode()).hexdigest()[:16]
