"""A launcher waits for a store that is away; a stage ends and is started again.

The clients of a store ask again for half a minute by themselves. A launcher
has more time than that, since what it watches goes on without it: functions
that it calls are `patient`, and ask again for WAIT_SECONDS while `waiting`.
Everywhere else they are what they were.
"""

import contextlib
import functools
import logging
import time
from collections.abc import Callable, Iterator
from typing import ParamSpec, TypeVar

from rest_jax.artifacts import storage

WAIT_SECONDS = 600.0  # for a store, before the launcher ends
_AGAIN_SECONDS = 5.0
_SAY_SECONDS = 60.0  # between two lines about it
_P = ParamSpec('_P')
_T = TypeVar('_T')


class AwayError(RuntimeError):
  """The store has not answered for WAIT_SECONDS."""


class GivenUpError(RuntimeError):
  """The person who watches does not wait for the store any longer."""


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
  """The waiting of one launcher."""

  def __init__(
    self, place: str, say: Callable[[str], None], is_over: Callable[[], bool]
  ):
    self._place, self._say, self._is_over = place, say, is_over
    self._since: float | None = None  # by time.time()
    self._said = 0.0

  def failed(self, began: float, error: Exception) -> None:
    """Waits a moment; raises what ends the waiting."""
    now = time.time()
    self._since = self._since or began
    clock = _clock(self._since)
    if self._is_over():
      raise GivenUpError(
        f'{self._place} has not answered since {clock}. Start the same command '
        'again once it does.'
      ) from error
    if now - self._since > WAIT_SECONDS:
      raise AwayError(
        f'{self._place} has not answered since {clock} ({error}). What runs '
        'elsewhere goes on; start the same command again once it does.'
      ) from error
    if now - self._said > _SAY_SECONDS:
      self._said = now
      self._say(
        f'{self._place} has not answered since {clock}: waiting for it until '
        f'{_clock(self._since + WAIT_SECONDS)} ({error})'
      )
    time.sleep(_AGAIN_SECONDS)

  def succeeded(self) -> None:
    """It answers."""
    if self._since is not None:
      self._since = None
      self._said = 0.0
      self._say(f'{self._place} answers again')


_waiting: list[_Waiting] = []


@contextlib.contextmanager
def waiting(
  place: str,
  say: Callable[[str], None] = print,
  is_over: Callable[[], bool] = lambda: False,
) -> Iterator[None]:
  """What is `patient` waits for the store of `place` while the block runs.

  Args:
    place: a folder; nothing waits for one of this machine.
    say: shows a line to the person who watches.
    is_over: whether that person does not want to wait any longer.
  """
  if not storage.is_remote(place):
    yield
    return
  _waiting.append(_Waiting(place, say, is_over))
  # It shows a traceback of its own each time before it raises.
  logger = logging.getLogger('gcsfs')
  level = logger.level
  logger.setLevel(logging.CRITICAL)
  try:
    yield
  finally:
    logger.setLevel(level)
    _waiting.pop()


def patient(function: Callable[_P, _T]) -> Callable[_P, _T]:
  """Makes a function ask again while the store is away; see `waiting`.

  Args:
    function: that may be called again after it has failed halfway.

  Returns:
    A function that raises AwayError and GivenUpError too.
  """

  @functools.wraps(function)
  def call(*args: _P.args, **kwargs: _P.kwargs) -> _T:
    while True:
      began = time.time()
      try:
        result = function(*args, **kwargs)
      except (AwayError, GivenUpError):  # of a patient function in this one
        raise
      except Exception as error:
        if not _waiting or not is_away(error):
          raise
        _waiting[-1].failed(began, error)
        continue
      if _waiting:
        _waiting[-1].succeeded()
      return result

  return call


def _clock(seconds: float) -> str:
  return time.strftime('%H:%M:%S', time.localtime(seconds))
