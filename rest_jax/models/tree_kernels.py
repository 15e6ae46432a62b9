"""The kernels of tree_attention.py, forward and backward.

A step of their grids is one key head and one pair of blocks (tree_blocks.py),
with all R query heads of the key head: what a query sees is the same for all.
Scores are transposed, places by queries, so that what each query has of its own
(its intervals, its greatest score, its sum) lies along a vector register.

The grid is as long as the list of pairs, which depends on the rows: what no
query sees costs nothing.

Forward, the pairs of a block of queries follow each other, and share a running
softmax. Backward, the same list in the same order gives all gradients at once:
that of a block of queries is summed over its pairs, and those of the keys and
values of a whole row and of its prefix stay on the chip meanwhile.

Dimensions as in network.py; T queries of a block, S places of a block, N blocks
of a row or a prefix.
"""

import functools
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax.experimental import pallas as pl

from rest_jax.models import attention, tree_blocks
from rest_jax.models.tree_blocks import Pairs


class Settings(NamedTuple):
  """What the kernels' programs depend on beside the shapes.

  Attributes:
    block: places of a block.
    cap: of the scores; None: none.
    precision: of the products, as jax.lax.Precision takes it.
    interpret: whether to run on any device, slowly.
  """

  block: int
  cap: float | None
  precision: str
  interpret: bool


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
    _forward,
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
    _backward,
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
    B, self._heads, R, self._length, E = q_BKRLE.shape
    block = settings.block
    self._shared = shared.keys.shape[2] if shared else 0
    self._scores = B * self._heads * R * self._length
    self._head_dim = E

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
    blocks = self._length // self._settings.block
    seen = (self._shared + (blocks + 1) / 2) * self._settings.block
    moved = [*inputs, *outputs]
    return pl.pallas_call(
      functools.partial(kernel, settings=self._settings, shared=self._shared),
      grid_spec=pltpu.PrefetchScalarGridSpec(
        num_scalar_prefetch=len(scalars),
        grid=(self._heads, number),
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
        flops=int(products * 2 * self._scores * seen * self._head_dim),
        bytes_accessed=sum(a.size * a.dtype.itemsize for a in moved),
        transcendentals=int(self._scores * seen),
      ),
      compiler_params=pltpu.CompilerParams(
        dimension_semantics=('parallel', 'arbitrary'),
        vmem_limit_bytes=self._vmem_bytes(
          zip([*in_specs, *out_specs], moved, strict=True), scratch
        ),
      ),
      interpret=self._settings.interpret,
    )(*scalars, *inputs)

  def _vmem_bytes(self, blocks, scratch: Sequence[Any]) -> int:
    """Room for two of each block, what is kept, and the scores of a head."""
    total = 8 * 4 * self._settings.block**2
    for spec, array in blocks:
      total += 2 * _tiled_bytes(spec.block_shape, array.dtype)
    return total + sum(_tiled_bytes(s.shape, s.dtype) for s in scratch)


