"""SIGTERM asks a stage to finish its step or part, save, and exit with 42."""

import signal
import threading


class Preempted(RuntimeError):
  """SIGTERM has come, and what was done is saved: start the stage again."""


_asked = threading.Event()


def watch() -> None:
  """Takes SIGTERM as a request from now on; before, it kills the process."""
  signal.signal(signal.SIGTERM, lambda *_: _asked.set())


def check(where: str) -> None:
  """Raises Preempted if SIGTERM has come. Call it where stopping is safe.

  Args:
    where: the stage and what it works on, for the message.
  """
  if _asked.is_set():
    raise Preempted(f'{where}: stopped by SIGTERM, state saved; start it again')


def asked() -> bool:
  """Whether SIGTERM has come."""
  return _asked.is_set()
