"""A work unit: a process that runs the attempts of one job for a launcher.

    python -m rest_jax.executors.work_units.unit --address=SOCKET --unit=N

Somebody else starts it, XManager for one, and sees the job by it: it lives as
long as the job and ends with the exit code of its last attempt. Which attempts
there are, it is told by the launcher (connection.py). It has each run by the
executor of the run; one on this machine ends with it.
"""

import argparse
import contextlib
import select
import signal
import socket
import sys
from typing import Any

from rest_jax.artifacts import store_patience
from rest_jax.config import configuration
from rest_jax.executors import by_name, exit_codes, orders
from rest_jax.executors.executor import Executor, Task
from rest_jax.executors.work_units.connection import Connection, Message

_TICK_SECONDS = 0.1


class Unit:
  """The process."""

  def __init__(self, connection: Connection):
    self._connection = connection
    self._executor: Executor | None = None
    self._stack = contextlib.ExitStack()
    self._task: Task | None = None
    self._is_running = self._is_terminated = self._is_released = False
    self._code = exit_codes.UNKNOWN

  def run(self) -> int:
    """Runs attempts until no more will follow; returns the exit code."""
    signal.signal(signal.SIGTERM, self._terminate)
    with self._stack:
      return self._serve()

  def _serve(self) -> int:
    while self._connection.is_open and not self._is_released:
      for message in self._connection.receive():
        self._take(message)
      if self._is_running:
        self._look()
      if self._is_terminated and not self._is_running:
        break
      if self._is_running:
        self._executor.wait(_TICK_SECONDS)
      else:
        select.select([self._connection.socket], [], [], _TICK_SECONDS)
    return self._code

  def _take(self, message: Message) -> None:
    """Does what the launcher says."""
    if 'executor' in message:
      name = message['executor']
      config = by_name.config_of(name, message['settings'])
      run_dir = message['run_dir']
      self._executor = by_name.make(name, config, run_dir, self._say)
      self._stack.enter_context(
        store_patience.waiting(self._say, lambda: self._is_terminated)
      )
    elif 'start' in message:
      self._start(message['start'])
    elif self._task is not None:
      {
        'stop': self._task.stop,
        'kill': self._task.kill,
        'release': self._task.release,
      }[message['do']]()
      self._is_released = message['do'] == 'release'

  def _start(self, value: dict[str, Any]) -> None:
    try:
      self._task = self._executor.start(orders.parsed(value), self._read)
    except configuration.ConfigurationError as error:
      self._code = exit_codes.CONFIGURATION
      self._connection.send({'refused': str(error)})
      return
    self._is_running = True
    if self._is_terminated:
      self._task.stop()

  def _look(self) -> None:
    ended = self._task.poll()
    if ended is not None:
      self._is_running = False
      # As a shell writes it: a process cannot end with a negative number.
      code = ended.exit_code
      self._code = 128 - code if code < 0 else code
      self._connection.send(
        {
          'ended': code,
          'out_of_memory': ended.out_of_memory,
          'leaves': self._is_terminated,
        }
      )

  def _terminate(self, *_) -> None:
    """Saves the state: XManager, or the person, ends this work unit."""
    self._is_terminated = True
    if self._is_running:
      self._task.stop()

  def _read(self, line: str) -> None:
    self._connection.send({'line': line})

  def _say(self, text: str) -> None:
    self._connection.send({'say': text})


def main() -> int:
  """Connects to the launcher and does what it says."""
  parser = argparse.ArgumentParser(description=__doc__)
  parser.add_argument('--address', required=True)
  parser.add_argument('--unit', required=True, type=int)
  flags = parser.parse_args()
  end = socket.socket(socket.AF_UNIX)
  end.connect(flags.address)
  connection = Connection(end)
  connection.send({'unit': flags.unit})
  return Unit(connection).run()


if __name__ == '__main__':
  sys.exit(main())
