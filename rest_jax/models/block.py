"""One layer of the decoder network, and the norm that it is made of.

A `Block` does not know how it attends: it is handed `attend(q, k, v)`. Training
and prefill attend causally within a segment (row_attention.py), decoding
attends to caches (decoding.py).

Dimensions as in network.py.
"""

import functools
import math
from collections.abc import Callable
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp

from rest_jax.distributed import partitioning
from rest_jax.distributed.partitioning import constrain
from rest_jax.models import matrices, quantization, recomputation, rotary
from rest_jax.models.adapters import COLLECTION
from rest_jax.models.architecture import DecoderConfig

# (q_BLKRE, k_BLKE, v_BLKE) -> (o_BLKRE, whatever the caller wants kept)
Attend = Callable[..., tuple[jax.Array, Any]]


class RMSNorm(nn.Module):
  """Root-mean-square normalisation with a learned scale, in float32."""

  config: DecoderConfig

  @nn.compact
  def __call__(self, x: jax.Array) -> jax.Array:
    c = self.config
    # Gemma's scales are stored as their distance from 1.
    init = nn.initializers.constant(1 - c.norm_offset)
    scale_D = self.param(
      'scale',
      nn.with_logical_partitioning(init, ('norm',)),
      (x.shape[-1],),
      jnp.dtype(c.param_dtype),
    )
    # Without axes of 1: the gradient of the scale sums over the others, which
    # takes a CPU ten times as long where one of them is.
    y = x.reshape(*(n for n in x.shape[:-1] if n > 1), x.shape[-1])
    # bfloat16 would lose the small squares in the sum over D.
    y = y.astype(jnp.float32)
    mean_square = jnp.mean(jnp.square(y), axis=-1, keepdims=True)
    y = y * jax.lax.rsqrt(mean_square + c.norm_epsilon)
    scale = scale_D.astype(jnp.float32).reshape((1,) * (y.ndim - 1) + (-1,))
    return (y * (scale + c.norm_offset)).astype(x.dtype).reshape(x.shape)


_ACTIVATIONS = {
  'silu': nn.silu,
  'gelu': functools.partial(nn.gelu, approximate=True),
  'gelu_exact': functools.partial(nn.gelu, approximate=False),
}


class Block(nn.Module):
  """One layer: x + attention(norm(x)), then x + mlp(norm(x))."""

  config: DecoderConfig

  def _project(self, name: str, x: jax.Array) -> jax.Array:
    """x (B, L, inputs) times the matrix of this name, and its bias.

    An adapter of the matrix, where the collection 'adapters' has one, is added.
    """
    c, matrix = self.config, matrices.MATRICES[name]
    fan_in = math.prod(matrices.shape(c, matrix.inputs))
    # Each layer adds two branches to the residual stream. Scaled down so at
    # their start, its variance does not grow with the depth (GPT-2).
    gain = (2 * c.num_layers) ** -0.5 if matrix.residual else 1.0
    init = nn.initializers.truncated_normal(gain * fan_in**-0.5)
    weight = self.param(
      name,
      nn.with_logical_partitioning(init, matrix.axes()),
      matrix.shape(c),
      jnp.dtype(c.param_dtype),
    )
    scale = self.get_variable(quantization.SCALES, name)
    if scale is None:
      y = _product(matrix, x, weight.astype(c.dtype))
    else:
      y = jnp.einsum(
        matrix.einsum,
        x,
        weight.astype(c.dtype),
        preferred_element_type=jnp.float32,
      )
      y = (y * scale[None, None]).astype(c.dtype)
    adapter = self.get_variable(COLLECTION, name)
    if adapter is not None:
      # Two thin products: W + A B is never made while training.
      down, up = matrix.adapter_einsums
      x_BLZ = jnp.einsum(down, x, adapter['a'].astype(c.dtype))
      y = y + jnp.einsum(up, x_BLZ, adapter['b'].astype(c.dtype))
    if c.qkv_bias and name in matrices.BIASED:
      bias = self.param(
        f'{name}_bias',
        nn.with_logical_partitioning(
          nn.initializers.zeros, matrices.axes(matrix.outputs)
        ),
        matrices.shape(c, matrix.outputs),
        jnp.dtype(c.param_dtype),
      )
      y = y + bias.astype(c.dtype)[None, None]
    return recomputation.named(y, name)

  @nn.compact
  def __call__(
    self,
    x_BLD: jax.Array,
    turns: rotary.Turns | rotary.WholeTurns,
    attend: Attend,
  ) -> tuple[jax.Array, Any]:
    c = self.config
    h_BLD = RMSNorm(c, name='attention_norm')(x_BLD)
    q_BLKRE = self._project('query', h_BLD)
    k_BLKE = self._project('key', h_BLD)
    v_BLKE = self._project('value', h_BLD)
    if c.qk_norm:
      q_BLKRE = RMSNorm(c, name='query_norm')(q_BLKRE)
      k_BLKE = RMSNorm(c, name='key_norm')(k_BLKE)
    q_BLKRE = rotary.rotate(q_BLKRE, turns)
    k_BLKE = rotary.rotate(k_BLKE, turns)
    o_BLKRE, kept = attend(q_BLKRE, k_BLKE, v_BLKE)
    o_BLD = self._project('output', o_BLKRE)
    if c.post_norms:
      o_BLD = RMSNorm(c, name='post_attention_norm')(o_BLD)
    x_BLD = constrain(x_BLD + o_BLD, 'batch', 'length', 'activation_embed')

    h_BLD = RMSNorm(c, name='mlp_norm')(x_BLD)
    gate_BLF = _ACTIVATIONS[c.activation](self._project('gate', h_BLD))
    up_BLF = self._project('up', h_BLD)
    h_BLF = constrain(gate_BLF * up_BLF, 'batch', 'length', 'mlp')
    o_BLD = self._project('down', h_BLF)
    if c.post_norms:
      o_BLD = RMSNorm(c, name='post_mlp_norm')(o_BLD)
    return constrain(x_BLD + o_BLD, 'batch', 'length', 'activation_embed'), kept


def _product(
  matrix: matrices.Matrix, x: jax.Array, weight: jax.Array
) -> jax.Array:
  """x (B, L, inputs) times a matrix, (B, L, outputs).

  On CPUs all tokens are one dimension, and so are inputs and outputs: of a sum
  over several dimensions, as the weight's gradient is, XLA copies both factors
  into another order first, which takes longer than the product.
  """
  if partitioning.platform() != 'cpu' or partitioning.is_split():
    return jnp.einsum(matrix.einsum, x, weight)
  leading, number = x.shape[:2], len(matrix.inputs)
  x_TI = x.reshape(math.prod(leading), -1)
  w_IO = weight.reshape(x_TI.shape[1], -1)
  return (x_TI @ w_IO).reshape(*leading, *weight.shape[number:])
