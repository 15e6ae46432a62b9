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
  """What one call of `generate` has decoded, over its batches."""

  def __init__(self, watch: Watch):
    """Has decoded nothing yet.

    Args:
      watch: what is told.
    """
    self.watch = watch
    self._samples = self._tokens = self._of_batch = 0

  def decoded(self, samples: float, tokens: int) -> None:
    """Tells how far the batch is."""
    self._of_batch = tokens
    self.watch.decoded(self._samples + samples, self._tokens + tokens)

  def end(self, samples: int) -> None:
    """Ends a batch of so many samples."""
    self._samples += samples
    self._tokens += self._of_batch
    self.watch.decoded(self._samples, self._tokens)


class Progress(Watch):
  """Tells how many samples of the whole job are drawn, and how fast."""

  def __init__(self, total: int):
    """Tells nothing yet.

    Args:
      total: samples of all streams and folders of the job.
    """
    self._meter = progress_lines.Meter(total, multihost.say)
    self._done = 0  # samples of finished parts, also of an earlier attempt
    self._tokens = self._of_part = 0  # decoded here
    self._words = self._rate = ''
    # Samples, tokens and clock that the rate is reckoned from.
    self._first: tuple[float, int, float] | None = None

  def begin(self, words: str) -> None:
    """Names what is sampled next: a stream, and the task and split."""
    self._words, self._rate, self._first = words, '', None
    self.part(0)

  def part(self, samples: int) -> None:
    """A part of so many samples is there."""
    self._done += samples
    self._tokens, self._of_part = self._tokens + self._of_part, 0
    self._meter.at(self._done, f'{self._words}{self._rate}', now=True)

  def phase(self, words: str) -> None:
    """Tells what is done that is no sampling."""
    self._first = None
    self._meter.phase(words)

  def compiling(self, program: str) -> None:
    self.phase(f'compiling {program}')

  def decoded(self, samples: float, tokens: int) -> None:
    self._of_part = tokens
    here = (self._done + samples, self._tokens + tokens, time.monotonic())
    first = self._first = self._first or here
    seconds = here[2] - first[2]
    if seconds > 0:
      self._rate = (
        f', {(here[0] - first[0]) / seconds:.3g} samples/s, '
        f'{(here[1] - first[1]) / seconds:,.0f} tokens/s'
      )
    self._meter.at(here[0], f'{self._words}{self._rate}')
