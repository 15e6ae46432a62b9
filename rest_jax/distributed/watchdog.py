"""Ends a process whose job cannot go on, and names the process at fault.

A process that waits inside a device's collective can look neither at the time
nor at what others say, so that a thread does both. Every few seconds it tells
the coordination service that its process lives, and how many calls that has
made (a pulse), and looks at the others':

* a process without a pulse was killed, was stopped, or is cut off: it is named,
  and the others end;
* where another process has failed, and this one makes no calls, it ends with
  the same exit code;
* where this process has made no call for the limit, it names the processes
  that made the fewest, and ends;
* where the service itself is gone, so is process 0, which keeps it.

jax notices a dead process too, later, and ends the others by a signal.
"""

import os
import sys
import threading
import time
from collections.abc import Callable, Sequence
from typing import Any, Protocol

STUCK_CODE = 1  # may be retried a few times: it may be an error of ours
# Of those that are left when a process is gone: from 128 on, as if a signal had
# ended them, so that a cluster starts all of them again by itself.
GONE_CODE = 129
POLL_SECONDS = 3.0
# Without a pulse. A thread of Python can be held up by a library's call that
# keeps the interpreter's lock, but for seconds.
SILENT_SECONDS = 40.0
# Of jax's own: after the watchdog, which can say more.
HEARTBEAT_SECONDS = 55
_PULSES = 'rest_jax/pulse/'
_ENDED = 'ended'


class Watched(Protocol):
  """What the watchdog asks of a process's Service (coordination.py)."""

  index: int

  @property
  def calls(self) -> int:
    """How many collective calls this process has made."""

  def failed(self) -> dict[str, Any] | None:
    """What another process told before it ended."""

  def others(self) -> list[int]:
    """The other processes that have neither failed nor ended."""

  def named(self, indices: Sequence[int]) -> str:
    """Their numbers and hosts."""


def pulses(client: Any) -> dict[int, str]:
  """The newest pulse of each process that has given one: 'LOOKS CALLS'."""
  found = client.key_value_dir_get(_PULSES)
  return {int(key.rpartition('/')[2]): value for key, value in found}


def has_ended(pulse: str) -> bool:
  """Whether this is the last pulse of a process that ended in order."""
  return pulse == _ENDED


