"""What the tokens of a packed row attend to.

A row holds *segments*, each in one piece. A token attends to the tokens of its
own segment up to itself, to all of its segment's *parent* (a question, whose
solutions are segments behind it), and to the row's *prefix*, which lies in no
row: its keys and values are computed once for all rows of a step.

    prefix        the few-shot prompt, of many problems
      segment     a question, which has no parent
        segment   a solution, whose parent is the question

Dimensions: B row, L place of a row, F prefix, P place of a prefix; others as in
network.py.
"""

import dataclasses
from typing import Any, NamedTuple

import jax


@dataclasses.dataclass(frozen=True)
class Spans:
  """How far tokens look within a row: facts of the packing plan.

  They bound what is computed, and change no result.

  Attributes:
    segment: places of the longest segment.
    parents: places of parents, at most, that the tokens of a block of BLOCK
      places attend to. 0: no segment has a parent.
  """

  segment: int
  parents: int


BLOCK = 128  # places whose queries are computed together


class OfRows(NamedTuple):
  """Which prefix each row has.

  Attributes:
    lengths_F: tokens of each prefix; the places behind them are padding.
    index_B: the prefix of each row; -1: none.
  """

  lengths_F: jax.Array
  index_B: jax.Array


class Prefixes(NamedTuple):
  """What the texts of some rows begin with.

  Attributes:
    of_rows: which prefix each row has.
    keys_values: of all layers: a list for each of config.stacks, and there for
      each layer of the stack's pattern, of (keys, values) of shape (repeats, F,
      P, K, E).
  """

  of_rows: OfRows
  keys_values: Any


class SharedPrefix(NamedTuple):
  """The prefixes as one layer sees them.

  Attributes:
    of_rows: which prefix each row has.
    keys: (F, P, K, E), rotated.
    values: (F, P, K, E).
  """

  of_rows: OfRows
  keys: jax.Array
  values: jax.Array


class Segments(NamedTuple):
  """The segments of some rows.

  Attributes:
    ids_BL: 1, 2, … in a row; 0 is padding, which attends to itself.
    parents_BL: the segment that a token's segment continues; -1: none. None:
      no segment has a parent.
    positions_BL: of the tokens in their texts; windows are counted in them.
      Within a segment they grow by one.
    of_rows: the rows' prefixes; None: there are none.
  """

  ids_BL: jax.Array
  parents_BL: jax.Array | None
  positions_BL: jax.Array
  of_rows: OfRows | None = None

  def prefix(self, keys_values: Any) -> SharedPrefix | None:
    """The prefixes with a layer's keys and values; None where there are none.

    Args:
      keys_values: (keys, values) of the layer, or None.
    """
    if keys_values is None:
      return None
    assert self.of_rows is not None
    return SharedPrefix(self.of_rows, *keys_values)
