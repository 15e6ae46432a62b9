"""Stage: E-step and evaluation. Samples a policy on prepared problems.

    problems + policy ─▶ samples, one part per few dozen problems

A killed sampling goes on with the first missing part. Asking for more samples
of a finished folder samples only those; each sample's identity (DESIGN: seed,
stream, iteration, problem, index) makes the two the same. So does a problem
that was added: sampling/earlier_samples.py.
"""

import contextlib
import functools
from collections.abc import Iterator
from typing import Any

from rest_jax.artifacts import manifests, records, task_card, workers
from rest_jax.config import configuration
from rest_jax.distributed import multihost, partitioning, preemption
from rest_jax.models.architecture import DecoderConfig
from rest_jax.models.checkpoints import policies
from rest_jax.sampling import folder_sampling, requests, sampling_engine
from rest_jax.sampling.sampling_progress import Progress
from rest_jax.sampling.streams import EngineConfig, Stream
from rest_jax.tokenizers import vocabularies, vocabulary_checks

VERSION = 4  # 4: on CPUs, products with prefixes in halves


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
  worker_index: int = 0,
  num_workers: int = 1,
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
    worker_index: which of the workers this is.
    num_workers: how many of them fill the folders together, each with devices
      of its own. All get the same arguments but this one's index.
  """
  if not 0 <= worker_index < num_workers:
    raise configuration.ConfigurationError(
      f'sample: WORKER_INDEX: got {worker_index}; allowed: 0 to '
      f'WORKERS - 1 = {num_workers - 1}.'
    )
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
  todo = []
  for problems_dir, samples_dir, name in zip(
    problems_dirs, samples_dirs, stream_names, strict=True
  ):
    problems = manifests.load(problems_dir, stage='prepare')
    stream = by_name[name].of_task(task_card.of(problems).task)
    if not stream.num_samples:
      raise configuration.ConfigurationError(
        f'STREAMS: {name!r} has num_samples = 0 for {problems_dir}: there is '
        'nothing to draw. Set its dial (NUM_SAMPLES, EVAL_SAMPLES, '
        'DIFFICULTY_SAMPLES).'
      )
    todo.append((problems, samples_dir, stream))
  progress = Progress(
    sum(
      task_card.of(problems).num_problems * stream.num_samples
      for problems, _, stream in todo
    )
  )
  sampler = _Sampler(policy_dir, iteration, model, engine, mesh, progress)
  worker = workers.Worker(worker_index, num_workers)
  with contextlib.ExitStack() as stack:
    folders = [
      stack.enter_context(sampler.folder(*one, worker)) for one in todo
    ]
    if not any(folder.is_extended for folder in folders):
      progress.settled()
    # Where other workers are still at a part, the next folder comes first.
    for folder in [f for f in folders if not f.fill(wait=worker.is_alone)]:
      folder.fill()


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

  @contextlib.contextmanager
  def folder(
    self,
    problems: manifests.Manifest,
    samples_dir: str,
    stream: Stream,
    worker: workers.Worker,
  ) -> Iterator[folder_sampling.FolderSampling]:
    """A folder of samples, to be filled while the block runs."""
    iteration = self.iteration
    if stream.name.startswith('eval/'):
      iteration = self.policy_iteration
    drawn = configuration.semantics(stream)
    num_samples = drawn.pop('num_samples')
    sampler = folder_sampling.Sampler(
      functools.partial(self.engine, problems),
      self.policy_digest,
      self.fingerprint,
      iteration,
      self.model.max_length,
    )
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
      worker=worker,
    ) as work:
      yield folder_sampling.FolderSampling(
        work, problems, stream, sampler, self.progress, self.config
      )
