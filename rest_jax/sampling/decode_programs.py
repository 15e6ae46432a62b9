"""The two compiled programs of sampling: prefill, and decode until a place.

All shapes are fixed by the batch's layout and its prompts' padded length, so
that one program per padded length serves a whole run. Temperature, top-k and
top-p are arguments: another value compiles nothing.

Dimensions: G group, N lane, P prompt, T suffix, V vocabulary, R = G x N rows.
"""

from collections.abc import Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from rest_jax.distributed import partitioning
from rest_jax.models.architecture import DecoderConfig
from rest_jax.sampling import token_choice


class DecodeState(NamedTuple):
  """What decoding a batch reads and replaces at every step.

  Attributes:
    time: place of the newest token in the suffix, from 0.
    keys_GNW: key data of each lane's sample.
    done_GN: lanes that have ended, or never held a sample.
    suffix: the lanes' key and value caches, written in place.
    tokens_GNT, logprobs_GNT, sampling_logprobs_GNT: chosen so far.
  """

  time: jax.Array
  keys_GNW: jax.Array
  done_GN: jax.Array
  suffix: Any
  tokens_GNT: jax.Array
  logprobs_GNT: jax.Array
  sampling_logprobs_GNT: jax.Array

  def at(self, time: jax.Array, chosen: Sequence[jax.Array]) -> 'DecodeState':
    """With the tokens chosen for one place, and their log-probabilities."""
    names = ('tokens_GNT', 'logprobs_GNT', 'sampling_logprobs_GNT')
    return self._replace(
      time=time,
      **{
        name: jax.lax.dynamic_update_slice(
          getattr(self, name), values_GN[:, :, None], (0, 0, time)
        )
        for name, values_GN in zip(names, chosen, strict=True)
      },
    )


class DecodePrograms:
  """Prefill and decode of one network, compiled once per shape.

  Attributes:
    prefill: compiled `_prefill`.
    decode: compiled `_decode`; it takes the state's memory over.
  """

  def __init__(
    self,
    *,
    model: DecoderConfig,
    mesh: jax.sharding.Mesh,
    network: Any,
    max_decode_length: int,
    vocab_size: int,
    eos_ids: tuple[int, ...],
  ):
    """Args:
    model: the network's configuration.
    mesh: of the devices.
    network: where prefill, step and empty_suffix are (models.decoding).
    max_decode_length: tokens of a suffix, EOS included.
    vocab_size: ids from here on are padding of the embedding, never chosen.
    eos_ids: each of them ends a sample.
    """
    self.model, self.mesh, self.network = model, mesh, network
    self.max_decode_length = max_decode_length
    self.vocab_size, self.eos_ids = vocab_size, eos_ids
    self.prefill = jax.jit(self._prefill)
    # Donated: the caches are the largest arrays, and are written in place.
    self.decode = jax.jit(self._decode, donate_argnums=(1,))

  def _prefill(
    self,
    params: Any,
    tokens_GP: jax.Array,
    lengths_G: jax.Array,
    keys_GNW: jax.Array,
    done_GN: jax.Array,
    settings: token_choice.Settings,
  ) -> tuple[Any, jax.Array, DecodeState]:
    """(the prompts' cache, their lengths, the state after the first token)."""
    with partitioning.use(self.mesh):
      constrain = partitioning.constrain
      tokens_GP = constrain(tokens_GP, 'group', 'length')
      lengths_G = constrain(lengths_G, 'group')
      cache, logits_GV = self.network.prefill(
        self.model, params, tokens_GP, lengths_G
      )
      G, N = done_GN.shape
      T = self.max_decode_length
      logits_GNV = jnp.repeat(logits_GV[:, None], N, axis=1)
      first = self._choose(logits_GNV, keys_GNW, jnp.int32(0), settings)
      state = DecodeState(
        time=jnp.int32(0),
        keys_GNW=keys_GNW,
        done_GN=done_GN | self._is_eos(first[0]),
        suffix=self.network.empty_suffix(self.model, G, N, T),
        tokens_GNT=jnp.zeros((G, N, T), jnp.int32),
        logprobs_GNT=jnp.zeros((G, N, T), jnp.float32),
        sampling_logprobs_GNT=jnp.zeros((G, N, T), jnp.float32),
      )
      return cache, lengths_G, state.at(jnp.int32(0), first)

  def _decode(
    self,
    params: Any,
    state: DecodeState,
    prompt: Any,
    lengths_G: jax.Array,
    settings: token_choice.Settings,
    until: jax.Array,
  ) -> DecodeState:
    """Decodes up to the suffix's place `until`, or until all lanes ended."""

    def unfinished(state: DecodeState):
      return (state.time < until) & ~jnp.all(state.done_GN)

    def body(state: DecodeState):
      time = state.time
      newest_GN = jax.lax.dynamic_index_in_dim(state.tokens_GNT, time, 2, False)
      logits_GNV, suffix = self.network.step(
        self.model, params, newest_GN, time, prompt, lengths_G, state.suffix
      )
      chosen = self._choose(logits_GNV, state.keys_GNW, time + 1, settings)
      # A lane that has ended goes on writing tokens, which `_complete` cuts
      # off: to skip it would make the program depend on its neighbours.
      done_GN = state.done_GN | self._is_eos(chosen[0])
      state = state._replace(suffix=suffix, done_GN=done_GN)
      return state.at(time + 1, chosen)

    with partitioning.use(self.mesh):
      return jax.lax.while_loop(unfinished, body, state)

  def _choose(
    self,
    logits_GNV: jax.Array,
    keys_GNW: jax.Array,
    position: jax.Array,
    settings: token_choice.Settings,
  ) -> list[jax.Array]:
    """What token_choice.choose gives, each as (groups, lanes)."""
    G, N, V = logits_GNV.shape
    if self.vocab_size < V:
      known_V = jnp.arange(V) < self.vocab_size
      logits_GNV = jnp.where(known_V[None, None], logits_GNV, -jnp.inf)
    logits_RV = partitioning.constrain(
      logits_GNV.reshape(G * N, V), 'group', None
    )
    chosen = token_choice.choose(
      logits_RV, keys_GNW.reshape(-1, 2), position, settings
    )
    return [values_R.reshape(G, N) for values_R in chosen]

  def _is_eos(self, tokens_GN: jax.Array) -> jax.Array:
    eos = jnp.asarray(list(self.eos_ids), jnp.int32)
    return jnp.any(tokens_GN[..., None] == eos[None, None], axis=-1)
