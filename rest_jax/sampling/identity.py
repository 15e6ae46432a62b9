"""A sample's random bits: f(seed, stream, iteration, problem, index, position).

Nothing else enters: not the batch, the lane, the mesh or the number of samples
asked for. Golden values in the tests pin the function.
"""

import functools
import hashlib
from collections.abc import Sequence

import jax
import jax.numpy as jnp
import numpy as np

_IMPLEMENTATION = 'threefry2x32'  # rbg's bits would depend on the batch


def words(
  stream: str, iteration: int, problem_id: str, sample_index: int
) -> np.ndarray:
  """The six uint32 words that name a sample."""
  return np.array(
    [
      *_hash(stream),
      iteration,
      *_hash(problem_id),
      sample_index,
    ],
    np.uint32,
  )


def keys(seed: int, names: Sequence[np.ndarray]) -> jax.Array:
  """Key data (rows, 2) uint32 of samples, from their words (rows, 6)."""
  return _fold(np.uint32(seed), np.stack(names))


def gumbel(
  keys_RW: jax.Array, position: jax.Array, token_ids_RC: jax.Array
) -> jax.Array:
  """The noise of candidate tokens at one position of each row's sample.

  The noise belongs to the token id, so that a short list of candidates sees
  the same noise as the whole vocabulary.

  Args:
    keys_RW: key data (rows, 2).
    position: of the new token in the completion, from 0.
    token_ids_RC: candidates.

  Returns:
    (rows, candidates) float32, standard Gumbel, at 24 bits.
  """

  def row(data, ids):
    key = jax.random.wrap_key_data(data, impl=_IMPLEMENTATION)
    key = jax.random.fold_in(key, position)
    folded = jax.vmap(lambda i: jax.random.fold_in(key, i))(ids)
    return jax.random.key_data(folded)[:, 0]

  bits = jax.vmap(row)(keys_RW, token_ids_RC)
  uniform = ((bits >> 8).astype(jnp.float32) + 0.5) * jnp.float32(2.0**-24)
  return -jnp.log(-jnp.log(uniform))


@jax.jit
def _fold(seed: jax.Array, names_RW: jax.Array) -> jax.Array:
  def row(name_W):
    key = jax.random.key(seed, impl=_IMPLEMENTATION)
    for index in range(names_RW.shape[1]):
      key = jax.random.fold_in(key, name_W[index])
    return jax.random.key_data(key)

  return jax.vmap(row)(names_RW)


@functools.lru_cache(maxsize=1 << 16)
def _hash(text: str) -> tuple[int, int]:
  digest = hashlib.sha256(text.encode()).digest()
  return tuple(int.from_bytes(digest[i : i + 4], 'little') for i in (0, 4))
