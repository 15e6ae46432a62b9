"""How far a sampling is: what the engine tells, and what the stage shows."""

import time

from rest_jax.artifacts import progress_lines
from rest_jax.distributed import multihost


class Watch:
  """What is told of a sampling while it goes on; by itself nothing is done."""

  def compiling(self, program: str) -> None:
    """A program of this name is compiled next, which may take minutes."""

  def decoded(self, samples: float, tokens: int) -> None:
    """How far `generate` is: samples, and parts of one, and their tokens."""


class Count:
  """What one call of `generate` has decoded, over its programs."""

  def __init__(self, watch: Watch):
    """Has decoded nothing yet.

    Args:
      watch: what is told.
    """
    self.watch = watch
    self._before = self._now = (0.0, 0)

  def decoded(self, samples: float, tokens: int) -> None:
    """Tells how far the program is that runs."""
    self._now = self._before[0] + samples, self._before[1] + tokens
    self.watch.decoded(*self._now)

  def end(self) -> None:
    """Another program runs from here on."""
    self._before = self._now


class Progress(Watch):
  """Tells how many samples of the whole job are drawn, and how fast."""

  def __init__(self, total: int):
    """Tells nothing yet.

    Args:
      total: samples of all streams and folders of the job.
    """
    self._meter = progress_lines.Meter(total, multihost.say)
    self._done = 0  # samples that are there, also of an earlier attempt
    self._kept = 0  # of them, of an earlier attempt
    self._drawn: tuple[float, int] = (0, 0)  # since `begin`: samples, tokens
    self._words = self._rate = ''
    # Samples, tokens and clock that the rate is reckoned from.
    self._first: tuple[float, int, float] | None = None

  def begin(self, words: str) -> None:
    """Names what is sampled next: a stream, and the task and split."""
    self._done, self._drawn = self._done + round(self._drawn[0]), (0, 0)
    again, self._words = words == self._words, words
    self._rate, self._first = '', None
    if not again:
      self.there(0)

  def settled(self) -> None:
    """No folder that is done will change any more."""
    self._meter.settled()

  def there(self, samples: int) -> None:
    """So many samples need not be drawn."""
    self._done += samples
    self._kept += samples
    self._tell(now=True)

  def phase(self, words: str) -> None:
    """Tells what is done that is no sampling."""
    self._first = None
    self._meter.phase(words)

  def compiling(self, program: str) -> None:
    self.phase(f'compiling {program}')

  def decoded(self, samples: float, tokens: int) -> None:
    self._drawn = samples, tokens
    here = (samples, tokens, time.monotonic())
    first = self._first = self._first or here
    seconds = here[2] - first[2]
    if seconds > 0:
      self._rate = (
        f', {(here[0] - first[0]) / seconds:.3g} samples/s, '
        f'{(here[1] - first[1]) / seconds:,.0f} tokens/s'
      )
    self._tell()

  def _tell(self, *, now: bool = False) -> None:
    at, words = self._done + self._drawn[0], f'{self._words}{self._rate}'
    self._meter.at(at, words, kept=self._kept, now=now)
