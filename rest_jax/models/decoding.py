"""Reads prompts and decodes, over explicit caches (caches.py).

Dimensions as there.
"""

from typing import Any

import jax
import jax.numpy as jnp

from rest_jax.distributed import partitioning
from rest_jax.models import (
  architecture,
  attention,
  cache_writes,
  cached_attention,
  decode_attention,
  network,
  rotary,
  row_attention,
)
from rest_jax.models.architecture import DecoderConfig
from rest_jax.models.block import Block
from rest_jax.models.cached_attention import KeysValues
from rest_jax.models.caches import (
  LANES,
  PREFIX,
  QUESTION,
  Cache,
  Context,
  Prefix,
  constrained,
  places,
  start,
  starts,
)
from rest_jax.models.layered import Weights, over_layers
from rest_jax.models.segments import OfRows, Segments, Spans


def read_prefix(
  config: DecoderConfig, weights: Weights, tokens_P: jax.Array, shards: int
) -> Cache:
  """The keys and values (K, P, E) of tokens that every prompt begins with.

  Args:
    config: of the network.
    weights: its variables.
    tokens_P: padded on the right, which changes nothing: no token attends to
      later ones.
    shards: of the groups; each reads the prefix itself.
  """
  tokens_BP = jnp.broadcast_to(tokens_P[None], (shards, *tokens_P.shape))
  own = _read(config, weights, None, tokens_BP, jnp.zeros(shards, jnp.int32))
  # One row for all shards.
  axis = 0 if config.decode_loop == 'unroll' else 1
  first = jax.tree.map(
    lambda array: jax.lax.index_in_dim(array, 0, axis, keepdims=False), own
  )
  return constrained(config, first, PREFIX)


def read_questions(
  config: DecoderConfig,
  weights: Weights,
  prefix: Prefix | None,
  tokens_BQ: jax.Array,
) -> Cache:
  """The keys and values (B, K, Q, E) of what follows the prefix.

  Args:
    config: of the network.
    weights: its variables.
    prefix: what the questions follow, if anything.
    tokens_BQ: padded on the right, which changes nothing.
  """
  start_B = jnp.broadcast_to(start(prefix), tokens_BQ.shape[:1])
  cache = _read(config, weights, prefix, tokens_BQ, start_B)
  return constrained(config, cache, QUESTION)


def step(
  config: DecoderConfig,
  weights: Weights,
  tokens_GN: jax.Array,
  place: jax.Array,
  context: Context,
  chunk: Cache,
) -> tuple[jax.Array, Cache]:
  """Feeds one token per lane and scores the next.

  Args:
    config: of the network.
    weights: its variables.
    tokens_GN: the newest tokens.
    place: their place in the chunk, the same for all lanes.
    context: what was fed before the chunk, with its turns.
    chunk: keys and values (G, N, K, C, E), or as `caches.empty_chunk` has them;
      places behind `place` are ignored.

  Returns:
    (logits_GNV, the chunk with the new tokens).
  """
  positions_GN = context.lengths_GN + place
  turns = jax.tree.map(
    lambda array: jax.lax.dynamic_index_in_dim(array, place, 2, keepdims=False),
    context.turns,
  )
  platform = partitioning.platform()
  fused = architecture.attention_on(platform, config) == 'splash'
  lengths = decode_attention.Lengths(
    jnp.asarray(start(context.prefix)),
    context.question_lengths_G,
    context.suffix_lengths_GN,
    place,
  )
  sight = attention.Sight(config, positions_GN)
  parts = len(context.suffix)
  masks = {
    kind: [
      *_prefix_mask(sight, kind, context.prefix),
      sight.mask(
        kind,
        start(context.prefix),
        context.question_lengths_G[:, None],
        places(context.question),
      ),
      *(
        sight.mask(
          kind,
          context.prompt_lengths_G[:, None] + first,
          context.suffix_lengths_GN - first,
          places(part),
        )
        for first, part in zip(
          starts(context.suffix), context.suffix, strict=True
        )
      ),
      sight.mask(kind, context.lengths_GN, place + 1, places(chunk)),
    ]
    for kind in turns
    if not fused
  }

  def layer(kind, x_GND, weights_here, question, chunk, *rest):
    suffix, prefix = rest[:parts], rest[parts:]

    def attend(q_GNKRE, k_GNKE, v_GNKE):
      # Written before it is read: a token attends to itself.
      new = cache_writes.with_token(chunk, k_GNKE, v_GNKE, place)
      if fused:
        out_GNKRE = decode_attention.cached(
          config,
          kind,
          q_GNKRE,
          prefix[0] if prefix else None,
          *(question, *suffix, new, lengths),
        )
        return out_GNKRE, new
      seen = [*prefix, question, *suffix, new]
      return cached_attention.cached(config, q_GNKRE, seen, masks[kind]), new

    return _block(config, kind, weights_here, x_GND, turns, attend)

  x_GND = network.Decoder(config).apply(
    weights.outer, tokens_GN, method='embed'
  )
  x_GND, chunk = over_layers(
    config,
    layer,
    x_GND,
    weights.layers,
    context.question,
    chunk,
    *context.suffix,
    *([context.prefix.cache] if context.prefix else []),
  )
  logits_GNV = network.Decoder(config).apply(
    weights.outer, x_GND, method='logits'
  )
  return logits_GNV, constrained(config, chunk, LANES)


