"""What a person sees of a run: a line for each job, a bar for the running one.

    run      base/sample_eval  1:23  job 4 of 26 [###.......] 48/240
             eval/greedy of own/test, 12 samples/s, 410 tokens/s, 5:20 left

On a terminal the running job's line is redrawn in place (by rich). Elsewhere,
in a log or in CI, it is printed when the job starts and then once a minute, and
all lines are plain text.
"""

import sys
import time
from collections.abc import Sequence
from typing import TextIO

import rich.console
import rich.live
import rich.text

from rest_jax.artifacts import progress_lines

QUIET_SECONDS = 60.0  # between two lines of a job where there is no terminal
BAR = 10  # characters


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
    self._number = self._jobs = 0
    self._name = ''
    self._started = self._spoke = 0.0
    self._state = _JobState()
    self._live: rich.live.Live | None = None

  def plan(self, jobs: int, done: int = 0) -> None:
    """Says how many jobs there are, and how many of them were before."""
    self._number, self._jobs, self._name = done, jobs, ''

  def start(self, name: str) -> None:
    """Begins a job's line; the same name again is another attempt."""
    self._number += name != self._name
    self._name, self._started = name, time.monotonic()
    self._spoke, self._state = self._started, _JobState()
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
    else:
      self._print('run', self._name, 0.0, self._words())
    self.tick()

  def line(self, text: str) -> bool:
    """Takes a line of the job's output (artifacts/progress_lines.py).

    Args:
      text: the line. A warning is shown at once.

    Returns:
      Whether it was about progress alone, and does not belong into the log.
    """
    told = progress_lines.parse(text)
    if isinstance(told, progress_lines.Warned):
      self.say(progress_lines.warning(told.words))
      return False
    if isinstance(told, progress_lines.Shown):
      self.say(told.words)
      return False
    if told is None:
      return False
    self._state.take(told)
    self.tick()
    return True

  def tick(self) -> None:
    """Shows the running job, if it is time to."""
    if self._live is not None:
      self._live.update(self._running(), refresh=True)
      return
    now = time.monotonic()
    if now - self._spoke >= QUIET_SECONDS:
      self._spoke = now
      self._print('run', self._name, now - self._started, self._words())

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
    self._number += 1
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
    row = self._row('run', self._name, elapsed, self._words())
    return rich.text.Text(row, no_wrap=True, overflow='ellipsis')

  def _row(self, state: str, name: str, seconds: float, text: str) -> str:
    return f'{state:8}{name:{self.width}}  {clock(seconds):>8}  {text}'

  def _words(self) -> str:
    job = f'job {self._number} of {self._jobs}' if self._jobs else ''
    return ' '.join(filter(None, [job, self._state.words()]))


class _JobState:
  """What the running job has told of itself."""

  def __init__(self):
    self._progress: progress_lines.Progress | None = None
    self._phase = ''
    # Where and when the time that is left is reckoned from, and to; what an
    # earlier attempt has done is not in either.
    self._first: tuple[float, float] | None = None
    self._last: tuple[float, float] | None = None

  def take(self, told: progress_lines.Progress | progress_lines.Phase) -> None:
    """Takes what a line says."""
    if isinstance(told, progress_lines.Phase):
      self._phase = told.words
      self._first = None  # compiling says nothing of the speed afterwards
      return
    now = time.monotonic()
    done = told.done - told.kept
    if self._first is None or done < self._first[0]:
      self._first = (done, now)
    if self._last is None or done != self._last[0]:
      self._last = (done, now)
    self._progress, self._phase = told, ''

  def words(self) -> str:
    """The bar, what is done, and the time that is left."""
    told = self._progress
    if told is None:
      return self._phase
    filled = int(BAR * told.done / told.total)
    bar = f'[{"#" * filled}{"." * (BAR - filled)}]'
    left = None if self._phase else self._left(told)
    words = [
      self._phase or told.words,
      *([] if left is None else [f'{clock(left)} left']),
    ]
    return f'{bar} {int(told.done)}/{told.total} {", ".join(words)}'

  def _left(self, told: progress_lines.Progress) -> float | None:
    """Seconds until the job is done, at its speed so far; None: unknown."""
    if self._first is None or self._last is None:
      return None
    done, seconds = (
      b - a for a, b in zip(self._first, self._last, strict=True)
    )
    if done <= 0 or seconds <= 0:
      return None
    left = (told.total - told.done) * seconds / done
    return max(0.0, left - (time.monotonic() - self._last[1]))


def clock(seconds: float) -> str:
  """Seconds as m:ss or h:mm:ss."""
  minutes, rest = divmod(int(seconds), 60)
  hours, minutes = divmod(minutes, 60)
  return f'{hours}:{minutes:02}:{rest:02}' if hours else f'{minutes}:{rest:02}'
