"""The lines by which a stage tells the launcher how far it is.

A stage is a process of its own; what it prints is all that the launcher sees
(executors/console.py). Four kinds of line mean something there, and the others
go into the job's log:

    @progress 48/240 eval/greedy of own/test, 12 samples/s, 410 tokens/s
    @phase compiling the decode program
    warning: 1 of 21 rows left out (line 21: not valid JSON)
    @show the prompt of own/train/3
"""

import dataclasses
import os
import re
import time
from collections.abc import Callable

_PROGRESS = re.compile(r'@progress (\d+(?:\.\d+)?)/(\d+) ?(.*)')
_PHASE = '@phase '
_WARNING = 'warning: '
_SHOW = '@show '
_LAUNCHED = 'REST_JAX_JOB'  # a variable that the launcher sets (leases.py)
_SECONDS = 1.0  # between two lines of one meter
_QUIET_SECONDS = 10.0  # where no launcher reads them


@dataclasses.dataclass(frozen=True)
class Progress:
  """How far a stage is.

  Attributes:
    done: of its samples, steps or problems; may be a fraction.
    total: of them.
    words: what is worked on, and how fast.
  """

  done: float
  total: int
  words: str


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


def parse(line: str) -> Progress | Phase | Warned | Shown | None:
  """What a line of a stage's output says; None for every other line."""
  if line.startswith(_SHOW):
    return Shown(line.removeprefix(_SHOW).rstrip())
  text = line.strip()
  if text.startswith(_WARNING):
    return Warned(text.removeprefix(_WARNING))
  if text.startswith(_PHASE):
    return Phase(text.removeprefix(_PHASE))
  found = _PROGRESS.fullmatch(text)
  if found is None:
    return None
  total = max(1, int(found[2]))
  return Progress(min(float(found[1]), total), total, found[3])


def progress(done: float, total: int, words: str) -> str:
  """A line that says how far the stage is."""
  shown = f'{done:.2f}'.removesuffix('.00')
  return f'@progress {shown}/{total} {words}'


def phase(words: str) -> str:
  """A line that says what the stage does now."""
  return f'{_PHASE}{words}'


def warning(words: str) -> str:
  """A line that the launcher shows at once."""
  return f'{_WARNING}{words}'


def show(words: str) -> str:
  """A line that the launcher shows, and any other reader as it is."""
  return f'{_SHOW}{words}' if _LAUNCHED in os.environ else words


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

  def at(self, done: float, words: str, *, now: bool = False) -> None:
    """Tells how far the stage is.

    Args:
      done: of the total.
      words: what is worked on, and how fast.
      now: even if less than a second has passed.
    """
    clock = time.monotonic()
    if now or done >= self.total or clock - self._told >= self._seconds:
      self._told = clock
      self._tell(progress(done, self.total, words))

  def phase(self, words: str) -> None:
    """Tells what the stage does that has no known length."""
    self._told = -self._seconds
    self._tell(phase(words))

  def _tell(self, line: str) -> None:
    # The first word is for a launcher, which redraws such lines in place.
    self._say(line if self._launched else line.partition(' ')[2])
