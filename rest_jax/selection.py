"""The stage select: correct solutions become training examples.

    problems + samples + verdicts ─▶ examples          (select_from 'samples')
    problems with human solutions ─▶ examples          (select_from 'human')

First the verdicts alone decide which samples are kept (in numbers, without a
token read); then each part of samples gives up its kept rows, and becomes one
part of examples. Which of a problem's correct solutions are kept depends on
the seed and that problem's own samples only.
"""

import hashlib
from collections.abc import Mapping, Sequence
from typing import Literal

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from rest_jax import configuration, manifests, preemption, records
from rest_jax.evaluation import bins as difficulty_bins
from rest_jax.rewards import verdicts
from rest_jax.training import examples
from rest_jax.training.choice import KEY, SelectionConfig, keep

_VERSION = 1
STREAM = 'e_step'  # the only stream that is ever trained on
_FINISHED = ('eos', 'stop')


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
    _Task(problems, *(() if human else (samples_dirs[i], verdicts_dirs[i])))
    for i, problems in enumerate(problems_dirs)
  ]
  with manifests.work_on(
    examples_dir,
    stage='select',
    kind=records.Example,
    semantic={'select_from': select_from, 'config': config},
    # The difficulty bins change no example: they are no input.
    inputs={k: v for i, task in enumerate(tasks) for k, v in task.inputs(i)},
    version=_VERSION,
  ) as work:
    if work.done is not None:
      print(f'select: {examples_dir} is done already')
      return
    choose = _choose_human if human else _choose_samples
    statistics = choose(work, tasks, config, difficulty_dir)
    work.finish(statistics=statistics)
  _print(examples_dir, statistics)


class _Task:
  """A task's inputs, and its problems by id."""

  def __init__(self, problems_dir, samples_dir=None, verdicts_dir=None):
    self.problems = manifests.load(problems_dir)
    self.card = self.problems.statistics.get('task')
    if self.problems.kind != 'Problem' or not self.card:
      raise configuration.ConfigurationError(
        f'{problems_dir}: holds no problems (made by the stage '
        f'{self.problems.stage}). PROBLEMS_DIRS must name folders that the '
        'stage prepare wrote.'
      )
    if self.card.get('eos_id') is None:
      raise configuration.ConfigurationError(
        f'{problems_dir}: its card names no eos_id. A solution must end with '
        'EOS to be learned; use a vocabulary that has one.'
      )
    self.samples = self.verdicts = None
    if samples_dir is not None:
      self.samples = manifests.load(samples_dir, stage='sample')
      self.verdicts = manifests.load(verdicts_dir, stage='score')
      if self.verdicts.fingerprint['inputs']['samples'] != self.samples.digest:
        raise configuration.ConfigurationError(
          f'{verdicts_dir}: these are not the verdicts of {samples_dir}, or '
          'the samples have grown since. Run score again.'
        )

  def inputs(self, i: int) -> list[tuple[str, manifests.Manifest]]:
    named = {
      f'problems {i}': self.problems,
      f'samples {i}': self.samples,
      f'verdicts {i}': self.verdicts,
    }
    return [(name, value) for name, value in named.items() if value is not None]

  def prompts(self, train_prompt: str) -> dict[str, np.ndarray]:
    """{problem id: its prompt's ids}."""
    table = self.problems.table(columns=['id', 'prompt_parts'])
    prompts = {}
    for batch in table.to_batches():
      for row in batch.to_pylist():
        parts = row['prompt_parts']
        if train_prompt == 'zero_shot' and len(parts) > 1:
          parts = [parts[0], parts[-1]]
        ids = [token for part in parts for token in part]
        prompts[row['id']] = np.array(ids, np.int32)
    return prompts


