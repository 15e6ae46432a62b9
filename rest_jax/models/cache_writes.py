"""What is written into the caches of decoding (caches.py)."""

from collections.abc import Sequence

import jax
import jax.numpy as jnp

from rest_jax.distributed import partitioning
from rest_jax.models import caches, layered
from rest_jax.models.architecture import DecoderConfig
from rest_jax.models.cached_attention import KeysValues
from rest_jax.models.caches import LANES, QUESTION, Cache, constrained, starts

_LARGEST = 127  # of a number in int8


def of_tokens(
  config: DecoderConfig, k_BLKE: jax.Array, v_BLKE: jax.Array
) -> KeysValues:
  """A layer's cache (B, K, L, E) of keys and values as they are computed."""
  order = caches.entry_type(config)
  return order(
    *(
      jnp.moveaxis(array, (2, 1), (1, axis))
      for array, axis in zip(
        (k_BLKE, v_BLKE), order.places_axis[:2], strict=True
      )
    )
  )


def with_token(
  chunk: KeysValues, k_GNKE: jax.Array, v_GNKE: jax.Array, place: jax.Array
) -> KeysValues:
  """A layer's chunk with the newest token of each lane.

  Args:
    chunk: keys and values (G, N, K, C, E), or (G, K, C, E) of lone lanes.
    k_GNKE, v_GNKE: of the newest tokens.
    place: where in the chunk they go, the same for all lanes.
  """
  heads = chunk.keys.shape[:-2]

  def written(old: jax.Array, new_GNKE: jax.Array, axis: int) -> jax.Array:
    new = jnp.expand_dims(new_GNKE.reshape(*heads, -1), axis)
    return jax.lax.dynamic_update_slice_in_dim(old, new, place, axis=axis)

  keys, values, *_ = chunk.places_axis
  return chunk._replace(
    keys=written(chunk.keys, k_GNKE, keys),
    values=written(chunk.values, v_GNKE, values),
  )


def rounded(
  config: DecoderConfig, cache: Cache, names: tuple[str, ...]
) -> Cache:
  """A cache in int8.

  Args:
    config: of the network.
    cache: as it was computed.
    names: its logical axes, such as PREFIX.
  """
  return constrained(config, list(map(_rounded, cache)), names)


def _rounded(entry: KeysValues) -> KeysValues:
  def whole(array: jax.Array, places: int) -> tuple[jax.Array, jax.Array]:
    numbers = array.astype(jnp.float32)
    of_head = -3 - places  # the other one of the last two axes
    largest = jnp.max(jnp.abs(numbers), axis=of_head, keepdims=True)
    scale = jnp.where(largest > 0, largest, 1.0) / _LARGEST
    rounded = jnp.round(numbers / scale).astype(jnp.int8)
    return rounded, jnp.moveaxis(scale, places, -1)

  keys, values, *_ = entry.places_axis
  keys, key_scales = whole(entry.keys, keys)
  values, value_scales = whole(entry.values, values)
  return type(entry)(keys, values, key_scales, value_scales)


def commit(
  config: DecoderConfig,
  suffix: Sequence[Cache],
  suffix_lengths_GN: jax.Array,
  chunk: Cache,
) -> list[Cache]:
  """The suffixes with each lane's chunk behind them.

  Args:
    config: of the network.
    suffix: keys and values (G, N, K, T, E), in parts; T of each is a multiple
      of the chunk's length.
    suffix_lengths_GN: tokens of each, a multiple of the chunk's length. A lane
      without room keeps its suffix.
    chunk: keys and values (G, N, K, C, E), as they were computed.
  """

  def layer(kind, carry, chunk, *parts):
    if parts[0].key_scales is not None:
      chunk = _rounded(chunk)
    return carry, [
      type(part)(
        *(
          None if old is None else placed(old, new, axis + 5, first)
          for old, new, axis in zip(part, chunk, part.places_axis, strict=True)
        )
      )
      for part, first in zip(parts, starts(suffix), strict=True)
    ]

  def placed(part, chunk, axis, first):
    size, places = chunk.shape[axis], part.shape[axis]
    # A selection, not a write at each lane's own place: that is a loop over the
    # lanes, and a gather where the groups are split.
    block_T = jnp.arange(places) // size
    wanted_GN = (suffix_lengths_GN - first) // size
    here_GNT = block_T[None, None] == wanted_GN[..., None]
    here = jnp.expand_dims(here_GNT, [d for d in (2, 3, 4) if d != axis])
    times = [places // size if d == axis else 1 for d in range(5)]
    return jnp.where(here, jnp.tile(chunk, times), part)

  _, layers = layered.over_layers(config, layer, (), chunk, *suffix)
  return [
    constrained(config, list(part), LANES) for part in zip(*layers, strict=True)
  ]


def insert(
  config: DecoderConfig, question: Cache, new: Cache, rows_G: jax.Array
) -> Cache:
  """The questions, some groups' replaced.

  Args:
    config: of the network.
    question: keys and values (G, K, Q, E).
    new: keys and values (B, K, Q, E), as many rows for each shard.
    rows_G: the row of `new` that each group takes, counted from the first of
      the group's own shard, so that nothing moves between devices; -1: the
      group keeps what it has.
  """

  def layer(kind, carry, question, new):
    return carry, jax.tree.map(chosen, question, new)

  def chosen(old_GKQE, new_BKQE):
    if not partitioning.is_split():
      return _with_rows(old_GKQE, new_BKQE, rows_G)
    mesh = partitioning.in_use()
    old, given = (
      partitioning.spec(QUESTION, array.shape, mesh, 'a cache')
      for array in (old_GKQE, new_BKQE)
    )
    of_groups = jax.sharding.PartitionSpec(old[0])
    placed = jax.shard_map(
      _with_rows, mesh=mesh, in_specs=(old, given, of_groups), out_specs=old
    )
    return placed(old_GKQE, new_BKQE, rows_G)

  _, question = layered.over_layers(config, layer, (), question, new)
  return constrained(config, question, QUESTION)


def _with_rows(
  old_GKQE: jax.Array, new_BKQE: jax.Array, rows_G: jax.Array
) -> jax.Array:
  """One device's part of `insert`: nothing but the new rows is written."""
  for row, new_KQE in enumerate(new_BKQE):
    here_G = rows_G == row
    group = jnp.argmax(here_G)
    kept_KQE = jax.lax.dynamic_index_in_dim(old_GKQE, group, 0, keepdims=False)
    old_GKQE = jax.lax.dynamic_update_index_in_dim(
      old_GKQE, jnp.where(here_G.any(), new_KQE, kept_KQE), group, 0
    )
  return old_GKQE
