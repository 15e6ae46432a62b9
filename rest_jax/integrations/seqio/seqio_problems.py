"""Tasks of a run whose problems come from SeqIO: published, or your own."""

import dataclasses
import re
from collections.abc import Mapping, Sequence

from rest_jax.config.configuration import operational
from rest_jax.integrations.seqio import seqio_rows
from rest_jax.rewards import registry
from rest_jax.tasks import problem_sets, splits
from rest_jax.tasks.benchmarks import catalogue
from rest_jax.tasks.problem_sets import DVAL, TEST, TRAIN, Row
from rest_jax.tasks.prompts import PromptTemplate


@dataclasses.dataclass(frozen=True, kw_only=True)
class SeqioConfig(problem_sets.TaskConfig):
  """A task registered with SeqIO.

  Its examples need the text features `question` (or `inputs_pretokenized`) and
  `answer` (or `targets_pretokenized`), or `tests` for programs; optional are
  problem_id, solution, level, type and lead (published_task.FIELDS).

  Attributes:
    task: its name in SeqIO.
    module: the Python module that registers it; None for a published one.
    name: its name in the run; None: `task`.
    train: whether the E-step samples its split train; D_val is then a part of
      that split.
    eval_splits: the splits that can be evaluated.
    dval_share: share of train that becomes D_val, by a seeded hash.
    levels: only problems of these levels; () for all.
    max_train: E-step problems at most, a seeded choice; 0: all.
    max_dval: problems of D_val at most; 0: all.
    max_eval: of each evaluated split at most; 0: all.
    exemplars: ids of the prompt's exemplars; () for a seeded choice, or for
      the first ones of each type if `exemplars_by_type`.
    exemplars_split: the split that they are in.
    exemplars_from: the SeqIO task that has them; None: `task`.
    exemplars_by_type: whether a prompt shows only those of its problem's type.
    answers_only: whether they show their answers without the solutions.
    data_dir: where TFDS keeps its data; None for its own default.
    manual_dir: the files that a published task is built from if it has not been
      built yet: their folder, or one with a folder for each task.
    download: whether to download them instead.
    allow_partial: whether a part of a published task's problems is enough.
  """

  task: str
  module: str | None = None
  name: str | None = None
  train: bool = False
  eval_splits: tuple[str, ...] = (TEST,)
  dval_share: float = 0.1
  levels: tuple[str, ...] = ()
  max_train: int = 0
  max_dval: int = 0
  max_eval: int = 0
  exemplars: tuple[str, ...] = ()
  exemplars_split: str = TRAIN
  exemplars_from: str | None = None
  exemplars_by_type: bool = False
  answers_only: bool = False
  data_dir: str | None = operational(None)
  manual_dir: str | None = operational(None)
  download: bool = operational(False)
  allow_partial: bool = operational(False)

  def check(self):
    super().check()
    ok = re.fullmatch(r'[A-Za-z0-9_-]+', self.run_name)
    self.require(bool(ok), 'name', 'letters, digits, _ and -')
    self.require(0 < self.dval_share < 1, 'dval_share', 'between 0 and 1')
    for name in ('max_train', 'max_dval', 'max_eval'):
      self.require(getattr(self, name) >= 0, name, '>= 0 (0: all)')
    ok = not self.exemplars or len(self.exemplars) >= self.num_shots
    self.require(ok, 'exemplars', f'() or at least {self.num_shots} ids')
    clash = {TRAIN, DVAL} & set(self.eval_splits) if self.train else set()
    self.require(not clash, 'eval_splits', 'neither train nor dval')
    if self.module is None:
      catalogue.get(self.task)

  @property
  def run_name(self) -> str:
    """Its name in the run."""
    return self.name or self.task

  def folders(self) -> list[tuple[str, str]]:
    trained = (TRAIN, DVAL) if self.train else ()
    return [(self.run_name, split) for split in (*trained, *self.eval_splits)]

  def inputs(self) -> dict[str, str]:
    sources = {(self.task, split) for split in self.eval_splits}
    if self.train:
      sources.add((self.task, TRAIN))
    if self.num_shots:
      sources.add(self._exemplar_source())
    return {
      f'{task}/{split}': self._problems(task, split).digest()
      for task, split in sorted(sources)
    }

  def read(self, seed: int) -> problem_sets.TaskTexts:
    exemplars = self._exemplars(seed)
    sets = []
    if self.train:
      found = self._usable(TRAIN)
      rows = found.rows
      if self._exemplar_source() == (self.task, TRAIN):
        rows = splits.without(rows, exemplars)
      train, dval = splits.carve(rows, DVAL, self.dval_share, seed)
      sets += [
        self._set(TRAIN, train, self.max_train, seed, found.skipped),
        self._set(DVAL, dval, self.max_dval, seed, {}),
      ]
    for split in self.eval_splits:
      found = self._usable(split)
      sets.append(
        self._set(split, found.rows, self.max_eval, seed, found.skipped)
      )
    return problem_sets.TaskTexts(
      sets=sets,
      exemplars=exemplars,
      exemplars_by_type=self.exemplars_by_type,
    )

  def _set(
    self,
    split: str,
    rows: Sequence[Row],
    most: int,
    seed: int,
    skipped: Mapping[str, Sequence[str]],
  ) -> problem_sets.ProblemSet:
    advice = f', or other levels than {self.levels}' if self.levels else ''
    return splits.problem_set(
      self.run_name,
      split,
      rows,
      most=most,
      seed=seed,
      skipped=skipped,
      advice=advice,
    )

  def _exemplar_source(self) -> tuple[str, str]:
    return self.exemplars_from or self.task, self.exemplars_split

  def _exemplars(self, seed: int) -> Sequence[Row]:
    if not self.num_shots:
      return []
    task, split = self._exemplar_source()
    return splits.exemplars(
      self._problems(task, split).rows,
      self.num_shots,
      keys=self.exemplars,
      by_type=self.exemplars_by_type,
      answers_only=self.answers_only,
      seed=seed,
      where=f'SeqioConfig.exemplars: in {task}/{split}',
    )

  def _usable(self, split: str) -> seqio_rows.Problems:
    """The problems of the chosen levels that can be graded."""
    found = self._problems(self.task, split)
    reads = registry.get(self.grader).reads
    kept, without = [], []
    for row in found.rows:
      if self.levels and row.level not in self.levels:
        continue
      if not getattr(row, reads):
        without.append(row.key)
      else:
        kept.append(row)
    skipped = dict(found.skipped)
    if without:
      skipped[f'no {reads}'] = tuple(without)
    return seqio_rows.Problems(rows=tuple(kept), skipped=skipped)

  def _problems(self, task: str, split: str) -> seqio_rows.Problems:
    return seqio_rows.read(
      task,
      split,
      module=self.module,
      data_dir=self.data_dir,
      manual_dir=self.manual_dir,
      download=self.download,
      allow_partial=self.allow_partial,
    )


