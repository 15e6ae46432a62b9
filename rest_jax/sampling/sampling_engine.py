"""Prompts in, completions out: prefill, then decode in batches of fixed shape.

A batch is G groups (problems) of N lanes (samples). A sample does not depend on
what is decoded beside it: its random bits are its own (identity.py), the padded
length of its prompt follows from that prompt alone, batches with too few
problems or samples are padded, and attention always spans the whole suffix. A
batch ends before max_decode_length tokens only when all of its lanes have.

Dimensions: G group, N lane, P prompt, T suffix, V vocabulary, W words of a key.
"""

import dataclasses
from collections.abc import Iterator, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from rest_jax.config import configuration
from rest_jax.distributed import multihost
from rest_jax.models import architecture, decoding, quantization
from rest_jax.models.architecture import DecoderConfig
from rest_jax.sampling import decode_programs, identity, stops, token_choice
from rest_jax.sampling.requests import Completion, Request, Text
from rest_jax.sampling.sampling_progress import Count, Watch
from rest_jax.sampling.streams import EngineConfig, Stream


class Engine:
  """Samples from one network; compiles one program per bucket and layout."""

  def __init__(
    self,
    model: DecoderConfig,
    params: Any,
    config: EngineConfig,
    mesh: jax.sharding.Mesh,
    text: Text,
    network: Any = decoding,
  ):
    """Args:
    model: the network.
    params: its variables on the mesh, as `variables` gives them.
    config: the layout.
    mesh: of the devices.
    text: the vocabulary's side.
    network: where prefill, step and empty_suffix are; a stub in tests.
    """
    if text.vocab_size > model.vocab_size:  # jax would clamp ids in silence
      raise configuration.ConfigurationError(
        f'the vocabulary has {text.vocab_size} ids, but MODEL embeds '
        f'{model.vocab_size}: they do not belong together. Set VOCABULARY to '
        "the model's own."
      )
    self.model, self.params, self.config = model, params, config
    self.text = text
    self._compiled: set[tuple[int, ...]] = set()
    self.programs = decode_programs.DecodePrograms(
      model=model,
      mesh=mesh,
      network=network,
      max_decode_length=config.max_decode_length,
      vocab_size=text.vocab_size,
      eos_ids=tuple(text.eos_ids),
    )

  def generate(
    self,
    requests: Sequence[Request],
    *,
    stream: Stream,
    iteration: int,
    watch: Watch | None = None,
  ) -> Iterator[Completion]:
    """Yields a completion for each sample asked for, in no fixed order.

    A prompt that leaves no room for max_decode_length tokens in the network's
    max_length yields completions with finish_reason 'prompt' and no tokens.
    """
    count = Count(watch or Watch())
    groups, lanes = layout(self.config, stream)
    queues: dict[int, list[Request]] = {}
    for request in requests:
      bucket = self.bucket(len(request.prompt))
      if bucket is None:
        for index in request.sample_indices:
          yield Completion(
            request.problem_id, index, [], 0, '', [], [], 'prompt'
          )
        continue
      for start in range(0, len(request.sample_indices), lanes):
        indices = request.sample_indices[start : start + lanes]
        piece = dataclasses.replace(request, sample_indices=indices)
        queues.setdefault(bucket, []).append(piece)
    for bucket, queue in sorted(queues.items()):
      for start in range(0, len(queue), groups):
        yield from self._batch(
          queue[start : start + groups], bucket, stream, iteration, count
        )

  def bucket(self, prompt_length: int) -> int | None:
    """The padded length of a prompt, or None where it does not fit."""
    limit = self.model.max_length - self.config.max_decode_length
    if prompt_length > limit:
      return None
    step = self.config.prompt_bucket
    return min(-(-prompt_length // step) * step, limit)

  def _batch(
    self,
    queue: Sequence[Request],
    bucket: int,
    stream: Stream,
    iteration: int,
    count: Count,
  ) -> Iterator[Completion]:
    groups, lanes = layout(self.config, stream)
    tokens_GP = np.zeros((groups, bucket), np.int32)
    lengths_G = np.ones(groups, np.int32)
    done_GN = np.ones((groups, lanes), bool)
    names = [np.zeros(6, np.uint32)] * (groups * lanes)
    for g, request in enumerate(queue):
      tokens_GP[g, : len(request.prompt)] = request.prompt
      lengths_G[g] = len(request.prompt)
      done_GN[g, : len(request.sample_indices)] = False
      for n, index in enumerate(request.sample_indices):
        names[g * lanes + n] = identity.words(
          stream.name, iteration, request.problem_id, index
        )
    keys_GNW = identity.keys(self.config.seed, names)
    settings = token_choice.settings(stream)
    if (new := (bucket, groups, lanes)) not in self._compiled:
      count.watch.compiling(
        f'the prefill program for prompts of {bucket} tokens'
      )
    prompt, lengths, state = self.programs.prefill(
      self.params,
      tokens_GP,
      lengths_G,
      np.asarray(keys_GNW).reshape(groups, lanes, 2),
      done_GN,
      settings,
    )
    if new not in self._compiled:
      count.watch.compiling(
        f'the decode program for {groups} x {lanes} samples'
      )
      self._compiled.add(new)
    live = sum(len(request.sample_indices) for request in queue)
    state = self._decode_until_done(
      state, prompt, lengths, settings, count, live
    )
    count.end(live)
    arrays = [
      multihost.fetch(array)
      for array in (
        state.tokens_GNT,
        state.logprobs_GNT,
        state.sampling_logprobs_GNT,
      )
    ]
    for g, request in enumerate(queue):
      for n, index in enumerate(request.sample_indices):
        yield self._complete(
          request.problem_id, index, *(array[g, n] for array in arrays)
        )

  def _decode_until_done(
    self,
    state: decode_programs.DecodeState,
    prompt: Any,
    lengths_G: jax.Array,
    settings: token_choice.Settings,
    count: Count,
    samples: int,
  ) -> decode_programs.DecodeState:
    """Decodes until every lane has ended.

    Looks for stop strings, and tells how far it is, every few steps.

    Args:
      state, prompt, lengths_G, settings: see DecodePrograms.
      count: is told.
      samples: lanes that hold one.
    """
    total = self.config.max_decode_length
    step = self.config.steps_per_call
    time = tokens = 0
    while True:
      time = min(time + step, total - 1)
      state = self.programs.decode(
        self.params, state, prompt, lengths_G, settings, np.int32(time)
      )
      done_GN = np.array(multihost.fetch(state.done_GN))
      running = int((~done_GN).sum())
      tokens += step * running
      count.decoded(samples - running * (1 - (time + 1) / total), tokens)
      if done_GN.all() or time == total - 1:
        return state
      if not self.text.stop:
        continue
      tokens_GNT = multihost.fetch(state.tokens_GNT)
      for g, n in zip(*np.nonzero(~done_GN), strict=True):
        ids = tokens_GNT[g, n, : time + 1].tolist()
        done_GN[g, n] = stops.is_stopped(
          ids, self.text.decode, self.text.stop, step + 1
        )
      if done_GN.all():
        return state
      done = jax.device_put(done_GN, state.done_GN.sharding)
      state = state._replace(done_GN=done)

  def _complete(
    self,
    problem_id: str,
    index: int,
    ids_T: np.ndarray,
    logprobs_T: np.ndarray,
    sampling_T: np.ndarray,
  ) -> Completion:
    text = self.text
    end = stops.find_end(
      ids_T.tolist(), text.decode, eos_ids=text.eos_ids, stop=text.stop
    )
    scores_T = logprobs_T[: end.num_tokens]
    if not np.isfinite(scores_T).all():
      # argmax over NaN returns the NaN's place: a token, but no choice.
      raise FloatingPointError(
        f'{problem_id}, sample {index}: the log-probability of token '
        f'{int(np.argmin(np.isfinite(scores_T)))} is not finite. The weights, '
        'or the activations in MODEL.dtype, hold NaN or infinity.'
      )
    return Completion(
      problem_id=problem_id,
      sample_index=index,
      token_ids=ids_T[: end.num_tokens].tolist(),
      target_length=end.target_length,
      text=end.text,
      logprobs=logprobs_T[: end.num_tokens].tolist(),
      sampling_logprobs=sampling_T[: end.num_tokens].tolist(),
      finish_reason=end.finish_reason,
    )


def variables(
  params: Any, model: DecoderConfig, config: EngineConfig
) -> dict[str, Any]:
  """What is sampled from: parameters as config.weights says. Pure.

  Args:
    params: {'params': …}, in any floating-point dtype.
    model: the network, whose dtype they are rounded to first.
    config: the layout.
  """
  dtype = jnp.dtype(model.dtype)
  params = jax.tree.map(lambda w: w.astype(dtype), params)
  return quantization.quantize(params) if config.weights == 'int8' else params


def layout(config: EngineConfig, stream: Stream) -> tuple[int, int]:
  """(groups, lanes) of a stream: greedy wants one lane, whatever is asked."""
  if stream.temperature == 0:
    return config.greedy_groups, 1
  return config.groups, config.lanes


def fingerprint(
  model: DecoderConfig, config: EngineConfig, mesh: jax.sharding.Mesh
) -> dict[str, Any]:
  """What a sample's bits depend on beside its identity and the weights."""
  import jaxlib

  device = mesh.devices.flat[0]
  # Only where it is not the default: fingerprints from before it was a dial
  # stand for that.
  weights = (
    {} if config.weights == 'as_trained' else {'weights': config.weights}
  )
  return weights | {
    'groups': config.groups,
    'lanes': config.lanes,
    'greedy_groups': config.greedy_groups,
    'max_decode_length': config.max_decode_length,
    'prompt_bucket': config.prompt_bucket,
    'decode_loop': model.decode_loop,
    'attention': architecture.attention_on(device.platform, model.attention),
    'dtype': model.dtype,
    'mesh': {axis: int(size) for axis, size in mesh.shape.items()},
    'device': f'{device.platform} {device.device_kind}',
    'jax': jax.__version__,
    'jaxlib': jaxlib.__version__,
  }
