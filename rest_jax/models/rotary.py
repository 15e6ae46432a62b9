"""Rotary position embedding (RoFormer, arXiv 2104.09864), and its scaling.

Pair i of a head's dimensions turns by position x frequency i. Some models
lower the frequencies after pretraining, to read longer texts; the frequencies
are then a part of the model, and others give another model.
"""

import math
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from rest_jax.distributed import partitioning
from rest_jax.models.architecture import (
  DecoderConfig,
  LayerKind,
  RopeScaling,
)


def frequencies(config: DecoderConfig, kind: LayerKind = 'global') -> jax.Array:
  """The angle per position of each pair, shape (head_dim / 2,), float32.

  Args:
    config: of the network.
    kind: of the layers; local ones may have frequencies of their own.
  """
  half = config.head_dim // 2
  theta, scaling = config.rope_theta, config.rope_scaling
  if kind == 'local' and config.local_rope_theta is not None:
    theta, scaling = config.local_rope_theta, None
  # In float32 as the reference implementations. The order of the operations
  # still matters a little: at position 8,000 the angle differs from that of
  # transformers by up to 5e-4 radians.
  plain = theta ** (-jnp.arange(half, dtype=jnp.float32) / half)
  return plain if scaling is None else scaled(plain, scaling)


def scaled(plain: jax.Array, scaling: RopeScaling) -> jax.Array:
  """The frequencies of a model that was extended to longer texts.

  Args:
    plain: (pairs,) radians per position before the extension.
    scaling: how they are lowered.

  Returns:
    (pairs,). For 'linear' all are divided by the factor. For 'llama3' (Llama
    3.1, arXiv 2407.21783; `apply_scaling` of its published code) those with a
    wavelength beyond original_max_length / low_freq_factor positions are
    divided by the factor, those below original_max_length / high_freq_factor
    stay, and the ones between are blended.
  """
  slowed = plain / scaling.factor
  if scaling.kind == 'linear':
    return slowed
  wavelengths = 2 * math.pi / plain
  low, high = scaling.low_freq_factor, scaling.high_freq_factor
  # 0 at the longer bound, 1 at the shorter one. Clipping gives exactly 0 or 1
  # outside of them, so that the blend leaves those frequencies exact.
  kept = (scaling.original_max_length / wavelengths - low) / (high - low)
  kept = jnp.clip(kept, 0.0, 1.0)
  return (1 - kept) * slowed + kept * plain


class Turns(NamedTuple):
  """Sine and cosine of each pair's angle, (…, head_dim / 2), float32."""

  sin: jax.Array
  cos: jax.Array


class WholeTurns(NamedTuple):
  """Turns of both halves of a head's dimensions, (…, head_dim), float32.

  Attributes:
    sin: negative in the first half.
    cos: of both.
  """

  sin: jax.Array
  cos: jax.Array


def whole(turns: Turns) -> WholeTurns:
  """The same turns, for `rotate` to swap halves by a product."""
  sin, cos = turns
  return WholeTurns(
    jnp.concatenate([-sin, sin], axis=-1), jnp.concatenate([cos, cos], axis=-1)
  )


def turns(
  config: DecoderConfig, positions: jax.Array
) -> dict[LayerKind, Turns | WholeTurns]:
  """The angles of all positions, for each kind of layer.

  Args:
    config: of the network.
    positions: in tokens from the start of the sequence, of any shape.

  Returns:
    Of whole heads on TPUs, where swapping halves by a product is faster.
  """
  # Float32 whatever the network's dtype is: bfloat16 cannot tell position 257
  # from 256, and an angle of some thousand radians needs all 24 bits. Positions
  # below 2**24 are exact.
  positions = positions[..., None].astype(jnp.float32)

  def of(kind: LayerKind) -> Turns | WholeTurns:
    half = frequencies(config, kind)
    angles = positions * half.reshape((1,) * (positions.ndim - 1) + (-1,))
    found = Turns(jnp.sin(angles), jnp.cos(angles))
    return whole(found) if partitioning.platform() == 'tpu' else found

  kinds = sorted(set(config.layer_pattern))
  if config.local_rope_theta is None:
    return dict.fromkeys(kinds, of('global'))
  return {kind: of(kind) for kind in kinds}


def rotate(x: jax.Array, turns: Turns | WholeTurns) -> jax.Array:
  """Turns each pair of a head's dimensions by its angle.

  Dimension i is paired with dimension i + half, as in Hugging Face's Llama.
  GGUF files pair 2i with 2i + 1; checkpoints/gguf.py reorders their rows.

  Args:
    x: queries or keys, shape (B, L, heads..., E): any number of head axes.
    turns: of the positions of x.

  Returns:
    The shape and dtype of x; either kind of turns gives the same, up to the
    last rounding.
  """
  if isinstance(turns, WholeTurns):
    return _rotate_by_product(x, turns)
  half = x.shape[-1] // 2
  shape = x.shape[:2] + (1,) * (x.ndim - 3) + (half,)
  sin, cos = (array.reshape(shape) for array in turns)
  a, b = x[..., :half].astype(jnp.float32), x[..., half:].astype(jnp.float32)
  rotated = jnp.concatenate([a * cos - b * sin, b * cos + a * sin], axis=-1)
  return rotated.astype(x.dtype)


@jax.custom_vjp
def _rotate_by_product(x: jax.Array, turns: WholeTurns) -> jax.Array:
  """`rotate`, with the halves swapped by a product with a permutation.

  It is exact, as each sum has one term. A TPU's compiler makes one operation of
  all this, and of slices and what is put together from them three, and copies
  of the queries and of their matrix into another order.
  """
  size = x.shape[-1]
  swap_EE = np.roll(np.eye(size), size // 2, axis=1)
  swapped = jnp.einsum(
    '...e,ef->...f',
    x,
    jnp.asarray(swap_EE, x.dtype),
    precision='highest' if x.dtype == jnp.float32 else None,
    preferred_element_type=jnp.float32,
  )
  shape = x.shape[:2] + (1,) * (x.ndim - 3) + (size,)
  sin, cos = (array.reshape(shape) for array in turns)
  return (x.astype(jnp.float32) * cos + swapped * sin).astype(x.dtype)


def _turned_back(turns: WholeTurns, gradient: jax.Array):
  # Left to jax, the gradient would be swapped in float32, which a TPU rounds to
  # bfloat16 before it multiplies.
  back = turns._replace(sin=-turns.sin)
  return _rotate_by_product(gradient, back), None


_rotate_by_product.defvjp(
  lambda x, turns: (_rotate_by_product(x, turns), turns), _turned_back
)
