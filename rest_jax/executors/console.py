"""What a person sees of a run: a line for each job, a bar for the running one.

On a terminal the running job's line is drawn again and again; elsewhere (a
log, CI) it is printed when something happens, and every now and then.
"""

import re
import shutil
import sys
import time
from collections.abc import Sequence
from typing import TextIO

QUIET_SECONDS = 60.0  # between two lines of progress where there is no terminal
BAR = 20  # characters
_WARNING = ': WARNING: '
_PROGRESS = re.compile(r'@progress (\d+)/(\d+) ?(.*)')


class Console:
  """Prints the state of jobs.

  Args:
    names: of all jobs, for the width of the first column.
    out: where to print.
  """

  def __init__(self, names: Sequence[str], out: TextIO | None = None):
    self.out = out or sys.stdout
    self.tty = self.out.isatty()
    self.width = max((len(name) for name in names), default=0)
    self._spoke = 0.0
    self._progress = None

  def start(self, name: str) -> None:
    self._name, self._started = name, time.monotonic()
    self._spoke, self._progress = self._started, None
    self.tick()

  def line(self, text: str) -> bool:
    """Takes a line of the job; True if it was one of progress.

    A warning is shown at once; like all else it belongs into the log too.
    """
    found = _PROGRESS.fullmatch(text.strip())
    if found is None:
      if _WARNING in text:
        elapsed = time.monotonic() - self._started
        self._print('warning', self._name, elapsed, text.split(_WARNING, 1)[1])
      return False
    done, total = int(found[1]), max(1, int(found[2]))
    self._progress = (min(done, total), total, found[3])
    self.tick()
    return True

  def tick(self) -> None:
    """Shows the running job, if it is time to."""
    now = time.monotonic()
    if self.tty:
      columns = shutil.get_terminal_size().columns
      text = self._row('run', self._name, now - self._started, self._bar())
      self.out.write(f'\r\x1b[2K{text[: columns - 1]}')
      self.out.flush()
    elif self._progress and now - self._spoke >= QUIET_SECONDS:
      self._spoke = now
      self._print('run', self._name, now - self._started, self._bar())

  def end(self, state: str, text: str = '') -> None:
    """Closes the running job's line: done, failed, again, stopped."""
    self._print(state, self._name, time.monotonic() - self._started, text)

  def kept(self, name: str, seconds: float) -> None:
    """A job that had been done before."""
    self._print('kept', name, seconds, '')

  def say(self, text: str) -> None:
    self.out.write(f'{text}\n')
    self.out.flush()

  def _print(self, state, name, seconds, text):
    if self.tty:
      self.out.write('\r\x1b[2K')
    self.say(self._row(state, name, seconds, text).rstrip())

  def _row(self, state, name, seconds, text):
    return f'{state:8}{name:{self.width}}  {clock(seconds):>8}  {text}'

  def _bar(self) -> str:
    if self._progress is None:
      return ''
    done, total, words = self._progress
    filled = BAR * done // total
    bar = '#' * filled + '.' * (BAR - filled)
    return f'[{bar}] {done}/{total} {words}'


def clock(seconds: float) -> str:
  """Seconds as m:ss or h:mm:ss."""
  minutes, rest = divmod(int(seconds), 60)
  hours, minutes = divmod(minutes, 60)
  return f'{hours}:{minutes:02}:{rest:02}' if hours else f'{minutes}:{rest:02}'
