"""Prefill and one decode step over explicit caches.

A group is one problem; its prompt's keys and values are computed once and
shared by its lanes, each of which holds only its own suffix:

    prompt cache   (layers, G, P, K, E) x 2   read only while decoding
    suffix cache   (layers, G, N, T, K, E) x 2   donated, written in place

Dimensions: G group, N lane, P prompt bucket, T suffix; others as in network.
"""

from typing import Any

import jax
import jax.numpy as jnp

from rest_jax.distributed.partitioning import constrain
from rest_jax.models import attention, network, rotary
from rest_jax.models.architecture import DecoderConfig
from rest_jax.models.block import Block

Cache = tuple[jax.Array, jax.Array]  # keys, values


def prefill(
  config: DecoderConfig, params: Any, tokens_GP: jax.Array, lengths_G: jax.Array
) -> tuple[Cache, jax.Array]:
  """Reads the prompts.

  Args:
    config: of the network.
    params: its variables.
    tokens_GP: prompts, padded on the right.
    lengths_G: tokens of each, at least 1.

  Returns:
    (the prompt cache, logits_GV of the first new token in float32).
  """
  G, P = tokens_GP.shape
  places_GP = jnp.broadcast_to(jnp.arange(P)[None], (G, P))
  # Padding stands on the right, in segment 0: no token of the prompt attends to
  # it, so that a prompt's cache does not depend on the bucket it is padded to.
  segment_ids_GP = (places_GP < lengths_G[:, None]).astype(jnp.int32)
  model = network.Decoder(config)
  x_GPD, cache = model.apply(
    params, tokens_GP, places_GP, segment_ids_GP, keep_kv=True
  )
  # Only the last token of each prompt gets logits: those of all positions would
  # be P times as large, several GB for a vocabulary of 128k.
  last_G1D = jnp.take_along_axis(x_GPD, lengths_G[:, None, None] - 1, axis=1)
  logits_G1V = model.apply(params, last_G1D, method='logits')
  return _constrain_prompt(cache), logits_G1V[:, 0]


def empty_suffix(
  config: DecoderConfig, groups: int, lanes: int, length: int
) -> Cache:
  """A suffix cache of zeros."""
  c = config
  shape = (c.num_layers, groups, lanes, length, c.num_kv_heads, c.head_dim)
  zeros = jnp.zeros(shape, jnp.dtype(c.dtype))
  return _constrain_suffix((zeros, zeros))


def step(
  config: DecoderConfig,
  params: Any,
  tokens_GN: jax.Array,
  time: jax.Array,
  prompt: Cache,
  lengths_G: jax.Array,
  suffix: Cache,
) -> tuple[jax.Array, Cache]:
  """Feeds one token per lane and scores the next.

  Args:
    config: of the network.
    params: its variables.
    tokens_GN: the newest tokens.
    time: their place in the suffix, from 0, the same for all lanes.
    prompt: the prompt cache.
    lengths_G: tokens of each prompt.
    suffix: the suffix cache.

  Returns:
    (logits_GNV, the suffix cache with the new tokens).
  """
  G, N = tokens_GN.shape
  model = network.Decoder(config)
  # A suffix follows its prompt's last token, not the end of the bucket; the
  # caches hold rotated keys, so that slots may lie anywhere.
  positions_GN = jnp.broadcast_to((lengths_G + time)[:, None], (G, N))
  turns = rotary.turns(config, positions_GN)
  places = prompt[0].shape[2], suffix[0].shape[3]
  seen = {
    kind: attention.seen(config, kind, lengths_G, time, places)
    for kind in turns
  }
  x_GND = model.apply(params, tokens_GN, method='embed')
  layer_module = Block(config)

  def layer(kind, index, weights_here, x_GND, suffix):
    def attend(q_GNKRE, k_GNKE, v_GNKE):
      # Written before it is read: a token attends to itself. The whole stacked
      # cache is updated at one place, so that XLA can do it without a copy.
      new = tuple(
        jax.lax.dynamic_update_slice(
          cache, value[None, :, :, None], (index, 0, 0, time, 0, 0)
        )
        for cache, value in zip(suffix, (k_GNKE, v_GNKE), strict=True)
      )
      here = [jax.lax.dynamic_index_in_dim(c, index, 0, False) for c in new]
      prompt_here = [
        jax.lax.dynamic_index_in_dim(c, index, 0, False) for c in prompt
      ]
      out = attention.cached(config, q_GNKRE, prompt_here, here, seen[kind])
      return out, new

    with jax.default_matmul_precision(config.matmul_precision):
      return layer_module.apply(weights_here, x_GND, turns[kind], attend)

  if config.decode_loop == 'scan':
    for stack in config.stacks:
      size = len(stack.kinds)

      def body(carry, scanned, stack=stack, size=size):
        repeat, weights_here = scanned
        for place, kind in enumerate(stack.kinds):
          index = stack.first + repeat * size + place
          carry = layer(kind, index, weights_here[place], *carry)
        return carry, None

      weights = [
        network.block_weights(params, stack, place) for place in range(size)
      ]
      scanned = jnp.arange(stack.repeats), weights
      (x_GND, suffix), _ = jax.lax.scan(body, (x_GND, suffix), scanned)
  else:
    for index, weights_here in enumerate(network.layer_weights(config, params)):
      kind = config.kind(index)
      x_GND, suffix = layer(kind, index, weights_here, x_GND, suffix)
  logits_GNV = model.apply(params, x_GND, method='logits')
  return logits_GNV, _constrain_suffix(suffix)


def _constrain_prompt(cache: Cache) -> Cache:
  names = ('layers', 'group', 'length', 'kv_heads', 'head_dim')
  return tuple(constrain(array, *names) for array in cache)


def _constrain_suffix(cache: Cache) -> Cache:
  names = ('layers', 'group', 'lane', 'length', 'kv_heads', 'head_dim')
  return tuple(constrain(array, *names) for array in cache)
