"""The stage select: correct solutions become training examples.

    problems + samples + verdicts ─▶ examples          (select_from 'samples')
    problems with human solutions ─▶ examples          (select_from 'human')

First the verdicts alone decide which samples are kept (in numbers, without a
token read); then each part of samples gives up its kept rows, and becomes one
part of examples. Which of a problem's correct solutions are kept depends on
the seed and that problem's own samples only.
"""

from collections.abc import Sequence
from typing import Literal

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from rest_jax.artifacts import manifests, records, stage_work, twins
from rest_jax.config import configuration
from rest_jax.distributed import preemption
from rest_jax.evaluation import difficulty_bins
from rest_jax.selection import examples, graded_samples, selection_statistics
from rest_jax.selection.filtering import SelectionConfig, keep
from rest_jax.selection.graded_samples import TaskInputs
from rest_jax.selection.solution_overlap import SolutionOverlap

_VERSION = 1


@configuration.checked
def select(
  *,
  select_from: Literal['samples', 'human'],
  problems_dirs: Sequence[str],
  samples_dirs: Sequence[str],
  verdicts_dirs: Sequence[str],
  examples_dir: str,
  config: SelectionConfig,
  difficulty_dir: str | None = None,
  eval_problems_dirs: Sequence[str] = (),
  overlap_ngram: int = 13,
) -> None:
  """Writes training examples; entry i of the lists belongs to task i.

  Args:
    select_from: 'samples', or 'human': one example of weight 1 per problem
      that has a human solution.
    problems_dirs: the problems of the E-step.
    samples_dirs: its samples; not read for 'human'.
    verdicts_dirs: their verdicts; not read for 'human'.
    examples_dir: where to write.
    config: what is kept.
    difficulty_dir: verdicts of the base model's stream 'difficulty' (with
      several tasks: the folder of their folders), for the statistics by
      difficulty bin alone.
    eval_problems_dirs: the problems of evaluated sets, for the statistics of
      what the kept solutions share with them; they change no example either.
    overlap_ngram: tokens in a row that they are compared by; 0: not at all.

  Raises:
    ConfigurationError: no solution is correct, or an input is missing or is
      of another run.
  """
  preemption.watch()
  human = select_from == 'human'
  lengths = {len(problems_dirs)}
  lengths |= set() if human else {len(samples_dirs), len(verdicts_dirs)}
  if len(lengths) != 1 or not problems_dirs:
    raise configuration.ConfigurationError(
      f'select: got {len(problems_dirs)} problems_dirs, {len(samples_dirs)} '
      f'samples_dirs and {len(verdicts_dirs)} verdicts_dirs; expected the same '
      'number of each, at least one (for human solutions only problems_dirs).'
    )
  tasks = [
    TaskInputs(
      problems, *(() if human else (samples_dirs[i], verdicts_dirs[i]))
    )
    for i, problems in enumerate(problems_dirs)
  ]
  overlaps = SolutionOverlap(eval_problems_dirs, overlap_ngram)
  with stage_work.work_on(
    examples_dir,
    stage='select',
    kind=records.Example,
    semantic={'select_from': select_from, 'config': config},
    # The difficulty bins and the evaluated problems change no example: they
    # are no inputs.
    inputs={k: v for i, task in enumerate(tasks) for k, v in task.inputs(i)},
    version=_VERSION,
  ) as work:
    if work.done is not None:
      overlaps.renew(work.done, tasks)
      print(f'select: {examples_dir} is done already')
      return
    choose = _choose_human if human else _choose_samples
    statistics = choose(work, tasks, config, difficulty_dir)
    shared = overlaps.statistics(work.folder, work.parts(), tasks)
    work.finish(statistics=statistics.to_json() | shared, twin=twins.of(work))
  overlaps.show(shared)
  # Last, because the launcher shows a job's last line.
  selection_statistics.show(statistics)


def _choose_samples(
  work: stage_work.Work,
  tasks: Sequence[TaskInputs],
  config: SelectionConfig,
  difficulty_dir: str | None,
) -> selection_statistics.SelectionStatistics:
  """Writes the parts of select_from 'samples'; returns the statistics."""
  graded = [graded_samples.correct(task) for task in tasks]
  if not sum(samples.table.num_rows for samples in graded):
    raise configuration.ConfigurationError(
      selection_statistics.no_correct(
        {
          task.verdicts.folder: samples.outcomes
          for task, samples in zip(tasks, graded, strict=True)
        }
      )
    )
  parts = sum(len(task.samples.parts) for task in tasks)
  number, found = 0, []
  for task, samples in zip(tasks, graded, strict=True):
    preemption.check('select')
    kept = keep(samples.table, config.of_task(task.card.task))
    prompts = task.prompts(config.train_prompt)
    target_tokens = 0
    for row in task.samples.parts:
      preemption.check('select')
      chosen = kept.filter(pc.equal(kept['part'], row['name']))
      part = graded_samples.examples_of_part(task, row['name'], chosen, prompts)
      target_tokens += part.target_tokens
      name = records.part_name(number, parts)
      source = manifests.digest_of(row['content'])
      work.write_table(name, part.table, source=source)
      number += 1
    name, bins = task.card.task, {}
    if difficulty_dir is not None:
      bins = difficulty_bins.bins(difficulty_dir, name)
    found.append(
      selection_statistics.of_samples(
        name,
        samples.table,
        kept,
        classes=samples.outcomes,
        target_tokens=target_tokens,
        problems=list(prompts),
        bins=bins,
      )
    )
  return selection_statistics.SelectionStatistics(
    select_from='samples', tasks=found
  )


def _choose_human(
  work: stage_work.Work,
  tasks: Sequence[TaskInputs],
  config: SelectionConfig,
  difficulty_dir: str | None,
) -> selection_statistics.SelectionStatistics:
  """Writes the parts of select_from 'human'; returns the statistics."""
  parts = sum(len(task.problems.parts) for task in tasks)
  number, found = 0, []
  for task in tasks:
    prompts = task.prompts(config.train_prompt)
    written = target_tokens = 0
    for row in task.problems.parts:
      preemption.check('select')
      table = task.problems.table(
        part=row['name'], columns=['id', 'solution_ids']
      )
      table = table.filter(pc.is_valid(table['solution_ids']))
      size = table.num_rows
      rows = pa.table(
        {
          'problem_id': table['id'],
          'sample_index': pa.array(np.full(size, -1, np.int32)),
          'weight': pa.array(np.ones(size, np.float32)),
        }
      )
      solutions = table['solution_ids'].to_pylist()
      targets = [np.array(ids, np.int32) for ids in solutions]
      part = examples.build(rows, targets, prompts, task.card.eos_id)
      name = records.part_name(number, parts)
      source = manifests.digest_of(row['content'])
      work.write_table(name, part.table, source=source)
      written += size
      target_tokens += part.target_tokens
      number += 1
    if not written:
      raise configuration.ConfigurationError(
        f'{task.problems.folder}: no problem has a human solution. The SFT '
        'baseline needs some (SFT_BASELINE = False leaves it out).'
      )
    found.append(
      selection_statistics.of_human(
        task.card.task, len(prompts), written, target_tokens
      )
    )
  return selection_statistics.SelectionStatistics(
    select_from='human', tasks=found
  )