@dataclasses.dataclass(frozen=True, kw_only=True)
class PublishedConfig(SeqioConfig):
  """A published task: its row of the catalogue, and the dials of a run.

  Fields that are None are taken from the row.

  Attributes:
    task: its name in the catalogue.
    lead: replaces the lead of the row's prompt; None keeps it.
  """

  grader: str | None = None
  prompt: PromptTemplate | None = None
  num_shots: int | None = None
  train: bool | None = None
  exemplars: tuple[str, ...] | None = None
  exemplars_split: str | None = None
  exemplars_by_type: bool | None = None
  answers_only: bool | None = None
  lead: str | None = operational(None)  # it becomes a part of `prompt`

  def __post_init__(self):
    row = catalogue.get(self.task)
    of_row = {
      'grader': row.grader,
      'prompt': row.template,
      'num_shots': row.num_shots,
      'train': row.trainable,
      'exemplars': row.exemplars,
      'exemplars_split': row.exemplars_split,
      'exemplars_from': row.exemplars_from,
      'exemplars_by_type': bool(row.num_shots and not row.exemplars),
      'answers_only': row.answers_only,
    }
    for name, value in of_row.items():
      if getattr(self, name) is None:
        object.__setattr__(self, name, value)
    if self.lead is not None:
      prompt = dataclasses.replace(self.prompt, lead=self.lead)
      object.__setattr__(self, 'prompt', prompt)
      # dataclasses.replace runs this again: the lead is part of `prompt` now,
      # and a copy may get another prompt.
      object.__setattr__(self, 'lead', None)
    super().__post_init__()
