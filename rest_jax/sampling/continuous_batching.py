"""Groups and lanes that are refilled while the device decodes.

A group whose samples have all ended takes the next problem that waits, and its
lanes the samples of that problem. Decoding goes in chunks of a few steps; while
the device decodes one, the host reads the tokens of the one before.

Dimensions: G group, N lane, B question, Q question's places.
"""

import collections
from collections.abc import Callable, Iterator, Sequence
from typing import NamedTuple

import jax
import numpy as np

from rest_jax.distributed import multihost
from rest_jax.models import caches, layered
from rest_jax.sampling import (
  backlog,
  decode_programs,
  device_lanes,
  identity,
  lanes,
  stops,
  token_choice,
)
from rest_jax.sampling.requests import Text
from rest_jax.sampling.sampling_progress import Count
from rest_jax.sampling.streams import EngineConfig, Stream


class Program(NamedTuple):
  """What requests must have in common to be decoded together.

  Attributes:
    prefix: the ids that their prompts begin with.
    places: that their questions are padded to.
  """

  prefix: tuple[int, ...]
  places: int


class Run(NamedTuple):
  """What holds for one call of `generate`."""

  stream: Stream
  iteration: int
  count: Count


class Chunk(NamedTuple):
  """A chunk that the device works on.

  Attributes:
    chosen: what it gives.
    held_G: what the groups hold in it.
  """

  chosen: device_lanes.Chosen
  held_G: Sequence[backlog.Work | None]


class Batch:
  """The groups, lanes and caches while one program's work is sampled."""

  def __init__(
    self,
    *,
    programs: decode_programs.DecodePrograms,
    weights: layered.Weights,
    prefix: caches.Prefix | None,
    program: Program,
    config: EngineConfig,
    text: Text,
    run: Run,
    announce: Callable[[str], None],
  ):
    """All groups are empty.

    Args:
      programs: compiled.
      weights: of the network.
      prefix: what the network has read of program.prefix.
      program: what is common to all that is sampled here.
      config: the layout.
      text: the vocabulary's side.
      run: the stream, and who is told.
      announce: is told what a program does before it may be compiled.
    """
    self._programs, self._weights, self._prefix = programs, weights, prefix
    self._program, self._config, self._run = program, config, run
    self._announce = announce
    groups, width = config.layout(run.stream)
    self._board = lanes.Board(
      groups,
      width,
      programs.chunk,
      config.max_decode_length,
      text.eos_ids,
      stops.StopStrings(text.decode, text.stop),
    )
    self._question, self._suffix, self._lanes = programs.empty(
      groups, width, program.places
    )
    self._groups = device_lanes.Groups.empty(groups, run.stream)
    self._road = token_choice.road(run.stream)
    self._words = (
      f'decodes {groups} x {width} samples behind {program.places} tokens'
      f' and a prefix of {len(program.prefix)}, {self._road.name.lower()}'
    )

  def left(self) -> bool:
    """Whether a group holds samples that have not ended."""
    return bool(self._board.left(None).any())

  def refill(self, waiting: backlog.Backlog, running: Chunk | None) -> None:
    """Groups that need no further chunk take what waits.

    Args:
      waiting: for this program too.
      running: the chunk that the device works on.
    """
    board, fresh = self._board, []
    left_G = board.left(running and running.held_G)
    share = waiting.share()
    for g in np.flatnonzero(left_G == 0).tolist():
      work = waiting.take(self._program, share)
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
    programs, board, groups = self._programs, self._board, self._groups
    rows = self._config.questions
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
    self._announce(
      f'reads {len(tokens_BQ)} questions of {self._program.places} tokens'
      f' behind a prefix of {len(self._program.prefix)}',
    )
    new = programs.read_questions(self._weights, self._prefix, tokens_BQ)
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
    keys = np.asarray(identity.keys(self._config.seed, padded))
    groups.keys_GW[taken] = keys[: len(taken)]
    return left

  def start(self, running: Chunk | None) -> Chunk | None:
    """Sends a chunk to the device; None where nothing is left to decode.

    Args:
      running: the chunk that the device works on.
    """
    board = self._board
    if not board.left(running and running.held_G).any():
      return None
    self._announce(self._words)
    chunk, self._lanes, chosen = self._programs.decode(
      self._weights,
      self._prefix,
      self._question,
      self._suffix,
      self._lanes,
      # Copies: the device may read them when the host has gone on.
      jax.tree.map(np.array, self._groups),
      board.stopped_GN.copy(),
      self._road,
    )
    self._suffix = self._programs.commit(self._suffix, chunk, chosen.lengths_GN)
    self._groups.fresh_G[:] = False
    for array in chosen:
      array.copy_to_host_async()
    return Chunk(chosen, list(board.work_G))

  def read(self, chunk: Chunk) -> Iterator[lanes.Ended]:
    """The samples that ended in a chunk; waits for it."""
    chosen = device_lanes.Chosen(*map(multihost.fetch, chunk.chosen))
    yield from self._board.read(chosen, chunk.held_G)
    self._run.count.decoded(*self._board.progress())
