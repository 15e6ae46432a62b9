"""What the report knows of a run: its models, and how each came about.

Whatever a run lacks is an empty list or None: it may have no SFT baseline, no
iteration, no sampled stream. See run_reader.py, which reads it from disk.
"""

import dataclasses
import re
from collections.abc import Mapping, Sequence
from typing import Any

from rest_jax.artifacts import manifests, storage

GREEDY = 'pass@1_greedy'
Found = Mapping[str, manifests.Manifest]


@dataclasses.dataclass(frozen=True, kw_only=True)
class Graded:
  """The verdicts of one stream on one split of a task.

  Attributes:
    task, split: of its problems.
    stream: e_step, difficulty, or eval/<name>.
    key: of its folder of verdicts in what `find` returns; the samples lie
      beside it.
    folder: that folder.
    temperature: of the stream; None where the samples do not say.
    num_samples: per problem, likewise.
    problems: (correct, graded) samples by problem id, of those that count
      (metrics.counting).
    outcomes: number of samples of each verdict class.
  """

  task: str
  split: str
  stream: str
  key: str
  folder: storage.Path
  temperature: float | None
  num_samples: int | None
  problems: Mapping[str, tuple[int, int]]
  outcomes: Mapping[str, int]

  def rates(self) -> dict[str, float]:
    """The share of correct samples by problem id, without ungraded ones."""
    return {key: c / n for key, (c, n) in self.problems.items() if n}


@dataclasses.dataclass(frozen=True, kw_only=True)
class Training:
  """An M-step.

  Attributes:
    statistics: of its manifest.
    curves: lines of each metrics.jsonl, by the name of its folder.
  """

  statistics: Mapping[str, Any]
  curves: Mapping[str, Sequence[Mapping[str, Any]]]


@dataclasses.dataclass(frozen=True, kw_only=True)
class Model:
  """One model of the run, and how it came about.

  Attributes:
    name: base, sft_human or iteration_NN; or a checkpoint's own.
    rows, breakdown, averages: of its results.json.
    evaluation: its verdicts on the evaluated splits.
    e_step: of its iteration: samples that the *previous* model drew.
    selection: statistics of the stage select, or None.
    training: None where there was none.
  """

  name: str
  rows: Sequence[Mapping[str, Any]] = ()
  breakdown: Sequence[Mapping[str, Any]] = ()
  averages: Sequence[Mapping[str, Any]] = ()
  evaluation: Sequence[Graded] = ()
  e_step: Sequence[Graded] = ()
  selection: Mapping[str, Any] | None = None
  training: Training | None = None

  @property
  def iteration(self) -> int | None:
    """0 for the base, its number for an iteration, None for SFT."""
    if self.name == 'base':
      return 0
    found = re.fullmatch(r'iteration_(\d+)', self.name)
    return int(found.group(1)) if found else None

  @property
  def in_loop(self) -> bool:
    """Whether ReST^EM made it: base, SFT or an iteration."""
    return self.name == 'sft_human' or self.iteration is not None

  @property
  def kept(self) -> dict[str, dict[int, int]]:
    """Number of kept solutions -> number of problems, by task."""
    tasks = (self.selection or {}).get('tasks', {})
    return {
      task: {int(k): n for k, n in one['kept_per_problem'].items()}
      for task, one in tasks.items()
      if one.get('kept_per_problem')
    }

  def row(
    self, task: str, split: str, metric: str = GREEDY
  ) -> Mapping[str, Any] | None:
    """Its first row of results.json for that metric that has a value."""
    wanted = (task, split, metric)
    for row in self.rows:
      of = (row['task'], row['split'], row['metric'])
      if of == wanted and row['value'] is not None:
        return row
    return None

  def graded(self, task: str, split: str, stream: str) -> Graded | None:
    """Its evaluation's verdicts of that stream on that split."""
    wanted = (task, split, stream)
    for graded in self.evaluation:
      if (graded.task, graded.split, graded.stream) == wanted:
        return graded
    return None


@dataclasses.dataclass(frozen=True, kw_only=True)
class Run:
  """All that the report shows.

  Attributes:
    name: the last part of the run's path.
    models: base, sft_human, iteration_01, ..., those that there are; then the
      checkpoints of a batch, by name.
    difficulty: the base model's own samples at T = 1.
    seconds: name of a job -> how long it ran.
    config: the text of config.gin, or ''.
    overlap: what training and evaluated problems share, or None.
  """

  name: str
  models: Sequence[Model]
  difficulty: Sequence[Graded]
  seconds: Mapping[str, float]
  config: str
  overlap: Mapping[str, Any] | None = None

  def model(self, name: str) -> Model | None:
    """The model of that name."""
    return next((m for m in self.models if m.name == name), None)

  @property
  def is_batch(self) -> bool:
    """Whether it evaluates checkpoints and trains none."""
    return bool(self.models) and not any(m.in_loop for m in self.models)

  @property
  def compared(self) -> list[Model]:
    """Base, SFT and final; or all checkpoints of a batch."""
    if self.is_batch:
      return list(self.models)
    three = (self.model('base'), self.model('sft_human'), self.final)
    return [model for model in three if model is not None]

  @property
  def policies(self) -> list[Model]:
    """The base and the iterations, in order."""
    return [m for m in self.models if m.iteration is not None]

  @property
  def final(self) -> Model | None:
    """The last iteration that has results."""
    done = [m for m in self.policies if m.iteration and m.rows]
    return done[-1] if done else None

  @property
  def training_tasks(self) -> list[str]:
    """The tasks that the E-steps sampled, in order of appearance."""
    return list(dict.fromkeys(g.task for m in self.models for g in m.e_step))


def samples_key(verdicts_key: str) -> str:
  """The folder of the samples that a folder of verdicts belongs to."""
  head, _, tail = verdicts_key.rpartition('verdicts')
  return f'{head}samples{tail}'


def natural(name: str) -> list[str | int]:
  """A sort key that puts step_9 before step_10."""
  parts = re.split(r'(\d+)', name)
  return [int(x) if i % 2 else x for i, x in enumerate(parts)]
