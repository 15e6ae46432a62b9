"""Prompts in, completions out: an engine of groups and lanes that refills them.

G groups hold a problem each, with N lanes that each hold one of its samples. A
lane whose sample has ended takes the problem's next one; a group whose samples
have all ended, the next problem. Decoding goes in chunks of a few steps; while
the device decodes one, the host reads the tokens of the one before.

A sample does not depend on what is decoded beside it: its random bits are its
own (identity.py), the padded length of its prompt follows from that prompt
alone, and no shape and no place of its tokens depends on its neighbours.

Dimensions: G group, N lane, B question, P prefix, Q question, W words of a key.
"""

import collections
from collections.abc import Iterable, Iterator, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from rest_jax.config import configuration
from rest_jax.distributed import multihost
from rest_jax.models import architecture, decoding, quantization
from rest_jax.models.architecture import DecoderConfig
from rest_jax.sampling import (
  backlog,
  decode_programs,
  identity,
  lanes,
  stops,
  token_choice,
)
from rest_jax.sampling.requests import Completion, Request, Text
from rest_jax.sampling.sampling_progress import Count, Watch
from rest_jax.sampling.streams import EngineConfig, Stream


class _Program(NamedTuple):
  """What requests must have in common to be decoded together.

  Attributes:
    prefix: the ids that their prompts begin with.
    places: that their questions are padded to.
  """

  prefix: tuple[int, ...]
  places: int


class _Run(NamedTuple):
  """What holds for one call of `generate`."""

  stream: Stream
  iteration: int
  count: Count


class _Chunk(NamedTuple):
  """A chunk that the device works on.

  Attributes:
    chosen: what it gives.
    held_G: what the groups hold in it.
  """

  chosen: decode_programs.Chosen
  held_G: Sequence[backlog.Work | None]


_PREFIXES_KEPT = 4  # of one task; a part of the next one may need another


