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
  return np.append(
    problem_words(stream, iteration, problem_id), np.uint32(sample_index)
  )


def problem_words(stream: str, iteration: int, problem_id: str) -> np.ndarray:
  """The first five of them, which all samples of a problem share."""
  return np.array([*_hash(stream), iteration, *_hash(problem_id)], np.uint32)


def keys(seed: int, names: Sequence[np.ndarray]) -> jax.Array:
  """Key data (rows, 2) uint32 of samples or problems, from their words."""
  return _fold(np.uint32(seed), np.stack(names))


def of_samples(keys_GW: jax.Array, indices_GN: jax.Array) -> jax.Array:
  """Key data of samples, from those of their problems.

  Args:
    keys_GW: of the problems (`keys` of `problem_words`).
    indices_GN: of the samples.

  Returns:
    (groups, lanes, 2) uint32, what `keys` gives for `words` of the samples.
  """

  def lane(data, index):
    key = jax.random.wrap_key_data(data, impl=_IMPLEMENTATION)
    return jax.random.key_data(jax.random.fold_in(key, index))

  of_group = jax.vmap(lane, in_axes=(None, 0))
  return jax.vmap(of_group)(keys_GW, indices_GN.astype(jnp.uint32))


def gumbel(
  keys_RW: jax.Array, positions_R: jax.Array, token_ids_RC: jax.Array
) -> jax.Array:
  """The noise of candidate tokens at one position of each row's sample.

  The noise belongs to the token id, so that a short list of candidates sees
  the same noise as the whole vocabulary.

  Args:
    keys_RW: key data (rows, 2).
    positions_R: of the new token in each completion, from 0.
    token_ids_RC: candidates.

  Returns:
    (rows, candidates) float32, standard Gumbel; always finite. See
    `gumbel_of_bits` for its resolution.
  """

  def row(data, position, ids):
    key = jax.random.wrap_key_data(data, impl=_IMPLEMENTATION)
    key = jax.random.fold_in(key, position)
    folded = jax.vmap(lambda i: jax.random.fold_in(key, i))(ids)
    return jax.random.key_data(folded)

  bits_RC2 = jax.vmap(row)(keys_RW, jnp.asarray(positions_R), token_ids_RC)
  return gumbel_of_bits(bits_RC2[..., 0], bits_RC2[..., 1])


def gumbel_of_bits(high: jax.Array, low: jax.Array) -> jax.Array:
  """Standard Gumbel noise from 64 random bits, in float32.

  With v = (high + (low + 1/2) / 2**32) / 2**32, a uniform number in (0, 1), an
  exponential variable is -log(1 - v), and minus its logarithm is the noise.

  float32 has 24 bits of precision but far more range near 0 than near 1. A
  single formula for all v would round v to exactly 1 for some bits, hence to
  infinite noise, and would see only multiples of 2**-24 in the tail that
  decides how often an improbable token is drawn. So v is used where v < 1/2,
  and 1 - v, made from the inverted bits, elsewhere: both keep their full
  relative precision down to 2**-65.

  Args:
    high, low: uint32 arrays of one shape.

  Returns:
    float32 of that shape, between -3.9 and 45.1. A token of probability p is
    drawn with probability p to within 0.1 %, down to p = 1e-15 and below.
  """
  small = high < jnp.uint32(1 << 31)
  # The distance to the nearer end of (0, 1): v itself, or 1 - v.
  near = jnp.where(small, high, ~high).astype(jnp.float32) * 2.0**-32
  rest = jnp.where(small, low, ~low).astype(jnp.float32) * 2.0**-64
  distance = near + (rest + 2.0**-65)
  # The branch not taken must be finite too: `where` evaluates both.
  exponential = jnp.where(small, -jnp.log1p(-distance), -jnp.log(distance))
  return -jnp.log(exponential)


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
