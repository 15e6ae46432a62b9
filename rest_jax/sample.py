"""Stage: E-step and evaluation. Samples a policy on prepared problems.

    problems + policy ─▶ samples, one part per few dozen problems

A killed sampling goes on with the first missing part. Asking for more samples
of a finished folder samples only those; each sample's identity (DESIGN: seed,
stream, iteration, problem, index) makes the two the same. So does a problem
that was added: sampling/earlier_samples.py.
"""

import itertools
import time
from collections.abc import Iterator, Sequence
from typing import Any

import jax

from rest_jax.artifacts import manifests, records, stage_work, task_card
from rest_jax.config import configuration
from rest_jax.distributed import multihost, partitioning, preemption
from rest_jax.models.architecture import DecoderConfig
from rest_jax.models.checkpoints import policies
from rest_jax.sampling import (
  requests,
  sample_parts,
  sampling_engine,
  sampling_progress,
)
from rest_jax.sampling.earlier_samples import TEXT, EarlierSamples
from rest_jax.sampling.sampling_progress import Progress
from rest_jax.sampling.streams import EngineConfig, Stream
from rest_jax.tokenizers import vocabularies, vocabulary_checks

VERSION = 3  # 3: prefixes of their own, and lanes that are refilled


@configuration.checked
def sample(
  *,
  problems_dirs: tuple[str, ...],
  samples_dirs: tuple[str, ...],
  stream_names: tuple[str, ...],
  policy_dir: str | None,
  streams: tuple[Stream, ...],
  iteration: int,
  model: DecoderConfig,
  engine: EngineConfig,
  mesh: partitioning.MeshConfig,
) -> None:
  """Samples each folder of problems with its stream.

  Args:
    problems_dirs: finished folders of problems.
    samples_dirs: output, one for each of problems_dirs.
    stream_names: the stream of each.
    policy_dir: the policy (see models/checkpoints/policies.py).
    streams: those that stream_names may name.
    iteration: of the loop; part of the samples' identity. A stream eval/…
      takes that of the policy instead, where it is an earlier one.
    model: the network.
    engine: the engine's layout.
    mesh: of the devices.
  """
  multihost.initialize()
  preemption.watch()  # after it: jax has a handler of its own
  if not len(problems_dirs) == len(samples_dirs) == len(stream_names) > 0:
    raise configuration.ConfigurationError(
      f'sample: PROBLEMS_DIRS ({len(problems_dirs)}), SAMPLES_DIRS '
      f'({len(samples_dirs)}) and STREAMS ({len(stream_names)}) must name as '
      'many folders as each other, and at least one.'
    )
  if policy_dir is None:
    raise configuration.ConfigurationError(
      'sample: POLICY_DIR names no checkpoint to sample from.'
    )
  by_name = {stream.name: stream for stream in streams}
  for name in stream_names:
    if name not in by_name:
      raise configuration.ConfigurationError(
        f'STREAMS: got {name!r}; allowed: {", ".join(by_name)}.'
      )
  total = sum(
    _num_samples(folder, by_name[name])
    for folder, name in zip(problems_dirs, stream_names, strict=True)
  )
  sampler = _Sampler(
    policy_dir, iteration, model, engine, mesh, Progress(total)
  )
  for problems_dir, samples_dir, name in zip(
    problems_dirs, samples_dirs, stream_names, strict=True
  ):
    sampler.sample(problems_dir, samples_dir, by_name[name])


def _num_samples(problems_dir: str, stream: Stream) -> int:
  """The samples that a stream draws of a folder of problems."""
  card = task_card.of(manifests.load(problems_dir, stage='prepare'))
  return card.num_problems * stream.of_task(card.task).num_samples


_CHUNKS_PER_CHECK = 8  # of SIGTERM, where it is a question to all processes


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


