"""Prompts in, completions out: an engine of groups and lanes that refills them.

G groups hold a problem each, with N lanes that each hold one of its samples. A
lane whose sample has ended takes the problem's next one; a group whose samples
have all ended, the next problem. Decoding goes in chunks of a few steps; while
the device decodes one, the host reads the tokens of the one before.

A sample does not depend on what is decoded beside it: its random bits are its
own (identity.py), the padded length of its prompt follows from that prompt
alone, and no shape and no place of its tokens depends on its neighbours.

continuous_batching.py holds the groups and lanes; here requests are sorted by
the program that serves them, and ended samples become completions.
"""

import functools
from collections.abc import Iterable, Iterator
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from rest_jax.config import configuration
from rest_jax.models import (
  architecture,
  caches,
  decoding,
  layered,
  quantization,
)
from rest_jax.models.architecture import DecoderConfig
from rest_jax.sampling import backlog, decode_programs, lanes, stops
from rest_jax.sampling.continuous_batching import Batch, Program, Run
from rest_jax.sampling.requests import Completion, Request, Text
from rest_jax.sampling.sampling_progress import Count, Watch
from rest_jax.sampling.streams import EngineConfig, Stream

_PREFIXES_KEPT = 4  # of one task; a part of the next one may need another


class Engine:
  """Samples from one network; compiles a few programs per layout."""

  def __init__(
    self,
    model: DecoderConfig,
    weights: layered.Weights | None,
    config: EngineConfig,
    mesh: jax.sharding.Mesh,
    text: Text,
    network: Any = decoding,
  ):
    """Args:
    model: the network.
    weights: its variables on the mesh, as `variables` gives them.
    config: the layout.
    mesh: of the devices.
    text: the vocabulary's side.
    network: where read_questions, step, … are; a stub in tests.
    """
    if text.vocab_size > model.vocab_size:  # jax would clamp ids in silence
      raise configuration.ConfigurationError(
        f'the vocabulary has {text.vocab_size} ids, but MODEL embeds '
        f'{model.vocab_size}: they do not belong together. Set VOCABULARY to '
        "the model's own."
      )
    self.model, self.config, self.text = model, config, text
    self._compiled: set[tuple[Any, ...]] = set()
    # Of these weights; the one that was used last is at the end.
    self._prefixes: dict[tuple[int, ...], caches.Prefix] = {}
    self.weights = weights
    self.programs = decode_programs.DecodePrograms(
      model=model,
      mesh=mesh,
      network=network,
      max_decode_length=config.max_decode_length,
      chunk=min(config.chunk, config.max_decode_length),
      vocab_size=text.vocab_size,
      eos_ids=tuple(text.eos_ids),
      cache=config.cache,
    )

  @property
  def weights(self) -> layered.Weights | None:
    """The network's variables; None: they come later."""
    return self._weights

  @weights.setter
  def weights(self, weights: layered.Weights | None) -> None:
    self._weights = weights
    self._prefixes.clear()

  def generate(
    self,
    requests: Iterable[Request],
    *,
    stream: Stream,
    iteration: int,
    watch: Watch | None = None,
  ) -> Iterator[Completion]:
    """Yields a completion for each sample asked for, in no fixed order.

    A prompt that leaves no room for max_decode_length tokens in the network's
    max_length yields completions with finish_reason 'prompt' and no tokens.

    Args:
      requests: are taken one by one, a few times as many as there are groups
        ahead of the completions.
      stream: how they are sampled.
      iteration: of the loop; part of the samples' identity.
      watch: is told how far it is, after every chunk.
    """
    run = Run(stream, iteration, Count(watch or Watch()))
    groups, width = self.config.layout(stream)
    waiting = backlog.Backlog(
      requests, self._program, 2 * groups, groups, width
    )
    while (program := waiting.next_program()) is not None:
      yield from self._sample(program, waiting, run)
    yield from _refused(waiting)

  def _program(self, request: Request) -> Program | None:
    """What serves a request; None where its prompt does not fit."""
    length, unit = len(request.prompt), self.config.prompt_bucket
    room = self.model.max_length - self.config.max_decode_length
    if length > room:
      return None
    # A short prefix costs more as a part of its own than with each question.
    # One token at least is the problem's own: each lane feeds the last one.
    prefix = min(request.prefix, length - 1)
    prefix = prefix if prefix >= unit else 0
    places = unit
    while places < length - 1 - prefix:
      places *= 2
    return Program(tuple(request.prompt[:prefix]), places)

  def _sample(
    self,
    program: Program,
    waiting: backlog.Backlog,
    run: Run,
  ) -> Iterator[Completion]:
    """The completions of all that waits for one program."""
    batch = Batch(
      programs=self.programs,
      weights=self.weights,
      prefix=self._prefix(program.prefix, run.count.watch),
      program=program,
      config=self.config,
      text=self.text,
      run=run,
      announce=functools.partial(self._announce, run.count.watch),
    )
    before = None
    while True:
      batch.refill(waiting, before)
      yield from _refused(waiting)
      # The device works on the next chunk while the host reads this one.
      after = batch.start(before)
      if before is not None:
        for sample in batch.read(before):
          yield self._complete(sample)
      before = after
      if before is None and not batch.left():
        run.count.end()
        return

  def _prefix(self, ids: tuple[int, ...], watch: Watch) -> Any:
    """What the network has read of a prefix; None of an empty one."""
    if not ids:
      return None
    if ids not in self._prefixes:
      unit = self.config.prompt_bucket
      tokens_P = np.zeros(-(-len(ids) // unit) * unit, np.int32)
      tokens_P[: len(ids)] = ids
      self._announce(watch, f'reads a prefix of {len(tokens_P)} tokens')
      while len(self._prefixes) >= _PREFIXES_KEPT:
        self._prefixes.pop(next(iter(self._prefixes)))
      cache = self.programs.read_prefix(self.weights, tokens_P)
      self._prefixes[ids] = caches.Prefix(cache, np.int32(len(ids)))
    return self._prefixes[ids]

  def _announce(self, watch: Watch, does: str) -> None:
    """Tells of a program that is compiled next, once for each."""
    if does not in self._compiled:
      self._compiled.add(does)
      watch.compiling(f'the program that {does}')

  def _complete(self, sample: lanes.Ended) -> Completion:
    text, problem_id = self.text, sample.work.request.problem_id
    ids = sample.token_ids.tolist()
    end = stops.find_end(ids, text.decode, eos_ids=text.eos_ids, stop=text.stop)
    scores_T = sample.logprobs[: end.num_tokens]
    if not np.isfinite(scores_T).all():
      # argmax over NaN returns the NaN's place: a token, but no choice.
      raise FloatingPointError(
        f'{problem_id}, sample {sample.index}: the log-probability of token '
        f'{int(np.argmin(np.isfinite(scores_T)))} is not finite. The weights, '
        'or the activations in MODEL.dtype, hold NaN or infinity.'
      )
    return Completion(
      problem_id=problem_id,
      sample_index=sample.index,
      token_ids=ids[: end.num_tokens],
      target_length=end.target_length,
      text=end.text,
      logprobs=scores_T.tolist(),
      sampling_logprobs=sample.sampling_logprobs[: end.num_tokens].tolist(),
      finish_reason=end.finish_reason,
    )


def variables(
  params: Any, model: DecoderConfig, config: EngineConfig
) -> layered.Weights:
  """What is sampled from: parameters as config.weights says. Pure.

  Args:
    params: {'params': …}, in any floating-point dtype.
    model: the network, whose dtype they are rounded to first.
    config: the layout.
  """
  dtype = jnp.dtype(model.dtype)
  params = jax.tree.map(lambda w: w.astype(dtype), params)
  if config.weights == 'int8':
    params = quantization.quantize(params)
  return layered.arrange(model, params)


def variables_on(
  mesh: jax.sharding.Mesh,
  params: Any,
  model: DecoderConfig,
  config: EngineConfig,
) -> layered.Weights:
  """`variables`, one array after the other; `params` is used up.

  Args:
    mesh: that the parameters lie on, in the network's dtype.
    params, model, config: as for `variables`.
  """
  if config.weights == 'int8':
    params = quantization.quantize_on(mesh, params)
  return layered.arrange_on(model, params)


def _refused(waiting: backlog.Backlog) -> Iterator[Completion]:
  """The completions of requests whose prompts do not fit."""
  while waiting.refused:
    request = waiting.refused.pop(0)
    for index in request.sample_indices:
      yield Completion(request.problem_id, index, [], 0, '', [], [], 'prompt')


def fingerprint(
  model: DecoderConfig, config: EngineConfig, mesh: jax.sharding.Mesh
) -> dict[str, Any]:
  """What a sample's bits depend on beside its identity and the weights."""
  import jaxlib

  device = mesh.devices.flat[0]
  # Only where it is not the default: fingerprints from before there was a dial
  # stand for that.
  rounded = {
    name: value
    for name, value, default in (
      ('weights', config.weights, 'as_trained'),
      ('cache', config.cache, 'as_computed'),
    )
    if value != default
  }
  return rounded | {
    'groups': config.groups,
    'lanes': config.lanes,
    'greedy_groups': config.greedy_groups,
    'max_decode_length': config.max_decode_length,
    'chunk': config.chunk,
    'questions': config.questions,
    'prompt_bucket': config.prompt_bucket,
    'decode_loop': model.decode_loop,
    'attention': architecture.attention_on(device.platform, model),
    'dtype': model.dtype,
    'mesh': {axis: int(size) for axis, size in mesh.shape.items()},
    'device': f'{device.platform} {device.device_kind}',
    'jax': jax.__version__,
    'jaxlib': jaxlib.__version__,
  }
