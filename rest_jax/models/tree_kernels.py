"""The programs of tree_attention.py's kernels: one step of their grids.

A step is one key head and one pair of blocks (tree_blocks.py), with all R query
heads of the key head: what a query sees is the same for all. Scores are
transposed, places by queries, so that what each query has of its own (its
intervals, its greatest score, its sum) lies along a vector register.

Forward, the pairs of a block of queries follow each other, and share a running
softmax. Backward, the same list in the same order gives all gradients at once:
that of a block of queries is summed over its pairs, and those of the keys and
values of a whole row and of its prefix stay on the chip meanwhile.

Dimensions as in network.py; T queries of a block, S places of a block.
"""

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
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


def tree_forward(*refs, settings: Settings, shared: int):
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
  # A head's scores are multiplied while the weights of the one before are made:
  # a tenth fewer instructions. Backward, nearly all are products in any order.
  ahead_ST = step.scores_ST(k_SE, q_ref[0, 0, 0])
  for r in range(heads):
    scores_ST = ahead_ST
    if r + 1 < heads:
      ahead_ST = step.scores_ST(k_SE, q_ref[0, 0, r + 1])
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


def tree_backward(*refs, settings: Settings, shared: int):
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
