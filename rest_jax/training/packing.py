"""Examples packed into rows: a pure function of the seed, seekable in O(1).

Rows are composed once, by first fit over a seeded order of the examples, some
hundred of them at a time by their size; each epoch visits all rows in its own
seeded order. Row g of a training (counted
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
from rest_jax.models import segments
from rest_jax.training import composition


@dataclasses.dataclass(frozen=True)
class Rows:
  """Packed rows, each array (rows, row_length).

  Attributes:
    tokens: inputs; 0 where there is none.
    targets: the token that follows.
    positions: of the inputs in their examples, from 0.
    segment_ids: 1, 2, …; 0 is padding.
    loss_weights: float32, of each target's negative log-likelihood.
    normalizers: (rows,) float32; the loss is divided by their global sum.
    parents: the segment that a place's segment continues (models/segments.py);
      -1: none. None where no example shares anything.
    prefixes: (rows,): which of the packer's prefixes each row has, -1: none;
      None where there are none.
  """

  tokens: np.ndarray
  targets: np.ndarray
  positions: np.ndarray
  segment_ids: np.ndarray
  loss_weights: np.ndarray
  normalizers: np.ndarray
  parents: np.ndarray | None = None
  prefixes: np.ndarray | None = None

  def arrays(self) -> dict[str, np.ndarray]:
    """The fields that are there, by name."""
    return {
      name: array for name, array in vars(self).items() if array is not None
    }


@dataclasses.dataclass(frozen=True)
class Prefixes:
  """What the prompts of many problems begin with.

  Attributes:
    tokens_FP: int32, padded on the right.
    lengths_F: int32.
  """

  tokens_FP: np.ndarray
  lengths_F: np.ndarray


class Examples:
  """The columns of Example records, as arrays.

  Attributes:
    tokens, types: ids and segment types of all examples, one after the other.
    offsets: where each example begins in them; one more entry than examples.
    weights: of each example.
  """

  def __init__(self, table: pa.Table, loss_normalizer: str):
    """Args:
    table: Example records.
    loss_normalizer: as hyperparameters.TrainConfig says.
    """
    token_ids = table['token_ids'].combine_chunks()
    types = table['segment_types'].combine_chunks()
    self.tokens = token_ids.values.to_numpy()
    self.types = types.values.to_numpy()
    self.offsets = token_ids.offsets.to_numpy()
    self.weights = table['weight'].to_numpy().astype(np.float32)
    self._normalizer = loss_normalizer

  @property
  def places(self) -> np.ndarray:
    """What each example takes: its tokens but the last are inputs."""
    return np.diff(self.offsets) - 1

  def put(
    self, rows: Rows, row: int, start: int, example: int, first: int
  ) -> int:
    """Writes an example's inputs and targets into a row.

    Args:
      rows: to write into.
      row: of them.
      start: the first place.
      example: which.
      first: of its tokens, the first that is written.

    Returns:
      The place behind the last one.
    """
    low, high = self.offsets[example], self.offsets[example + 1]
    ids, learned = self.tokens[low:high], self.types[low:high] == records.TARGET
    end = start + len(ids) - 1 - first
    rows.tokens[row, start:end] = ids[first:-1]
    rows.targets[row, start:end] = ids[first + 1 :]
    rows.positions[row, start:end] = np.arange(first, len(ids) - 1)
    # All targets count, also those in front of what is written: there are none.
    weight, total = self._weigh(example, int(learned[1:].sum()))
    rows.loss_weights[row, start:end] = learned[first + 1 :] * weight
    rows.normalizers[row] += total
    return end

  def _weigh(self, example: int, learned: int) -> tuple[np.float32, np.float32]:
    """(weight of each target token, share in the normaliser)."""
    weight = self.weights[example]
    if self._normalizer == 'token':
      return weight, weight * np.float32(learned)
    if self._normalizer == 'sequence_sum':
      return weight, weight
    return weight / np.float32(max(learned, 1)), weight


# Of rows whose examples share nothing.
PLAIN_FIELDS = tuple(
  field.name for field in dataclasses.fields(Rows) if field.default is not None
)


class Packer:
  """Examples of one folder, packed; each with its whole prompt.

  Attributes:
    rows: the items of each composed row, as `_places` counts them.
    num_examples, num_too_long: that are packed, and that no row holds.
    fill: the share of places that are not padding.
    spans: how far tokens look within a row.
    prefixes: what the examples of many rows begin with, and no row holds; None:
      there are none.
  """

  prefixes: Prefixes | None = None

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
      loss_normalizer: as hyperparameters.TrainConfig says.

    Raises:
      ConfigurationError: where no example fits a row.
    """
    self.examples = Examples(table, loss_normalizer)
    self.row_length, self.seed = row_length, seed
    self._places = self._itemize(table)
    if not self.num_examples:
      longest = int(self.examples.places.max(initial=0))
      raise configuration.ConfigurationError(
        f'no example fits a row of {row_length} tokens (the longest of '
        f"{table.num_rows} takes {longest}). Raise ROW_LENGTH or the model's "
        'max_length.'
      )
    fits = np.flatnonzero(self._places > 0)
    order = _generator(seed, 0).permutation(fits)
    self.rows = self._compose(order)
    self._order = None, None  # (epoch, its order of the rows), the latest
    self.fill = float(self._places[fits].sum() / (len(self.rows) * row_length))
    self.spans = self._spans()

  def _itemize(self, table: pa.Table) -> np.ndarray:
    """Decides what is packed as one piece; returns the places of each item.

    Items of 0 places are left out. Sets num_examples and num_too_long.
    """
    del table
    places = self.examples.places
    self.num_too_long = int((places > self.row_length).sum())
    places = np.where(places <= self.row_length, places, 0).clip(0)
    self.num_examples = int((places > 0).sum())
    return places

  def _compose(self, order: np.ndarray) -> list[list[int]]:
    """Rows of these items, tried in this order."""
    return composition.first_fit(
      order.tolist(), self._places.tolist(), self.row_length
    )

  def _spans(self) -> segments.Spans:
    return segments.Spans(segment=int(self._places.max()), parents=0)

  def _put(self, rows: Rows, row: int, items: Sequence[int]) -> None:
    """Writes the items of a composed row."""
    start = 0
    for segment, example in enumerate(items, 1):
      end = self.examples.put(rows, row, start, example, 0)
      rows.segment_ids[row, start:end] = segment
      start = end

  @property
  def fields(self) -> tuple[str, ...]:
    """The fields of Rows that its rows have."""
    return PLAIN_FIELDS

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
      int(self._places[item])
      for index in range(first, first + rows)
      for item in self.rows[self.row_number(index)]
    )

  def batch(self, indices: Sequence[int]) -> Rows:
    """The rows at these places of the training."""
    rows = self._empty(len(indices))
    for row, index in enumerate(indices):
      self._put(rows, row, self.rows[self.row_number(index)])
    return rows

  def _empty(self, number: int) -> Rows:
    """Rows of padding."""
    return Rows(
      **{
        name: np.zeros(shape(name, number, self.row_length), dtype_of(name))
        for name in self.fields
      }
    )


_OF_ROWS = ('normalizers', 'prefixes')  # one value for each row


def shape(name: str, rows: int, row_length: int) -> tuple[int, ...]:
  """The shape of a field of Rows."""
  return (rows,) if name in _OF_ROWS else (rows, row_length)


def dtype_of(name: str) -> type:
  """The dtype of a field of Rows."""
  return np.float32 if name in ('loss_weights', 'normalizers') else np.int32


def _generator(seed: int, epoch: int) -> np.random.Generator:
  return np.random.Generator(np.random.Philox(key=[seed, epoch]))
