"""The kernels of tree_kernels.py as functions of arrays.

Their grids are key heads times pairs of blocks (tree_blocks.py), as many as the
rows have: what no query sees costs nothing. A specification says which block of
each array belongs to a step; what stays in place from one step to the next is
not moved.

Dimensions as in network.py; S places of a block, N blocks of a row or a prefix.
"""

import functools
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax.experimental import pallas as pl

from rest_jax.models import tree_kernels
from rest_jax.models.tree_blocks import Pairs
from rest_jax.models.tree_kernels import Settings

_LANES = 128  # of a vector register


class KeysValues(NamedTuple):
  """Keys and values in blocks.

  Attributes:
    keys: (B, K, N, S, E), of rows or of prefixes.
    values: of the same shape.
  """

  keys: jax.Array
  values: jax.Array


def forward(
  settings: Settings,
  pairs: Pairs,
  intervals_B6L: jax.Array,
  q_BKRLE: jax.Array,
  own: KeysValues,
  shared: KeysValues | None,
) -> tuple[jax.Array, jax.Array]:
  """(o_BKRLE, the logarithm of each query's sum of weights (B, K, R, L)).

  Args:
    settings: of the kernel.
    pairs: of blocks.
    intervals_B6L: which places the queries see.
    q_BKRLE: queries, scaled.
    own: of the rows.
    shared: of the prefixes; None: there are none.
  """
  from jax.experimental.pallas import tpu as pltpu

  B, K, R, L, E = q_BKRLE.shape
  specs = _Specs(settings, q_BKRLE, own, shared)
  inputs = [intervals_B6L, q_BKRLE, *own, *(shared or ())]
  sums = jax.ShapeDtypeStruct((B, K, R, L), jnp.float32)
  return specs.call(
    tree_kernels.tree_forward,
    pairs,
    inputs,
    [specs.intervals, specs.queries, *specs.keys_values],
    [q_BKRLE, sums],
    [specs.queries, specs.sums],
    [
      pltpu.VMEM((R, settings.block), jnp.float32),
      pltpu.VMEM((R, settings.block), jnp.float32),
      pltpu.VMEM((R, E, settings.block), jnp.float32),
    ],
    products=2,
  )


def backward(
  settings: Settings,
  pairs: Pairs,
  intervals_B6L: jax.Array,
  q_BKRLE: jax.Array,
  own: KeysValues,
  shared: KeysValues | None,
  do_BKRLE: jax.Array,
  sums_BKRL: jax.Array,
  di_BKRL: jax.Array,
) -> tuple[jax.Array, KeysValues, KeysValues | None]:
  """The gradients of queries, of own and of shared keys and values.

  Those of what is shared are float32, and meaningless for a prefix that no row
  has.

  Args:
    settings, pairs, intervals_B6L, q_BKRLE, own, shared: as of `forward`.
    do_BKRLE: gradient of the output.
    sums_BKRL: as `forward` gives them.
    di_BKRL: the sum of output times gradient over E.
  """
  from jax.experimental.pallas import tpu as pltpu

  R, E = q_BKRLE.shape[2], q_BKRLE.shape[4]
  specs = _Specs(settings, q_BKRLE, own, shared)
  inputs = [intervals_B6L, q_BKRLE, do_BKRLE, sums_BKRL, di_BKRL]
  inputs += [*own, *(shared or ())]
  of_row = pltpu.VMEM(own.keys.shape[2:], jnp.float32)
  summed = [
    jax.ShapeDtypeStruct(array.shape, jnp.float32) for array in shared or ()
  ]
  dq, *rest = specs.call(
    tree_kernels.tree_backward,
    pairs,
    inputs,
    [
      *(specs.intervals, specs.queries, specs.queries),
      *(specs.sums, specs.sums, *specs.keys_values),
    ],
    [q_BKRLE, *own, *summed],
    [specs.queries, *specs.whole],
    [pltpu.VMEM((R, E, settings.block), jnp.float32), of_row, of_row],
    products=5,
  )
  return dq, KeysValues(*rest[:2]), KeysValues(*rest[2:]) if shared else None


