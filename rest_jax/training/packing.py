"""Examples packed into rows: a pure function of the seed, seekable in O(1).

Rows are composed once, by first fit over a seeded order of the examples; each
epoch visits all of them in its own seeded order. Row g of a training (counted
from its first step) is therefore known without the rows before it.

An example of n tokens takes n - 1 places: inputs are its tokens but the last,
targets its tokens but the first.
"""

import dataclasses
from collections.abc import Sequence

import numpy as np
import pyarrow as pa

from rest_jax.artifacts import records
from rest_jax.config import configuration

_OPEN_ROWS = 128  # how many rows are tried for an example


@dataclasses.dataclass(frozen=True)
class Rows:
  """Packed rows, each array (rows, row_length).

  Attributes:
    tokens: inputs; 0 where there is none.
    targets: the token that follows.
    positions: from 0 within each example.
    segment_ids: 1, 2, …; 0 is padding.
    loss_weights: float32, of each target's negative log-likelihood.
    normalizers: (rows,) float32; the loss is divided by their global sum.
  """

  tokens: np.ndarray
  targets: np.ndarray
  positions: np.ndarray
  segment_ids: np.ndarray
  loss_weights: np.ndarray
  normalizers: np.ndarray


class Packer:
  """Examples of one folder, packed."""

  def __init__(
    self,
    table: pa.Table,
    *,
    row_length: int,
    seed: int,
    loss_normalizer: str = 'token',
  ):
    """Args:
      table: Example records.
      row_length: places in a row.
      seed: of the order.
      loss_normalizer: as training.configurations.TrainConfig says.

    Raises:
      ConfigurationError: where no example fits a row.
    """
    token_ids = table['token_ids'].combine_chunks()
    types = table['segment_types'].combine_chunks()
    self._tokens = token_ids.values.to_numpy()
    self._types = types.values.to_numpy()
    self._offsets = token_ids.offsets.to_numpy()
    self._weights = table['weight'].to_numpy().astype(np.float32)
    self.row_length, self.seed = row_length, seed
    self.loss_normalizer = loss_normalizer
    places = self._places = np.diff(self._offsets) - 1
    fits = (places <= row_length) & (places > 0)
    self.num_examples = int(fits.sum())
    self.num_too_long = int((places > row_length).sum())
    if not self.num_examples:
      longest = int(places.max(initial=0))
      raise configuration.ConfigurationError(
        f'no example fits a row of {row_length} tokens (the longest of '
        f"{len(places)} takes {longest}). Raise ROW_LENGTH or the model's "
        'max_length.'
      )
    order = _generator(seed, 0).permutation(np.flatnonzero(fits))
    self.rows = first_fit(order.tolist(), places.tolist(), row_length)
    self._order = None, None  # (epoch, its order of the rows), the latest
    self.fill = float(places[fits].sum() / (len(self.rows) * row_length))

  @property
  def rows_per_epoch(self) -> int:
    return len(self.rows)

  def row_number(self, index: int) -> int:
    """The composed row that stands at place `index` of the whole training."""
    epoch, place = divmod(index, len(self.rows))
    known, order = self._order  # read once: input pipelines have threads
    if known != epoch:
      order = _generator(self.seed, epoch + 1).permutation(len(self.rows))
      self._order = epoch, order
    return int(order[place])

  def tokens_in(self, first: int, rows: int) -> int:
    """Places of `rows` rows from `first` on that are not padding."""
    return sum(
      int(self._places[example])
      for index in range(first, first + rows)
      for example in self.rows[self.row_number(index)]
    )

  def batch(self, indices: Sequence[int]) -> Rows:
    """The rows at these places of the training."""
    shape = (len(indices), self.row_length)
    ints = [np.zeros(shape, np.int32) for _ in range(4)]
    tokens, targets, positions, segment_ids = ints
    loss_weights = np.zeros(shape, np.float32)
    normalizers = np.zeros(len(indices), np.float32)
    for row, index in enumerate(indices):
      start = 0
      for segment, example in enumerate(self.rows[self.row_number(index)], 1):
        low, high = self._offsets[example], self._offsets[example + 1]
        end = start + high - low - 1
        ids = self._tokens[low:high]
        learned = self._types[low + 1 : high] == records.TARGET
        tokens[row, start:end] = ids[:-1]
        targets[row, start:end] = ids[1:]
        positions[row, start:end] = np.arange(end - start)
        segment_ids[row, start:end] = segment
        weight, total = self._weigh(example, int(learned.sum()))
        loss_weights[row, start:end] = learned * weight
        normalizers[row] += total
        start = end
    return Rows(
      tokens, targets, positions, segment_ids, loss_weights, normalizers
    )

  def _weigh(self, example: int, learned: int) -> tuple[np.float32, np.float32]:
    """(weight of each target token, share in the normaliser)."""
    weight = self._weights[example]
    if self.loss_normalizer == 'token':
      return weight, weight * np.float32(learned)
    if self.loss_normalizer == 'sequence_sum':
      return weight, weight
    return weight / np.float32(max(learned, 1)), weight


def first_fit(
  order: Sequence[int], places: Sequence[int], row_length: int
) -> list[list[int]]:
  """Puts each example in the first of the open rows that has room.

  Args:
    order: examples, as they come.
    places: what each takes.
    row_length: what a row has.
  """
  rows: list[list[int]] = []
  opened: list[int] = []  # numbers of open rows
  room: list[int] = []  # and what they have left
  for example in order:
    need = places[example]
    for slot, left in enumerate(room):
      if left >= need:
        rows[opened[slot]].append(example)
        room[slot] = left - need
        break
    else:
      if len(opened) == _OPEN_ROWS:
        fullest = room.index(min(room))
        del opened[fullest], room[fullest]
      opened.append(len(rows))
      room.append(row_length - need)
      rows.append([example])
  return rows


def _generator(seed: int, epoch: int) -> np.random.Generator:
  return np.random.Generator(np.random.Philox(key=[seed, epoch]))
