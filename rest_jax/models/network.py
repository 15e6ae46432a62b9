"""One decoder network: RoPE, grouped-query attention, RMSNorm, gated MLP.

Its layers are those of block.py. Their weights are stacked, with 'layers' as
the first axis; where the kinds of layers follow a pattern, each place of the
pattern has a stack of its own. The caches of decoding are explicit arrays
(decoding.py), never a Flax collection.

Dimensions: B batch, L length, D embed, H heads, K kv heads, R heads per kv
head, E head width, F mlp, V vocabulary.
"""

import functools
from collections.abc import Callable
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
from jax.experimental.layout import Layout, with_layout_constraint

from rest_jax.distributed import partitioning
from rest_jax.distributed.partitioning import constrain
from rest_jax.models import (
  attention,
  quantization,
  recomputation,
  rotary,
  row_attention,
)
from rest_jax.models.adapters import COLLECTION
from rest_jax.models.architecture import REST, DecoderConfig, Stack
from rest_jax.models.block import Block, RMSNorm
from rest_jax.models.segments import Prefixes, Segments, Spans


class Period(nn.Module):
  """The layers of one repetition of the network's layer_pattern."""

  config: DecoderConfig
  size: int

  def setup(self):
    self.layers = [Block(self.config) for _ in range(self.size)]


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
    x_BLD = constrain(x_BLD, 'lookup', 'lookup_length', 'embed')
    scale_V = self.get_variable(quantization.SCALES, 'embedding')
    if scale_V is not None:
      scale_BL = jnp.take(scale_V, tokens_BL, mode='clip')
      x_BLD = x_BLD * scale_BL[..., None]
    x_BLD = x_BLD.astype(self.config.dtype)
    if self.config.scale_embeddings:
      # The factor too is rounded to dtype, as in the published networks.
      x_BLD = x_BLD * jnp.asarray(self.config.embed_dim**0.5, x_BLD.dtype)
    return constrain(x_BLD, 'batch', 'length', 'activation_embed')

  def before_logits(self, x_BLD: jax.Array) -> tuple[jax.Array, jax.Array]:
    """(the states behind the last norm (B, L, D), the unembedding (V, D)).

    Their product is `logits`, but for quantised weights and the soft cap.
    """
    return self.final_norm(x_BLD), getattr(self, self._unembedding)

  @property
  def _unembedding(self) -> str:
    return 'embedding' if self.config.tie_embeddings else 'unembedding'

  def logits(self, x_BLD: jax.Array) -> jax.Array:
    """Last hidden states (B, L, D) to scores (B, L, V) in float32."""
    c = self.config
    h_BLD, w_VD = self.before_logits(x_BLD)
    # Accumulated and kept in float32: log-probabilities are differences of
    # logits, and bfloat16 is 0.1 apart near 20.
    with jax.default_matmul_precision(c.matmul_precision):
      logits_BLV = jnp.einsum(
        'BLD,VD->BLV',
        h_BLD,
        w_VD.astype(c.dtype),
        preferred_element_type=jnp.float32,
      )
    scale_V = self.get_variable(quantization.SCALES, self._unembedding)
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
    parents_BL: jax.Array | None = None,
    prefixes: Prefixes | None = None,
    spans: Spans | None = None,
    keep_kv: bool = False,
  ) -> tuple[jax.Array, Any]:
    """Hidden states of packed rows.

    Args:
      tokens_BL: ids.
      positions_BL: of the tokens in their texts, from 0.
      segment_ids_BL: 1, 2, … in a row; 0 is padding. A token attends to the
        tokens of its segment up to itself.
      parents_BL: the segment that a token's segment continues, of which it
        sees all; -1: none. None: no segment has one.
      prefixes: what the rows' texts begin with; None: with nothing.
      spans: how far tokens look at most, which makes it faster; None: nothing
        is known.
      keep_kv: whether to return the keys and values.

    Returns:
      (x_BLD before the final norm, the keys and values as Prefixes has them,
      or None).
    """
    segments = Segments(
      segment_ids_BL, parents_BL, positions_BL, prefixes and prefixes.of_rows
    )
    c = self.config
    x_BLD = self.embed(tokens_BL)
    # Once for all layers: it saves a small network's step a tenth on a CPU.
    turns = rotary.turns(c, segments.positions_BL)
    kept = []
    for number, stack in enumerate(c.stacks):
      layers = self.rest if stack.path == REST else self.blocks
      given = [None] * len(stack.kinds)
      if prefixes is not None:
        given = prefixes.keys_values[number]
      with jax.default_matmul_precision(c.matmul_precision):
        x_BLD, kept_here = self._scanned(stack, spans, keep_kv)(
          layers, x_BLD, turns, segments, given
        )
      kept.append(kept_here)
    return x_BLD, kept if keep_kv else None

  def _scanned(
    self, stack: Stack, spans: Spans | None, keep_kv: bool
  ) -> Callable[..., Any]:
    """All layers of a stack.

    Returns:
      (layers, x, turns, segments, prefixes) -> (x, kept); prefixes and kept are
      lists with one entry for each layer of the pattern.
    """
    c = self.config

    def one(kind, block, x_BLD, turns, segments, prefix):
      def attend(q_BLKRE, k_BLKE, v_BLKE):
        out_BLKRE = row_attention.attend(
          segments,
          spans,
          segments.prefix(prefix),
          c,
          kind,
          *(q_BLKRE, k_BLKE, v_BLKE),
        )
        return out_BLKRE, (k_BLKE, v_BLKE) if keep_kv else None

      return block(_states_in_rows(x_BLD), turns, attend)

    layer_of = {kind: functools.partial(one, kind) for kind in stack.kinds}
    if c.remat != 'none':
      # Layer by layer, also inside a pattern. The barriers of prevent_cse are
      # for compilers that would merge or advance the recomputations of two
      # layers in one body of the loop.
      layer_of = {
        kind: nn.remat(
          layer,
          policy=recomputation.policy(c.remat),
          prevent_cse=len(stack.kinds) > 1,
        )
        for kind, layer in layer_of.items()
      }

    def body(layers, x_BLD, turns, segments, prefixes):
      blocks = [layers] if isinstance(layers, Block) else layers.layers
      kept = []
      for kind, block, prefix in zip(
        stack.kinds, blocks, prefixes, strict=True
      ):
        x_BLD, kept_here = layer_of[kind](
          block, x_BLD, turns[kind], segments, prefix
        )
        kept.append(kept_here)
      return x_BLD, kept

    return nn.scan(
      body,
      variable_axes={'params': 0, COLLECTION: 0, quantization.SCALES: 0},
      split_rngs={'params': True},
      in_axes=(nn.broadcast, nn.broadcast, 0),
      length=stack.repeats,
      metadata_params={nn.PARTITION_NAME: 'layers'},
    )


def _states_in_rows(x_BLD: jax.Array) -> jax.Array:
  """What a layer begins with, the numbers of a token next to each other.

  A TPU's compiler chooses the other order for the forward pass, and copies what
  all layers keep, for the backward pass: 4 % of a layer's time on v6e.
  """
  if partitioning.platform() != 'tpu':
    return x_BLD
  in_rows = functools.partial(with_layout_constraint, layouts=Layout((0, 1, 2)))
  if partitioning.is_split():
    mesh = partitioning.in_use()
    # By each device for itself: else the compiler gathers all of them first.
    names = ('batch', 'length', 'activation_embed')
    spec = partitioning.spec(names, x_BLD.shape, mesh, 'states')
    in_rows = jax.shard_map(
      in_rows, mesh=mesh, in_specs=spec, out_specs=spec, check_vma=False
    )
  # jax's own gradient of a shard_map is summed over devices that hold the same.
  laid = jax.custom_vjp(in_rows)
  laid.defvjp(
    lambda x_BLD: (in_rows(x_BLD), None),
    lambda _, gradient_BLD: (in_rows(gradient_BLD),),
  )
  return laid(x_BLD)


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
