"""How far the grading of a job's samples is."""

import time
from collections.abc import Sequence

from rest_jax.artifacts import manifests, progress_lines


class Progress:
  """Tells how many samples of the whole job are graded, and how fast.

  Attributes:
    words: what is graded, to be shown.
  """

  def __init__(self, samples_dirs: Sequence[str]):
    """Tells nothing yet.

    Args:
      samples_dirs: all folders of samples that the job grades.
    """
    total = sum(
      row['rows']
      for folder in samples_dirs
      for row in manifests.load(folder, stage='sample').parts
    )
    self._meter = progress_lines.Meter(
      total, lambda line: print(line, flush=True)
    )
    self._done = self._kept = 0
    self._began = time.monotonic()
    self.words = ''

  def part(self, rows: int, *, kept: bool) -> None:
    """A part of so many samples is graded, or was before."""
    self._done += rows
    self._kept += rows if kept else 0
    self.graded(0)

  def graded(self, samples: int) -> None:
    """So many samples of the running part are graded."""
    done = self._done + samples
    rate = (done - self._kept) / max(time.monotonic() - self._began, 1e-9)
    words = f'{self.words}, {rate:,.3g} samples/s'
    self._meter.at(done, words, kept=self._kept)
