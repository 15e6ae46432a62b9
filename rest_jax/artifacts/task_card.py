"""What later stages must know of a task, beside its problems.

`prepare` writes a card into the manifest of every folder of problems; sample,
score, select, train and report read it from there.
"""

import dataclasses
import json
from collections.abc import Mapping, Sequence
from typing import Any

from rest_jax.artifacts import manifests, records
from rest_jax.config import configuration

_KEY, PROMPTS = 'task', 'prompts'  # of the manifest's statistics
# What sampling reads of a card, beside the vocabulary, wherever that lies.
_SAMPLED = ('vocab_size', 'eos_ids', 'bos_id', 'stop')
_ALL = (*_SAMPLED, 'task', 'split', 'grader', 'eos_id')


@dataclasses.dataclass(frozen=True, kw_only=True)
class TaskCard:
  """A task and one of its splits, as `prepare` made them.

  Attributes:
    task: the task's name in the run.
    split: train, dval, test, …
    grader: a name in rewards/registry.py, or 'module:function'.
    stop: strings that end a completion.
    vocabulary: what vocabulary_files.load takes; relative to the folder of the
      problems where the run trained it.
    vocab_size: ids of the vocabulary.
    eos_id: the id that ends a training target.
    eos_ids: all ids that end a completion, `eos_id` among them.
    bos_id: the first id of every prompt; None where there is none.
    num_problems: in this folder.
    skipped: reason to number of the rows that became no problem.
    shown_problem: id of the problem whose prompt is shown.
    shown_prompt: that prompt, few-shot, as text with its special tokens.
  """

  task: str
  split: str
  grader: str
  vocabulary: str
  eos_id: int
  eos_ids: tuple[int, ...]
  stop: tuple[str, ...] = ()
  vocab_size: int | None = None
  bos_id: int | None = None
  num_problems: int = 0
  skipped: Mapping[str, int] = dataclasses.field(default_factory=dict)
  shown_problem: str = ''
  shown_prompt: str = ''

  def to_statistics(self) -> dict[str, Any]:
    """The entry of a manifest's statistics that holds the card."""
    return {_KEY: dataclasses.asdict(self)}


def prompts_entry(
  rows: Sequence[records.Problem], card: Mapping[str, Any], vocabulary: str
) -> dict[str, str]:
  """The entry of a manifest's statistics that holds the prompts' digest.

  Args:
    rows: the problems.
    card: TaskCard.to_statistics().
    vocabulary: its digest.
  """
  parts = [[row.id, [list(ids) for ids in row.prompt_parts]] for row in rows]
  return {PROMPTS: manifests.digest_of([_text(card, vocabulary), parts])}


def prompts(problems: manifests.Manifest) -> str:
  """What identifies the prompts of a folder of problems, for sampling.

  Another answer or grader gives the same: the samples stand, and are graded
  again. A folder of an earlier version gives the digest of all it holds.
  """
  return problems.statistics.get(PROMPTS, problems.digest)


def text(problems: manifests.Manifest) -> str:
  """What identifies how ids become text: the vocabulary and what ends one."""
  vocabulary = problems.fingerprint['inputs'].get('vocabulary')
  return manifests.digest_of(_text(problems.statistics, vocabulary))


def _text(card: Mapping[str, Any], vocabulary: str | None) -> list[Any]:
  # A card of an earlier version lacks some.
  return [vocabulary, [card[_KEY].get(name) for name in _SAMPLED]]


def same(one: Mapping[str, Any], other: Mapping[str, Any]) -> bool:
  """Whether two manifests' statistics hold the same for later stages."""
  one, other = (json.loads(json.dumps(card[_KEY])) for card in (one, other))
  return all(one.get(name) == other.get(name) for name in _ALL)


def of(problems: manifests.Manifest, dial: str = 'PROBLEMS_DIRS') -> TaskCard:
  """The card of a finished folder of problems.

  Args:
    problems: the folder's manifest.
    dial: that names the folder, for the error.

  Raises:
    ConfigurationError: the folder holds no problems, or its card does not say
      what every stage needs.
  """
  value = problems.statistics.get(_KEY)
  if problems.kind != 'Problem' or not isinstance(value, Mapping):
    raise configuration.ConfigurationError(
      f'{problems.folder}: holds no problems (made by the stage '
      f'{problems.stage}). {dial} must name folders that the stage prepare '
      'wrote.'
    )
  fields = {field.name: field for field in dataclasses.fields(TaskCard)}
  # Cards of earlier versions name one end-of-sequence id only.
  known = {'eos_ids': [value.get('eos_id')]} | {
    name: value[name] for name in fields if value.get(name) is not None
  }
  missing = [
    name
    for name, field in fields.items()
    if name not in known
    and field.default is dataclasses.MISSING
    and field.default_factory is dataclasses.MISSING
  ]
  if missing:
    raise configuration.ConfigurationError(
      f'{problems.folder}: its card names no {", ".join(missing)}, which later '
      'stages need. Run prepare again, with a vocabulary that has an '
      'end-of-sequence id.'
    )
  for name in ('stop', 'eos_ids'):
    known[name] = tuple(known.get(name, ()))
  return TaskCard(**known)
