"""Verdicts on samples while others of their folder are still being drawn.

A part of samples that is whole can be graded before its folder is done. Its
verdicts wait in a folder of their own beside that of the verdicts,
`verdicts.early`, under the part's name. The folder of verdicts itself is begun
when that of the samples is done: what it depends on is known only then. A part
whose samples, answers and grader are still the same is taken over.

On a cluster grading so goes on beside sampling, on other hosts, and ends soon
after it.
"""

import contextlib
import time
from collections.abc import Iterator, Sequence
from typing import NamedTuple

import pyarrow as pa

from rest_jax.artifacts import manifests, records, storage, task_card, workers
from rest_jax.distributed import preemption
from rest_jax.rewards import part_grading, pool, registry

_POLL_SECONDS = 2.0  # between two looks at a folder without a new part
_SUFFIX = '.early'


class Folders(NamedTuple):
  """What belongs together in the stage score.

  Attributes:
    samples: a folder of samples.
    problems: that were sampled.
    verdicts: a folder for the verdicts on them.
  """

  samples: str
  problems: str
  verdicts: str


def beside(verdicts_dir: str) -> storage.Path:
  """Where early verdicts wait."""
  folder = storage.path(verdicts_dir)
  return folder.parent / f'{folder.name}{_SUFFIX}'


def of_part(verdicts_dir: str, part: part_grading.Part) -> pa.Table | None:
  """The early verdicts on a part; None where it has none, or has changed."""
  return part_grading.standing(beside(verdicts_dir), part)


def remove(verdicts_dir: str) -> None:
  """Deletes early verdicts, which stand in the folder of verdicts now."""
  folder = beside(verdicts_dir)
  if folder.exists():
    folder.rmtree(missing_ok=True)


def grade(
  tasks: Sequence[Folders],
  *,
  worker: workers.Worker,
  num_workers: int,
  item_seconds: float,
) -> None:
  """Grades parts as they appear, until all folders of samples are done.

  Args:
    tasks: whose samples are drawn by a job that runs, or has run.
    worker: which of the processes that grade the same folders this is.
    num_workers: grading processes; 0 for one per core.
    item_seconds: wall clock for one completion.

  Raises:
    Preempted: SIGTERM has come; what was graded stays.
  """
  with contextlib.ExitStack() as stack:
    open_tasks = [
      stack.enter_context(_open(task, worker, num_workers, item_seconds))
      for task in tasks
      if manifests.load_if_done(task.samples) is None
    ]
    while open_tasks:
      preemption.check('score')
      if not any([task.grade_next() for task in open_tasks]):
        # Looked at after its parts: they are all there when it is done.
        open_tasks = [task for task in open_tasks if not task.is_done()]
        if open_tasks:
          time.sleep(_POLL_SECONDS)


@contextlib.contextmanager
def _open(
  task: Folders, worker: workers.Worker, num_workers: int, item_seconds: float
) -> Iterator['_Early']:
  problems = manifests.load(task.problems)
  grader = registry.get(task_card.of(problems).grader)
  registry.require(grader)
  folder = beside(task.verdicts)
  folder.mkdir(parents=True, exist_ok=True)
  with (
    pool.Pool(
      grader, num_workers=num_workers, item_seconds=item_seconds
    ) as grading,
    workers.Claims(folder, purpose=worker.purpose('score')) as claims,
  ):
    yield _Early(
      task, part_grading.PartGrader(problems, grader, grading), claims
    )


class _Early:
  """The early verdicts on one folder of samples."""

  def __init__(
    self,
    task: Folders,
    grader: part_grading.PartGrader,
    claims: workers.Claims,
  ):
    self._task, self._grader, self._claims = task, grader, claims
    self._samples = storage.path(task.samples)
    self._seen: set[str] = set()

  def is_done(self) -> bool:
    """Whether all samples are there."""
    return manifests.load_if_done(self._task.samples) is not None

  def grade_next(self) -> bool:
    """Grades a part that has no early verdicts; whether there was one."""
    for path in sorted(self._samples.glob(f'{records.PART}*.parquet')):
      if path.name in self._seen:
        continue
      row = records.describe_part(path, records.Sample)
      if row is None or not self._claims.take(path.name):
        continue  # looked at again: it may have been left by who was at it
      try:
        part = self._grader.read(self._samples, row)
        graded = of_part(self._task.verdicts, part) is not None
        if not graded:
          self._grade(part)
      finally:
        self._claims.give_up(path.name)
      self._seen.add(path.name)
      if not graded:
        return True
    return False

  def _grade(self, part: part_grading.Part) -> None:
    table = self._grader.grade(part)
    records.write_table(
      beside(self._task.verdicts) / part.name,
      records.Verdict,
      table,
      source=part.source,
    )
    print(
      f'score: {self._samples / part.name}: {table.num_rows} samples graded '
      'while others are drawn',
      flush=True,
    )
