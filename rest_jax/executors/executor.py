"""What an executor is: it starts the processes of jobs, and tells how they end.

Which job is started when, and how often, is the scheduler's to decide
(scheduler.py); it is the same for every executor.
"""

from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple, Protocol

from rest_jax.executors.orders import Order


class Ended(NamedTuple):
  """How an attempt ended.

  Attributes:
    exit_code: as in exit_codes.py; negative: minus the signal that killed it.
    out_of_memory: whether it was killed for its memory.
  """

  exit_code: int
  out_of_memory: bool = False


class Task(Protocol):
  """An attempt that was started."""

  def poll(self) -> Ended | None:
    """How it ended; None while it runs."""

  def stop(self) -> None:
    """Asks it to save its state and to end with exit_codes.PREEMPTED."""

  def kill(self) -> None:
    """Ends it at once."""

  def release(self) -> None:
    """Gives back what was kept for another attempt: none will follow.

    It is called when the attempt has ended, and perhaps more than once.
    """


class Executor(Protocol):
  """Starts the processes of jobs somewhere.

  Attributes:
    room: jobs that run at a time, at most.
    outlives: whether jobs go on where the launcher ends.
    stop_seconds: that a job has for saving its state.
    command: the process of a stage, before its arguments.
    name: of the executor.
    settings: what `rest-jax stop` must know of it.
  """

  name: str
  settings: Mapping[str, Any]
  room: int
  outlives: bool
  stop_seconds: float
  command: Sequence[str]

  def start(self, order: Order, read: Callable[[str], None]) -> Task:
    """Starts an attempt.

    Args:
      order: what is to be started.
      read: is called with each line of its output, by `wait` and `poll`.
    """

  def wait(self, seconds: float) -> None:
    """Returns after this time, or as soon as something has happened."""
