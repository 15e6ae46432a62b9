"""What later stages must know of a task, beside its problems.

`prepare` writes a card into the manifest of every folder of problems; sample,
score, select, train and report read it from there.
"""

import dataclasses
from collections.abc import Mapping
from typing import Any

from rest_jax.artifacts import manifests
from rest_jax.config import configuration

_KEY = 'task'  # of the manifest's statistics


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
