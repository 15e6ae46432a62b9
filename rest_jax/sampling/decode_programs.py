"""The compiled programs of sampling: read prompts, and decode a chunk of steps.

All shapes are fixed by the layout and by padded lengths, so that a few programs
serve a whole run. Temperature, top-k, top-p and min-p are arguments of them.

Dimensions: G group, N lane, Q question, C step of a chunk, V vocabulary,
W words of a key, R = G x N rows.
"""

import functools
from typing import Any

import jax
import jax.numpy as jnp

from rest_jax.distributed import partitioning
from rest_jax.models import cache_writes, caches
from rest_jax.models.architecture import DecoderConfig
from rest_jax.sampling import device_lanes, identity, limits, token_choice
from rest_jax.sampling.device_lanes import Chosen, Groups, Lanes


class DecodePrograms:
  """The programs of one network, compiled once per shape.

  Attributes:
    read_prefix: tokens_P -> its cache.
    read_questions: compiled `_read_questions`.
    insert: compiled `_insert`; it takes the question cache's memory over.
    decode: compiled `_decode`.
    commit: compiled `_commit`; it takes the suffix cache's memory over.
    empty: compiled `_empty`.
  """

  def __init__(
    self,
    *,
    model: DecoderConfig,
    mesh: jax.sharding.Mesh,
    network: Any,
    max_decode_length: int,
    chunk: int,
    vocab_size: int,
    eos_ids: tuple[int, ...],
    cache: caches.Kind = 'as_computed',
  ):
    """Args:
    model: the network's configuration.
    mesh: of the devices.
    network: where read_prefix, read_questions and step are (models.decoding).
    max_decode_length: tokens of a suffix, EOS included.
    chunk: decode steps of a chunk.
    vocab_size: ids from here on are padding of the embedding, never chosen.
    eos_ids: each of them ends a sample.
    cache: how the caches are kept.
    """
    self._cache: caches.Kind = cache
    self.model, self.mesh, self.network = model, mesh, network
    self.max_decode_length, self.chunk = max_decode_length, chunk
    self.vocab_size, self.eos_ids = vocab_size, eos_ids
    self.shards = partitioning.shards(mesh, 'group')
    self.read_prefix = jax.jit(self._read_prefix)
    self.read_questions = jax.jit(self._read_questions)
    # Donated: the caches are the largest arrays, and are written in place.
    self.insert = jax.jit(self._insert, donate_argnums=(0,))
    # Apart from `decode`: with the suffixes among the results of that too, the
    # compiler copies all of them before its loop.
    self.commit = jax.jit(self._commit, donate_argnums=(0,))
    self.decode = jax.jit(
      self._decode, donate_argnums=(4,), static_argnums=(7,)
    )
    self.empty = jax.jit(self._empty, static_argnums=(0, 1, 2))

  def _read_prefix(self, weights: Any, tokens_P: jax.Array) -> Any:
    with partitioning.use(self.mesh):
      cache = self.network.read_prefix(
        self.model, weights, tokens_P, self.shards
      )
      return self._kept(cache, caches.PREFIX)

  def _read_questions(
    self, weights: Any, prefix: Any, tokens_BQ: jax.Array
  ) -> Any:
    with partitioning.use(self.mesh):
      cache = self.network.read_questions(
        self.model, weights, prefix, tokens_BQ
      )
      return self._kept(cache, caches.QUESTION)

  def _kept(self, cache: caches.Cache, names: tuple[str, ...]) -> caches.Cache:
    if self._cache == 'as_computed':
      return cache
    return cache_writes.rounded(self.model, cache, names)

  def _insert(self, question: Any, new: Any, rows_G: jax.Array) -> Any:
    with partitioning.use(self.mesh):
      return cache_writes.insert(self.model, question, new, rows_G)

  def _empty(self, groups: int, lanes: int, length: int) -> Any:
    """(the question cache, the suffix cache, lanes that hold no sample)."""
    with partitioning.use(self.mesh):
      question = caches.empty(
        self.model, groups, length=length, kind=self._cache
      )
      suffix = caches.empty_suffix(
        self.model,
        groups,
        lanes,
        # The last token of a sample is never fed, but its prompt's last is.
        length=self.max_decode_length,
        chunk=self.chunk,
        kind=self._cache,
      )
      zeros_GN = jnp.zeros((groups, lanes), jnp.int32)
      state = Lanes(
        ordinal_GN=zeros_GN - 1,
        lengths_GN=zeros_GN,
        newest_GN=zeros_GN,
        done_GN=zeros_GN == 0,
        next_G=zeros_GN[:, 0],
      )
      return question, suffix, _constrained(state)

  def _decode(
    self,
    weights: Any,
    prefix: Any,
    question: Any,
    suffix: Any,
    lanes: Lanes,
    groups: Groups,
    stopped_GN: jax.Array,
    road: token_choice.Road,
  ) -> tuple[Any, Lanes, Chosen]:
    """Decodes a chunk; `commit` must follow.

    Args:
      weights: of the network.
      prefix: the shared prefix, or None.
      question: the groups' caches.
      suffix: the lanes' caches.
      lanes: what they are at.
      groups: their problems.
      stopped_GN: the ordinal of the sample that the host has ended since; -1.
      road: of the choice, for all samples; each has a program of its own.

    Returns:
      (keys and values of the chunk, the lanes, what was chosen).
    """
    with partitioning.use(self.mesh):
      lanes = device_lanes.refilled(lanes, groups, stopped_GN)
      start = lanes
      keys_GNW = identity.of_samples(
        groups.keys_GW, groups.first_G[:, None] + lanes.ordinal_GN
      )
      context = caches.Context(
        prefix=prefix,
        question=question,
        question_lengths_G=groups.lengths_G,
        suffix=suffix,
        suffix_lengths_GN=lanes.lengths_GN,
      ).with_turns(self.model, self.chunk)
      G, N = lanes.done_GN.shape
      C = self.chunk
      rows = jax.tree.map(
        lambda of_G: jnp.repeat(of_G, N, axis=0), groups.settings
      )
      floats_GNC = jnp.zeros((G, N, C), jnp.float32)
      tokens_GNC = floats_GNC.astype(jnp.int32)

      def body(place, carry):
        newest_GN, done_GN, chunk, chosen = carry
        logits_GNV, chunk = self.network.step(
          self.model, weights, newest_GN, place, context, chunk
        )
        at_GN = start.lengths_GN + place
        values = self._choose(logits_GNV, keys_GNW, at_GN, rows, road)
        chosen = [
          jax.lax.dynamic_update_slice(
            array, value_GN[:, :, None], (0, 0, place)
          )
          for array, value_GN in zip(chosen, values, strict=True)
        ]
        # A lane that has ended goes on, and nobody reads what it writes: to
        # skip it would make the program depend on its neighbours.
        done_GN |= self._is_eos(values[0])
        done_GN |= at_GN + 1 >= self.max_decode_length
        return values[0], done_GN, chunk, chosen

      newest_GN, done_GN, chunk, chosen = jax.lax.fori_loop(
        0,
        C,
        body,
        (
          lanes.newest_GN,
          lanes.done_GN,
          caches.empty_chunk(self.model, G, N, C),
          [tokens_GNC, floats_GNC, floats_GNC],
        ),
      )
      lanes = lanes._replace(
        newest_GN=newest_GN, done_GN=done_GN, lengths_GN=start.lengths_GN + C
      )
      held_GN = jnp.where(start.done_GN, -1, start.ordinal_GN)
      lanes = _constrained(lanes)
      chunk = caches.of_lanes(self.model, chunk)
      return chunk, lanes, Chosen(held_GN, start.lengths_GN, *chosen)

  def _commit(self, suffix: Any, chunk: Any, lengths_GN: jax.Array) -> Any:
    """The suffix caches with the chunk behind them."""
    with partitioning.use(self.mesh):
      return cache_writes.commit(self.model, suffix, lengths_GN, chunk)

  def _choose(
    self,
    logits_GNV: jax.Array,
    keys_GNW: jax.Array,
    positions_GN: jax.Array,
    settings: token_choice.Settings,
    road: token_choice.Road,
  ) -> list[jax.Array]:
    """What token_choice.choose gives, each as (groups, lanes)."""

    def here(logits_GNV, keys_GNW, positions_GN, settings, axis):
      G, N, V = logits_GNV.shape
      vocabulary = limits.Vocabulary(V, axis)
      if self.vocab_size < self.model.vocab_size:
        ids_V = vocabulary.first(V) + jnp.arange(V)
        known_11V = (ids_V < self.vocab_size)[None, None]
        logits_GNV = jnp.where(known_11V, logits_GNV, -jnp.inf)
      chosen = token_choice.choose(
        logits_GNV.reshape(G * N, V),
        keys_GNW.reshape(G * N, 2),
        positions_GN.reshape(G * N),
        settings,
        road,
        axis,
      )
      return [values_R.reshape(G, N) for values_R in chosen]

    arguments = (logits_GNV, keys_GNW, positions_GN, settings)
    if self.mesh.size == 1:
      return here(*arguments, axis=None)
    # Each device chooses among its own ids for its own groups. Left to the
    # compiler, all logits of all groups are gathered on every device.
    group, _, vocabulary = partitioning.spec(
      ('group', None, 'vocab'), logits_GNV.shape, self.mesh, 'logits'
    )
    of_group = jax.sharding.PartitionSpec(group)
    return jax.shard_map(
      functools.partial(here, axis=vocabulary),
      mesh=self.mesh,
      in_specs=(
        jax.sharding.PartitionSpec(group, None, vocabulary),
        of_group,
        of_group,
        of_group,
      ),
      out_specs=of_group,
      check_vma=False,
    )(*arguments)

  def _is_eos(self, tokens_GN: jax.Array) -> jax.Array:
    eos = jnp.asarray(list(self.eos_ids), jnp.int32)
    return jnp.any(tokens_GN[..., None] == eos[None, None], axis=-1)


def _constrained(lanes: Lanes) -> Lanes:
  """On the devices that hold the groups, so that one program fits all calls."""
  names = ('group', 'lane')
  return Lanes(
    *(partitioning.constrain(array, *names[: array.ndim]) for array in lanes)
  )
