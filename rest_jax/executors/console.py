"""What a person sees of a run: a line for each job, with a bar while it runs.

    run      base/sample_eval  1:23  job 4 of 26 [###.......] 48/240
             eval/greedy of own/test, 12 samples/s, 410 tokens/s, 5:20 left

On a terminal the lines of the running jobs are redrawn in place (by rich).
Elsewhere, in a log or in CI, each is printed when its job starts and then once
a minute, and all lines are plain text.
"""

import dataclasses
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
  """Prints the state of jobs, of which several may run at a time."""

  def __init__(self, names: Sequence[str], out: TextIO | None = None):
    """Prints nothing yet.

    Args:
      names: of all jobs, for the width of the first column.
      out: where to print; None: standard output.
    """
    self.out = out or sys.stdout
    self.tty = self.out.isatty()
    self.width = max((len(name) for name in names), default=0)
    self._jobs = self._before = 0
    self._numbers: dict[str, int] = {}
    self._running: dict[str, _Running] = {}
    self._live: rich.live.Live | None = None

  def plan(self, jobs: int, done: int = 0) -> None:
    """Says how many jobs there are, and how many of them were before."""
    self._jobs, self._before, self._numbers = jobs, done, {}

  def start(self, name: str) -> None:
    """Begins a job's line; the same name again is another attempt."""
    now = time.monotonic()
    self._running[name] = _Running(self._number(name), now, now, _JobState())
    if not self.tty:
      self._print('run', name, 0.0, self._words(name))
    elif self._live is None:
      self._live = rich.live.Live(
        self._rows(),
        console=rich.console.Console(file=self.out, force_terminal=True),
        auto_refresh=False,  # `tick` is called often enough, by one thread
        transient=True,
        redirect_stdout=False,
        redirect_stderr=False,
      )
      self._live.start()
    self.tick()

  def line(self, name: str, text: str) -> bool:
    """Takes a line of a running job's output (artifacts/progress_lines.py).

    Args:
      name: of the job.
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
    if told is None or isinstance(told, progress_lines.Settled):
      return False
    self._running[name].state.take(told)
    self.tick()
    return True

  def tick(self) -> None:
    """Shows the running jobs, if it is time to."""
    if self._live is not None:
      self._live.update(self._rows(), refresh=True)
      return
    now = time.monotonic()
    for name, job in self._running.items():
      if now - job.spoke >= QUIET_SECONDS:
        job.spoke = now
        self._print('run', name, now - job.started, self._words(name))

  def end(self, name: str, state: str, text: str = '') -> None:
    """Closes a running job's line.

    Args:
      name: of the job.
      state: done, failed, again or stopped.
      text: why.
    """
    job = self._running.pop(name)
    if self._live is not None and not self._running:
      self._live.stop()
      self._live = None
    self._print(state, name, time.monotonic() - job.started, text)

  def kept(self, name: str, seconds: float) -> None:
    """Prints a job that had been done before, and the seconds that it took."""
    self._number(name)
    self._print('kept', name, seconds, '')

  def say(self, text: str) -> None:
    """Prints a line, above those of the running jobs."""
    if self._live is not None:
      self._live.console.print(rich.text.Text(text), soft_wrap=True)
      return
    self.out.write(f'{text}\n')
    self.out.flush()

  def _number(self, name: str) -> int:
    """Which job it is, in the order in which they are met."""
    following = self._before + len(self._numbers) + 1
    return self._numbers.setdefault(name, following)

  def _print(self, state: str, name: str, seconds: float, text: str) -> None:
    self.say(self._row(state, name, seconds, text).rstrip())

  def _rows(self) -> rich.text.Text:
    now = time.monotonic()
    rows = [
      self._row('run', name, now - job.started, self._words(name))
      for name, job in self._running.items()
    ]
    return rich.text.Text('\n'.join(rows), no_wrap=True, overflow='ellipsis')

  def _row(self, state: str, name: str, seconds: float, text: str) -> str:
    return f'{state:8}{name:{self.width}}  {clock(seconds):>8}  {text}'

  def _words(self, name: str) -> str:
    running = self._running[name]
    job = f'job {running.number} of {self._jobs}' if self._jobs else ''
    return ' '.join(filter(None, [job, running.state.words()]))


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


@dataclasses.dataclass
class _Running:
  """A running job: which of the plan, since when, and when it was shown."""

  number: int
  started: float
  spoke: float
  state: _JobState


def clock(seconds: float) -> str:
  """Seconds as m:ss or h:mm:ss."""
  minutes, rest = divmod(int(seconds), 60)
  hours, minutes = divmod(minutes, 60)
  return f'{hours}:{minutes:02}:{rest:02}' if hours else f'{minutes}:{rest:02}'