class Engine:
  """Samples from one network; compiles a few programs per layout."""

  def __init__(
    self,
    model: DecoderConfig,
    weights: decoding.Weights | None,
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
    self._prefixes: dict[tuple[int, ...], decoding.Prefix] = {}
    self.weights = weights
    self.programs = decode_programs.DecodePrograms(
      model=model,
      mesh=mesh,
      network=network,
      max_decode_length=config.max_decode_length,
      chunk=min(config.chunk, config.max_decode_length),
      vocab_size=text.vocab_size,
      eos_ids=tuple(text.eos_ids),
    )

  @property
  def weights(self) -> decoding.Weights | None:
    """The network's variables; None: they come later."""
    return self._weights

  @weights.setter
  def weights(self, weights: decoding.Weights | None) -> None:
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
    run = _Run(stream, iteration, Count(watch or Watch()))
    groups, width = layout(self.config, stream)
    waiting = backlog.Backlog(
      requests, self._program, 2 * groups, groups, width
    )
    while (program := waiting.next_program()) is not None:
      yield from self._sample(program, waiting, run)
    yield from _refused(waiting)

  def _program(self, request: Request) -> _Program | None:
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
    return _Program(tuple(request.prompt[:prefix]), places)

  def _sample(
    self, program: _Program, waiting: backlog.Backlog, run: _Run
  ) -> Iterator[Completion]:
    """The completions of all that waits for one program."""
    decoding_now = _Decoding(self, program, run)
    before = None
    while True:
      decoding_now.refill(waiting, before)
      yield from _refused(waiting)
      # The device works on the next chunk while the host reads this one.
      after = decoding_now.start(before)
      if before is not None:
        for sample in decoding_now.read(before):
          yield self._complete(sample)
      before = after
      if before is None and not decoding_now.left():
        run.count.end()
        return

  def prefix(self, ids: tuple[int, ...], watch: Watch) -> Any:
    """What the network has read of a prefix; None of an empty one."""
    if not ids:
      return None
    if ids not in self._prefixes:
      unit = self.config.prompt_bucket
      tokens_P = np.zeros(-(-len(ids) // unit) * unit, np.int32)
      tokens_P[: len(ids)] = ids
      self.announce(watch, f'reads a prefix of {len(tokens_P)} tokens')
      while len(self._prefixes) >= _PREFIXES_KEPT:
        self._prefixes.pop(next(iter(self._prefixes)))
      cache = self.programs.read_prefix(self.weights, tokens_P)
      self._prefixes[ids] = decoding.Prefix(cache, np.int32(len(ids)))
    return self._prefixes[ids]

  def announce(self, watch: Watch, does: str) -> None:
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


class _Decoding:
  """The groups, lanes and caches while one program's work is sampled."""

  def __init__(self, engine: Engine, program: _Program, run: _Run):
    """All groups are empty.

    Args:
      engine: whose weights and compiled programs are used.
      program: what is common to all that is sampled here.
      run: the stream, and who is told.
    """
    self._engine, self._program, self._run = engine, program, run
    config, programs = engine.config, engine.programs
    groups, width = layout(config, run.stream)
    self._board = lanes.Board(
      groups,
      width,
      programs.chunk,
      config.max_decode_length,
      engine.text.eos_ids,
      stops.StopStrings(engine.text.decode, engine.text.stop),
    )
    self._prefix = engine.prefix(program.prefix, run.count.watch)
    self._question, self._suffix, self._lanes = programs.empty(
      groups, width, program.places
    )
    self._groups = decode_programs.Groups.empty(groups, run.stream)
    self._words = (
      f'decodes {groups} x {width} samples behind {program.places} tokens'
      f' and a prefix of {len(program.prefix)}'
    )

  def left(self) -> bool:
    """Whether a group holds samples that have not ended."""
    return bool(self._board.left(None).any())

  def refill(self, waiting: backlog.Backlog, running: _Chunk | None) -> None:
    """Groups that need no further chunk take what waits.

    Args:
      waiting: for this program too.
      running: the chunk that the device works on.
    """
    board, fresh = self._board, []
    left_G = board.left(running and running.held_G)
    for g in np.flatnonzero(left_G == 0).tolist():
      work = waiting.take(self._program)
      if work is not None:
        fresh.append(g)
      if work is not None or board.work_G[g] is not None:
        board.hold(g, work)
    while fresh:
      fresh = self._place(fresh)

  def _place(self, fresh: Sequence[int]) -> list[int]:
    """Reads the questions of some groups; returns the groups that are left.

    Each shard of the groups reads as many questions as the layout says.
    """
    engine, board, groups = self._engine, self._board, self._groups
    programs, rows = engine.programs, engine.config.questions
    size = len(board.work_G) // programs.shards
    tokens_BQ = np.zeros(
      (programs.shards * rows, self._program.places), np.int32
    )
    rows_G = np.full(len(board.work_G), -1, np.int32)
    taken, left = [], []
    used = collections.Counter()
    for g in fresh:
      shard = g // size
      if used[shard] == rows:
        left.append(g)
        continue
      rows_G[g] = used[shard]
      # All but the last token, which each sample feeds itself.
      ids = board.work_G[g].request.prompt[len(self._program.prefix) : -1]
      tokens_BQ[shard * rows + used[shard], : len(ids)] = ids
      groups.lengths_G[g] = len(ids)
      used[shard] += 1
      taken.append(g)
    engine.announce(
      self._run.count.watch,
      f'reads {len(tokens_BQ)} questions of {self._program.places} tokens'
      f' behind a prefix of {len(self._program.prefix)}',
    )
    new = programs.read_questions(engine.weights, self._prefix, tokens_BQ)
    self._question = programs.insert(self._question, new, rows_G)
    names = []
    for g in taken:
      work = board.work_G[g]
      groups.last_G[g] = work.request.prompt[-1]
      groups.first_G[g], groups.samples_G[g] = work.first, work.number
      groups.fresh_G[g] = True
      names.append(
        identity.problem_words(
          self._run.stream.name, self._run.iteration, work.request.problem_id
        )
      )
    # Padded, so that one program serves any number of problems.
    padded = names + names[:1] * (len(groups.last_G) - len(names))
    keys = np.asarray(identity.keys(engine.config.seed, padded))
    groups.keys_GW[taken] = keys[: len(taken)]
    return left

  def start(self, running: _Chunk | None) -> _Chunk | None:
    """Sends a chunk to the device; None where nothing is left to decode.

    Args:
      running: the chunk that the device works on.
    """
    engine, board = self._engine, self._board
    if not board.left(running and running.held_G).any():
      return None
    engine.announce(self._run.count.watch, self._words)
    chunk, self._lanes, chosen = engine.programs.decode(
      engine.weights,
      self._prefix,
      self._question,
      self._suffix,
      self._lanes,
      # Copies: the device may read them when the host has gone on.
      jax.tree.map(np.array, self._groups),
      board.stopped_GN.copy(),
      token_choice.road(self._run.stream),
    )
    self._suffix = engine.programs.commit(
      self._suffix, chunk, chosen.lengths_GN
    )
    self._groups.fresh_G[:] = False
    for array in chosen:
      array.copy_to_host_async()
    return _Chunk(chosen, list(board.work_G))

  def read(self, chunk: _Chunk) -> Iterator[lanes.Ended]:
    """The samples that ended in a chunk; waits for it."""
    chosen = decode_programs.Chosen(*map(multihost.fetch, chunk.chosen))
    yield from self._board.read(chosen, chunk.held_G)
    self._run.count.decoded(*self._board.progress())


def variables(
  params: Any, model: DecoderConfig, config: EngineConfig
) -> decoding.Weights:
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
  return decoding.arrange(model, params)


def variables_on(
  mesh: jax.sharding.Mesh,
  params: Any,
  model: DecoderConfig,
  config: EngineConfig,
) -> decoding.Weights:
  """`variables`, one array after the other; `params` is used up.

  Args:
    mesh: that the parameters lie on, in the network's dtype.
    params, model, config: as for `variables`.
  """
  if config.weights == 'int8':
    params = quantization.quantize_on(mesh, params)
  return decoding.arrange_on(model, params)


def _refused(waiting: backlog.Backlog) -> Iterator[Completion]:
  """The completions of requests whose prompts do not fit."""
  while waiting.refused:
    request = waiting.refused.pop(0)
    for index in request.sample_indices:
      yield Completion(request.problem_id, index, [], 0, '', [], [], 'prompt')


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
    'chunk': config.chunk,
    'questions': config.questions,
    'prompt_bucket': config.prompt_bucket,
    'decode_loop': model.decode_loop,
    'attention': architecture.attention_on(device.platform, model.attention),
    'dtype': model.dtype,
    'mesh': {axis: int(size) for axis, size in mesh.shape.items()},
    'device': f'{device.platform} {device.device_kind}',
    'jax': jax.__version__,
    'jaxlib': jaxlib.__version__,
  }
