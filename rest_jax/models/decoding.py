"""Reading prompts and decoding over explicit caches.

Keys and values of tokens that many samples share lie in memory once:

    prefix    (K, P, E)         the few-shot prompt, of all groups
    question  (G, K, Q, E)      of one problem, a group, and all of its lanes
    suffix    (G, N, K, T, E)   of each sample, a lane; read only within a chunk
    chunk     (G, N, K, C, E)   what the current chunk of decode steps writes

So lie the values; keys have their last two axes the other way round, (…, E, P):
either is multiplied with rows that lie in one piece.

A lane starts where a chunk starts. Within a chunk all lanes write the same
place of `chunk`, whatever their lengths; `commit` then moves each lane's block
behind that lane's own suffix. So token i of a sample always stands in place
i mod C of a chunk, and the sample does not depend on when it was started.

Weights and caches are lists with one entry per layer. With decode_loop =
'scan' an entry holds the layers of one place of the pattern, stacked.

Dimensions: G group, N lane, P prefix, Q question, T suffix, C chunk, B question
that is read; others as in network.
"""

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from rest_jax.distributed import partitioning
from rest_jax.distributed.partitioning import constrain
from rest_jax.models import (
  architecture,
  attention,
  decode_attention,
  network,
  rotary,
)
from rest_jax.models.architecture import DecoderConfig
from rest_jax.models.block import Block

Cache = list[attention.KeysValues]  # one entry per layer

_PREFIX = ('kv_heads', 'length', 'head_dim')
_QUESTION = ('group', *_PREFIX)
_LANES = ('group', 'lane', *_PREFIX)


class Weights(NamedTuple):
  """The network's variables as decoding reads them.

  Attributes:
    outer: those of the embedding and the last norm.
    layers: of the blocks.
  """

  outer: Any
  layers: list[Any]


class Prefix(NamedTuple):
  """What all groups share.

  Attributes:
    cache: keys and values (K, P, E).
    length: tokens; the places behind them are padding.
  """

  cache: Cache
  length: jax.Array


class Context(NamedTuple):
  """What a decode step reads beside the chunk.

  Attributes:
    prefix: None where nothing is shared by all groups.
    question: keys and values (G, K, Q, E).
    question_lengths_G: tokens of each.
    suffix: keys and values (G, N, K, T, E).
    suffix_lengths_GN: tokens of each: a multiple of the chunk's length.
  """

  prefix: Prefix | None
  question: Cache
  question_lengths_G: jax.Array
  suffix: Cache
  suffix_lengths_GN: jax.Array

  @property
  def prompt_lengths_G(self) -> jax.Array:
    """Tokens before each group's suffixes."""
    return _start(self.prefix) + self.question_lengths_G


def arrange(config: DecoderConfig, params: Any) -> Weights:
  """The network's variables in the form in which decoding reads them.

  Args:
    config: of the network.
    params: of network.Decoder: 'params', and 'scales' if there are some.
  """
  outer = _outer(config, params)
  if config.decode_loop == 'unroll':
    return Weights(outer, network.layer_weights(config, params))
  return Weights(
    outer,
    [
      network.block_weights(params, stack, place)
      for stack in config.stacks
      for place in range(len(stack.kinds))
    ],
  )


def arrange_on(config: DecoderConfig, params: Any) -> Weights:
  """`arrange`, one array after the other; each is deleted when it was read.

  The memory never holds more than the weights and one stacked array.

  Args:
    config: of the network.
    params: on devices; the stacked ones cannot be used afterwards.
  """
  if config.decode_loop == 'scan':
    return arrange(config, params)
  layers: list[Any] = [None] * config.num_layers
  for stack in config.stacks:
    for place in range(len(stack.kinds)):
      stacked, structure = jax.tree.flatten(
        network.block_weights(params, stack, place)
      )
      parts = []
      for array in stacked:
        parts.append(jax.block_until_ready(_unstacked(array)))
        array.delete()
      for index, layer in enumerate(stack.layers(place)):
        layers[layer] = structure.unflatten([part[index] for part in parts])
  return Weights(_outer(config, params), layers)


def _unstacked(array: jax.Array) -> list[jax.Array]:
  """The layers of a stacked array, split over the devices as it is."""
  where = array.sharding
  if isinstance(where, jax.sharding.NamedSharding):
    spec = jax.sharding.PartitionSpec(*where.spec[1:])
    where = jax.sharding.NamedSharding(where.mesh, spec)
  return jax.jit(list, out_shardings=where)(array)


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
  first = [tuple(_first(config, a) for a in kv) for kv in own]
  return _constrained(config, first, _PREFIX)


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
  start_B = jnp.broadcast_to(_start(prefix), tokens_BQ.shape[:1])
  cache = _read(config, weights, prefix, tokens_BQ, start_B)
  return _constrained(config, cache, _QUESTION)


