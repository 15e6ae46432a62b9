"""D_val inside the M-step: the same engine and grader, on the same mesh."""

import functools
import itertools
from collections.abc import Sequence
from typing import Any

import jax
import jax.numpy as jnp

from rest_jax.artifacts import manifests, records, storage, task_card
from rest_jax.distributed import multihost
from rest_jax.models.architecture import DecoderConfig
from rest_jax.rewards import pool, registry
from rest_jax.sampling import requests, sampling_engine
from rest_jax.sampling.streams import EngineConfig, Stream
from rest_jax.training.hyperparameters import ValidationConfig

_COMPLETIONS_PER_CHECK = 64  # between two looks at SIGTERM


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
    stream: Stream,
    config: ValidationConfig,
    iteration: int,
  ):
    """Args:
    problem_sets: finished folders of D_val problems, one per task.
    model: the network.
    engine: its sampling layout.
    mesh: of the training.
    stream: how D_val is sampled.
    config: how much of it, and when.
    iteration: part of the samples' identity.
    """
    self.config = config
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
    dtype = jnp.dtype(model.dtype)
    self._view = jax.jit(
      lambda params: jax.tree.map(lambda w: w.astype(dtype), params)
    )
    self._engines = [
      sampling_engine.Engine(
        model, None, engine, mesh, requests.text_of(manifest)
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
    view = self._view(params)
    made = []
    for engine, (problems, card) in zip(self._engines, self._sets, strict=True):
      engine.params = view
      by_id = {problem.id: problem for problem in problems}
      stream = self._stream.of_task(card.task)
      asked = requests.requests(
        problems, range(stream.num_samples), stream.few_shot
      )
      for completion in engine.generate(
        asked, stream=stream, iteration=self._iteration
      ):
        if len(made) % _COMPLETIONS_PER_CHECK == 0:
          multihost.check_preemption('train: validation')
        made.append((completion, by_id[completion.problem_id], card))
      engine.params = None
    made.sort(key=lambda row: (row[0].problem_id, row[0].sample_index))
    return multihost.from_writer(lambda: self._grade(made, folder))

  def _grade(self, made: list, folder: storage.Path) -> float:
    verdicts = []
    # Sorted by problem, whose id begins with its task.
    for card, rows in itertools.groupby(made, key=lambda row: row[2]):
      workers = self._pools[card.grader]
      verdicts += _verdicts([row[:2] for row in rows], workers)
    self._write(folder, [row[0] for row in made], verdicts)
    uncounted = ('harness_error', 'ungraded')
    counted = [v.reward for v in verdicts if v.outcome not in uncounted]
    return float(sum(counted) / max(len(counted), 1))

  def _write(self, folder, samples, verdicts) -> None:
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


def _verdicts(made: list, workers: pool.Pool) -> list[records.Verdict]:
  """Of one task's (completion, problem) pairs; programs run in a sandbox."""
  grader = workers.grader
  graded = workers.grade(
    [
      pool.Item(
        completion=completion.text,
        reference=getattr(problem, grader.reads),
        finish_reason=completion.finish_reason,
      )
      for completion, problem in made
    ]
  )
  return [
    records.Verdict(
      problem_id=problem.id,
      sample_index=completion.sample_index,
      stream='dval',
      outcome=verdict.outcome,
      reward=verdict.reward,
      answer=verdict.answer,
      detail=verdict.detail,
      grader=grader.label,
    )
    for (completion, problem), verdict in zip(
      made, (one.verdict for one in graded), strict=True
    )
  ]


def _limited(manifest: manifests.Manifest, limit: int) -> list:
  problems = manifest.records()
  return problems[:limit] if limit else problems
