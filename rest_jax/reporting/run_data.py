"""What the report knows of a run: its models, and how each was made.

Whatever a run lacks is an empty list or None: it may have no SFT baseline, no
iteration and no sampled stream. m_step_data.py has the values of a training;
run_reader.py reads all of them from disk.
"""

import dataclasses
import functools
import re
from collections.abc import Mapping, Sequence
from typing import Any

from rest_jax.artifacts import manifests, run_paths, storage
from rest_jax.evaluation import results
from rest_jax.reporting.m_step_data import MStep

# The manifests of a run's finished folders, by path relative to the run.
Manifests = Mapping[str, manifests.Manifest]


@dataclasses.dataclass(frozen=True, kw_only=True)
class GradedStream:
  """The verdicts of one stream on one split of a task.

  Attributes:
    task: of its problems.
    split: of its problems.
    stream: e_step, difficulty, or eval/<name>.
    key: of its folder of verdicts among the run's manifests.
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
class Selection:
  """What the stage select kept.

  Attributes:
    counts: its plain numbers by name, such as {'kept': 400}.
    kept_per_problem: {task: {number of kept solutions: number of problems}}.
    overlap: what kept solutions share with evaluated problems, or None.
  """

  counts: Mapping[str, float]
  kept_per_problem: Mapping[str, Mapping[int, int]]
  overlap: Mapping[str, Any] | None


@dataclasses.dataclass(frozen=True, kw_only=True)
class Model:
  """One model of the run, and how it was made.

  Attributes:
    name: base, sft_human or iteration_NN; or a checkpoint's own.
    results_json: its results.json as it was read, by rows, breakdown, averages.
    evaluation: its verdicts on the evaluated splits.
    e_step: verdicts of its iteration's E-step, whose samples the *previous*
      model drew.
    selection: what select kept for its training, or None.
    m_step: its training, or None.
  """

  name: str
  results_json: Mapping[str, Sequence[Mapping]] = dataclasses.field(
    default_factory=dict
  )
  evaluation: Sequence[GradedStream] = ()
  e_step: Sequence[GradedStream] = ()
  selection: Selection | None = None
  m_step: MStep | None = None

  @property
  def iteration(self) -> int | None:
    """0 for the base, its number for an iteration, None for the others."""
    if self.name == run_paths.BASE:
      return 0
    return run_paths.iteration_number(self.name)

  @functools.cached_property
  def rows(self) -> list[results.Result]:
    """Its results on whole sets of problems."""
    return [results.Result.of(row) for row in self.results_json.get('rows', ())]

  @functools.cached_property
  def group_rows(self) -> list[results.Result]:
    """Its results by level and type, and then the averages over these."""
    averages = self.results_json.get('averages', ())
    rows = [
      *self.results_json.get('breakdown', ()),
      *({**row, 'group': None} for row in averages),
    ]
    return [results.Result.of(row) for row in rows]

  def result(
    self, task: str, split: str, metric: str = results.GREEDY
  ) -> results.Result | None:
    """Its first result of that metric that has a value."""
    wanted = (task, split, metric)
    for row in self.rows:
      if (row.task, row.split, row.metric) == wanted and row.value is not None:
        return row
    return None

  def pass_at_1(self, task: str, split: str) -> results.Result | None:
    """Its greedy pass@1, or else that of sampling."""
    return self.result(task, split) or self.result(task, split, 'pass@1')

  def graded(self, task: str, split: str, stream: str) -> GradedStream | None:
    """Its evaluation's verdicts of that stream on that split."""
    wanted = (task, split, stream)
    for graded in self.evaluation:
      if (graded.task, graded.split, graded.stream) == wanted:
        return graded
    return None

  @property
  def sampled_model(self) -> str:
    """Of an iteration: the name of the model that its E-step samples from."""
    before = self.iteration - 1
    return run_paths.iteration(before) if before else run_paths.BASE