def empty(config: DecoderConfig, *leading: int, length: int) -> Cache:
  """A cache of zeros.

  Args:
    config: of the network.
    *leading: groups; or groups and lanes.
    length: places.
  """
  c = config
  if c.decode_loop == 'unroll':
    stacked = [()] * c.num_layers
  else:
    stacked = [(stack.repeats,) for stack in c.stacks for _ in stack.kinds]

  def zeros_of(first: tuple[int, ...], *last: int) -> jax.Array:
    shape = (*first, *leading, c.num_kv_heads, *last)
    return jnp.zeros(shape, jnp.dtype(c.dtype))

  zeros = [
    (zeros_of(s, c.head_dim, length), zeros_of(s, length, c.head_dim))
    for s in stacked
  ]
  return _constrained(config, zeros, _LANES if len(leading) == 2 else _QUESTION)


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
    context: what was fed before the chunk.
    chunk: keys and values (G, N, K, C, E); places behind `place` are ignored.

  Returns:
    (logits_GNV, the chunk with the new tokens).
  """
  start_GN = context.prompt_lengths_G[:, None] + context.suffix_lengths_GN
  positions_GN = start_GN + place
  turns = rotary.turns(config, positions_GN)
  platform = partitioning.platform()
  fused = architecture.attention_on(platform, config.attention) == 'splash'
  lengths = decode_attention.Lengths(
    jnp.asarray(_start(context.prefix)),
    context.question_lengths_G,
    context.suffix_lengths_GN,
    place,
  )
  sight = attention.Sight(config, positions_GN)
  masks = {
    kind: [
      *_prefix_mask(sight, kind, context.prefix),
      sight.mask(
        kind,
        _start(context.prefix),
        context.question_lengths_G[:, None],
        _places(context.question),
      ),
      sight.mask(
        kind,
        context.prompt_lengths_G[:, None],
        context.suffix_lengths_GN,
        _places(context.suffix),
      ),
      sight.mask(kind, start_GN, place + 1, _places(chunk)),
    ]
    for kind in turns
    if not fused
  }

  def layer(kind, x_GND, weights_here, question, suffix, chunk, *prefix):
    def attend(q_GNKRE, k_GNKE, v_GNKE):
      # Written before it is read: a token attends to itself.
      write = jax.lax.dynamic_update_slice_in_dim
      new = (
        write(chunk[0], k_GNKE[..., None], place, axis=4),
        write(chunk[1], v_GNKE[:, :, :, None], place, axis=3),
      )
      if fused:
        out_GNKRE = decode_attention.cached(
          config,
          kind,
          q_GNKRE,
          prefix[0] if prefix else None,
          *(question, suffix, new, lengths),
        )
        return out_GNKRE, new
      parts = [*prefix, question, suffix, new]
      return attention.cached(config, q_GNKRE, parts, masks[kind]), new

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
    context.suffix,
    chunk,
    *([context.prefix.cache] if context.prefix else []),
  )
  logits_GNV = network.Decoder(config).apply(
    weights.outer, x_GND, method='logits'
  )
  return logits_GNV, _constrained(config, chunk, _LANES)


def commit(
  config: DecoderConfig,
  suffix: Cache,
  suffix_lengths_GN: jax.Array,
  chunk: Cache,
) -> Cache:
  """The suffixes with each lane's chunk behind them.

  Args:
    config: of the network.
    suffix: keys and values (G, N, K, T, E), T a multiple of the chunk's length.
    suffix_lengths_GN: tokens of each, a multiple of the chunk's length. A lane
      without room keeps its suffix.
    chunk: keys and values (G, N, K, C, E).
  """

  def layer(kind, carry, suffix, chunk):
    return carry, (
      placed(suffix[0], chunk[0], axis=4),
      placed(suffix[1], chunk[1], axis=3),
    )

  def placed(suffix, chunk, axis):
    size, places = chunk.shape[axis], suffix.shape[axis]
    # A selection, not a write at each lane's own place: that is a loop over the
    # lanes, and a gather where the groups are split.
    block_T = jnp.arange(places) // size
    here_GNT = block_T[None, None] == (suffix_lengths_GN // size)[..., None]
    here = jnp.expand_dims(here_GNT, [d for d in (2, 3, 4) if d != axis])
    times = [places // size if d == axis else 1 for d in range(5)]
    return jnp.where(here, jnp.tile(chunk, times), suffix)

  _, suffix = over_layers(config, layer, (), suffix, chunk)
  return _constrained(config, suffix, _LANES)


def insert(
  config: DecoderConfig,
  question: Cache,
  new: Cache,
  rows_G: jax.Array,
  shards: int,
) -> Cache:
  """The questions, some groups' replaced.

  Args:
    config: of the network.
    question: keys and values (G, K, Q, E).
    new: keys and values (B, K, Q, E), as many rows for each shard.
    rows_G: the row of `new` that each group takes, counted from the first of
      the group's own shard, so that nothing moves between devices; -1: the
      group keeps what it has.
    shards: of the groups.
  """

  def layer(kind, carry, question, new):
    return carry, tuple(map(chosen, question, new))

  def chosen(old_GKQE, new_BKQE):
    rows_DG = rows_G.reshape(shards, -1)
    out = old_GKQE.reshape(*rows_DG.shape, *old_GKQE.shape[1:])
    new = new_BKQE.reshape(shards, -1, *new_BKQE.shape[1:])
    for row in range(new.shape[1]):
      here = (rows_DG == row)[:, :, None, None, None]
      out = jnp.where(here, new[:, row, None], out)
    return out.reshape(old_GKQE.shape)

  _, question = over_layers(config, layer, (), question, new)
  return _constrained(config, question, _QUESTION)


def over_layers(
  config: DecoderConfig,
  layer: Callable[..., tuple[Any, Any]],
  carry: Any,
  *trees: Sequence[Any],
) -> tuple[Any, list[Any]]:
  """Goes through the layers in order: unrolled, or in scans.

  Args:
    config: decode_loop says which, and how the entries of the trees lie.
    layer: (kind, carry, an entry of each tree) -> (carry, output).
    carry: of the first layer.
    *trees: lists as Weights.layers.

  Returns:
    (carry of the last layer, list of outputs).
  """
  outputs = []
  if config.decode_loop == 'unroll':
    for index, here in enumerate(zip(*trees, strict=True)):
      carry, output = layer(config.kind(index), carry, *here)
      outputs.append(output)
    return carry, outputs
  first = 0
  for stack in config.stacks:

    def body(carry, entries, kinds=stack.kinds):
      made = []
      for kind, *here in zip(kinds, *entries, strict=True):
        carry, output = layer(kind, carry, *here)
        made.append(output)
      return carry, made

    last = first + len(stack.kinds)
    entries = [list(tree[first:last]) for tree in trees]
    carry, made = jax.lax.scan(body, carry, entries)
    outputs += made
    first = last
  return carry, outputs


def _outer(config: DecoderConfig, params: Any) -> Any:
  """The variables that belong to no layer."""
  paths = {stack.path for stack in config.stacks}
  return {
    collection: {n: array for n, array in tree.items() if n not in paths}
    for collection, tree in params.items()
  }


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
  sight = attention.Sight(config, positions_BL)
  masks = {
    kind: [
      *_prefix_mask(sight, kind, prefix),
      sight.mask(kind, start_B[:, None], length, length),
    ]
    for kind in turns
  }

  def layer(kind, x_BLD, weights_here, *prefix):
    def attend(q_BLKRE, k_BLKE, v_BLKE):
      own = k_BLKE.transpose(0, 2, 3, 1), v_BLKE.transpose(0, 2, 1, 3)
      out = attention.cached(config, q_BLKRE, [*prefix, own], masks[kind])
      return out, own

    return _block(config, kind, weights_here, x_BLD, turns, attend)

  x_BLD = network.Decoder(config).apply(
    weights.outer, tokens_BL, method='embed'
  )
  shared = [prefix.cache] if prefix else []
  _, cache = over_layers(config, layer, x_BLD, weights.layers, *shared)
  return cache


def _block(config, kind, weights_here, x, turns, attend):
  with jax.default_matmul_precision(config.matmul_precision):
    return Block(config).apply(weights_here, x, turns[kind], attend)


def _start(prefix: Prefix | None) -> jax.Array | int:
  return 0 if prefix is None else prefix.length


def _prefix_mask(
  sight: attention.Sight, kind: Any, prefix: Prefix | None
) -> list[jax.Array]:
  if prefix is None:
    return []
  return [sight.mask(kind, 0, prefix.length, _places(prefix.cache))]


def _places(cache: Cache) -> int:
  keys, _ = cache[0]
  return keys.shape[-1]


def _first(config: DecoderConfig, array: jax.Array) -> jax.Array:
  """Without the axis of a single row."""
  return array[0] if config.decode_loop == 'unroll' else array[:, 0]


def _constrained(
  config: DecoderConfig, cache: Cache, names: tuple[str, ...]
) -> Cache:
  if config.decode_loop == 'scan':
    names = ('layers', *names)
  return [tuple(constrain(array, *names) for array in kv) for kv in cache]
