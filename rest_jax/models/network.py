"""One decoder network: RoPE, grouped-query attention, RMSNorm, gated MLP.

A `Block` does not know how it attends: it is handed `attend(q, k, v)`. Training
and prefill attend causally within a segment; decoding attends to caches, which
are explicit arrays (decoding.py), never a Flax collection. All layers' weights
are stacked, with 'layers' as their first axis.

Dimensions: B batch, L length, D embed, H heads, K kv heads, R heads per kv
head, E head width, F mlp, V vocabulary.
"""

import functools
from collections.abc import Callable
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp

from rest_jax.distributed.partitioning import constrain
from rest_jax.models import attention, rotary
from rest_jax.models.architecture import DecoderConfig

# (q_BLKRE, k_BLKE, v_BLKE) -> (o_BLKRE, whatever the caller wants kept)
Attend = Callable[..., tuple[jax.Array, Any]]


class RMSNorm(nn.Module):
  """Root-mean-square normalisation with a learned scale, in float32."""

  config: DecoderConfig

  @nn.compact
  def __call__(self, x: jax.Array) -> jax.Array:
    scale_D = self.param(
      'scale',
      nn.with_logical_partitioning(nn.initializers.ones, ('norm',)),
      (x.shape[-1],),
      jnp.dtype(self.config.param_dtype),
    )
    # bfloat16 would lose the small squares in the sum over D.
    y = x.astype(jnp.float32)
    mean_square = jnp.mean(jnp.square(y), axis=-1, keepdims=True)
    y = y * jax.lax.rsqrt(mean_square + self.config.norm_epsilon)
    scale = scale_D.astype(jnp.float32).reshape((1,) * (x.ndim - 1) + (-1,))
    return (y * scale).astype(x.dtype)


class Block(nn.Module):
  """One layer: x + attention(norm(x)), then x + mlp(norm(x))."""

  config: DecoderConfig

  def _matrix(self, name, shape, names, fan_in, gain=1.0):
    init = nn.initializers.truncated_normal(gain * fan_in**-0.5)
    weight = self.param(
      name,
      nn.with_logical_partitioning(init, names),
      shape,
      jnp.dtype(self.config.param_dtype),
    )
    return weight.astype(self.config.dtype)

  @nn.compact
  def __call__(
    self, x_BLD: jax.Array, turns: rotary.Turns, attend: Attend
  ) -> tuple[jax.Array, Any]:
    c = self.config
    D, K, E, F = c.embed_dim, c.num_kv_heads, c.head_dim, c.mlp_dim
    R = c.num_heads // K
    # Each layer adds two branches to the residual stream. Scaled down so at
    # their start, its variance does not grow with the depth (GPT-2).
    residual = (2 * c.num_layers) ** -0.5
    q_names = ('embed', 'kv_heads', None, 'head_dim')
    kv_names = ('embed', 'kv_heads', 'head_dim')
    wq_DKRE = self._matrix('query', (D, K, R, E), q_names, D)
    wk_DKE = self._matrix('key', (D, K, E), kv_names, D)
    wv_DKE = self._matrix('value', (D, K, E), kv_names, D)
    wo_KRED = self._matrix(
      'output',
      (K, R, E, D),
      ('kv_heads', None, 'head_dim', 'embed'),
      K * R * E,
      residual,
    )
    wg_DF = self._matrix('gate', (D, F), ('embed', 'mlp'), D)
    wu_DF = self._matrix('up', (D, F), ('embed', 'mlp'), D)
    wd_FD = self._matrix('down', (F, D), ('mlp', 'embed'), F, residual)

    h_BLD = RMSNorm(c, name='attention_norm')(x_BLD)
    q_BLKRE = jnp.einsum('BLD,DKRE->BLKRE', h_BLD, wq_DKRE)
    k_BLKE = jnp.einsum('BLD,DKE->BLKE', h_BLD, wk_DKE)
    v_BLKE = jnp.einsum('BLD,DKE->BLKE', h_BLD, wv_DKE)
    q_BLKRE = rotary.rotate(q_BLKRE, turns)
    k_BLKE = rotary.rotate(k_BLKE, turns)
    o_BLKRE, kept = attend(q_BLKRE, k_BLKE, v_BLKE)
    x_BLD = x_BLD + jnp.einsum('BLKRE,KRED->BLD', o_BLKRE, wo_KRED)
    x_BLD = constrain(x_BLD, 'batch', 'length', 'activation_embed')

    h_BLD = RMSNorm(c, name='mlp_norm')(x_BLD)
    activation = {'silu': nn.silu, 'gelu': nn.gelu}[c.activation]
    gate_BLF = activation(jnp.einsum('BLD,DF->BLF', h_BLD, wg_DF))
    up_BLF = jnp.einsum('BLD,DF->BLF', h_BLD, wu_DF)
    h_BLF = constrain(gate_BLF * up_BLF, 'batch', 'length', 'mlp')
    x_BLD = x_BLD + jnp.einsum('BLF,FD->BLD', h_BLF, wd_FD)
    return constrain(x_BLD, 'batch', 'length', 'activation_embed'), kept