@dataclasses.dataclass(frozen=True, kw_only=True)
class Run:
  """All that the report shows.

  Attributes:
    name: the last part of the run's path.
    models: base, sft_human, iteration_01, …, those that there are; then the
      checkpoints of a batch evaluation, by name.
    difficulty: verdicts on the base model's samples at T = 1.
    seconds: how long each job ran, by the job's name.
    rates: tokens per second of the jobs that sample or train, by name.
    config: the text of config.gin, or ''.
    overlap: what training and evaluated problems share, or None.
    date: on which config.gin was written last, at the run's end; or None.
  """

  name: str
  models: Sequence[Model] = ()
  difficulty: Sequence[GradedStream] = ()
  seconds: Mapping[str, float] = dataclasses.field(default_factory=dict)
  rates: Mapping[str, float] = dataclasses.field(default_factory=dict)
  config: str = ''
  overlap: Mapping[str, Any] | None = None
  date: str | None = None

  def model(self, name: str) -> Model | None:
    """The model of that name."""
    return next((m for m in self.models if m.name == name), None)

  @property
  def is_batch(self) -> bool:
    """Whether it evaluates checkpoints and trains none."""
    return bool(self.models) and not any(
      run_paths.is_loop_model(model.name) for model in self.models
    )

  @property
  def compared(self) -> list[Model]:
    """Base, SFT and the last iteration; or all checkpoints of a batch."""
    if self.is_batch:
      return list(self.models)
    baselines = [self.model(n) for n in (run_paths.BASE, run_paths.SFT_HUMAN)]
    return [m for m in (*baselines, self.final) if m is not None]

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
  def ends(self) -> tuple[Model, Model] | None:
    """Base and last iteration; or first and last checkpoint of a batch."""
    first, last = self.model(run_paths.BASE), self.final
    if self.is_batch:
      first, last = self.models[0], self.models[-1]
    return (first, last) if first and last and first is not last else None

  def weights_of(self, model: Model | None) -> Model | None:
    """The model that a model's weights are of: an earlier one if step 0 won."""
    while model and model.m_step and model.m_step.chosen_step == 0:
      before = self.model(model.m_step.init or run_paths.BASE)
      if before is None or before is model:
        break
      model = before
    return model

  @functools.cached_property
  def training_tasks(self) -> list[str]:
    """The tasks that the E-steps sampled, in order of appearance."""
    return list(dict.fromkeys(g.task for m in self.models for g in m.e_step))

  @functools.cached_property
  def evaluated(self) -> list[tuple[str, str]]:
    """The evaluated (task, split) pairs: those of training tasks first."""
    tasks = self.training_tasks
    rank = {task: i for i, task in enumerate(tasks)}
    pairs = {(row.task, row.split) for m in self.models for row in m.rows}
    return sorted(
      pairs, key=lambda p: (rank.get(p[0], len(rank)), p[1] != 'test', p)
    )

  @property
  def compared_texts(self) -> bool:
    """Whether training texts were compared with evaluated problems."""
    selections = [model.selection for model in self.models if model.selection]
    return bool(
      (self.overlap or {}).get('pairs') or any(s.overlap for s in selections)
    )

  @property
  def set_names(self) -> dict[tuple[str, str], str]:
    """{(task, split): `gsm8k/test (n = 1,319)`} of what is evaluated."""
    return {
      (t, s): f'{t}/{s} (n\u00a0=\u00a0{self.num_problems(t, s) or 0:,})'
      for t, s in self.evaluated
    }

  def num_problems(self, task: str, split: str) -> int | None:
    """The problems of pass@1 of the first compared model that has it."""
    found = (model.pass_at_1(task, split) for model in self.compared)
    return next((one.n for one in found if one), None)

  def role(self, task: str) -> str:
    """What an evaluated task is to this run."""
    return 'trained task' if task in self.training_tasks else 'transfer'

  def streams_of(self, model: Model) -> list[GradedStream]:
    """The evaluated streams of a model, in the order of `evaluated`."""
    place = {pair: i for i, pair in enumerate(self.evaluated)}
    return sorted(
      model.evaluation,
      key=lambda g: (place.get((g.task, g.split), len(place)), g.stream, g.key),
    )


def natural(name: str) -> list[str | int]:
  """A sort key that puts step_9 before step_10."""
  parts = re.split(r'(\d+)', name)
  return [int(x) if i % 2 else x for i, x in enumerate(parts)]
