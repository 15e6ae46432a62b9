"""D_val inside the M-step: the engine of sampling, and the same graders.

The samples are graded by process 0 itself, or by the stage grade_dval beside
the training (DVAL_GRADING).
"""

import os
import time
from collections.abc import Callable, Sequence
from typing import Any

import jax
import pyarrow as pa

from rest_jax.artifacts import manifests, records, storage, task_card
from rest_jax.distributed import multihost
from rest_jax.models.architecture import DecoderConfig
from rest_jax.rewards import dval_grading
from rest_jax.sampling import requests, sampling_engine, sampling_progress
from rest_jax.sampling.requests import Completion
from rest_jax.sampling.streams import EngineConfig, Stream
from rest_jax.training import dval_waiting, policy_view
from rest_jax.training.hyperparameters import ValidationConfig

_COMPLETIONS_PER_CHECK = 64  # between two looks at SIGTERM


class _Watch(sampling_progress.Watch):
  """Tells how much of D_val is sampled."""

  def __init__(self, tell: Callable[[str], None], before: int, total: int):
    self._tell, self._before, self._total = tell, before, total
    self._began = time.monotonic()

  def compiling(self, program: str) -> None:
    self._tell(f'D_val: compiling {program}')
    self._began = time.monotonic()

  def decoded(self, samples: float, tokens: int) -> None:
    rate = tokens / max(time.monotonic() - self._began, 1e-9)
    done = int(self._before + samples)
    self._tell(f'D_val: {done} of {self._total} samples, {rate:,.0f} tokens/s')


class Validator:
  """Samples D_val from the weights in training, and has it graded.

  A context manager: the grading workers start with the first validation, stay
  for the later ones, and end with it.
  """

  def __init__(
    self,
    problem_sets: Sequence[manifests.Manifest],
    model: DecoderConfig,
    engine: EngineConfig,
    mesh: jax.sharding.Mesh,
    dval_mesh: jax.sharding.Mesh,
    stream: Stream,
    config: ValidationConfig,
    iteration: int,
    checkpoints_dir: storage.PathLike,
  ):
    """Args:
    problem_sets: finished folders of D_val problems, one per task.
    model: the network.
    engine: its sampling layout.
    mesh: of the training.
    dval_mesh: that D_val is sampled on: the same devices.
    stream: how D_val is sampled.
    config: how much of it, when, and where it is graded.
    iteration: part of the samples' identity.
    checkpoints_dir: of the training.
    """
    self.config = config
    # Called with words about the validation that runs.
    self.tell: Callable[[str], None] = lambda words: None
    self._stream, self._iteration = stream, iteration
    self._sets = [
      (_limited(manifest, config.num_problems), task_card.of(manifest))
      for manifest in problem_sets
    ]
    self._waiting: dval_waiting.Waiting | None = None
    if config.grading == 'beside':
      self._waiting = dval_waiting.Waiting(
        checkpoints_dir,
        [os.fspath(manifest.folder) for manifest in problem_sets],
        lambda words: self.tell(words),
      )
    self._graders: dval_grading.Graders | None = None  # process 0's
    multihost.from_writer(lambda: self._take_graders(problem_sets))
    self._view = policy_view.PolicyView(model, engine, mesh, dval_mesh)
    self._engines = [
      sampling_engine.Engine(
        model, None, engine, dval_mesh, requests.text_of(manifest)
      )
      for manifest in problem_sets
    ]

  def _take_graders(self, problem_sets: Sequence[manifests.Manifest]) -> None:
    self._graders = dval_grading.Graders(problem_sets)
    if self._waiting is None:
      self._graders.require()

  def __enter__(self) -> 'Validator':
    return self

  def __exit__(self, *error) -> None:
    if self._graders is not None:
      self._graders.__exit__(*error)

  def reward(self, params: Any, folder: storage.Path) -> float:
    """The mean reward over D_val's samples. Collective.

    Args:
      params: the weights in training.
      folder: where the samples and verdicts are written.

    Raises:
      Preempted: SIGTERM has come before all verdicts were there.
      ConfigurationError: the graders fail, or nobody grades.
    """
    drawn = self._draw(params)
    written: list[dval_grading.Validation] = []  # of process 0

    def write() -> None:
      if self._waiting is not None:
        self._waiting.begin()
      tables = [_to_table(some, self._stream) for some in drawn]
      written.append(self._graders.write(folder, tables))

    multihost.from_writer(write)
    validation = written[0] if written else None
    if self._waiting is not None:
      tables = self._waiting.wait(validation)
      return multihost.from_writer(
        lambda: dval_grading.reward(validation, tables)
      )
    self.tell(f'D_val: grading {sum(map(len, drawn))} samples')
    return multihost.from_writer(
      lambda: dval_grading.reward(validation, self._graders.grade(validation))
    )

  def _draw(self, params: Any) -> list[list[Completion]]:
    """Each task's completions; the weights are gone when it returns."""
    weights = self._view.of(params)
    drawn: list[list[Completion]] = []
    done = 0
    total = sum(
      len(problems) * self._stream.of_task(card.task).num_samples
      for problems, card in self._sets
    )
    for engine, (problems, card) in zip(self._engines, self._sets, strict=True):
      engine.weights = weights
      stream = self._stream.of_task(card.task)
      shared = requests.shares_prefix(
        (problem.prompt_parts for problem in problems), stream.few_shot
      )
      samples = range(stream.num_samples)
      asked = [
        requests.request(problem, samples, stream.few_shot, shared)
        for problem in problems
      ]
      drawn.append([])
      for completion in engine.generate(
        asked,
        stream=stream,
        iteration=self._iteration,
        watch=_Watch(self.tell, done, total),
      ):
        if done % _COMPLETIONS_PER_CHECK == 0:
          multihost.check_preemption('train: validation')
        drawn[-1].append(completion)
        done += 1
      engine.weights = None
    return drawn


def _to_table(completions: Sequence[Completion], stream: Stream) -> pa.Table:
  """Completions as Sample records, in the order of their ids."""
  rows = [
    requests.to_sample(
      completion,
      stream=stream.name,
      policy_digest='',  # a policy in training has none yet
      prompt=[],
      engine_fingerprint='',
    )
    for completion in sorted(
      completions, key=lambda one: (one.problem_id, one.sample_index)
    )
  ]
  return records.to_table(records.Sample, rows)


def _limited(manifest: manifests.Manifest, limit: int) -> list[records.Problem]:
  problems = manifest.records()
  return problems[:limit] if limit else problems