class _Specs:
  """Which block of each array belongs to a step of the grid (head, pair)."""

  def __init__(
    self,
    settings: Settings,
    q_BKRLE: jax.Array,
    own: KeysValues,
    shared: KeysValues | None,
  ):
    self._settings = settings
    R, E, block = q_BKRLE.shape[2], q_BKRLE.shape[4], settings.block
    self._queries = q_BKRLE
    self._shared = shared.keys.shape[2] if shared else 0

    def spec(shape, index):
      return pl.BlockSpec(
        shape, lambda head, t, *refs: index(head, t, Pairs(*refs, None))
      )

    self.intervals = spec(
      (1, 6, block), lambda head, t, p: (p.row_T[t], 0, p.query_T[t])
    )
    self.queries = spec(
      (1, 1, R, block, E),
      lambda head, t, p: (p.row_T[t], head, 0, p.query_T[t], 0),
    )
    self.sums = spec(
      (1, 1, R, block), lambda head, t, p: (p.row_T[t], head, 0, p.query_T[t])
    )
    place = (1, 1, 1, block, E)
    of_row = spec(
      place, lambda head, t, p: (p.row_T[t], head, p.own_T[t], 0, 0)
    )
    # Where a pair has none of the two, its block is there already.
    of_prefix = spec(
      place,
      lambda head, t, p: (
        p.prefix_B[p.row_T[t]],
        head,
        jnp.minimum(p.key_T[t], self._shared - 1),
        *(0, 0),
      ),
    )
    self.keys_values = [of_row] * 2 + [of_prefix] * (2 if shared else 0)
    whole_row = spec(
      (1, 1, *own.keys.shape[2:]),
      lambda head, t, p: (p.row_T[t], head, 0, 0, 0),
    )
    self.whole = [whole_row] * 2
    if shared:
      whole_prefix = spec(
        (1, 1, *shared.keys.shape[2:]),
        lambda head, t, p: (p.prefix_B[p.row_T[t]], head, 0, 0, 0),
      )
      self.whole += [whole_prefix] * 2

  def call(
    self,
    kernel: Callable[..., None],
    pairs: Pairs,
    inputs: Sequence[jax.Array],
    in_specs: Sequence[Any],
    outputs: Sequence[Any],
    out_specs: Sequence[Any],
    scratch: Sequence[Any],
    products: int,
  ) -> Sequence[jax.Array]:
    """Runs a kernel over all heads and pairs.

    Args:
      kernel: of the references to scalars, inputs, outputs and scratch.
      pairs: of blocks.
      inputs, in_specs: what it reads.
      outputs, out_specs: arrays of the shape of what it writes.
      scratch: what it keeps between steps.
      products: of matrices, for each score.
    """
    from jax.experimental.pallas import tpu as pltpu

    *scalars, number = pairs
    block, (_, K, _, L, _) = self._settings.block, self._queries.shape
    seen = self._shared * block + (L + block) // 2
    moved = [*inputs, *outputs]
    return pl.pallas_call(
      functools.partial(kernel, settings=self._settings, shared=self._shared),
      grid_spec=pltpu.PrefetchScalarGridSpec(
        num_scalar_prefetch=len(scalars),
        grid=(K, number),
        in_specs=in_specs,
        out_specs=out_specs,
        scratch_shapes=scratch,
      ),
      out_shape=[
        jax.ShapeDtypeStruct(array.shape, array.dtype) for array in outputs
      ],
      # As if all places of a row up to itself were seen: what is seen depends
      # on the rows.
      cost_estimate=pl.CostEstimate(
        flops=products * 2 * self._queries.size * seen,
        bytes_accessed=sum(a.size * a.dtype.itemsize for a in moved),
        transcendentals=self._queries.size // self._queries.shape[-1] * seen,
      ),
      compiler_params=pltpu.CompilerParams(
        dimension_semantics=('parallel', 'arbitrary'),
        vmem_limit_bytes=chip_bytes(
          block,
          self._queries,
          self._queries.shape[3],
          self._shared * block,
          is_backward=products > 2,
        ),
      ),
      name=kernel.__name__,
      interpret=self._settings.interpret,
    )(*scalars, *inputs)


def chip_bytes(
  block: int,
  queries: Any,
  length: int,
  shared: int,
  is_backward: bool = True,
) -> int:
  """What a kernel holds on the chip: two of each block, sums, some scores.

  Args:
    block: places of a block.
    queries: an array of a dtype and of a shape (…, R, L, E).
    length: places of a row.
    shared: places of a prefix.
    is_backward: whether the backward kernel, which needs more.
  """
  R, _, E = queries.shape[-3:]
  wide = -(-E // _LANES) * _LANES
  itemsize = queries.dtype.itemsize
  heads, of_block = R * block * wide, 2 * block * wide
  total = 2 * itemsize * (2 * heads + 2 * of_block) + 4 * heads
  total += 8 * 4 * block**2 + 6 * 4 * 8 * block
  if is_backward:
    total += 2 * itemsize * heads
    total += 2 * length * wide * (4 + 2 * itemsize)
    total += 2 * shared * wide * 2 * 4
  return total
