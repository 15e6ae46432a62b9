"""The caches of decoding: what lies in them, and in which order.

Keys and values of tokens that many samples share lie in memory once:

    prefix    (K, P, E)         the few-shot prompt, of all groups
    question  (G, K, Q, E)      of one problem, a group, and all of its lanes
    suffix    (G, N, K, T, E)   of each sample, a lane; read only within a chunk
    chunk     (G, N, K, C, E)   what the current chunk of decode steps writes

So lie the values; keys have their last two axes the other way round, (…, E, P):
either is multiplied with rows that lie in one piece. The memory of a TPU has
rows of 128 numbers, and values of narrower heads would be padded to that: twice
their bytes and twice the time to read them for heads of 64. They lie as the
keys do (`entry_type`), whose rows are places.

A lane starts where a chunk starts. Within a chunk all lanes write the same
place of `chunk`, whatever their lengths; then each lane's block moves behind
that lane's own suffix (cache_writes.py). So token i of a sample always stands
in place i mod C of a chunk, and the sample does not depend on when it was
started.

In int8 the keys of a token and head are whole numbers with one scale, and so
are its values: the largest of them is 127. That is half the memory of bfloat16,
and half its traffic. A chunk stays as it was computed until it is committed. A
token's numbers depend on that token alone, so that samples keep their identity.

On CPUs the suffixes are several such caches, one behind the other: those that
no lane has reached yet are not read (cached_attention.py).

A cache is a list with one entry per layer, as in layered.py. Dimensions: G
group, N lane, P prefix, Q question, T suffix, C chunk, B question that is read;
others as in network.py.
"""

import itertools
from collections.abc import Sequence
from typing import Any, Literal, NamedTuple

import jax
import jax.numpy as jnp

from rest_jax.distributed import partitioning
from rest_jax.distributed.partitioning import constrain
from rest_jax.models import rotary
from rest_jax.models.architecture import DecoderConfig, LayerKind
from rest_jax.models.cached_attention import KeysValues, PlacesLast

Cache = list[KeysValues]  # one entry per layer
Kind = Literal['as_computed', 'int8']

PREFIX = ('kv_heads', 'length', 'head_dim')
QUESTION = ('group', *PREFIX)
LANES = ('group', 'lane', *PREFIX)
_TPU_ROW = 128  # numbers
# On CPUs: a suffix has no more parts than this, and shorter ones than that only
# where it is short itself. Each part is compiled.
_MOST_PARTS = 8
_PART_PLACES = 32


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
    suffix: keys and values (G, N, K, T, E), in one part or several.
    suffix_lengths_GN: tokens of each: a multiple of the chunk's length.
    turns: of each kind of layer, the angles of the chunk's places (G, N, C,
      …); see `with_turns`.
  """

  prefix: Prefix | None
  question: Cache
  question_lengths_G: jax.Array
  suffix: Sequence[Cache]
  suffix_lengths_GN: jax.Array
  turns: dict[LayerKind, rotary.Turns | rotary.WholeTurns] | None = None

  @property
  def prompt_lengths_G(self) -> jax.Array:
    """Tokens before each group's suffixes."""
    return start(self.prefix) + self.question_lengths_G

  @property
  def lengths_GN(self) -> jax.Array:
    """Tokens before each lane's chunk."""
    return self.prompt_lengths_G[:, None] + self.suffix_lengths_GN

  def with_turns(self, config: DecoderConfig, chunk: int) -> 'Context':
    """The same with the angles of a chunk's places.

    Computed before the loop over places: within it, XLA computes sines again
    for every head of every layer.

    Args:
      config: of the network.
      chunk: its places.
    """
    positions_GNC = self.lengths_GN[..., None] + jnp.arange(chunk)[None, None]
    turns = rotary.turns(config, positions_GNC)
    return self._replace(turns=turns)


def entry_type(config: DecoderConfig) -> type[KeysValues]:
  """In which order a network's values lie on the devices in use."""
  is_padded = partitioning.platform() == 'tpu' and config.head_dim % _TPU_ROW
  return PlacesLast if is_padded else KeysValues