def _read(
  config: DecoderConfig,
  weights: Weights,
  prefix: Prefix | None,
  tokens_BL: jax.Array,
  start_B: jax.Array,
) -> Cache:
  """Keys and values (B, K, L, E) of tokens that follow a prefix.

  Args:
    config: of the network.
    weights: its variables.
    prefix: what they follow, if anything.
    tokens_BL: each row a text of its own.
    start_B: position of the first token of each.
  """
  length = tokens_BL.shape[1]
  positions_BL = start_B[:, None] + jnp.arange(length)[None]
  turns = rotary.turns(config, positions_BL)
  of_rows = None
  if prefix is not None:
    lengths_F = jnp.reshape(prefix.length, 1)
    of_rows = OfRows(lengths_F, jnp.zeros_like(start_B))
  # Padding stands behind the text, and each token looks only back.
  segments = Segments(jnp.ones_like(tokens_BL), None, positions_BL, of_rows)
  spans = Spans(segment=length, parents=0)

  def layer(kind, x_BLD, weights_here, *prefix):
    def attend(q_BLKRE, k_BLKE, v_BLKE):
      out_BLKRE = row_attention.attend(
        segments,
        spans,
        segments.prefix(_as_of_rows(*prefix, k_BLKE.dtype) if prefix else None),
        config,
        kind,
        *(q_BLKRE, k_BLKE, v_BLKE),
      )
      return out_BLKRE, cache_writes.of_tokens(config, k_BLKE, v_BLKE)

    return _block(config, kind, weights_here, x_BLD, turns, attend)

  x_BLD = network.Decoder(config).apply(
    weights.outer, tokens_BL, method='embed'
  )
  shared = [prefix.cache] if prefix else []
  _, cache = over_layers(config, layer, x_BLD, weights.layers, *shared)
  return cache


def _as_of_rows(entry: KeysValues, dtype: Any) -> tuple[jax.Array, jax.Array]:
  """The keys and values of a cached prefix as (1, P, K, E)."""

  def of_rows(array, scales_K1P, axis):
    rows_PKE = jnp.moveaxis(array.astype(dtype), axis, 0)
    if scales_K1P is not None:
      rows_PKE = (rows_PKE * jnp.moveaxis(scales_K1P, -1, 0)).astype(dtype)
    return rows_PKE[None]

  keys, values, *_ = entry.places_axis
  return (
    of_rows(entry.keys, entry.key_scales, keys),
    of_rows(entry.values, entry.value_scales, values),
  )


def _block(config, kind, weights_here, x, turns, attend):
  with jax.default_matmul_precision(config.matmul_precision):
    return Block(config).apply(weights_here, x, turns[kind], attend)


def _prefix_mask(
  sight: attention.Sight, kind: Any, prefix: Prefix | None
) -> list[jax.Array]:
  if prefix is None:
    return []
  return [sight.mask(kind, 0, prefix.length, places(prefix.cache))]
