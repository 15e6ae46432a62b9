"""A network fed token by token, as sampling does: prefix, question, chunks."""

import functools
from collections.abc import Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from rest_jax.distributed import partitioning
from rest_jax.models import cache_writes, caches, decoding, layered
from rest_jax.models.architecture import DecoderConfig


@functools.cache
def _programs(config: DecoderConfig, mesh: Any):
  """What is compiled for one network: it is the same for all tests."""

  def on_mesh(function):
    def traced(*args):
      with partitioning.use(mesh):
        return function(config, *args)

    return traced

  return (
    jax.jit(on_mesh(decoding.read_prefix), static_argnums=2),
    jax.jit(on_mesh(decoding.read_questions)),
    jax.jit(on_mesh(decoding.step)),
    jax.jit(on_mesh(_committed)),
  )


def _committed(config, suffix, lengths_GN, chunk):
  chunk = caches.of_lanes(config, chunk)
  return cache_writes.commit(config, suffix, lengths_GN, chunk)


class Fed:
  """Groups and lanes whose tokens the caller chooses."""

  def __init__(
    self,
    config: DecoderConfig,
    params: Any,
    prompts: Sequence[Sequence[int]],
    *,
    new: int,
    lanes: int = 1,
    prefix: int = 0,
    chunk: int = 4,
    padding: int = 1,
    mesh: Any = None,
  ):
    """Reads the prompts, all but the last token of each.

    Args:
      config: of the network.
      params: of network.Decoder.
      prompts: one for each group.
      new: tokens that are fed at most, the prompts' last ones included.
      lanes: of each group.
      prefix: how many tokens all prompts begin with.
      chunk: decode steps of a chunk.
      padding: places more than the prompts need.
      mesh: None: one device.
    """
    if mesh is None:
      one = partitioning.MeshConfig()
      mesh = partitioning.make_mesh(one, jax.devices()[:1])
    self._config, self._chunk_length = config, chunk
    self._weights = layered.arrange(config, params)
    read_prefix, read_questions, *rest = _programs(config, mesh)
    self._step, self._commit = rest
    groups = len(prompts)
    shared = None
    if prefix:
      tokens_P = np.zeros(prefix + padding, np.int32)
      tokens_P[:prefix] = prompts[0][:prefix]
      shards = partitioning.shards(mesh, 'group')
      cache = read_prefix(self._weights, tokens_P, shards)
      shared = caches.Prefix(cache, jnp.int32(prefix))
    lengths = [len(ids) - 1 - prefix for ids in prompts]
    tokens_BQ = np.zeros((groups, max(lengths) + padding), np.int32)
    for g, ids in enumerate(prompts):
      tokens_BQ[g, : lengths[g]] = ids[prefix:-1]
    with partitioning.use(mesh):
      self._context = caches.Context(
        prefix=shared,
        question=read_questions(self._weights, shared, tokens_BQ),
        question_lengths_G=jnp.asarray(lengths),
        suffix=caches.empty_suffix(
          config, groups, lanes, length=new, chunk=chunk
        ),
        suffix_lengths_GN=jnp.zeros((groups, lanes), jnp.int32),
      ).with_turns(config, chunk)
      self._chunk = caches.empty_chunk(config, groups, lanes, chunk)
    self._place = 0

  def feed(self, tokens_GN: Any) -> np.ndarray:
    """The logits (G, N, V) behind these tokens; first, the prompts' last."""
    if self._place == self._chunk_length:
      lengths = self._context.suffix_lengths_GN
      self._context = self._context._replace(
        suffix=self._commit(self._context.suffix, lengths, self._chunk),
        suffix_lengths_GN=lengths + self._place,
      ).with_turns(self._config, self._chunk_length)
      self._place = 0
    logits_GNV, self._chunk = self._step(
      self._weights,
      jnp.asarray(tokens_GN),
      jnp.int32(self._place),
      self._context,
      self._chunk,
    )
    self._place += 1
    return np.asarray(logits_GNV)
