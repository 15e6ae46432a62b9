"""Errors of one process, as the job's other processes learn of them.

An error keeps its class on the way, since the class decides the exit code: a
wrong configuration ends all processes with 2, a preemption with 42, and a store
that did not answer ends them so that they are started again (main.py).
"""

import importlib
import os
import socket
import sys
import time
import traceback
from typing import Any, Protocol


class PeerError(RuntimeError):
  """Another process of the job failed, or does not answer; start it again."""


class GoneError(PeerError):
  """Another process of the job is gone; start all of them again."""


class Session(Protocol):
  """What `leave` needs to know of a job of several processes."""

  index: int

  def fail(self, error: BaseException, exit_code: int) -> None:
    """Tells the others what ends this process."""

  def others(self) -> list[int]:
    """The other processes that have neither failed nor ended."""


# The processes of this job, where there are several: set when they are joined.
session: Session | None = None
# Process 0 keeps the coordination service: it leaves after the others, who look
# for failures every few seconds (coordination.py).
SECONDS_TO_BE_HEARD = 20.0
# An error that nobody expected may be the echo of a process that was killed,
# which the watchdog names when it has waited long enough (watchdog.py).
SECONDS_TO_BE_EXPLAINED = 55.0


def share(error: BaseException) -> BaseException:
  """Marks an error that every process of the job raises; returns it."""
  error.is_shared = True
  return error


def leave(error: BaseException, exit_code: int | None) -> None:
  """Ends this process after an error that the job's other processes lack.

  An orderly end waits for the others to end too, and they might wait for this
  process for ever. Returns where the process works alone, and where the others
  end with the same error.

  Args:
    error: what ends this process.
    exit_code: None: the error was not expected; its traceback is printed.
  """
  if session is None or getattr(error, 'is_shared', False):
    return
  wait = SECONDS_TO_BE_HEARD
  if exit_code is None:
    traceback.print_exception(error)
    exit_code, wait = 1, SECONDS_TO_BE_EXPLAINED
  try:
    session.fail(error, exit_code)
    end = time.monotonic() + wait
    while session.index == 0 and time.monotonic() < end:
      if not session.others():
        break
      time.sleep(0.2)
  except Exception as failed:
    print(f'the other processes were not told: {failed}', file=sys.stderr)
  sys.stdout.flush()
  sys.stderr.flush()
  os._exit(exit_code)


def encode(error: BaseException, index: int) -> dict[str, Any]:
  """An error as JSON-ready values.

  Args:
    error: raised in this process.
    index: of this process.
  """
  text = error.strerror if isinstance(error, OSError) else None
  return {
    'classes': [[c.__module__, c.__qualname__] for c in type(error).__mro__],
    'text': text or str(error),
    'errno': getattr(error, 'errno', None),
    'advised': getattr(error, 'has_advice', False),
    'who': f'process {index} on host {socket.gethostname()}',
  }


def decode(told: dict[str, Any]) -> BaseException:
  """The error that `encode` was given, of the same class where it can be made.

  A class that takes other arguments than a text is replaced by its nearest base
  that does; where only Exception is left the result is a PeerError.
  """
  text = f'{told["who"]}: {told["text"]}'
  for module, name in told['classes']:
    if (module, name) in (('builtins', n) for n in _GENERAL):
      break
    try:
      kind = getattr(importlib.import_module(module), name)
      if issubclass(kind, OSError) and told['errno'] is not None:
        error = kind(told['errno'], text)
      else:
        error = kind(text)
    except (ImportError, AttributeError, TypeError):
      continue
    if told['advised']:
      error.has_advice = True
    return error
  return PeerError(text)


_GENERAL = ('Exception', 'BaseException', 'object')