class _Sampler:
  """The policy, loaded when the first folder turns out to need it."""

  def __init__(
    self,
    policy_dir: str,
    iteration: int,
    model: DecoderConfig,
    config: EngineConfig,
    mesh: partitioning.MeshConfig,
    progress: Progress,
  ):
    self.progress = progress
    self.policy_dir, self.iteration = policy_dir, iteration
    # Evaluations of one policy share their noise: an M-step that chose step 0
    # must not differ from the policy that it gave back.
    self.policy_iteration = min(iteration, policies.iteration(policy_dir))
    self.model, self.config = model, config
    self.policy_digest = policies.digest(policy_dir)
    self.mesh = partitioning.make_mesh(mesh)
    self.fingerprint = sampling_engine.fingerprint(model, config, self.mesh)
    self._weights = None
    # Those that fit the policy.
    self._vocabularies: dict[str, vocabularies.Vocabulary] = {}
    self._engines: dict[Any, sampling_engine.Engine] = {}

  def engine(self, problems: manifests.Manifest) -> sampling_engine.Engine:
    """The engine for these problems; tasks of one text share it."""
    card = task_card.of(problems)
    key = (card.vocabulary, card.eos_ids, card.stop)
    if card.vocabulary not in self._vocabularies:
      vocabulary = requests.vocabulary_of(problems)
      vocabulary_checks.require_of_checkpoint(
        vocabulary, self.policy_dir, self.model.vocab_size
      )
      self._vocabularies[card.vocabulary] = vocabulary
    if self._weights is None:
      self.progress.phase('loading the weights')
      params = policies.load(
        self.policy_dir, self.model, self.mesh, dtype=self.model.dtype
      )
      if self.config.weights == 'int8':
        self.progress.phase('rounding the weights to int8')
      self._weights = sampling_engine.variables_on(
        self.mesh, params, self.model, self.config
      )
    if key not in self._engines:
      self._engines[key] = sampling_engine.Engine(
        self.model,
        self._weights,
        self.config,
        self.mesh,
        requests.text_of(problems, self._vocabularies[card.vocabulary]),
      )
    return self._engines[key]

  def sample(self, problems_dir: str, samples_dir: str, stream: Stream) -> None:
    problems = manifests.load(problems_dir, stage='prepare')
    stream = stream.of_task(task_card.of(problems).task)
    if not stream.num_samples:
      raise configuration.ConfigurationError(
        f'STREAMS: {stream.name!r} has num_samples = 0 for {problems_dir}: '
        'there is nothing to draw. Set its dial (NUM_SAMPLES, EVAL_SAMPLES, '
        'DIFFICULTY_SAMPLES).'
      )
    iteration = self.iteration
    if stream.name.startswith('eval/'):
      iteration = self.policy_iteration
    drawn = configuration.semantics(stream)
    num_samples = drawn.pop('num_samples')
    with multihost.work_on(
      samples_dir,
      stage='sample',
      kind=records.Sample,
      semantic={
        'stream': drawn,
        'num_samples': num_samples,
        'iteration': iteration,
        'seed': self.config.seed,
        'problems_per_part': self.config.problems_per_part,
        'model': self.model,
        'engine': self.fingerprint,
      },
      inputs={
        'problems': task_card.prompts(problems),
        'policy': self.policy_digest,
      },
      version=VERSION,
      growable=('num_samples',),
      on_new_inputs='set_aside',
    ) as work:
      card = task_card.of(problems)
      self.progress.begin(f'{stream.name} of {card.task}/{card.split}')
      if work.done is None:
        self._work(work, problems, stream, iteration)
      else:
        self.progress.there(work.done.statistics['samples'])
      statistics = work.done.statistics
      multihost.say(
        f'sample: {samples_dir}: {statistics["samples"]} samples of '
        f'{statistics["problems"]} problems, {statistics["tokens"]} tokens'
      )

  def _work(
    self,
    work: stage_work.Work,
    problems: manifests.Manifest,
    stream: Stream,
    iteration: int,
  ) -> None:
    started, tokens = time.monotonic(), 0
    blocks = [0, stream.num_samples]
    if work.previous is not None:  # it grows, or lost a part
      blocks = list(work.previous.statistics['blocks'])
      if blocks[-1] != stream.num_samples:
        blocks.append(stream.num_samples)
    rows = problems.records()
    digest = manifests.digest_of(self.fingerprint)
    parts = sample_parts.OpenParts(work)
    prompts: dict[str, Sequence[int]] = {}

    def asked() -> Iterator[requests.Request]:
      earlier = EarlierSamples(work, problems, stream.few_shot)
      shared = requests.shares_prefix(
        (row.prompt_parts for row in rows), stream.few_shot
      )
      for name, chunk, indices in sample_parts.planned(
        rows, self.config.problems_per_part, blocks
      ):
        source = manifests.digest_of(
          [
            work.fingerprint['semantic'] | {'num_samples': list(indices)},
            work.fingerprint['inputs'],
            [problem.id for problem in chunk],
          ]
        )
        there = len(chunk) * len(indices)
        if not work.has(name, source=source):
          kept, missing = earlier.split(chunk, indices)
          for problem, left in parts.begin(
            name, source, kept, missing, indices
          ):
            there -= len(left)
            request = requests.request(problem, left, stream.few_shot, shared)
            prompts[problem.id] = request.prompt
            yield request
        self.progress.there(there)

    card = task_card.of(problems)
    where = f'sample: {stream.name} of {card.task}/{card.split}'
    todo = asked()
    first = next(todo, None)
    if first is not None:
      try:
        for completion in self.engine(problems).generate(
          itertools.chain([first], todo),
          stream=stream,
          iteration=iteration,
          watch=_Watch(self.progress, where),
        ):
          row = requests.to_sample(
            completion,
            stream=stream.name,
            policy_digest=self.policy_digest,
            prompt=prompts[completion.problem_id],
            engine_fingerprint=digest,
          )
          tokens += len(row.token_ids)
          if parts.add(row):
            multihost.check_preemption(where)
          parts.keep()
      except preemption.Preempted:
        parts.keep(now=True)
        raise
    text = task_card.text(problems)
    self._finish(work, blocks, rows, tokens, time.monotonic() - started, text)

  def _finish(
    self,
    work: stage_work.Work,
    blocks: Sequence[int],
    rows: Sequence[records.Problem],
    tokens: int,
    seconds: float,
    text: str,
  ) -> None:
    reasons, total = multihost.from_writer(lambda: sample_parts.counts(work))
    work.finish(
      statistics={
        'problems': len(rows),
        'samples': sum(reasons.values()),
        'tokens': total,
        'finish_reasons': reasons,
        'blocks': blocks,
      },
      recorded={
        'seconds': round(seconds, 3),
        'tokens_per_second': round(tokens / max(seconds, 1e-9), 1),
        'engine': self.fingerprint,
        TEXT: text,
      },
    )
    if reasons.get('prompt'):
      multihost.say(
        f'warning: {reasons["prompt"]} samples were not drawn: their '
        f'prompt leaves no room for MAX_DECODE_LENGTH = '
        f"{self.config.max_decode_length} tokens in the model's max_length = "
        f'{self.model.max_length}'
      )