def _choose_samples(
  work: manifests.Work,
  tasks: Sequence[_Task],
  config: SelectionConfig,
  difficulty_dir: str | None,
) -> dict:
  """Writes the parts of select_from 'samples'; returns the statistics."""
  graded = [_correct(task) for task in tasks]
  if not sum(len(table) for table, _ in graded):
    raise configuration.ConfigurationError(_no_correct(tasks, graded))
  parts = sum(len(task.samples.parts) for task in tasks)
  number, found = 0, []
  for task, (correct, classes) in zip(tasks, graded, strict=True):
    preemption.check('select')
    kept = keep(correct, config)
    prompts = task.prompts(config.train_prompt)
    target_tokens = 0
    for row in task.samples.parts:
      preemption.check('select')
      chosen = kept.filter(pc.equal(kept['part'], row['name']))
      table, tokens = _examples_of_part(task, row['name'], chosen, prompts)
      target_tokens += tokens
      name = records.part_name(number, parts)
      work.write_table(name, table, source=manifests.digest_of(row['content']))
      number += 1
    bins = {}
    if difficulty_dir is not None:
      bins = difficulty_bins.bins(difficulty_dir, task.card['task'])
    found.append(
      _statistics(task, correct, kept, classes, target_tokens, prompts, bins)
    )
  return _total(found, select_from='samples')


def _correct(task: _Task) -> tuple[pa.Table, dict[str, int]]:
  """The rewarded, finished samples of the E-step, and the counts of classes.

  Returns:
    (table of problem_id, sample_index, reward, part, text_digest, one row per
    correct sample; {outcome: samples}).
  """
  classes = dict.fromkeys(verdicts.OUTCOMES, 0)
  tables = []
  columns = [*KEY, 'stream', 'outcome', 'reward']
  for row in task.verdicts.parts:
    table = task.verdicts.table(part=row['name'], columns=columns)
    table = table.filter(pc.equal(table['stream'], STREAM))
    for count in pc.value_counts(table['outcome'].combine_chunks()).to_pylist():
      classes[count['values']] += count['counts']
    rewarded = pc.and_(
      pc.greater(table['reward'], 0),
      pc.not_equal(table['outcome'], verdicts.HARNESS_ERROR),
    )
    table = table.filter(rewarded).select([*KEY, 'reward'])
    tables.append(_with_text(task, row['name'], table))
  if not tables or not sum(classes.values()):
    raise configuration.ConfigurationError(
      f'{task.verdicts.folder}: holds no verdict of the stream {STREAM}. '
      'Run sample and score with --gin.STREAMS="[\'e_step\']".'
    )
  return pa.concat_tables(tables), classes


def _with_text(task: _Task, part: str, correct: pa.Table) -> pa.Table:
  """Adds part and text_digest from the samples; drops the unfinished ones."""
  samples = task.samples.table(
    part=part, columns=[*KEY, 'stream', 'finish_reason', 'text']
  )
  samples = samples.filter(pc.equal(samples['stream'], STREAM))
  joined = correct.join(samples, keys=list(KEY), join_type='left outer')
  if joined.num_rows != correct.num_rows:
    raise configuration.ConfigurationError(
      f'{task.samples.folder / part}: the same sample stands in it twice. '
      'Delete the folder and sample again.'
    )
  lost = joined.filter(pc.is_null(joined['finish_reason']))
  if lost.num_rows:
    row = lost.slice(0, 1).to_pylist()[0]
    raise configuration.ConfigurationError(
      f'{task.verdicts.folder / part}: a verdict on sample '
      f'{row["sample_index"]} of {row["problem_id"]}, which is not in '
      f'{task.samples.folder}. Run score again.'
    )
  joined = joined.filter(
    pc.is_in(joined['finish_reason'], value_set=pa.array(_FINISHED))
  ).sort_by([(name, 'ascending') for name in KEY])
  digests = [
    hashlib.blake2b(text.encode(), digest_size=8).digest()
    for text in joined['text'].to_pylist()
  ]
  return pa.table(
    {
      **{name: joined[name] for name in (*KEY, 'reward')},
      'part': pa.array([part] * joined.num_rows, pa.string()),
      'text_digest': pa.array(digests, pa.binary(8)),
    }
  )


def _examples_of_part(
  task: _Task, part: str, chosen: pa.Table, prompts: Mapping[str, np.ndarray]
) -> tuple[pa.Table, int]:
  """One part of examples, and the number of its target tokens."""
  table = task.samples.table(
    part=part, columns=[*KEY, 'stream', 'target_length', 'token_ids']
  )
  table = table.filter(pc.equal(table['stream'], STREAM)).combine_chunks()
  keys = zip(*(table[name].to_pylist() for name in KEY), strict=True)
  row_of = {key: row for row, key in enumerate(keys)}
  lists = table['token_ids'].combine_chunks()
  ids, starts = lists.values.to_numpy(), lists.offsets.to_numpy()
  lengths = table['target_length'].to_numpy()
  targets = []
  for key in zip(*(chosen[name].to_pylist() for name in KEY), strict=True):
    row = row_of[key]
    if key[0] not in prompts:
      raise configuration.ConfigurationError(
        f'{task.samples.folder / part}: samples of the problem {key[0]!r}, '
        f'which is not in {task.problems.folder}. PROBLEMS_DIRS and '
        'SAMPLES_DIRS must be of one run and in the same order.'
      )
    targets.append(ids[starts[row] : starts[row] + lengths[row]])
  return examples.build(
    chosen.select([*KEY, 'weight']), targets, prompts, task.card['eos_id']
  )