class Watchdog:
  """Watches the others for one process."""

  def __init__(
    self,
    service: Watched,
    client: Any,
    limit: float,
    *,
    silent: float,
    poll: float,
    end: Callable[[int], Any] = os._exit,
  ):
    """Does nothing until `start`.

    Args:
      service: of this process.
      client: of the coordination service.
      limit: seconds without a call of this process.
      silent: seconds without a pulse of another one.
      poll: seconds between two looks.
      end: ends the process; a test's own returns.
    """
    self._service, self._client = service, client
    self._limit, self._poll, self._end = limit, poll, end
    self._patience = max(2, round(silent / poll))  # looks
    self._thread = threading.Thread(target=self._watch, daemon=True)
    self._stop = threading.Event()
    self._looks = 0
    self._calls, self._since = -1, time.monotonic()
    self._still = 0  # looks without a call
    # The pulse of each process, and for how many looks it has been the same:
    # not for how long, since this process too may have been stopped.
    self._seen: dict[int, tuple[str, int]] = {}
    self._made: dict[int, int] = {}  # calls of each process, as last told

  def start(self) -> None:
    """Watches from now on, until `stop` or the end of the process."""
    self._pulse('0 0')
    self._thread.start()

  def stop(self) -> None:
    """Watches no longer: this process ends in order.

    To be called before the interpreter ends: it kills threads, and one that is
    within the client then takes the process along, whatever its exit code.
    """
    self._stop.set()
    try:
      self._pulse(_ENDED)
      self._client.key_value_set(self._bell, 'true', allow_overwrite=True)
    except Exception:  # the service is gone: the thread has seen it
      pass
    self._thread.join()

  @property
  def _bell(self) -> str:
    """The key that wakes the thread where it rests."""
    return f'rest_jax/bell/{self._service.index}'

  def _pulse(self, value: str) -> None:
    key = f'{_PULSES}{self._service.index}'
    self._client.key_value_set(key, value, allow_overwrite=True)

  def _watch(self) -> None:
    keeper = 'process 0'
    try:
      keeper = self._service.named([0])  # asked while it can answer
      while not self._stop.is_set():
        found = self._look()
        if found is not None:
          self._leave(*found)
          return
        self._rest()
    except Exception as error:
      if self._stop.is_set():
        return
      told = ' '.join(str(error).split())[:200]
      self._say(
        f'{keeper}, which keeps the coordination service, has ended or cannot '
        f'be reached ({told}). This process ends, to be started again.'
      )
      self._end(GONE_CODE)

  def _look(self) -> tuple[str, int] | None:
    """(why this process must end, exit code); None: it need not."""
    self._looks += 1
    calls = self._service.calls
    self._still += 1
    if calls != self._calls:
      self._calls, self._since, self._still = calls, time.monotonic(), 0
    silent = time.monotonic() - self._since
    self._pulse(f'{self._looks} {calls}')
    self._take_pulses()
    if dead := self._without_pulse(self._patience):
      return (
        f'{self._service.named(dead)}: no sign of life for '
        f'{self._patience * self._poll:.0f} s: killed, stopped, or cut off. '
        'This process ends, to be started again.',
        GONE_CODE,
      )
    if self._still >= 3 and (told := self._service.failed()):
      # The main thread would have raised it by now, were it not stuck. An
      # error that may be the echo of a killed process waits for its name.
      if told['exit_code'] != STUCK_CODE or not self._without_pulse(1):
        return f'{told["who"]}: {told["text"]}', told['exit_code']
    if silent > self._limit:
      return self._stands_still(calls), STUCK_CODE
    return None

  def _take_pulses(self) -> None:
    for index, value in pulses(self._client).items():
      before, looks = self._seen.get(index, (None, 0))
      self._seen[index] = value, looks + 1 if value == before else 0
      if not has_ended(value):
        self._made[index] = int(value.split()[1])

  def _without_pulse(self, looks: int) -> list[int]:
    """The others that still have to work, their pulses the same for so long."""
    same = [index for index, (_, since) in self._seen.items() if since >= looks]
    return [i for i in self._service.others() if i in same] if same else []

  def _stands_still(self, calls: int) -> str:
    """Says which processes made the fewest calls."""
    made = self._made | {self._service.index: calls}
    fewest = min(made.values())
    behind = sorted(index for index in made if made[index] == fewest)
    return (
      f'nothing has moved for {self._limit:.0f} s. Furthest behind, after '
      f'{fewest} exchanges: {self._service.named(behind)}. This process ends, '
      'to be started again; REST_JAX_PROCESS_TIMEOUT_SECONDS sets the limit.'
    )

  def _rest(self) -> None:
    """Waits for the next look; raises at once where the service is lost."""
    try:
      self._client.blocking_key_value_get(
        self._bell, max(1, int(1000 * self._poll))
      )
    except Exception as error:
      if 'DEADLINE_EXCEEDED' not in str(error):
        raise

  def _leave(self, why: str, exit_code: int) -> None:
    self._say(why)
    try:
      self._pulse(_ENDED)
      # Process 0 keeps the service: the others see the same within a look.
      end = time.monotonic() + 2 * self._poll
      while self._service.index == 0 and time.monotonic() < end:
        if not self._service.others():
          break
        time.sleep(self._poll / 10)
    finally:
      self._end(exit_code)

  def _say(self, text: str) -> None:
    # In one write, so that no other thread's line gets into this one's.
    sys.stderr.write(f'{text}\n')
    sys.stderr.flush()
