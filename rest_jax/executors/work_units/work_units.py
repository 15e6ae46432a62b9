"""An executor that has somebody else start a process for each job.

It asks for one by a line of JSON, which launch/xm_launch.py turns into a work
unit of XManager. The process (unit.py) connects and is told what to run, by the
executor that --executor names. What runs when, and how often, stays the
scheduler's to decide.
"""

import collections
import dataclasses
import json
import os
import selectors
import socket
import tempfile
import time
from collections.abc import Callable
from typing import Any, TextIO

from rest_jax.config import configuration
from rest_jax.executors import exit_codes
from rest_jax.executors.executor import Ended, Executor
from rest_jax.executors.orders import Order
from rest_jax.executors.work_units.connection import Connection, Message

# Variables that whoever starts the launcher sets: the number of an open file
# that takes the lines, and how many jobs may run at a time.
FILE, AT_A_TIME = 'REST_JAX_WORK_UNITS', 'REST_JAX_JOBS_AT_A_TIME'
CONNECT_SECONDS = 300.0  # for a process that was asked for to be there


def instead_of(
  inner: Executor, run_dir: str, say: Callable[[str], None]
) -> Executor:
  """Work units, where this launcher was started to ask for them; else `inner`.

  Args:
    inner: the executor of --executor.
    run_dir: of the run.
    say: shows a line to the person who watches.
  """
  if FILE not in os.environ:
    return inner
  ask = open(int(os.environ[FILE]), 'w', closefd=False)
  at_a_time = int(os.environ.get(AT_A_TIME) or inner.room)
  return WorkUnitExecutor(
    inner, run_dir=run_dir, ask=ask, at_a_time=at_a_time, say=say
  )


class WorkUnitExecutor:
  """See executor.Executor."""

  def __init__(
    self,
    inner: Executor,
    *,
    run_dir: str,
    ask: TextIO,
    at_a_time: int,
    say: Callable[[str], None] = print,
  ):
    """Asks for nothing yet.

    Args:
      inner: the executor of --executor, which says what is needed of it.
      run_dir: of the run.
      ask: takes a line for each process that is wanted.
      at_a_time: jobs, at most.
      say: shows a line to the person who watches.
    """
    self.name, self.settings = inner.name, inner.settings
    self.outlives, self.stop_seconds = inner.outlives, inner.stop_seconds
    self.room, self.command = at_a_time, inner.command
    self.say, self._ask = say, ask
    self._hello = {
      'executor': inner.name,
      'settings': dict(inner.settings),
      'run_dir': run_dir,
    }
    self._folder = tempfile.TemporaryDirectory()
    self._address = os.path.join(self._folder.name, 'launcher')
    self._listener = socket.socket(socket.AF_UNIX)
    self._listener.bind(self._address)
    self._listener.listen(1000)
    self._selector = selectors.DefaultSelector()
    self._selector.register(self._listener, selectors.EVENT_READ)
    self._units: dict[int, _Unit] = {}
    self._by_job: dict[str, _Unit] = {}

  def start(self, order: Order, read: Callable[[str], None]) -> 'UnitTask':
    """See executor.Executor. A further attempt runs in the same unit."""
    unit = self._by_job.get(order.name)
    if unit is None or unit.is_gone or unit.leaves:
      unit = self._by_job[order.name] = self._new(order)
    unit.send({'start': dataclasses.asdict(order)})
    return UnitTask(unit, order.name, read, self.say)

  def wait(self, seconds: float) -> None:
    """See executor.Executor."""
    for key, _ in self._selector.select(seconds):
      if key.fileobj is self._listener:
        end, _ = self._listener.accept()
        self._selector.register(end, selectors.EVENT_READ, Connection(end))
        continue
      self._receive(key.data)

  def _receive(self, connection: Connection) -> None:
    for message in connection.receive():
      if 'unit' in message:
        self._units[message['unit']].connect(connection)
      else:
        unit = next(
          u for u in self._units.values() if u.connection is connection
        )
        unit.inbox.append(message)
    if not connection.is_open:
      self._selector.unregister(connection.socket)

  def _new(self, order: Order) -> '_Unit':
    number = len(self._units)
    self._units[number] = unit = _Unit()
    unit.send(self._hello)
    asked = {
      'name': order.name,
      'topology': order.job.topology,
      'slices': order.job.slices,
      'arguments': [
        *('-m', 'rest_jax.executors.work_units.unit'),
        *(f'--address={self._address}', f'--unit={number}'),
      ],
    }
    print(json.dumps(asked), file=self._ask, flush=True)
    return unit


class _Unit:
  """A process that was asked for.

  Attributes:
    connection: to it; None: it is not there yet.
    inbox: what it has said and nobody has read.
    leaves: whether it takes no more attempts.
  """

  def __init__(self):
    self.connection: Connection | None = None
    self.inbox: collections.deque[Message] = collections.deque()
    self.leaves = False
    self._outbox: list[Message] = []
    self._asked = time.monotonic()

  @property
  def is_gone(self) -> bool:
    """Whether nothing more will come of it."""
    if self.connection is None:
      return time.monotonic() - self._asked > CONNECT_SECONDS
    return not self.connection.is_open and not self.inbox

  def connect(self, connection: Connection) -> None:
    """It is there; it is told what has waited for it."""
    self.connection = connection
    for message in self._outbox:
      connection.send(message)

  def send(self, message: dict[str, Any]) -> None:
    """Tells it something, now or once it is there."""
    if self.connection is None:
      self._outbox.append(message)
    else:
      self.connection.send(message)


class UnitTask:
  """See executor.Task."""

  def __init__(
    self,
    unit: _Unit,
    name: str,
    read: Callable[[str], None],
    say: Callable[[str], None],
  ):
    """Args:
    unit: that runs the attempt.
    name: of the job.
    read: is called with each line of its output.
    say: shows a line to the person who watches.
    """
    self._unit, self._name, self._read, self._say = unit, name, read, say

  def poll(self) -> Ended | None:
    """See executor.Task.

    Raises:
      ConfigurationError: the unit's executor has refused the job.
    """
    while self._unit.inbox:
      message = self._unit.inbox.popleft()
      if 'line' in message:
        self._read(message['line'])
      elif 'say' in message:
        self._say(message['say'])
      elif 'refused' in message:
        raise configuration.ConfigurationError(message['refused'])
      elif 'ended' in message:
        self._unit.leaves = message['leaves']
        return Ended(message['ended'], message['out_of_memory'])
    if self._unit.is_gone:
      self._read(f'the work unit of {self._name} has ended, or did not start')
      return Ended(exit_codes.UNKNOWN)
    return None

  def stop(self) -> None:
    """See executor.Task."""
    self._unit.send({'do': 'stop'})

  def kill(self) -> None:
    """See executor.Task."""
    self._unit.send({'do': 'kill'})

  def release(self) -> None:
    """See executor.Task. The work unit ends."""
    self._unit.send({'do': 'release'})
