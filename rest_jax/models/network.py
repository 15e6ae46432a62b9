"""One decoder network: RoPE, grouped-query attention, RMSNorm, gated MLP.

A `Block` does not know how it attends: it is handed `attend(q, k, v)`. Training
and prefill attend causally within a segment; decoding attends to caches, which
are explicit arrays (decoding.py), never a Flax collection. All layers' weights
are stacked, with 'layers' as their first axis.

Dimensions: B batch, L length, D embed, H heads, K kv heads, R heads per kv
head, E head width, F mlp, V vocabulary.
"""

import functools
import math
from collections.abc import Callable
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp

from rest_jax.distributed.partitioning import constrain
from rest_jax.models import attention, matrices, quantization, rotary
from rest_jax.models.adapters import COLLECTION
from rest_jax.models.architecture import REST, DecoderConfig, Stack

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
    # bfloat16 would lose the small squares in the sum over D.
    y = x.astype(jnp.float32)
    mean_square = jnp.mean(jnp.square(y), axis=-1, keepdims=True)
    y = y * jax.lax.rsqrt(mean_square + c.norm_epsilon)
    scale = scale_D.astype(jnp.float32).reshape((1,) * (x.ndim - 1) + (-1,))
    return (y * (scale + c.norm_offset)).astype(x.dtype)


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
      y = jnp.einsum(matrix.einsum, x, weight.astype(c.dtype))
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
    return y

  @nn.compact
  def __call__(
    self, x_BLD: jax.Array, turns: rotary.Turns, attend: Attend
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


class Period(nn.Module):
  """The layers of one repetition of the network's layer_pattern."""

  config: DecoderConfig
  size: int

  def setup(self):
    self.layers = [Block(self.config) for _ in range(self.size)]


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
    blocks, *rest = (self._layers(stack) for stack in c.stacks)
    self.blocks = blocks
    if rest:
      [self.rest] = rest
    self.final_norm = RMSNorm(c)

  def _layers(self, stack: Stack) -> nn.Module:
    if stack.block(0) == stack.path:
      return Block(self.config)
    return Period(self.config, len(stack.kinds))

  def embed(self, tokens_BL: jax.Array) -> jax.Array:
    """Token ids (B, L) to the residual stream (B, L, D)."""
    # Without 'clip' JAX fills in NaN for an id beyond the table, which costs a
    # comparison per value; the sampling engine refuses a vocabulary that is
    # larger than the table.
    x_BLD = jnp.take(self.embedding, tokens_BL, axis=0, mode='clip')
    # Each chip looks up its part of D for all rows of its fsdp group. Left to
    # itself, the compiler gathers every row's gradient on every chip.
    x_BLD = constrain(x_BLD, 'lookup', 'length', 'embed')
    scale_V = self.get_variable(quantization.SCALES, 'embedding')
    if scale_V is not None:
      scale_BL = jnp.take(scale_V, tokens_BL, mode='clip')
      x_BLD = x_BLD * scale_BL[..., None]
    x_BLD = x_BLD.astype(self.config.dtype)
    if self.config.scale_embeddings:
      # The factor too is rounded to dtype, as in the published networks.
      x_BLD = x_BLD * jnp.asarray(self.config.embed_dim**0.5, x_BLD.dtype)
    return constrain(x_BLD, 'batch', 'length', 'activation_embed')

  def logits(self, x_BLD: jax.Array) -> jax.Array:
    """Last hidden states (B, L, D) to scores (B, L, V) in float32."""
    c = self.config
    name = 'embedding' if c.tie_embeddings else 'unembedding'
    w_VD = getattr(self, name)
    h_BLD = self.final_norm(x_BLD)
    # Accumulated and kept in float32: log-probabilities are differences of
    # logits, and bfloat16 is 0.1 apart near 20.
    with jax.default_matmul_precision(c.matmul_precision):
      logits_BLV = jnp.einsum(
        'BLD,VD->BLV',
        h_BLD,
        w_VD.astype(c.dtype),
        preferred_element_type=jnp.float32,
      )
    scale_V = self.get_variable(quantization.SCALES, name)
    if scale_V is not None:
      logits_BLV = logits_BLV * scale_V[None, None]
    logits_BLV = attention.capped(logits_BLV, c.logit_soft_cap)
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
    x_BLD = self.embed(tokens_BL)
    # Once for all layers: it saves a small network's step a tenth on a CPU.
    turns = rotary.turns(c, positions_BL)
    kept = []
    for stack in c.stacks:
      layers = self.rest if stack.path == REST else self.blocks
      with jax.default_matmul_precision(c.matmul_precision):
        x_BLD, kept_here = self._scanned(stack, keep_kv)(
          layers, x_BLD, turns, segment_ids_BL
        )
      kept.append(kept_here)
    return x_BLD, _in_order(kept) if keep_kv else None

  def _scanned(self, stack: Stack, keep_kv: bool) -> Callable[..., Any]:
    """All layers of a stack: (layers, x, turns, segments) -> (x, kept).

    `kept` is a list with one entry for each layer of the pattern.
    """
    c = self.config

    def one(kind, block, x_BLD, turns, segment_ids_BL):
      attend = functools.partial(
        attention.causal, segment_ids_BL, c, kind, keep_kv
      )
      return block(x_BLD, turns, attend)

    layer_of = {kind: functools.partial(one, kind) for kind in stack.kinds}
    if c.remat != 'none':
      # Layer by layer: the backward pass of a whole pattern at once would hold
      # the activations of all its layers. Two layers in one body of the loop
      # need the barriers of prevent_cse, or all are recomputed at its start.
      layer_of = {
        kind: nn.remat(
          layer,
          policy=_REMAT_POLICIES[c.remat],
          prevent_cse=len(stack.kinds) > 1,
        )
        for kind, layer in layer_of.items()
      }

    def body(layers, x_BLD, turns, segment_ids_BL):
      blocks = [layers] if isinstance(layers, Block) else layers.layers
      kept = []
      for kind, block in zip(stack.kinds, blocks, strict=True):
        x_BLD, kept_here = layer_of[kind](
          block, x_BLD, turns[kind], segment_ids_BL
        )
        kept.append(kept_here)
      return x_BLD, kept

    return nn.scan(
      body,
      variable_axes={'params': 0, COLLECTION: 0, quantization.SCALES: 0},
      split_rngs={'params': True},
      in_axes=(nn.broadcast, nn.broadcast),
      length=stack.repeats,
      metadata_params={nn.PARTITION_NAME: 'layers'},
    )


def _in_order(kept: list[Any]) -> Any:
  """What the layers kept, (layers, …) in the order of the network.

  Args:
    kept: for each stack, and there for each layer of the pattern, arrays with
      the pattern's repetitions as their first axis.
  """

  def interleaved(*by_place):
    if len(by_place) == 1:
      return by_place[0]
    stacked = jnp.stack(by_place, axis=1)
    return stacked.reshape((-1,) + stacked.shape[2:])

  stacks = [jax.tree.map(interleaved, *by_place) for by_place in kept]
  if len(stacks) == 1:
    return stacks[0]
  return jax.tree.map(lambda *arrays: jnp.concatenate(arrays), *stacks)


def layer_weights(config: DecoderConfig, params: Any) -> list[Any]:
  """The variables of each layer, sliced out of the stacks, in order."""
  found = {}
  for stack in config.stacks:
    for place in range(len(stack.kinds)):
      weights = block_weights(params, stack, place)
      for index, layer in enumerate(stack.layers(place)):
        found[layer] = jax.tree.map(lambda w, i=index: w[i], weights)
  return [found[layer] for layer in range(config.num_layers)]


def block_weights(params: Any, stack: Stack, place: int) -> dict[str, Any]:
  """The stacked variables of one layer of a stack's pattern.

  Args:
    params: the network's variables: 'params', and 'scales' if there are some.
    stack: one of DecoderConfig.stacks.
    place: of the layer in the stack's pattern.

  Returns:
    {collection: …} that Block.apply takes, each array with the pattern's
    repetitions as its first axis.
  """

  def at(tree):
    for name in stack.block(place).split('/'):
      tree = tree[name]
    return tree

  return {collection: at(tree) for collection, tree in params.items()}
