"""SIGTERM as a request: finish the step or the part, save, exit with 42."""

import signal
import threading


class Preempted(RuntimeError):
  """The machine is being taken away; what was done is saved."""


_asked = threading.Event()


def watch() -> None:
  """From now on SIGTERM asks for a clean stop instead of killing."""
  signal.signal(signal.SIGTERM, lambda *_: _asked.set())


def check(where: str) -> None:
  """Raises Preempted if SIGTERM has come. Call it where stopping is safe."""
  if _asked.is_set():
    raise Preempted(f'{where}: stopped by SIGTERM, state saved; start it again')


def asked() -> bool:
  """Whether SIGTERM has come."""
  return _asked.is_set()
