"""A folder of samples while it is filled.

One process fills it; or several workers do, of which each begins with its own
share of the parts, goes on with what nobody has claimed of the others', and at
last draws again what another has been at for too long. A sample is the same
whoever draws it, so that two of them write the same bytes.
"""

import itertools
import time
from collections.abc import Callable, Iterator, Sequence
from typing import NamedTuple

import jax

from rest_jax.artifacts import manifests, records, stage_work, task_card
from rest_jax.distributed import multihost, preemption
from rest_jax.sampling import requests, sample_parts, sampling_progress
from rest_jax.sampling.earlier_samples import TEXT, EarlierSamples
from rest_jax.sampling.sampling_engine import Engine
from rest_jax.sampling.sampling_progress import Progress
from rest_jax.sampling.streams import EngineConfig, Stream

PATIENCE_SECONDS = 60.0  # at least, with a part that another worker is at
POLL_SECONDS = 2.0
_CHUNKS_PER_CHECK = 8  # of SIGTERM, where it is a question to all processes


class Sampler(NamedTuple):
  """What the samples are drawn with.

  Attributes:
    engine: gives the engine; called when there is something to draw.
    policy: the policy's digest.
    fingerprint: of the engine, for the samples' record.
    iteration: part of the samples' identity.
    max_length: of the model, in tokens.
  """

  engine: Callable[[], Engine]
  policy: str
  fingerprint: dict
  iteration: int
  max_length: int


class _Watch(sampling_progress.Watch):
  """Tells the progress, and sees between chunks whether to stop."""

  def __init__(self, progress: Progress, where: str):
    self._progress, self._where, self._chunks = progress, where, 0

  def compiling(self, program: str) -> None:
    self._progress.compiling(program)

  def decoded(self, samples: float, tokens: int) -> None:
    self._progress.decoded(samples, tokens)
    self._chunks += 1
    if jax.process_count() == 1 or self._chunks % _CHUNKS_PER_CHECK == 0:
      multihost.check_preemption(self._where)