def empty(
  config: DecoderConfig, *leading: int, length: int, kind: Kind = 'as_computed'
) -> Cache:
  """A cache of zeros.

  Args:
    config: of the network.
    *leading: groups; or groups and lanes.
    length: places.
    kind: whether its numbers are of the network's dtype or int8.
  """
  c = config
  if c.decode_loop == 'unroll':
    stacked = [()] * c.num_layers
  else:
    stacked = [(stack.repeats,) for stack in c.stacks for _ in stack.kinds]

  def zeros_of(first: tuple[int, ...], *last: int, dtype: Any) -> jax.Array:
    shape = (*first, *leading, c.num_kv_heads, *last)
    return jnp.zeros(shape, jnp.dtype(dtype))

  dtype = c.dtype if kind == 'as_computed' else 'int8'
  order = entry_type(config)
  sizes = {'e': c.head_dim, 's': length}
  zeros = []
  for s in stacked:
    arrays = [
      zeros_of(s, *(sizes[axis] for axis in axes), dtype=dtype)
      for axes in ('es', order.values_axes)
    ]
    if kind == 'int8':
      arrays += [zeros_of(s, 1, length, dtype='float32') for _ in range(2)]
    zeros.append(order(*arrays))
  return constrained(config, zeros, LANES if len(leading) == 2 else QUESTION)


def empty_chunk(
  config: DecoderConfig, groups: int, lanes: int, length: int
) -> Cache:
  """A chunk that holds nothing, in the form in which the loop over it keeps it.

  On CPUs the chunk of a lone lane is its group's, (G, K, C, E). XLA drops axes
  of 1 from what products read, and would write and copy each array twice.

  Args:
    config: of the network.
    groups: problems at once.
    lanes: samples of each.
    length: tokens.
  """
  if lanes == 1 and partitioning.platform() == 'cpu':
    return empty(config, groups, length=length)
  return empty(config, groups, lanes, length=length)


def of_lanes(config: DecoderConfig, chunk: Cache) -> Cache:
  """A chunk of either form as (G, N, K, C, E)."""
  lane = 1 if config.decode_loop == 'unroll' else 2
  if chunk[0].keys.ndim == lane + 3:
    chunk = jax.tree.map(lambda array: jnp.expand_dims(array, lane), chunk)
  return constrained(config, chunk, LANES)


def empty_suffix(
  config: DecoderConfig,
  groups: int,
  lanes: int,
  *,
  length: int,
  chunk: int,
  kind: Kind = 'as_computed',
) -> list[Cache]:
  """Suffixes that hold nothing, in the parts in which they are attended to.

  Args:
    config: of the network.
    groups: problems at once.
    lanes: samples of each.
    length: tokens of a suffix; there is room for whole chunks.
    chunk: tokens of a chunk.
    kind: as for `empty`.
  """
  chunks = -(-length // chunk)
  part = chunks
  if partitioning.platform() == 'cpu':
    part = max(-(-_PART_PLACES // chunk), -(-chunks // _MOST_PARTS))
  return [
    empty(
      config,
      groups,
      lanes,
      length=min(part, chunks - first) * chunk,
      kind=kind,
    )
    for first in range(0, chunks, part)
  ]


def starts(suffix: Sequence[Cache]) -> list[int]:
  """How many tokens of a suffix lie before each of its parts."""
  return [0, *itertools.accumulate(map(places, suffix[:-1]))]


def start(prefix: Prefix | None) -> jax.Array | int:
  """The position behind a prefix."""
  return 0 if prefix is None else prefix.length


def places(cache: Cache) -> int:
  """How many tokens a cache has room for."""
  return cache[0].keys.shape[-1]


def constrained(
  config: DecoderConfig, cache: Cache, names: Sequence[str]
) -> Cache:
  """A cache that is split over the devices by its logical axes.

  Args:
    config: of the network.
    cache: of any kind.
    names: of the arrays' axes, those of stacked layers left out. Where the
      arrays have no axis of lanes (`empty_chunk`), its name counts for nothing.
  """
  if config.decode_loop == 'scan':
    names = ('layers', *names)
  if cache[0].keys.ndim < len(names):
    names = [name for name in names if name != 'lane']
  return jax.tree.map(lambda array: constrain(array, *names), cache)
