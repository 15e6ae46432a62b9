"""The logs of a run's jobs: RUN_DIR/logs/<job>.log, attempt after attempt."""

import os
import tempfile

from rest_jax.artifacts import storage

_ABOUT = ('$ ', '[exit code ')  # how lines of ours begin


class JobLog:
  """One attempt's part of a log; of a run on a store, a copy of a local one."""

  def __init__(self, run_dir: str, name: str):
    """Opens it.

    Args:
      run_dir: the run's folder.
      name: of the job, or of a worker of it.
    """
    self.name = f'{run_dir}/logs/{name}.log'
    self._target = self._local = storage.path(self.name)
    if storage.is_remote(run_dir):
      self._local = storage.path(tempfile.mkdtemp()) / 'log'
    self._local.parent.mkdir(parents=True, exist_ok=True)
    self._file = open(os.fspath(self._local), 'ab')
    self._start = self._file.tell()  # of this attempt

  def write(self, line: str) -> None:
    """Appends a line; it can be read at once."""
    self._file.write(f'{line}\n'.encode())
    self._file.flush()

  def close(self) -> None:
    """Ends the attempt's part."""
    self._file.close()
    self._upload()

  def _upload(self) -> None:
    if self._local != self._target:
      old = self._target.read_bytes() if self._target.exists() else b''
      self._start = len(old)
      storage.write_bytes(self._target, old + self._local.read_bytes())

  def tail(self, count: int) -> list[str]:
    """The last lines of this attempt's output, once it is closed."""
    text = self._target.read_bytes()[self._start :].decode(errors='replace')
    lines = [
      line for line in text.rstrip().splitlines() if not line.startswith(_ABOUT)
    ]
    return lines[-count:]