class FolderSampling:
  """Fills one folder of samples."""

  def __init__(
    self,
    work: stage_work.Work,
    problems: manifests.Manifest,
    stream: Stream,
    sampler: Sampler,
    progress: Progress,
    config: EngineConfig,
  ):
    """Draws nothing yet.

    Args:
      work: the folder.
      problems: what is sampled.
      stream: how, with the task's own number of samples.
      sampler: with what.
      progress: is told how far the sampling is.
      config: of the engine.
    """
    self._work, self._problems, self._stream = work, problems, stream
    self._sampler, self._progress = sampler, progress
    self._card = task_card.of(problems)
    self._name = f'{stream.name} of {self._card.task}/{self._card.split}'
    self._config = config
    self._left: list[sample_parts.Planned] = []
    self._began, self._tokens = 0.0, 0
    self._told: set[str] = set()  # parts that the progress knows of
    self._stood: set[str] = set()  # parts that were there, where others draw
    if work.done is None:
      self._plan()

  def _plan(self) -> None:
    work, stream = self._work, self._stream
    self._rows = self._problems.records()
    self._blocks = [0, stream.num_samples]
    if work.previous is not None:  # it grows, or lost a part
      self._blocks = list(work.previous.statistics['blocks'])
      if self._blocks[-1] != stream.num_samples:
        self._blocks.append(stream.num_samples)
    planned = sample_parts.planned(
      self._rows,
      self._config.problems_per_part,
      self._blocks,
      self._source,
    )
    mine, others = [], []
    for number, part in enumerate(planned):
      (mine if work.worker.owns(number) else others).append(part)
    # The others begin at their first: from the last one they are met late.
    self._left = [*mine, *reversed(others)]
    self._parts = sample_parts.OpenParts(work)
    self._earlier = EarlierSamples(work, self._problems, stream.few_shot)

  @property
  def is_extended(self) -> bool:
    """Whether a manifest stands there that another one will replace."""
    return self._work.previous is not None

  def fill(self, *, wait: bool = True) -> bool:
    """Draws what is missing; returns whether the folder is done.

    Args:
      wait: for parts that other workers are at.

    Raises:
      Preempted: SIGTERM has come; what was drawn is kept.
    """
    if self._work.done is not None:
      self._progress.begin(self._name)
      self._progress.there(self._work.done.statistics['samples'])
      self._say()
      return True
    if not self._began:
      self._began = time.monotonic()
      if not self._work.worker.is_alone:
        self._stood = {p.name for p in self._left if self._is_there(p)}
    late, left, since = None, -1, 0.0
    while True:
      self._draw(late)
      self._left = [part for part in self._left if not self._is_there(part)]
      if not self._left and not self._work.is_done():
        self._finish()
      if self._work.is_done():
        self._say()
        return True
      if not wait:
        return False
      if len(self._left) != left:
        left, since = len(self._left), time.monotonic()
        self._progress.phase(f'waiting for {left} parts of other workers')
      late = self._late(since)
      if late is None:
        multihost.check_preemption(f'sample: {self._name}')
        time.sleep(POLL_SECONDS)

  def _late(self, since: float) -> str | None:
    """The part that is drawn here too, after waiting for its worker."""
    patience = max(PATIENCE_SECONDS, 2 * self._parts.slowest)
    if not multihost.from_writer(lambda: time.monotonic() - since > patience):
      return None
    name = self._left[0].name
    multihost.say(
      f'sample: {self._work.folder}/{name} is drawn here too: nothing has come '
      f'for {patience:.0f} s from {self._work.rival(name)}'
    )
    return name

  def _draw(self, late: str | None) -> None:
    """Draws the samples of all parts that are this worker's to make.

    Args:
      late: a part that is, whoever has claimed it.
    """
    self._progress.begin(self._name)
    where = f'sample: {self._name}'
    prompts: dict[str, Sequence[int]] = {}
    todo = self._requests(late, prompts)
    first = next(todo, None)
    if first is None:
      return
    digest = manifests.digest_of(self._sampler.fingerprint)
    completions = self._sampler.engine().generate(
      itertools.chain([first], todo),
      stream=self._stream,
      iteration=self._sampler.iteration,
      watch=_Watch(self._progress, where),
    )
    try:
      for completion in completions:
        row = requests.to_sample(
          completion,
          stream=self._stream.name,
          policy_digest=self._sampler.policy,
          prompt=prompts[completion.problem_id],
          engine_fingerprint=digest,
        )
        self._tokens += len(row.token_ids)
        if self._parts.add(row):
          multihost.check_preemption(where)
        # A straggler's parts may have been made by the others.
        if self._parts.keep() and self._work.is_done():
          break
    except preemption.Preempted:
      self._parts.keep(now=True)
      raise

  def _requests(
    self, late: str | None, prompts: dict[str, Sequence[int]]
  ) -> Iterator[requests.Request]:
    """What is to be drawn; parts are claimed as their turn comes.

    Args:
      late: as of `_draw`.
      prompts: gets the prompt of each problem.
    """
    few_shot = self._stream.few_shot
    shared = requests.shares_prefix(
      (row.prompt_parts for row in self._rows), few_shot
    )
    for part in self._left:
      if self._is_there(part):
        if part.name not in self._told:
          self._told.add(part.name)
          self._progress.there(len(part.problems) * len(part.indices))
        continue
      if part.name != late and not self._work.claim(
        part.name, source=part.source
      ):
        continue
      self._told.add(part.name)
      there = len(part.problems) * len(part.indices)
      kept, missing = self._earlier.split(part.problems, part.indices)
      for problem, left in self._parts.begin(part, kept, missing):
        there -= len(left)
        request = requests.request(problem, left, few_shot, shared)
        prompts[problem.id] = request.prompt
        yield request
      self._progress.there(there)

  def _is_there(self, part: sample_parts.Planned) -> bool:
    return self._work.has(part.name, source=part.source)

  def _source(self, problems: Sequence[records.Problem], indices: range) -> str:
    fingerprint = self._work.fingerprint
    return manifests.digest_of(
      [
        fingerprint['semantic'] | {'num_samples': list(indices)},
        fingerprint['inputs'],
        [problem.id for problem in problems],
      ]
    )

  def _finish(self) -> None:
    seconds = time.monotonic() - self._began
    reasons, tokens = multihost.from_writer(
      lambda: sample_parts.counts(self._work)
    )
    drawn = self._tokens  # and if there are others, what they have drawn, too
    if not self._work.worker.is_alone:
      drawn = sum(n for name, n in tokens.items() if name not in self._stood)
    self._work.finish(
      statistics={
        'problems': len(self._rows),
        'samples': sum(reasons.values()),
        'tokens': sum(tokens.values()),
        'finish_reasons': reasons,
        'blocks': self._blocks,
      },
      recorded={
        'seconds': round(seconds, 3),
        'tokens_per_second': round(drawn / max(seconds, 1e-9), 1),
        'engine': self._sampler.fingerprint,
        TEXT: task_card.text(self._problems),
      },
    )
    if reasons.get('prompt'):
      multihost.say(
        f'warning: {reasons["prompt"]} samples were not drawn: their prompt '
        'leaves no room for MAX_DECODE_LENGTH = '
        f"{self._config.max_decode_length} tokens in the model's max_length = "
        f'{self._sampler.max_length}'
      )

  def _say(self) -> None:
    statistics = self._work.done.statistics
    multihost.say(
      f'sample: {self._work.folder}: {statistics["samples"]} samples of '
      f'{statistics["problems"]} problems, {statistics["tokens"]} tokens'
    )
