"""Whether a process waits for a store that is away, and for how long.

The clients of a store ask again for half a minute by themselves. Then a
launcher and a stage, which are `waiting`, go on asking: what the launcher
watches goes on without it, and a stage would have to begin anew. Any other
command ends with one sentence. Every request of this package goes through here:
those of gcsfs by gs_files.py, those of leases by store_leases.py.
"""

import contextlib
import os
import sys
import threading
import time
from collections.abc import Callable, Iterator
from typing import TypeVar

WAIT_SECONDS = 600.0  # for a store
AGAIN_SECONDS = 5.0  # between two tries
_SAY_SECONDS = 60.0  # between two lines about it
_T = TypeVar('_T')


class UnavailableError(RuntimeError):
  """A store, or a folder, cannot be used now; it may be possible later."""


class AwayError(UnavailableError):
  """The store does not answer, and is not waited for any longer."""


class GivenUpError(UnavailableError):
  """The person who watches, or SIGTERM, has ended the waiting."""


def is_away(error: BaseException | None) -> bool:
  """Whether an error says that a store does not answer now, and may later."""
  while error is not None:
    if isinstance(error, TimeoutError) or _is_transient(error):
      return True
    error = error.__cause__
  return False


def _is_transient(error: BaseException) -> bool:
  """Whether a client of Google Cloud Storage would have asked again."""
  kind = type(error).__module__.partition('.')[0]
  if kind not in ('gcsfs', 'aiohttp', 'requests', 'google'):
    return False  # and that client need not be loaded
  import gcsfs.retry
  from google.api_core import exceptions
  from google.auth import exceptions as auth_exceptions

  passing = (
    exceptions.RetryError,
    exceptions.ServerError,
    exceptions.TooManyRequests,
    auth_exceptions.TransportError,
  )
  return isinstance(error, passing) or gcsfs.retry.is_retriable(error)


class _Waiting:
  """The waiting of one process; its requests may come from many threads."""

  def __init__(self, say: Callable[[str], None], is_over: Callable[[], bool]):
    self._say, self._is_over = say, is_over
    self._lock = threading.Lock()
    self._since: float | None = None  # by time.time()
    self._said = 0.0

  def failed(self, place: str, began: float, error: Exception) -> None:
    """Says that it waits; raises what ends the waiting."""
    now = time.time()
    with self._lock:
      self._since = min(self._since or began, began)
      since = self._since
      is_said = now - self._said <= _SAY_SECONDS
      if not is_said:
        self._said = now
    clock = _clock(since)
    if self._is_over():
      raise GivenUpError(
        f'{place} has not answered since {clock}. Start the same command '
        'again once it does.'
      ) from error
    if now - since > WAIT_SECONDS:
      raise AwayError(
        f'{place} has not answered since {clock} ({_told(error)}). What is '
        'finished is kept, and what runs elsewhere goes on; start the same '
        'command again once it does.'
      ) from error
    if not is_said:
      self._say(
        f'{place} has not answered since {clock}: waiting for it until '
        f'{_clock(since + WAIT_SECONDS)} ({_told(error)})'
      )

  def succeeded(self, place: str) -> None:
    """It answers."""
    with self._lock:
      if self._since is None:
        return
      self._since, self._said = None, 0.0
    self._say(f'{place} answers again')


_waiting: list[_Waiting] = []
_failed_at = float('-inf')


def _print(line: str) -> None:
  print(line, file=sys.stderr, flush=True)


@contextlib.contextmanager
def waiting(
  say: Callable[[str], None] = _print,
  is_over: Callable[[], bool] = lambda: False,
) -> Iterator[None]:
  """All requests to a store wait for it while the block runs.

  Args:
    say: shows a line to the person who watches; called from any thread.
    is_over: whether nobody wants to wait any longer.
  """
  _waiting.append(_Waiting(say, is_over))
  try:
    yield
  finally:
    _waiting.pop()


def patiently(place: str | os.PathLike[str], ask: Callable[[], _T]) -> _T:
  """Asks a store, and again while it is away and this process is `waiting`.

  Args:
    place: what is asked about, gs://….
    ask: makes the request; it may be called again after it has failed.

  Raises:
    AwayError: it does not answer.
    GivenUpError: nobody wants to wait any longer.
  """
  while True:
    began = time.time()
    try:
      result = ask()
    except Exception as error:
      failed(place, began, error)
      time.sleep(AGAIN_SECONDS)
      continue
    answered(place)
    return result


def failed(
  place: str | os.PathLike[str], began: float, error: Exception
) -> None:
  """Returns where a request that has failed is to be made again.

  Args:
    place: what was asked about, gs://….
    began: when the request was made, by time.time().
    error: how it failed.

  Raises:
    AwayError: the store does not answer, and is not waited for any longer.
    GivenUpError: nobody wants to wait any longer.
    Exception: `error`, where another try would not help.
  """
  if isinstance(error, UnavailableError) or not is_away(error):
    raise error
  note()
  bucket = _bucket(place)
  if not _waiting:
    raise AwayError(
      f'{bucket} does not answer ({_told(error)}). Try again once it does.'
    ) from error
  _waiting[-1].failed(bucket, began, error)


def answered(place: str | os.PathLike[str]) -> None:
  """A request has been answered."""
  if _waiting:
    _waiting[-1].succeeded(_bucket(place))


def note() -> None:
  """A store is away now."""
  global _failed_at
  _failed_at = time.monotonic()


def failed_at() -> float:
  """When a store was away last, by time.monotonic(); -inf: never."""
  return _failed_at


def _bucket(place: str | os.PathLike[str]) -> str:
  return '/'.join(os.fspath(place).split('/')[:3])


def _told(error: BaseException) -> str:
  """What the store, or its client, has said."""
  while error.__cause__ is not None:
    error = error.__cause__
  return str(error) or type(error).__name__


def _clock(seconds: float) -> str:
  return time.strftime('%H:%M:%S', time.localtime(seconds))