def _tiled_bytes(shape: Sequence[int], dtype: Any) -> int:
  """Of an array on the chip: in tiles of 4 KiB."""
  *leading, rows, columns = shape
  rows = -(-rows // 8) * 8
  columns = -(-columns // 128) * 128
  return int(np.prod(leading)) * rows * columns * jnp.dtype(dtype).itemsize


def _product(a, b, contracted, settings: Settings) -> jax.Array:
  return jax.lax.dot_general(
    a,
    b,
    (contracted, ((), ())),
    precision=jax.lax.Precision(settings.precision),
    preferred_element_type=jnp.float32,
  )


_LAST, _PLAIN = ((1,), (1,)), ((1,), (0,))  # what a product sums over


class _Step:
  """One pair of blocks, as both kernels see it."""

  def __init__(self, scalars: Sequence[Any], settings: Settings, shared: int):
    self._pairs = Pairs(*scalars, None)
    self._t = pl.program_id(1)
    self._settings, self._shared = settings, shared
    self.key = self._pairs.key_T[self._t]
    self.is_shared = self.key < shared

  def at(self, edge: int) -> Callable[..., Any]:
    """Runs what it decorates at an edge of the list of pairs."""
    return pl.when(self._pairs.edges_T[self._t] & edge != 0)

  def keys_values(self, refs: Sequence[Any]) -> tuple[jax.Array, jax.Array]:
    """(S, E) each, of the row or of its prefix."""
    own = [ref[0, 0, 0] for ref in refs[:2]]
    if not self._shared:
      return tuple(own)
    return tuple(
      jnp.where(self.is_shared, ref[0, 0, 0], mine)
      for ref, mine in zip(refs[2:], own, strict=True)
    )

  def mask_ST(self, intervals_ref) -> jax.Array:
    """Which of the block's places its queries see."""
    block = self._settings.block
    places_S1 = self.key * block + jax.lax.broadcasted_iota(
      jnp.int32, (block, 1), 0
    )

    def within(first_1T, end_1T):
      return (places_S1 >= first_1T) & (places_S1 < end_1T)

    def bound(row):
      return intervals_ref[0, row : row + 1, :]

    # A block of the prefix holds nothing of a parent, and the reverse.
    other = [
      jnp.where(self.is_shared, bound(of_prefix), bound(of_parent))
      for of_prefix, of_parent in zip(
        tree_blocks.PREFIX, tree_blocks.PARENT, strict=True
      )
    ]
    return within(*other) | within(*map(bound, tree_blocks.OWN))

  def scores_ST(self, k_SE, q_TE) -> jax.Array:
    scores_ST = _product(k_SE, q_TE, _LAST, self._settings)
    return attention.capped(scores_ST, self._settings.cap)


def _forward(*refs, settings: Settings, shared: int):
  scalars, refs = refs[: len(Pairs._fields) - 1], refs[len(Pairs._fields) - 1 :]
  intervals_ref, q_ref, *keys_values, o_ref, sums_ref, top, total, acc = refs
  step = _Step(scalars, settings, shared)
  heads = q_ref.shape[2]

  @step.at(tree_blocks.FIRST_OF_QUERIES)
  def _():
    top[...] = jnp.full(top.shape, attention.NEVER, jnp.float32)
    total[...] = jnp.zeros(total.shape, jnp.float32)
    acc[...] = jnp.zeros(acc.shape, jnp.float32)

  k_SE, v_SE = step.keys_values(keys_values)
  v_ES = v_SE.T
  mask_ST = step.mask_ST(intervals_ref)
  for r in range(heads):
    scores_ST = step.scores_ST(k_SE, q_ref[0, 0, r])
    # Where a query sees nothing of a block, its weights are 1, and then 0
    # beside those of the block that has its own place, which it does see.
    scores_ST = jnp.where(mask_ST, scores_ST, attention.NEVER)
    before_1T = top[r : r + 1]
    top_1T = jnp.maximum(before_1T, scores_ST.max(axis=0, keepdims=True))
    weights_ST = jnp.exp(scores_ST - top_1T)
    share_1T = jnp.exp(before_1T - top_1T)
    sum_1T = weights_ST.sum(axis=0, keepdims=True)
    total[r : r + 1] = share_1T * total[r : r + 1] + sum_1T
    top[r : r + 1] = top_1T
    weights_ST = weights_ST.astype(v_SE.dtype)
    acc[r] = share_1T * acc[r] + _product(v_ES, weights_ST, _PLAIN, settings)

  @step.at(tree_blocks.LAST_OF_QUERIES)
  def _():
    for r in range(heads):
      o_ET = acc[r] / total[r : r + 1]
      o_ref[0, 0, r] = o_ET.T.astype(o_ref.dtype)
    sums_ref[0, 0] = top[...] + jnp.log(total[...])


def _backward(*refs, settings: Settings, shared: int):
  scalars, refs = refs[: len(Pairs._fields) - 1], refs[len(Pairs._fields) - 1 :]
  intervals_ref, q_ref, do_ref, sums_ref, di_ref, *refs = refs
  number = 4 if shared else 2
  keys_values, refs = refs[:number], refs[number:]
  dq_ref, *summed, acc, dk_row, dv_row = refs
  step = _Step(scalars, settings, shared)
  heads, cap = q_ref.shape[2], settings.cap

  def zero(*refs):
    for ref in refs:
      ref[...] = jnp.zeros(ref.shape, ref.dtype)

  step.at(tree_blocks.FIRST_OF_QUERIES)(lambda: zero(acc))
  step.at(tree_blocks.FIRST_OF_ROW)(lambda: zero(dk_row, dv_row))
  if shared:
    step.at(tree_blocks.FIRST_OF_PREFIX)(lambda: zero(*summed[2:]))
  k_SE, v_SE = step.keys_values(keys_values)
  k_ES = k_SE.T
  mask_ST = step.mask_ST(intervals_ref)
  dk_SE = jnp.zeros(k_SE.shape, jnp.float32)
  dv_SE = jnp.zeros(v_SE.shape, jnp.float32)
  for r in range(heads):
    q_TE, do_TE = q_ref[0, 0, r], do_ref[0, 0, r]
    scores_ST = step.scores_ST(k_SE, q_TE)
    seen_ST = jnp.where(mask_ST, scores_ST, attention.NEVER)
    weights_ST = jnp.exp(seen_ST - sums_ref[0, 0, r : r + 1])
    dv_SE += _product(weights_ST.astype(do_TE.dtype), do_TE, _PLAIN, settings)
    dw_ST = _product(v_SE, do_TE, _LAST, settings)
    ds_ST = weights_ST * (dw_ST - di_ref[0, 0, r : r + 1])
    if cap is not None:
      ds_ST *= 1 - jnp.square(scores_ST / cap)
    ds_ST = ds_ST.astype(q_TE.dtype)
    dk_SE += _product(ds_ST, q_TE, _PLAIN, settings)
    acc[r] += _product(k_ES, ds_ST, _PLAIN, settings)

  def add(dk_ref, dv_ref, at):
    dk_ref[at] += dk_SE
    dv_ref[at] += dv_SE

  own = jnp.maximum(step.key - shared, 0)
  if shared:
    pl.when(step.is_shared)(lambda: add(*summed[2:], (0, 0, step.key)))
    pl.when(~step.is_shared)(lambda: add(dk_row, dv_row, own))
  else:
    add(dk_row, dv_row, own)

  @step.at(tree_blocks.LAST_OF_QUERIES)
  def _():
    for r in range(heads):
      dq_ref[0, 0, r] = acc[r].T.astype(dq_ref.dtype)

  @step.at(tree_blocks.LAST_OF_ROW)
  def _():
    for ref, made in zip(summed[:2], (dk_row, dv_row), strict=True):
      ref[0, 0] = made[...].astype(ref.dtype)
