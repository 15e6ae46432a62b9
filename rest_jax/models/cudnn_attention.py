"""Attention of packed rows by the fused kernel of NVIDIA's GPUs ("cuDNN").

The kernel is jax's own (jax.nn.dot_product_attention). It never writes the
scores to memory, forward or backward. What a token attends to is a mask of
queries x keys for each row, which all heads and layers share. It is read for
each head: a few times the time of a kernel that has no mask, and several times
less than einsum attention, which writes scores for each head.

Dimensions as in network.py, and S keys that a row's queries may see.
"""

import jax
import jax.numpy as jnp

_MULTIPLE = 8  # of places: the backward kernel takes no odd number
IMPLEMENTATION = 'cudnn'


def attend(
  scale: float,
  q_BLKRE: jax.Array,
  k_BSKE: jax.Array,
  v_BSKE: jax.Array,
  mask_BLS: jax.Array,
) -> jax.Array:
  """One softmax over the keys that each query sees.

  Args:
    scale: what the products of queries and keys are multiplied by.
    q_BLKRE: queries, already rotated.
    k_BSKE: keys, already rotated.
    v_BSKE: values.
    mask_BLS: what the queries see; each sees something.

  Returns:
    o_BLKRE in the dtype of the queries.
  """
  B, L, K, R, E = q_BLKRE.shape
  q_BLHE = _padded(q_BLKRE.reshape(B, L, K * R, E), 1)
  # Padding sees nothing and is seen by nobody. The kernel gives a query that
  # sees nothing a finite result, which is cut off.
  mask_BLS = _padded(_padded(mask_BLS, 1), 2)
  o_BLHE = jax.nn.dot_product_attention(
    q_BLHE,
    _padded(k_BSKE, 1),
    _padded(v_BSKE, 1),
    mask=mask_BLS[:, None],
    scale=scale,
    implementation=IMPLEMENTATION,
  )
  return o_BLHE[:, :L].reshape(q_BLKRE.shape)


def _padded(array: jax.Array, axis: int) -> jax.Array:
  widths = [(0, 0)] * array.ndim
  widths[axis] = (0, -array.shape[axis] % _MULTIPLE)
  return jnp.pad(array, widths)
