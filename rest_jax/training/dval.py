"""D_val inside the M-step: the engine of sampling, and the same graders."""

import functools
import itertools
import time
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import jax

from rest_jax.artifacts import manifests, records, storage, task_card
from rest_jax.config import configuration
from rest_jax.distributed import multihost
from rest_jax.models.architecture import DecoderConfig
from rest_jax.rewards import pool, registry
from rest_jax.sampling import requests, sampling_engine, sampling_progress
from rest_jax.sampling.requests import Completion
from rest_jax.sampling.streams import EngineConfig, Stream
from rest_jax.training import policy_view
from rest_jax.training.hyperparameters import ValidationConfig

_COMPLETIONS_PER_CHECK = 64  # between two looks at SIGTERM


class _Drawn(NamedTuple):
  """A completion of D_val, its problem, and the problem's task."""

  completion: Completion
  problem: records.Problem
  card: task_card.TaskCard


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
  """Samples D_val from the weights in training, and grades it.

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
  ):
    """Args:
    problem_sets: finished folders of D_val problems, one per task.
    model: the network.
    engine: its sampling layout.
    mesh: of the training.
    dval_mesh: that D_val is sampled on: the same devices.
    stream: how D_val is sampled.
    config: how much of it, and when.
    iteration: part of the samples' identity.
    """
    self.config = config
    # Called with words about the validation that runs.
    self.tell: Callable[[str], None] = lambda words: None
    self._stream, self._iteration = stream, iteration
    self._sets = [
      (_limited(manifest, config.num_problems), task_card.of(manifest))
      for manifest in problem_sets
    ]
    needed = {card.grader for _, card in self._sets}
    self._pools: dict[str, pool.Pool] = {}
    for name in sorted(needed):
      grader = registry.get(name)  # process 0 alone grades
      multihost.from_writer(functools.partial(registry.require, grader))
      self._pools[name] = pool.Pool(grader)
    self._view = policy_view.PolicyView(model, engine, mesh, dval_mesh)
    self._engines = [
      sampling_engine.Engine(
        model, None, engine, dval_mesh, requests.text_of(manifest)
      )
      for manifest in problem_sets
    ]

  def __enter__(self) -> 'Validator':
    return self

  def __exit__(self, *_) -> None:
    for workers in self._pools.values():
      workers.close()

  def reward(self, params: Any, folder: storage.Path) -> float:
    """The mean reward over D_val's samples.

    A harness error is nobody's fault and does not count.

    Args:
      params: the weights in training.
      folder: where the samples and verdicts are written.

    Raises:
      Preempted: SIGTERM has come; nothing was written.
    """
    drawn = self._draw(params)
    self.tell(f'D_val: grading {len(drawn)} samples')
    drawn.sort(key=lambda one: (one.problem.id, one.completion.sample_index))
    return multihost.from_writer(lambda: self._grade(drawn, folder))

  def _draw(self, params: Any) -> list[_Drawn]:
    """The completions; the engine's weights are gone when it returns."""
    weights = self._view.of(params)
    drawn: list[_Drawn] = []
    total = sum(
      len(problems) * self._stream.of_task(card.task).num_samples
      for problems, card in self._sets
    )
    for engine, (problems, card) in zip(self._engines, self._sets, strict=True):
      engine.weights = weights
      by_id = {problem.id: problem for problem in problems}
      stream = self._stream.of_task(card.task)
      shared = requests.shares_prefix(
        (problem.prompt_parts for problem in problems), stream.few_shot
      )
      samples = range(stream.num_samples)
      asked = [
        requests.request(problem, samples, stream.few_shot, shared)
        for problem in problems
      ]
      for completion in engine.generate(
        asked,
        stream=stream,
        iteration=self._iteration,
        watch=_Watch(self.tell, len(drawn), total),
      ):
        if len(drawn) % _COMPLETIONS_PER_CHECK == 0:
          multihost.check_preemption('train: validation')
        problem = by_id[completion.problem_id]
        drawn.append(_Drawn(completion, problem, card))
      engine.weights = None
    return drawn

  def _grade(self, drawn: Sequence[_Drawn], folder: storage.Path) -> float:
    verdicts = []
    # Sorted by problem, whose id begins with its task.
    for card, some in itertools.groupby(drawn, key=lambda one: one.card):
      workers = self._pools[card.grader]
      verdicts += _verdicts([*some], workers)
    self._write(folder, [one.completion for one in drawn], verdicts)
    uncounted = ('harness_error', 'ungraded')
    counted = [v.reward for v in verdicts if v.outcome not in uncounted]
    if verdicts and all(v.outcome == 'harness_error' for v in verdicts):
      raise configuration.ConfigurationError(
        f'train: D_val: the grader {verdicts[0].grader} failed on every one of '
        f'the {len(verdicts)} samples: {verdicts[0].detail}. Mend the grader, '
        'or what it needs on this machine, and give the same command again.'
      )
    return float(sum(counted) / max(len(counted), 1))

  def _write(
    self,
    folder: storage.Path,
    samples: Sequence[Completion],
    verdicts: Sequence[records.Verdict],
  ) -> None:
    rows = [
      requests.to_sample(
        sample,
        stream=self._stream.name,
        policy_digest='',  # a policy in training has none yet
        prompt=[],
        engine_fingerprint='',
      )
      for sample in samples
    ]
    for kind, what, name in (
      (records.Sample, rows, 'samples'),
      (records.Verdict, verdicts, 'verdicts'),
    ):
      records.write_table(
        folder / name / records.part_name(0, 1),
        kind,
        records.to_table(kind, what),
        source='dval',
      )


def _verdicts(
  drawn: Sequence[_Drawn], workers: pool.Pool
) -> list[records.Verdict]:
  """The verdicts on one task's completions; programs run in a sandbox."""
  grader = workers.grader
  graded = workers.grade(
    [
      pool.Item(
        completion=one.completion.text,
        reference=getattr(one.problem, grader.reads),
        finish_reason=one.completion.finish_reason,
        name=f'sample {one.completion.sample_index} of the problem '
        f'{one.problem.id}',
      )
      for one in drawn
    ]
  )
  return [
    records.Verdict(
      problem_id=one.problem.id,
      sample_index=one.completion.sample_index,
      stream='dval',
      outcome=result.verdict.outcome,
      reward=result.verdict.reward,
      answer=result.verdict.answer,
      detail=result.verdict.detail,
      grader=grader.label,
    )
    for one, result in zip(drawn, graded, strict=True)
  ]


def _limited(manifest: manifests.Manifest, limit: int) -> list[records.Problem]:
  problems = manifest.records()
  return problems[:limit] if limit else problems
