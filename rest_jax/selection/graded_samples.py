"""Reads one task's correct E-step samples, and makes examples of them."""

import dataclasses
import hashlib
from collections.abc import Mapping

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from rest_jax.artifacts import manifests, run_paths, task_card
from rest_jax.config import configuration
from rest_jax.rewards import verdicts
from rest_jax.selection import examples
from rest_jax.selection.filtering import KEY

_FINISHED = ('eos', 'stop')  # finish reasons of complete samples


class TaskInputs:
  """The finished folders of one task that the stage select reads.

  Attributes:
    problems: manifest of the problems.
    card: their task card.
    samples: manifest of the E-step's samples; None for human solutions.
    verdicts: manifest of their verdicts; None for human solutions.
  """

  def __init__(
    self,
    problems_dir: str,
    samples_dir: str | None = None,
    verdicts_dir: str | None = None,
  ):
    """Args: the folders; without samples and verdicts for human solutions.

    Raises:
      ConfigurationError: a folder is not finished, or the verdicts are not of
        these samples.
    """
    self.problems = manifests.load(problems_dir)
    self.card = task_card.of(self.problems)
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
    """(name, folder) for the fingerprint; i is the task's place in the list."""
    named = {
      f'problems {i}': self.problems,
      f'samples {i}': self.samples,
      f'verdicts {i}': self.verdicts,
    }
    return [(name, value) for name, value in named.items() if value is not None]

  def prompts(self, train_prompt: str) -> dict[str, np.ndarray]:
    """Problem id to the ids of its prompt.

    Args:
      train_prompt: as SelectionConfig.train_prompt.
    """
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


@dataclasses.dataclass(frozen=True)
class CorrectSamples:
  """The correct samples of a task.

  Attributes:
    table: columns problem_id, sample_index, reward, part (the name of the part
      that it is in) and text_digest; a row for each sample that has a reward
      and ended with EOS or a stop string.
    outcomes: outcome to number of samples, of all samples.
  """

  table: pa.Table
  outcomes: Mapping[str, int]


def correct(task: TaskInputs) -> CorrectSamples:
  """Reads which samples of the E-step are correct.

  Raises:
    ConfigurationError: there are no verdicts on the E-step's samples, or they
      do not fit the samples.
  """
  classes = dict.fromkeys(verdicts.OUTCOMES, 0)
  tables = []
  columns = [*KEY, 'stream', 'outcome', 'reward']
  for row in task.verdicts.parts:
    table = task.verdicts.table(part=row['name'], columns=columns)
    table = table.filter(pc.equal(table['stream'], run_paths.E_STEP))
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
      f'{task.verdicts.folder}: holds no verdict of the stream '
      f'{run_paths.E_STEP}. '
      'Run sample and score with --gin.STREAMS="[\'e_step\']".'
    )
  return CorrectSamples(pa.concat_tables(tables), classes)


def _with_text(task: TaskInputs, part: str, correct: pa.Table) -> pa.Table:
  """Adds part and text_digest; drops samples that ran into the length limit."""
  samples = task.samples.table(
    part=part, columns=[*KEY, 'stream', 'finish_reason', 'text']
  )
  samples = samples.filter(pc.equal(samples['stream'], run_paths.E_STEP))
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


def examples_of_part(
  task: TaskInputs,
  part: str,
  chosen: pa.Table,
  prompts: Mapping[str, np.ndarray],
) -> examples.Part:
  """Makes the examples of one part of samples.

  Args:
    task: the samples' task.
    part: name of the part.
    chosen: its kept samples: problem_id, sample_index and weight.
    prompts: problem id to the ids of its prompt.
  """
  table = task.samples.table(
    part=part, columns=[*KEY, 'stream', 'target_length', 'token_ids']
  )
  table = table.filter(
    pc.equal(table['stream'], run_paths.E_STEP)
  ).combine_chunks()
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
    chosen.select([*KEY, 'weight']), targets, prompts, task.card.eos_id
  )
