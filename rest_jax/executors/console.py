"""What a person sees of a run: a line for each job, a bar for the running one.

On a terminal the running job's line is redrawn in place (by rich). Elsewhere,
in a log or in CI, it is printed once a minute, and all lines are plain text.
"""

import re
import sys
import time
from collections.abc import Sequence
from typing import TextIO

import rich.console
import rich.live
import rich.text

QUIET_SECONDS = 60.0  # between two lines of progress where there is no terminal
BAR = 20  # characters
_WARNING = ': WARNING: '
_PROGRESS = re.compile(r'@progress (\d+)/(\d+) ?(.*)')


class Console:
  """Prints the state of jobs, one of which runs at a time."""

  def __init__(self, names: Sequence[str], out: TextIO | None = None):
    """Prints nothing yet.

    Args:
      names: of all jobs, for the width of the first column.
      out: where to print; None: standard output.
    """
    self.out = out or sys.stdout
    self.tty = self.out.isatty()
    self.width = max((len(name) for name in names), default=0)
    self._name = ''
    self._started = self._spoke = 0.0
    self._progress: tuple[int, int, str] | None = None
    self._live: rich.live.Live | None = None

  def start(self, name: str) -> None:
    """Begins a job's line."""
    self._name, self._started = name, time.monotonic()
    self._spoke, self._progress = self._started, None
    if self.tty:
      self._live = rich.live.Live(
        self._running(),
        console=rich.console.Console(file=self.out, force_terminal=True),
        auto_refresh=False,  # `tick` is called often enough, by one thread
        transient=True,
        redirect_stdout=False,
        redirect_stderr=False,
      )
      self._live.start()
    self.tick()

  def line(self, text: str) -> bool:
    """Takes a line of the job's output.

    Args:
      text: the line. `@progress DONE/TOTAL words` moves the bar; a warning is
        shown at once.

    Returns:
      Whether it was a line of progress, which does not belong into the log.
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
    if self._live is not None:
      self._live.update(self._running(), refresh=True)
      return
    now = time.monotonic()
    if self._progress and now - self._spoke >= QUIET_SECONDS:
      self._spoke = now
      self._print('run', self._name, now - self._started, self._bar())

  def end(self, state: str, text: str = '') -> None:
    """Closes the running job's line.

    Args:
      state: done, failed, again or stopped.
      text: why.
    """
    if self._live is not None:
      self._live.stop()
      self._live = None
    self._print(state, self._name, time.monotonic() - self._started, text)

  def kept(self, name: str, seconds: float) -> None:
    """Prints a job that had been done before, and the seconds that it took."""
    self._print('kept', name, seconds, '')

  def say(self, text: str) -> None:
    """Prints a line, above the running job's."""
    if self._live is not None:
      self._live.console.print(rich.text.Text(text), soft_wrap=True)
      return
    self.out.write(f'{text}\n')
    self.out.flush()

  def _print(self, state: str, name: str, seconds: float, text: str) -> None:
    self.say(self._row(state, name, seconds, text).rstrip())

  def _running(self) -> rich.text.Text:
    elapsed = time.monotonic() - self._started
    row = self._row('run', self._name, elapsed, self._bar())
    return rich.text.Text(row, no_wrap=True, overflow='ellipsis')

  def _row(self, state: str, name: str, seconds: float, text: str) -> str:
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
