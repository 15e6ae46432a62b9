"""Statistics of a selection: for the manifest, and for the terminal."""

import dataclasses
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc


@dataclasses.dataclass(frozen=True, kw_only=True)
class TaskStatistics:
  """What was kept of one task.

  Attributes:
    task: its name.
    problems: number of problems.
    samples: number of E-step samples; None for human solutions, as are the
      other fields that count samples.
    correct: number of correct samples that ended with EOS or a stop string.
    unique: of them, the number of different texts, counted for each problem.
    kept: number of examples.
    solved_problems: number of problems with a kept solution.
    weight_sum: sum of the examples' weights.
    target_tokens: number of tokens that are trained on, EOS included.
    kept_per_problem: number of kept solutions (as text) to the number of
      problems that have so many.
    classes: outcome to number of samples.
    by_difficulty: difficulty bin to its counts 'problems', 'solved', 'kept'.
  """

  task: str
  problems: int
  samples: int | None = None
  correct: int | None = None
  unique: int | None = None
  kept: int
  solved_problems: int
  weight_sum: float
  target_tokens: int
  kept_per_problem: Mapping[str, int]
  classes: Mapping[str, int] | None = None
  by_difficulty: Mapping[str, Mapping[str, int]] | None = None

  def to_json(self) -> dict[str, Any]:
    """The fields by name, without those that are None."""
    values = dataclasses.asdict(self)
    return {name: v for name, v in values.items() if v is not None}


@dataclasses.dataclass(frozen=True, kw_only=True)
class SelectionStatistics:
  """What was kept of all tasks.

  Attributes:
    select_from: 'samples' or 'human'.
    tasks: the statistics of each task.
  """

  select_from: str
  tasks: Sequence[TaskStatistics]

  def to_json(self) -> dict[str, Any]:
    """The sums over the tasks, and each task's statistics under 'tasks'."""
    total: dict[str, Any] = {}
    tasks = {one.task: one.to_json() for one in self.tasks}
    for values in tasks.values():
      _add(total, {k: v for k, v in values.items() if k != 'task'})
    kept = max(total['kept'], 1)
    total['mean_target_tokens'] = total['target_tokens'] / kept
    return {'select_from': self.select_from, **total, 'tasks': tasks}


def _add(total: dict[str, Any], more: Mapping[str, Any]) -> None:
  """Adds counts to `total`, in nested mappings too."""
  for key, value in more.items():
    if isinstance(value, Mapping):
      _add(total.setdefault(key, {}), value)
    else:
      total[key] = total.get(key, 0) + value


def of_samples(
  task: str,
  correct: pa.Table,
  kept: pa.Table,
  *,
  classes: Mapping[str, int],
  target_tokens: int,
  problems: Sequence[str],
  bins: Mapping[str, str],
) -> TaskStatistics:
  """The statistics of a task whose sampled solutions were selected.

  Args:
    task: its name.
    correct: the correct samples: problem_id and text_digest.
    kept: those that were kept: problem_id and weight.
    classes: outcome to number of samples.
    target_tokens: of the kept samples.
    problems: the ids of all problems.
    bins: problem id to its difficulty bin; empty for no statistics by bin.
  """
  unique = correct.group_by(['problem_id', 'text_digest']).aggregate([])
  counts = pc.value_counts(kept['problem_id'].combine_chunks()).to_pylist()
  kept_of = {row['values']: row['counts'] for row in counts}
  sizes = np.bincount([kept_of.get(problem, 0) for problem in problems])
  by_bin = {}
  for problem in problems if bins else ():
    row = by_bin.setdefault(
      bins.get(problem, 'unknown'), {'problems': 0, 'solved': 0, 'kept': 0}
    )
    row['problems'] += 1
    row['solved'] += problem in kept_of
    row['kept'] += kept_of.get(problem, 0)
  return TaskStatistics(
    task=task,
    problems=len(problems),
    samples=sum(classes.values()),
    correct=correct.num_rows,
    unique=unique.num_rows,
    kept=kept.num_rows,
    solved_problems=len(kept_of),
    weight_sum=float(pc.sum(kept['weight']).as_py() or 0.0),
    target_tokens=target_tokens,
    kept_per_problem={str(k): int(n) for k, n in enumerate(sizes) if n},
    classes=dict(classes),
    by_difficulty=by_bin,
  )


def of_human(
  task: str, problems: int, kept: int, target_tokens: int
) -> TaskStatistics:
  """The statistics of a task whose human solutions were taken.

  Args:
    task: its name.
    problems: number of problems.
    kept: number of problems with a human solution.
    target_tokens: of these solutions.
  """
  return TaskStatistics(
    task=task,
    problems=problems,
    kept=kept,
    solved_problems=kept,
    weight_sum=float(kept),
    target_tokens=target_tokens,
    kept_per_problem={'0': problems - kept, '1': kept},
  )


def no_correct(classes_of: Mapping[str, Mapping[str, int]]) -> str:
  """The error message when no sample is correct.

  Args:
    classes_of: folder of verdicts to outcome to number of samples.
  """
  lines = []
  for folder, classes in classes_of.items():
    samples = sum(classes.values())
    rates = ', '.join(
      f'{name} {count / samples:.1%}'
      for name, count in classes.items()
      if count
    )
    lines.append(f'  {folder}: {samples} samples: {rates}')
  return (
    'select: no sample is correct, so there is nothing to learn from:\n'
    + '\n'.join(lines)
    + '\nMany no_answer: the completions do not end in the answer format '
    'that the grader reads; look at the text of some samples, and at the '
    'exemplars in the prompt. Many truncated: raise MAX_DECODE_LENGTH. '
    'Many wrong: draw more samples (NUM_SAMPLES grows in place), take easier '
    'problems or a stronger base model. Nothing was lost; samples and '
    'verdicts are kept.'
  )


def show(statistics: SelectionStatistics) -> None:
  """Prints what was kept."""
  total = statistics.to_json()
  if statistics.select_from == 'samples':
    share = total['correct'] / total['samples']
    print(
      f'{total["correct"]} of {total["samples"]} samples correct '
      f'({share:.1%}), {total["unique"]} of them distinct'
    )
    for name, row in sorted(total['by_difficulty'].items()):
      print(
        f'  {name:10} {row["solved"]} of {row["problems"]} problems solved, '
        f'{row["kept"]} kept'
      )
  print(
    f'select: {total["kept"]} examples of '
    f'{total["solved_problems"]} of {total["problems"]} problems, '
    f'{total["mean_target_tokens"]:.0f} target tokens each'
  )
