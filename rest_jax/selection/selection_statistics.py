"""What a selection kept, in numbers, and in words for the person watching."""

from collections.abc import Mapping, Sequence

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc


def of_task(
  name: str,
  correct: pa.Table,
  kept: pa.Table,
  classes: Mapping[str, int],
  target_tokens: int,
  prompts: Mapping,
  bins: Mapping[str, str],
) -> dict:
  """One task's statistics; see `total` for their sum."""
  unique = correct.group_by(['problem_id', 'text_digest']).aggregate([])
  per_problem = pc.value_counts(kept['problem_id'].combine_chunks()).to_pylist()
  kept_of = {row['values']: row['counts'] for row in per_problem}
  sizes = np.bincount([kept_of.get(problem, 0) for problem in prompts])
  by_bin = {}
  for problem in prompts if bins else ():
    row = by_bin.setdefault(
      bins.get(problem, 'unknown'), {'problems': 0, 'solved': 0, 'kept': 0}
    )
    row['problems'] += 1
    row['solved'] += problem in kept_of
    row['kept'] += kept_of.get(problem, 0)
  return {
    'task': name,
    'problems': len(prompts),
    'samples': sum(classes.values()),
    'correct': correct.num_rows,
    'unique': unique.num_rows,
    'kept': kept.num_rows,
    'solved_problems': len(kept_of),
    'weight_sum': float(pc.sum(kept['weight']).as_py() or 0.0),
    'target_tokens': target_tokens,
    'kept_per_problem': {str(k): int(n) for k, n in enumerate(sizes) if n},
    'classes': dict(classes),
    'by_difficulty': by_bin,
  }


def total(found: Sequence[Mapping], *, select_from: str) -> dict:
  """The sum of the tasks' statistics, and each of them under 'tasks'."""
  result: dict = {}
  for statistics in found:
    _add(result, {k: v for k, v in statistics.items() if k != 'task'})
  kept = max(result['kept'], 1)
  result['mean_target_tokens'] = result['target_tokens'] / kept
  tasks = {statistics['task']: statistics for statistics in found}
  return {'select_from': select_from, **result, 'tasks': tasks}


def _add(total: dict, more: Mapping) -> None:
  for key, value in more.items():
    if isinstance(value, Mapping):
      _add(total.setdefault(key, {}), value)
    else:
      total[key] = total.get(key, 0) + value


def no_correct(classes_of: Mapping[str, Mapping[str, int]]) -> str:
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


def show(examples_dir: str, statistics: Mapping) -> None:
  """Prints what was kept."""
  if statistics['select_from'] == 'samples':
    share = statistics['correct'] / statistics['samples']
    print(
      f'{statistics["correct"]} of {statistics["samples"]} samples correct '
      f'({share:.1%}), {statistics["unique"]} of them distinct'
    )
    for name, row in sorted(statistics['by_difficulty'].items()):
      print(
        f'  {name:10} {row["solved"]} of {row["problems"]} problems solved, '
        f'{row["kept"]} kept'
      )
  print(
    f'select: {statistics["kept"]} examples of '
    f'{statistics["solved_problems"]} of {statistics["problems"]} problems, '
    f'{statistics["mean_target_tokens"]:.0f} target tokens each'
  )