_REMAT_POLICIES = {
  'full': None,
  'dots': jax.checkpoint_policies.dots_with_no_batch_dims_saveable,
}


class Decoder(nn.Module):
  """The whole network. `__call__` gives hidden states, `logits` the scores."""

  config: DecoderConfig

  def setup(self):
    c = self.config
    init = nn.with_logical_partitioning(
      nn.initializers.truncated_normal(c.embed_dim**-0.5), ('vocab', 'embed')
    )
    dtype = jnp.dtype(c.param_dtype)
    shape = (c.vocab_size, c.embed_dim)
    self.embedding = self.param('embedding', init, shape, dtype)
    if not c.tie_embeddings:
      self.unembedding = self.param('unembedding', init, shape, dtype)
    self.blocks = Block(c)
    self.final_norm = RMSNorm(c)

  def embed(self, tokens_BL: jax.Array) -> jax.Array:
    """Token ids (B, L) to the residual stream (B, L, D)."""
    # Without 'clip' JAX fills in NaN for an id beyond the table, which costs a
    # comparison per value; the sampling engine refuses a vocabulary that is
    # larger than the table.
    x_BLD = jnp.take(self.embedding, tokens_BL, axis=0, mode='clip')
    # Each chip looks up its part of D for all rows of its fsdp group. Left to
    # itself, the compiler gathers every row's gradient on every chip.
    x_BLD = constrain(x_BLD, 'lookup', 'length', 'embed')
    x_BLD = x_BLD.astype(self.config.dtype)
    return constrain(x_BLD, 'batch', 'length', 'activation_embed')

  def logits(self, x_BLD: jax.Array) -> jax.Array:
    """Last hidden states (B, L, D) to scores (B, L, V) in float32."""
    c = self.config
    w_VD = self.embedding if c.tie_embeddings else self.unembedding
    h_BLD = self.final_norm(x_BLD)
    # Accumulated and kept in float32: log-probabilities are differences of
    # logits, and bfloat16 is 0.1 apart near 20.
    logits_BLV = jnp.einsum(
      'BLD,VD->BLV',
      h_BLD,
      w_VD.astype(c.dtype),
      preferred_element_type=jnp.float32,
    )
    return constrain(logits_BLV, 'batch', 'length', 'vocab')

  def __call__(
    self,
    tokens_BL: jax.Array,
    positions_BL: jax.Array,
    segment_ids_BL: jax.Array,
    *,
    keep_kv: bool = False,
  ) -> tuple[jax.Array, Any]:
    """Hidden states of packed sequences.

    Args:
      tokens_BL: ids.
      positions_BL: from 0 within each segment.
      segment_ids_BL: 1, 2, … in a row; 0 is padding. A token attends to the
        tokens of its segment up to itself.
      keep_kv: whether to return each layer's keys and values.

    Returns:
      (x_BLD before the final norm, (k, v) each (layers, B, L, K, E) or None).
    """
    c = self.config

    def body(block, x_BLD, turns, segment_ids_BL):
      attend = functools.partial(attention.causal, segment_ids_BL, c, keep_kv)
      return block(x_BLD, turns, attend)

    if c.remat != 'none':
      policy = _REMAT_POLICIES[c.remat]
      body = nn.remat(body, policy=policy, prevent_cse=False)
    scan = nn.scan(
      body,
      variable_axes={'params': 0},
      split_rngs={'params': True},
      in_axes=(nn.broadcast, nn.broadcast),
      length=c.num_layers,
      metadata_params={nn.PARTITION_NAME: 'layers'},
    )
    x_BLD = self.embed(tokens_BL)
    # Once for all layers: it saves a small network's step a tenth on a CPU.
    turns = rotary.turns(c, positions_BL)
    return scan(self.blocks, x_BLD, turns, segment_ids_BL)
