"""The host's side of the lanes: which problems the groups hold, what came out.

The device works on chunk t + 1 while the host reads chunk t. So what the host
knows of a sample is one chunk old; a sample that a stop string has ended runs
for one chunk more, and what it writes there is dropped.

Dimensions: G group, N lane, C step of a chunk, T suffix.
"""

import dataclasses
from collections.abc import Iterator, Sequence

import numpy as np

from rest_jax.sampling import stops
from rest_jax.sampling.backlog import Work
from rest_jax.sampling.device_lanes import Chosen


@dataclasses.dataclass(frozen=True)
class Ended:
  """A sample that has ended.

  Attributes:
    work: that it belongs to.
    index: of the sample.
    token_ids, logprobs, sampling_logprobs: up to its end, or a little more.
  """

  work: Work
  index: int
  token_ids: np.ndarray
  logprobs: np.ndarray
  sampling_logprobs: np.ndarray


class Board:
  """What the lanes have written, and which of them have ended.

  Attributes:
    work_G: what each group holds, or None.
    stopped_GN: for the device, the ordinals of samples that a stop string has
      ended.
  """

  def __init__(
    self,
    groups: int,
    lanes: int,
    chunk: int,
    max_decode_length: int,
    eos_ids: Sequence[int],
    stop_strings: stops.StopStrings,
  ):
    """All groups are empty.

    Args:
      groups, lanes, chunk: of the layout.
      max_decode_length: tokens at most for a sample.
      eos_ids: each of them ends a sample.
      stop_strings: so do these.
    """
    length = -(-max_decode_length // chunk) * chunk
    self._chunk, self._limit = chunk, max_decode_length
    self._eos = np.asarray(sorted(eos_ids), np.int64)
    self._stop_strings = stop_strings
    self._written = [
      np.zeros((groups, lanes, length), dtype)
      for dtype in (np.int32, np.float32, np.float32)
    ]
    # After the chunk that was read last, what the groups held in it, and the
    # samples that go on: where the running chunk began.
    self._read_G: Sequence[Work | None] = [None] * groups
    self._live_GN = np.zeros((groups, lanes), bool)
    self._lengths_GN = np.zeros((groups, lanes), np.int32)
    self.work_G: list[Work | None] = [None] * groups
    self.stopped_GN = np.full((groups, lanes), -1, np.int32)
    self._ended = self._tokens = 0

  def hold(self, group: int, work: Work | None) -> None:
    """The group holds other samples from the next chunk on."""
    self.work_G[group] = work
    self.stopped_GN[group] = -1

  def read(
    self, chosen: Chosen, held_G: Sequence[Work | None]
  ) -> Iterator[Ended]:
    """Takes a chunk's tokens; yields the samples that ended in it.

    Args:
      chosen: of the chunk, fetched.
      held_G: what the groups held in it.
    """
    C, before_GN = self._chunk, chosen.lengths_GN
    live_GN = self._live(chosen.ordinal_GN, held_G)
    g, n = np.nonzero(live_GN)
    places = before_GN[g, n][:, None] + np.arange(C)
    for array, values in zip(self._written, chosen[2:], strict=True):
      array[g[:, None], n[:, None], places] = values[g, n]
    eos_GNC = np.isin(chosen.tokens_GNC, self._eos)
    has_eos_GN = eos_GNC.any(axis=-1)
    ends_GN = before_GN + np.where(has_eos_GN, eos_GNC.argmax(axis=-1) + 1, C)
    ends_GN = np.minimum(ends_GN, self._limit)
    over_GN = has_eos_GN | (before_GN + C >= self._limit)
    self._tokens += int((ends_GN - before_GN)[live_GN].sum())
    suspects_GN = self._stop_strings.suspects(chosen.tokens_GNC).any(axis=-1)
    self._read_G, self._lengths_GN = held_G, before_GN + C
    self._live_GN = live_GN & ~over_GN
    for g, n in np.argwhere(live_GN & (over_GN | suspects_GN)):
      end, ordinal = int(ends_GN[g, n]), int(chosen.ordinal_GN[g, n])
      work = held_G[g]
      if not over_GN[g, n]:
        ids = self._written[0][g, n, :end].tolist()
        if not self._stop_strings.found(ids, C):
          continue
        self._live_GN[g, n] = False
        if work is self.work_G[g]:
          self.stopped_GN[g, n] = ordinal
      work.ended[ordinal] = True
      self._ended += 1
      yield Ended(
        work,
        work.first + ordinal,
        *(array[g, n, :end].copy() for array in self._written),
      )

  def _live(
    self, ordinal_GN: np.ndarray, held_G: Sequence[Work | None]
  ) -> np.ndarray:
    """The lanes whose sample had not ended before this chunk."""
    live_GN = ordinal_GN >= 0
    for g, work in enumerate(held_G):
      live_GN[g] &= work is not None
      if work is not None:
        live_GN[g] &= ~work.ended[np.maximum(ordinal_GN[g], 0)]
    return live_GN

  def progress(self) -> tuple[float, int]:
    """(samples, with parts of those that go on; tokens), so far."""
    parts_GN = self._lengths_GN[self._live_GN] / self._limit
    return self._ended + float(parts_GN.sum()), self._tokens

  def left(self, in_flight: Sequence[Work | None] | None) -> np.ndarray:
    """How many samples each group may still have when the running chunk ends.

    Args:
      in_flight: what the groups hold in the chunk that runs, if one does. The
        samples that reach the greatest length in it are not left.

    Returns:
      (groups,)
    """
    groups, lanes = self.stopped_GN.shape
    left_G = np.zeros(groups, int)
    for g, work in enumerate(self.work_G):
      if work is None:
        continue
      left_G[g] = work.number - int(work.ended.sum())
      if in_flight is None or in_flight[g] is not work:
        continue
      if self._chunk >= self._limit:  # every sample takes one chunk
        left_G[g] -= min(lanes, left_G[g])
      elif self._read_G[g] is work:
        near_N = self._lengths_GN[g] + self._chunk >= self._limit
        left_G[g] -= int((near_N & self._live_GN[g]).sum())
    return left_G
