"""What runs on each host of a TPU VM: a stage, and the word of how it goes.

    python -m rest_jax.executors.tpu_vm.agent --record=FOLDER --worker=NAME -- …

Runs `python -m rest_jax.main …`, and keeps in FOLDER, which the launcher reads,

    NAME.log     its output so far, a few times a minute
    NAME.json    {"exit_code": …}, once it has ended
    stop         written by the launcher: the stage is asked to save its state

SIGTERM, which a VM gets before it is taken away, is passed on to the stage.
"""

import argparse
import os
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence

from rest_jax.artifacts import storage

STOP = 'stop'
SECONDS = 10.0  # between two copies of the log, and two looks for `stop`
_TICK_SECONDS = 0.2


def run(
  record: str,
  worker: str,
  arguments: Sequence[str],
  command: Sequence[str] = (sys.executable, '-m', 'rest_jax.main'),
) -> int:
  """Runs a stage to its end; returns its exit code.

  Args:
    record: the folder of the attempt.
    worker: of this host's files in it.
    arguments: of the stage.
    command: before them.
  """
  folder = storage.path(record)
  with tempfile.TemporaryFile() as log:
    child = subprocess.Popen(
      [*command, *arguments],
      stdin=subprocess.DEVNULL,
      stdout=log,
      stderr=subprocess.STDOUT,
    )
    for number in (signal.SIGTERM, signal.SIGINT):
      signal.signal(number, lambda *_: child.terminate())
    copied, looked = 0, time.monotonic()
    while child.poll() is None:
      time.sleep(_TICK_SECONDS)
      if time.monotonic() - looked >= SECONDS:
        looked = time.monotonic()
        copied = _copy(log, folder / f'{worker}.log', copied)
        if _exists(folder / STOP):
          child.terminate()
    _copy(log, folder / f'{worker}.log', -1)
  code = child.returncode
  code = 128 - code if code < 0 else code
  storage.write_json(folder / f'{worker}.json', {'exit_code': code})
  return code


def _copy(log, target: storage.Path, copied: int) -> int:
  """Copies the output where there is more of it; returns how much there is."""
  size = os.fstat(log.fileno()).st_size
  if size == copied:
    return copied
  try:
    storage.write_bytes(target, os.pread(log.fileno(), size, 0))
  except OSError as error:  # of a store; the next copy holds this one too
    print(f'{target}: {error}', file=sys.stderr)
    return copied
  return size


def _exists(path: storage.Path) -> bool:
  try:
    return path.exists()
  except OSError:
    return False


def main() -> int:
  """Parses the command line and runs the stage."""
  parser = argparse.ArgumentParser(description=__doc__)
  parser.add_argument('--record', required=True)
  parser.add_argument('--worker', required=True)
  parser.add_argument('arguments', nargs=argparse.REMAINDER)
  flags = parser.parse_args()
  arguments = flags.arguments
  if arguments[:1] == ['--']:
    arguments = arguments[1:]
  return run(flags.record, flags.worker, arguments)


if __name__ == '__main__':
  sys.exit(main())
