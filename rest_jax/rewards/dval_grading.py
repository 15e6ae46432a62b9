"""D_val's verdicts, made by the training itself or by a stage beside it.

    validation/<training>/step_<n>/samples/part-00000-of-00002.parquet
    validation/<training>/step_<n>/verdicts/part-00000-of-00002.parquet

A validation has a part for each task of D_val. Verdicts stand while samples,
answers and grader are the same: what was graded before a training, or the stage
beside it, was killed is not graded again.
"""

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import pyarrow as pa

from rest_jax.artifacts import manifests, records, storage, task_card
from rest_jax.config import configuration
from rest_jax.rewards import part_grading, pool, registry, verdicts

SAMPLES, VERDICTS = 'samples', 'verdicts'  # folders of a validation
_UNCOUNTED = (verdicts.HARNESS_ERROR, verdicts.UNGRADED)


class Validation(NamedTuple):
  """Samples of D_val that are written, to be graded.

  Attributes:
    folder: of the validation.
    rows: of its parts, as records.write_table described them.
    parts: the same samples, as they are graded.
  """

  folder: storage.Path
  rows: Sequence[dict[str, Any]]
  parts: Sequence[part_grading.Part]


class Graders:
  """The graders of D_val's tasks, and the processes that run them.

  A context manager: the processes start with the first completion that needs
  them, stay for later validations, and end with it.
  """

  def __init__(
    self,
    problem_sets: Sequence[manifests.Manifest],
    *,
    num_workers: int = 0,
    item_seconds: float = pool.ITEM_SECONDS,
  ):
    """Args:
    problem_sets: finished folders of D_val problems, one per task.
    num_workers: grading processes; 0 for one per core.
    item_seconds: wall clock for one completion.
    """
    self._pools: dict[str, pool.Pool] = {}
    self._tasks: list[part_grading.PartGrader] = []
    for problems in problem_sets:
      grader = registry.get(task_card.of(problems).grader)
      if grader.name not in self._pools:
        self._pools[grader.name] = pool.Pool(
          grader, num_workers=num_workers, item_seconds=item_seconds
        )
      self._tasks.append(
        part_grading.PartGrader(problems, grader, self._pools[grader.name])
      )

  def __enter__(self) -> 'Graders':
    return self

  def __exit__(self, *_) -> None:
    for workers in self._pools.values():
      workers.close()

  def require(self) -> None:
    """Raises ConfigurationError where this machine lacks what they need."""
    for workers in self._pools.values():
      registry.require(workers.grader)

  def write(
    self, folder: storage.Path, tables: Sequence[pa.Table]
  ) -> Validation:
    """Writes the samples of a validation.

    Args:
      folder: of the validation.
      tables: Sample records, one table for each task.
    """
    rows, parts = [], []
    for number, table in enumerate(tables):
      name = records.part_name(number, len(tables))
      path = folder / SAMPLES / name
      row = records.write_table(path, records.Sample, table, source='dval')
      rows.append(row)
      parts.append(self._tasks[number].part(path, row, table))
    return Validation(folder, rows, parts)

  def read(
    self, folder: storage.Path, rows: Sequence[dict[str, Any]]
  ) -> Validation:
    """The samples of a validation that another process has written.

    Args:
      folder: of the validation.
      rows: as of Validation.

    Raises:
      CorruptPartError: a part is not there, or another one.
    """
    parts = [
      task.read(folder / SAMPLES, row)
      for task, row in zip(self._tasks, rows, strict=True)
    ]
    return Validation(folder, rows, parts)

  def grade(
    self,
    validation: Validation,
    tell: Callable[[int], None] = lambda done: None,
  ) -> list[pa.Table]:
    """The verdicts on a validation, by part; writes those that do not stand.

    Args:
      validation: of these graders' tasks.
      tell: is called with the number of samples that have verdicts.
    """
    found, before = [], 0
    folder = validation.folder / VERDICTS
    for task, part in zip(self._tasks, validation.parts, strict=True):
      table = part_grading.standing(folder, part)
      if table is None:
        table = task.grade(part, lambda done, n=before: tell(n + done))
        records.write_table(
          folder / part.name, records.Verdict, table, source=part.source
        )
      found.append(table)
      before += table.num_rows
      tell(before)
    return found


def standing(validation: Validation) -> list[pa.Table] | None:
  """The verdicts on a validation, by part; None where some are missing."""
  found = []
  for part in validation.parts:
    table = part_grading.standing(validation.folder / VERDICTS, part)
    if table is None:
      return None
    found.append(table)
  return found


def reward(validation: Validation, tables: Sequence[pa.Table]) -> float:
  """The mean reward; a harness error is nobody's fault and does not count.

  Args:
    validation: what was graded.
    tables: its verdicts, by part.

  Raises:
    ConfigurationError: the graders have failed on every sample. The verdicts
      are deleted, so that the same command grades again.
  """
  rows = [row for table in tables for row in table.to_pylist()]
  if rows and all(row['outcome'] == verdicts.HARNESS_ERROR for row in rows):
    for part in validation.parts:
      (validation.folder / VERDICTS / part.name).unlink(missing_ok=True)
    raise configuration.ConfigurationError(
      f'train: D_val: the grader {rows[0]["grader"]} failed on every one of '
      f'the {len(rows)} samples: {rows[0]["detail"]}. Mend the grader, or what '
      'it needs where it runs, and give the same command again.'
    )
  counted = [r['reward'] for r in rows if r['outcome'] not in _UNCOUNTED]
  return float(sum(counted) / max(len(counted), 1))
