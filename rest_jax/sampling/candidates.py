"""The best tokens of each row: a short list, sorted.

Dimensions: R rows, C candidates, V vocabulary, B blocks, I ids of a block.
"""

import math
from typing import NamedTuple

import jax
import jax.numpy as jnp

from rest_jax.distributed import partitioning
from rest_jax.sampling.limits import NEVER

# A thread of a CPU that has more thunks than about eight waiting gives some of
# them to another; fewer it keeps to itself.
_CPU_CALLS = 16


class Best(NamedTuple):
  """The best tokens of each row, the best one first.

  Attributes:
    values_RC: their scores.
    ids_RC: which they are.
    top_R: the best score; on CPUs it is known before the list is, so that what
      needs nothing else is computed beside the list.
  """

  values_RC: jax.Array
  ids_RC: jax.Array
  top_R: jax.Array


def best(logits_RV: jax.Array, number: int) -> Best:
  """The best tokens of each row, ties to the lower id, as lax.top_k gives them.

  Args:
    logits_RV: scores.
    number: of tokens.
  """
  rows, vocabulary = logits_RV.shape
  if partitioning.platform() == 'tpu':  # has a kernel for it
    values_RC, ids_RC = jax.lax.top_k(logits_RV, number)
    return Best(values_RC, ids_RC, values_RC[:, 0])
  # The `number` best tokens lie in the `number` blocks of the greatest maxima:
  # each of these has one that is at least as good as any of another block, or,
  # among equals, of a lower id. So few tokens are sorted.
  size = _block_size(vocabulary, (vocabulary / number) ** 0.5)
  blocks = -(-vocabulary // size)
  if blocks <= number:
    values_RC, ids_RC = top_k(logits_RV, number)
    return Best(values_RC, ids_RC, values_RC[:, 0])
  padded_RV = padded(logits_RV, blocks * size)
  tops_RB = padded_RV.reshape(rows, blocks, size).max(axis=-1)
  _, chosen_RC = top_k(tops_RB, number)
  # In the order of the ids, for the ties.
  chosen_RC = jnp.sort(chosen_RC, axis=-1)
  ids_RCI = chosen_RC[..., None] * size + jnp.arange(size)[None, None]
  ids_RC = ids_RCI.reshape(rows, -1)
  values_RC = jnp.take_along_axis(padded_RV, ids_RC, axis=1)
  values_RC, places_RC = top_k(values_RC, number)
  ids_RC = jnp.take_along_axis(ids_RC, places_RC, axis=1)
  return Best(values_RC, ids_RC, tops_RB.max(axis=-1))


def _block_size(vocabulary: int, wanted: float) -> int:
  """The power of two next to `wanted` if it divides the vocabulary: no padding.

  Otherwise `wanted` itself, rounded down.
  """
  power = 1 << max(0, round(math.log2(wanted)))
  return power if vocabulary % power == 0 else max(1, int(wanted))


def top_k(values_RC: jax.Array, number: int) -> tuple[jax.Array, jax.Array]:
  """lax.top_k, as fast as the devices in use can."""
  if partitioning.platform() != 'cpu':
    return jax.lax.top_k(values_RC, number)
  # A CPU gives all rows of a call to one thread.
  few = jnp.array_split(values_RC, min(_CPU_CALLS, len(values_RC)))
  made = [jax.lax.top_k(rows, number) for rows in few]
  return tuple(jnp.concatenate(both) for both in zip(*made, strict=True))


def padded(logits_RV: jax.Array, size: int) -> jax.Array:
  """With ids behind the last that nobody chooses."""
  more = size - logits_RV.shape[1]
  if not more:
    return logits_RV
  return jnp.pad(logits_RV, ((0, 0), (0, more)), constant_values=NEVER)
