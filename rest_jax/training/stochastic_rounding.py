"""Updates of bfloat16 parameters, rounded up or down at random.

A bfloat16 number has 8 bits, so that its neighbours lie 1/256 to 1/128 of it
away. At the learning rates of fine-tuning an update is far smaller, and a sum
that is rounded to nearest is the old number again, at every step. Rounded
stochastically, it moves to the neighbour with the probability that the update
is of the distance: right on average, and the average is what many steps make
(arXiv 1502.02551; for bfloat16 weights arXiv 2010.06192).

The alternative, float32 copies in the optimiser's state, would take 6 bytes for
each weight: more than the 4 of param_dtype = 'float32', which is that already,
as the network multiplies in `dtype`. Who asks for bfloat16 wants 2.

The noise is a function of the seed, the step and the parameter. It does not
depend on the mesh, and a resumed training draws what an unbroken one would.
"""

from typing import Any

import jax
import jax.numpy as jnp
import optax

_LOW = 16  # bits of a float32 that bfloat16 lacks


def key(seed: int, step: jax.Array) -> jax.Array:
  """Of the noise of one step. Threefry: its bits do not depend on the mesh."""
  return jax.random.fold_in(jax.random.key(seed, impl='threefry2x32'), step)


def apply_updates(params: Any, updates: Any, key: jax.Array) -> Any:
  """The sums, in the parameters' dtypes.

  Args:
    params: float32 leaves are updated as optax.apply_updates does, to the bit;
      bfloat16 leaves are rounded stochastically.
    updates: float32, of the same structure.
    key: of this step.
  """
  leaves, structure = jax.tree.flatten(params)
  changes = structure.flatten_up_to(updates)
  keys = (jax.random.fold_in(key, index) for index in range(len(leaves)))

  def updated(leaf, change, noise_key):
    if leaf.dtype != jnp.bfloat16:
      return optax.apply_updates(leaf, change)
    exact = leaf.astype(jnp.float32) + change.astype(jnp.float32)
    return to_bfloat16(exact, noise_key)

  return structure.unflatten(map(updated, leaves, changes, keys))


def to_bfloat16(exact: jax.Array, key: jax.Array) -> jax.Array:
  """float32 to one of its two neighbours in bfloat16, the nearer more often.

  A number that bfloat16 holds stays what it is. The expectation of the result
  is the number. Above bfloat16's largest number (3.39e38) the neighbour is
  infinity. NaN and infinity stay.
  """
  # A float's magnitude grows with its bits read as a number, and a carry out of
  # the lower 16 is the next bfloat16 away from zero. bfloat16 are the upper 16.
  noise = jax.random.bits(key, exact.shape, jnp.uint16).astype(jnp.uint32)
  bits = jax.lax.bitcast_convert_type(exact, jnp.uint32) + noise
  upper = (bits >> _LOW).astype(jnp.uint16)
  rounded = jax.lax.bitcast_convert_type(upper, jnp.bfloat16)
  return jnp.where(jnp.isfinite(exact), rounded, exact.astype(jnp.bfloat16))
