"""The lines by which a stage tells the launcher how far it is.

A stage is a process of its own; what it prints is all that the launcher sees
(executors/console.py). Five kinds of line mean something there, and the others
go into the job's log:

    @progress 48/240 eval/greedy of own/test, 12 samples/s, 410 tokens/s
    @progress 148-100/240 the same, where 100 of the 148 were there before
    @phase compiling the decode program
    warning: 1 of 21 rows left out (line 21: not valid JSON)
    @show the prompt of own/train/3
    @settled
"""

import dataclasses
import os
import re
import time
from collections.abc import Callable

_PROGRESS = re.compile(r'@progress (\d+(?:\.\d+)?)(?:-(\d+))?/(\d+) ?(.*)')
_PHASE = '@phase '
_WARNING = 'warning: '
_SHOW = '@show '
_SETTLED = '@settled'
_LAUNCHED = 'REST_JAX_JOB'  # a variable that the launcher sets (holders.py)
_SECONDS = 1.0  # between two lines of one meter
_QUIET_SECONDS = 10.0  # where no launcher reads them


@dataclasses.dataclass(frozen=True)
class Progress:
  """How far a stage is.

  Attributes:
    done: of its samples, steps or problems; may be a fraction.
    total: of them.
    words: what is worked on, and how fast.
    kept: how many of those that are done are of an earlier attempt, and say
      nothing about this one's speed.
  """

  done: float
  total: int
  words: str
  kept: int = 0


@dataclasses.dataclass(frozen=True)
class Phase:
  """What a stage does that has no known length, such as compiling."""

  words: str


@dataclasses.dataclass(frozen=True)
class Warned:
  """What a person must be told, though the stage goes on."""

  words: str


@dataclasses.dataclass(frozen=True)
class Shown:
  """A line that belongs on the terminal, too, and not only into the log."""

  words: str


@dataclasses.dataclass(frozen=True)
class Settled:
  """No folder of the job that is done will change any more.

  What stood there before was kept or set aside, and nothing of it is extended:
  what follows this job may begin (executors/jobs.Job.follows).
  """


def parse(line: str) -> Progress | Phase | Warned | Shown | Settled | None:
  """What a line of a stage's output says; None for every other line."""
  if line.startswith(_SHOW):
    return Shown(line.removeprefix(_SHOW).rstrip())
  text = line.strip()
  if text.startswith(_WARNING):
    return Warned(text.removeprefix(_WARNING))
  if text == _SETTLED:
    return Settled()
  if text.startswith(_PHASE):
    return Phase(text.removeprefix(_PHASE))
  found = _PROGRESS.fullmatch(text)
  if found is None:
    return None
  total = max(1, int(found[3]))
  done = min(float(found[1]), total)
  return Progress(done, total, found[4], min(int(found[2] or 0), int(done)))


def progress(done: float, total: int, words: str, kept: int = 0) -> str:
  """A line that says how far the stage is."""
  shown = f'{done:.2f}'.removesuffix('.00')
  before = f'-{kept}' if kept else ''
  return f'@progress {shown}{before}/{total} {words}'


def phase(words: str) -> str:
  """A line that says what the stage does now."""
  return f'{_PHASE}{words}'


def warning(words: str) -> str:
  """A line that the launcher shows at once."""
  return f'{_WARNING}{words}'


def show(words: str) -> str:
  """A line that the launcher shows, and any other reader as it is."""
  return f'{_SHOW}{words}' if _LAUNCHED in os.environ else words


def settled() -> str:
  """A line that says what Settled does."""
  return _SETTLED


class Meter:
  """Prints how far a stage is, once a second at most."""

  def __init__(self, total: int, say: Callable[[str], None]):
    """Prints nothing yet.

    Args:
      total: of the samples, steps or problems of this job.
      say: prints a line.
    """
    self.total = total
    self._say = say
    self._launched = _LAUNCHED in os.environ
    self._seconds = _SECONDS if self._launched else _QUIET_SECONDS
    self._told = -self._seconds

  def at(
    self, done: float, words: str, *, kept: int = 0, now: bool = False
  ) -> None:
    """Tells how far the stage is.

    Args:
      done: of the total.
      words: what is worked on, and how fast.
      kept: of those that are done, from an earlier attempt.
      now: even if less than a second has passed.
    """
    clock = time.monotonic()
    if now or done >= self.total or clock - self._told >= self._seconds:
      self._told = clock
      # Only a launcher reckons the time that is left.
      kept = kept if self._launched else 0
      self._tell(progress(done, self.total, words, kept))

  def phase(self, words: str) -> None:
    """Tells what the stage does that has no known length."""
    self._told = -self._seconds
    self._tell(phase(words))

  def settled(self) -> None:
    """Tells the launcher what Settled says; nobody else."""
    if self._launched:
      self._say(settled())

  def _tell(self, line: str) -> None:
    # The first word is for a launcher, which redraws such lines in place.
    self._say(line if self._launched else line.partition(' ')[2])
