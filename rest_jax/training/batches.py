"""Batches: rows of the packing plan as arrays on a mesh.

A host builds the rows of its own devices, and nobody else's.
"""

from typing import Any, NamedTuple

import jax
import numpy as np
from jax.sharding import Mesh

from rest_jax.distributed import partitioning
from rest_jax.models import segments
from rest_jax.training import packing
from rest_jax.training.packing import Packer, Rows

Batch = dict[str, jax.Array]


class Plan(NamedTuple):
  """What a step must know of its rows beside their values.

  Attributes:
    fields: of packing.Rows that a batch holds.
    row_length: places of a row.
    spans: how far tokens look within a row.
    prefixes: (number, places) of the prefixes; None: there are none.
  """

  fields: tuple[str, ...]
  row_length: int
  spans: segments.Spans | None = None
  prefixes: tuple[int, int] | None = None

  @classmethod
  def of(cls, packer: Packer) -> 'Plan':
    """The plan of a packer's rows."""
    prefixes = packer.prefixes
    return cls(
      packer.fields,
      packer.row_length,
      packer.spans,
      None if prefixes is None else prefixes.tokens_FP.shape,
    )

  def shapes(self, rows: int) -> Batch:
    """The arrays of a batch without their values."""
    made = {
      name: jax.ShapeDtypeStruct(
        packing.shape(name, rows, self.row_length), packing.dtype_of(name)
      )
      for name in self.fields
    }
    if self.prefixes is not None:
      made['prefix_tokens'] = jax.ShapeDtypeStruct(self.prefixes, np.int32)
      made['prefix_lengths'] = jax.ShapeDtypeStruct(self.prefixes[:1], np.int32)
    return made


# Of rows whose examples share nothing.
PLAIN = Plan(packing.PLAIN_FIELDS, row_length=1)


def batch_shardings(
  mesh: Mesh, rows: int, plan: Plan = PLAIN
) -> dict[str, Any]:
  """Where the arrays of a batch lie: rows apart, prefixes everywhere."""
  return {
    name: partitioning.replicated(mesh)
    if name.startswith('prefix_')
    else partitioning.sharding(
      mesh,
      ('batch', None)[: len(leaf.shape)],
      (rows, 1)[: len(leaf.shape)],
      'BATCH_ROWS',
    )
    for name, leaf in plan.shapes(rows).items()
  }


def put_batch(packer: Packer, first: int, rows: int, where: dict) -> Batch:
  """Rows first … first+rows-1 on the mesh; a host builds only its own.

  Args:
    packer: of the rows.
    first: place of the first row in the training.
    rows: of the batch.
    where: as batch_shardings gives it.
  """
  built: dict[tuple[int, int], Rows] = {}

  def array(name: str) -> jax.Array:
    def piece(index):
      if name == 'prefix_tokens':
        return packer.prefixes.tokens_FP
      if name == 'prefix_lengths':
        return packer.prefixes.lengths_F
      low, high, _ = index[0].indices(rows)
      if (low, high) not in built:
        built[low, high] = packer.batch(range(first + low, first + high))
      return getattr(built[low, high], name)

    leaf = shapes[name]
    return jax.make_array_from_callback(
      leaf.shape, where[name], piece, dtype=leaf.dtype
    )

  shapes = Plan.of(packer).shapes(rows)
  return {name: array(name) for name in where}
