"""What runs on each host of a job's TPU VMs, attempt after attempt.

    python -m rest_jax.executors.tpu_vm.agent --record=FOLDER --worker=NAME -- …

Runs `python -m rest_jax.main …` and tells the launcher how it goes, by the
files of reports.py. The VMs stay when an attempt has ended, and the agent waits
KEEP_SECONDS for the launcher to ask for another one. Then, or where it can tell
nobody, it ends with 0, and the VMs are given back (queued_resources.py).

An agent that is started anew, after its container was killed or its VM has
booted again, does not go on by itself: it reports the attempt as lost, since
the other hosts must start together with it.

SIGTERM, which a VM gets before it is taken away, is passed on to the stage.
"""

import argparse
import contextlib
import dataclasses
import os
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from typing import BinaryIO, TypeVar

from rest_jax.artifacts import processes, storage, store_patience
from rest_jax.executors import exit_codes
from rest_jax.executors.tpu_vm import reports
from rest_jax.executors.tpu_vm.reports import Record, Report, Wanted

SECONDS = 10.0  # between two copies of the log, and two looks for orders
KEEP_SECONDS = 600.0  # of VMs without work: longer than any pause of a retry
_KILLED = 137  # as after SIGKILL
_TERMINATED = 143  # as after SIGTERM: the VM goes, or its container
_TICK_SECONDS = 0.2
_T = TypeVar('_T')


class Agent:
  """One host."""

  def __init__(
    self,
    record: Record,
    host: str,
    arguments: Sequence[str],
    command: Sequence[str] = (sys.executable, '-m', 'rest_jax.main'),
  ):
    """Starts nothing yet.

    Args:
      record: of the queued resource.
      host: the name of this one in it.
      arguments: of the stage.
      command: before them.
    """
    self._record, self._host = record, host
    self._command = [*command, *arguments]
    self._child: subprocess.Popen | None = None
    self._is_terminated = self._is_stopped = False
    self._said = Report(attempt=-1)
    self._beaten = 0.0

  def run(self) -> int:
    """Runs attempts until no more are asked for; returns the exit code."""
    for number in (signal.SIGTERM, signal.SIGINT):
      signal.signal(number, self._terminate)
    try:
      return self._serve()
    except _MuteError as error:
      print(f'nobody can be told how the job goes: {error}', file=sys.stderr)
      return exit_codes.DONE

  def _serve(self) -> int:
    last = self._latest()
    idle = time.monotonic()
    while time.monotonic() - idle < KEEP_SECONDS:
      if self._is_terminated:
        return _TERMINATED
      wanted = self._wanted()
      if wanted is None or wanted.attempt <= last:
        self._beat()
        time.sleep(SECONDS)
        continue
      last = wanted.attempt
      code = _KILLED
      if not wanted.end:
        # Said before it starts: an agent that comes after this one knows of it.
        self._tell(Report(attempt=last))
        code = self._run(last)
      self._tell(Report(attempt=last, exit_code=code))
      idle = time.monotonic()
    return exit_codes.DONE

  def _latest(self) -> int:
    """The latest attempt of this host, which does not run any more."""
    said = _patiently(lambda: self._record.report(self._host))
    if said is None or said.attempt is None:
      return -1
    if said.exit_code is None:
      why = 'its agent was killed, or its VM has started anew'
      said = dataclasses.replace(said, exit_code=_KILLED, why=why)
    self._tell(said)
    return said.attempt

  def _run(self, attempt: int) -> int:
    """Runs the stage to its end; returns its exit code."""
    self._is_stopped = False
    target = self._record.log(self._host, attempt)
    with tempfile.TemporaryFile() as log:
      self._child = subprocess.Popen(
        self._command,
        stdin=subprocess.DEVNULL,
        stdout=log,
        stderr=subprocess.STDOUT,
        preexec_fn=processes.die_with_parent(os.getpid()),
      )
      if self._is_terminated:  # before there was a child
        self._child.terminate()
      copied, looked = 0, time.monotonic()
      while self._child.poll() is None:
        time.sleep(_TICK_SECONDS)
        if time.monotonic() - looked >= SECONDS:
          looked = time.monotonic()
          copied = _copy(log, target, copied)
          self._obey(attempt)
          self._beat()
      _copy(log, target, -1)
    code = self._child.returncode
    return 128 - code if code < 0 else code

  def _obey(self, attempt: int) -> None:
    """Ends the attempt where the launcher wants it to end."""
    wanted = self._wanted()
    if wanted is None:
      return
    if wanted.attempt > attempt or wanted.end == 'kill':
      self._child.kill()
    elif wanted.end == 'stop' and not self._is_stopped:
      # Once: Python forgets its handlers while it ends, and would be killed.
      self._is_stopped = True
      self._child.terminate()

  def _terminate(self, *_) -> None:
    self._is_terminated = True
    if self._child is not None:
      self._child.terminate()

  # ---- what the store may be too far away for -------------------------------

  def _wanted(self) -> Wanted | None:
    try:
      return self._record.wanted()
    except Exception as error:  # of a store: of many libraries
      print(f'{self._record.folder}: {error}', file=sys.stderr)
      return None

  def _tell(self, said: Report) -> None:
    """Writes a report.

    Raises:
      _MuteError: it cannot be written.
    """
    self._said = said
    _patiently(self._write)

  def _beat(self) -> None:
    if time.monotonic() - self._beaten >= reports.BEAT_SECONDS:
      with contextlib.suppress(Exception):  # the next one may arrive
        self._write()

  def _write(self) -> None:
    self._record.tell(self._host, self._said)
    self._beaten = time.monotonic()


class _MuteError(Exception):
  """The store has not answered for KEEP_SECONDS."""


def _patiently(ask: Callable[[], _T]) -> _T:
  """Asks again and again, while the store does not answer."""
  end = time.monotonic() + KEEP_SECONDS
  while True:
    try:
      return ask()
    except Exception as error:  # of a store: of many libraries
      if time.monotonic() > end:
        raise _MuteError(str(error)) from error
      print(error, file=sys.stderr)
      time.sleep(SECONDS)


def _copy(log: BinaryIO, target: storage.Path, copied: int) -> int:
  """Copies the output where there is more of it; returns how much there is."""
  size = os.fstat(log.fileno()).st_size
  if size == copied:
    return copied
  try:
    storage.write_bytes(target, os.pread(log.fileno(), size, 0))
  except (OSError, store_patience.UnavailableError) as error:
    print(f'{target}: {error}', file=sys.stderr)
    return copied  # the next copy holds this one too
  return size


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
  return Agent(Record(flags.record), flags.worker, arguments).run()


if __name__ == '__main__':
  sys.exit(main())
