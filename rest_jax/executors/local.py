"""Runs the processes of jobs on this machine.

A stage that crashes, or uses up the memory, does not end the launcher. Where
the launcher is killed the kernel kills its stages too (PR_SET_PDEATHSIG), so
that the same command can be given again at once.
"""

import os
import selectors
import signal
import subprocess
import sys
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from rest_jax.artifacts import processes
from rest_jax.executors import device_shares, memory_errors
from rest_jax.executors.executor import Ended
from rest_jax.executors.orders import Order

_SOON = 0.02  # seconds


class LocalExecutor:
  """See executor.Executor. One job at a time: they share cores and memory.

  The workers of a job share the accelerators (device_shares.py).
  """

  name, room, outlives, stop_seconds = 'local', 1, False, 120.0
  settings: Mapping[str, Any] = {}

  def __init__(
    self, command: Sequence[str] = (sys.executable, '-m', 'rest_jax.main')
  ):
    """Starts nothing yet.

    Args:
      command: the process of a stage; tests put their own here.
    """
    self.command = list(command)
    self._selector = selectors.DefaultSelector()

  def start(self, order: Order, read: Callable[[str], None]) -> 'LocalTask':
    """See executor.Executor."""
    child = subprocess.Popen(
      [*self.command, *order.arguments],
      stdin=subprocess.DEVNULL,
      stdout=subprocess.PIPE,
      stderr=subprocess.STDOUT,
      env=_environment(
        order.defaults,
        {
          **order.environment,
          **device_shares.of_worker(order.job, order.worker),
        },
      ),
      # Ctrl-C reaches the launcher alone, which asks the stage to save.
      process_group=0,
      preexec_fn=processes.die_with_parent(os.getpid()),
    )
    return LocalTask(child, read, self._selector)

  def wait(self, seconds: float) -> None:
    """See executor.Executor."""
    # Where all output has ended, the processes are about to.
    self._selector.select(seconds if self._selector.get_map() else _SOON)


class LocalTask:
  """See executor.Task."""

  def __init__(
    self,
    child: subprocess.Popen,
    read: Callable[[str], None],
    selector: selectors.BaseSelector,
  ):
    """Args:
    child: the process.
    read: called with each line of its output.
    selector: of all outputs that are waited for.
    """
    self._child, self._read, self._selector = child, read, selector
    self._memory = memory_errors.KillWatch(child.pid)
    self._rest = b''
    os.set_blocking(child.stdout.fileno(), False)
    selector.register(child.stdout, selectors.EVENT_READ)

  def poll(self) -> Ended | None:
    """See executor.Task."""
    self._memory.look()
    # Asked before the output is read, so that no line of it is missed.
    code = self._child.poll()
    if not self._child.stdout.closed and (self._lines() or code is not None):
      # A process that the stage started may keep the pipe open after it.
      if self._rest:
        self._read(self._rest.decode(errors='replace'))
      self._selector.unregister(self._child.stdout)
      self._child.stdout.close()
    return None if code is None else Ended(code, self._memory.killed(code))

  def stop(self) -> None:
    """See executor.Task."""
    self._child.send_signal(signal.SIGTERM)

  def kill(self) -> None:
    """See executor.Task."""
    self._child.kill()

  def release(self) -> None:
    """See executor.Task. Nothing is kept."""

  def _lines(self) -> bool:
    """Reads what there is; returns whether the output has ended."""
    while True:
      try:
        data = os.read(self._child.stdout.fileno(), 65536)
      except BlockingIOError:
        return False
      *lines, self._rest = (self._rest + data).split(b'\n')
      for line in lines:
        text = line.decode(errors='replace')
        self._memory.read(text)
        self._read(text)
      if not data:
        return True


def _environment(
  defaults: Mapping[str, str], forced: Mapping[str, str]
) -> dict[str, str]:
  root = os.path.dirname(os.path.dirname(os.path.dirname(__file__)))
  paths = [root, *filter(None, [os.environ.get('PYTHONPATH')])]
  paths = {'PYTHONPATH': os.pathsep.join(paths)}
  return {**defaults, **os.environ, **paths, **forced}