def _choose_human(
  work: manifests.Work,
  tasks: Sequence[_Task],
  config: SelectionConfig,
  difficulty_dir: str | None,
) -> dict:
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
      table, tokens = examples.build(
        rows, targets, prompts, task.card['eos_id']
      )
      name = records.part_name(number, parts)
      work.write_table(name, table, source=manifests.digest_of(row['content']))
      written, target_tokens = written + size, target_tokens + tokens
      number += 1
    if not written:
      raise configuration.ConfigurationError(
        f'{task.problems.folder}: no problem has a human solution. The SFT '
        'baseline needs some (SFT_BASELINE = False leaves it out).'
      )
    found.append(
      {
        'task': task.card['task'],
        'problems': len(prompts),
        'kept': written,
        'solved_problems': written,
        'weight_sum': float(written),
        'target_tokens': target_tokens,
        'kept_per_problem': {'0': len(prompts) - written, '1': written},
      }
    )
  return _total(found, select_from='human')


def _statistics(
  task: _Task,
  correct: pa.Table,
  kept: pa.Table,
  classes: Mapping[str, int],
  target_tokens: int,
  prompts: Mapping,
  bins: Mapping[str, str],
) -> dict:
  """One task's statistics; see `_total` for their sum."""
  unique = correct.group_by(['problem_id', 'text_digest']).aggregate([])
  per_problem = pc.value_counts(kept['problem_id'].combine_chunks()).to_pylist()
  kept_of = {row['values']: row['counts'] for row in per_problem}
  sizes = np.bincount([kept_of.get(name, 0) for name in prompts])
  by_bin = {}
  for name in prompts if bins else ():
    row = by_bin.setdefault(
      bins.get(name, 'unknown'), {'problems': 0, 'solved': 0, 'kept': 0}
    )
    row['problems'] += 1
    row['solved'] += name in kept_of
    row['kept'] += kept_of.get(name, 0)
  return {
    'task': task.card['task'],
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


def _total(found: Sequence[Mapping], *, select_from: str) -> dict:
  """The sum of the tasks' statistics, and each of them under 'tasks'."""
  total: dict = {}
  for statistics in found:
    _add(total, {k: v for k, v in statistics.items() if k != 'task'})
  total['mean_target_tokens'] = total['target_tokens'] / max(total['kept'], 1)
  tasks = {statistics['task']: statistics for statistics in found}
  return {'select_from': select_from, **total, 'tasks': tasks}


def _add(total: dict, more: Mapping) -> None:
  for key, value in more.items():
    if isinstance(value, Mapping):
      _add(total.setdefault(key, {}), value)
    else:
      total[key] = total.get(key, 0) + value


def _no_correct(
  tasks: Sequence[_Task], graded: Sequence[tuple[pa.Table, dict]]
) -> str:
  lines = []
  for task, (_, classes) in zip(tasks, graded, strict=True):
    total = sum(classes.values())
    rates = ', '.join(
      f'{name} {count / total:.1%}' for name, count in classes.items() if count
    )
    lines.append(f'  {task.verdicts.folder}: {total} samples: {rates}')
  return (
    'select: no sample is correct, so there is nothing to learn from:\n'
    + '\n'.join(lines)
    + '\nMany no_answer: the completions do not end in the answer format '
    'that the grader reads; look at the text of some samples, and at the '
    'worked examples in the prompt. Many truncated: raise MAX_DECODE_LENGTH. '
    'Many wrong: draw more samples (NUM_SAMPLES grows in place), take easier '
    'problems or a stronger base model. Nothing was lost; samples and '
    'verdicts are kept.'
  )


def _print(examples_dir: str, statistics: Mapping) -> None:
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
