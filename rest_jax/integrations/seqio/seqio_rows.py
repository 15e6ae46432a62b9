"""Reads the examples of a SeqIO task as problems.

SeqIO and TensorFlow are imported when the first task is read, so that only the
stage prepare loads them.
"""

import dataclasses
import functools
import hashlib
import importlib
from collections.abc import Iterable, Mapping
from typing import Any

from rest_jax.config import configuration
from rest_jax.tasks import splits
from rest_jax.tasks.benchmarks import catalogue
from rest_jax.tasks.problem_sets import Row

# Field to the features that may hold it, in order of preference.
_NAMES = {
  'question': ('question', 'inputs_pretokenized', 'inputs'),
  'answer': ('answer', 'targets_pretokenized', 'targets'),
  'solution': ('solution',),
  'tests': ('tests',),
  'level': ('level',),
  'type': ('type',),
  'lead': ('lead',),
}


@dataclasses.dataclass(frozen=True, kw_only=True)
class Problems:
  """The problems of a split.

  Attributes:
    rows: the problems.
    skipped: reason to the places of the examples that were left out.
  """

  rows: tuple[Row, ...]
  skipped: Mapping[str, tuple[str, ...]]

  def digest(self) -> str:
    """Identity of the problems and their order: 32 hexadecimal digits."""
    found = hashlib.sha256()
    for row in self.rows:
      found.update(repr(dataclasses.astuple(row)).encode())
    return found.hexdigest()[:32]


@functools.lru_cache(maxsize=64)
def read(
  task: str,
  split: str,
  *,
  module: str | None = None,
  data_dir: str | None = None,
  manual_dir: str | None = None,
  download: bool = False,
  allow_partial: bool = False,
) -> Problems:
  """Reads the problems of a split of a SeqIO task.

  Args:
    task: its name in SeqIO.
    split: the name of the split.
    module: see seqio_problems.SeqioConfig, also for the other arguments.
    data_dir: where TFDS keeps its data.
    manual_dir: the files that a published task is built from.
    download: whether to download them instead.
    allow_partial: whether a part of a published task is enough.

  Returns:
    The problems, those of a published task sorted by their keys.

  Raises:
    ConfigurationError: SeqIO has no such task or split, or its data is missing.
  """
  if module is not None:
    _import(module)
  elif task in catalogue.CATALOGUE:
    _build(task, data_dir, manual_dir, download, allow_partial)
  import seqio

  try:
    found = seqio.get_mixture_or_task(task)
  except ValueError as error:
    raise configuration.ConfigurationError(
      f'SeqioConfig.task: SeqIO knows no task {task!r} after importing '
      f'{module}: {error}'
    ) from error
  if split not in found.splits:
    raise configuration.ConfigurationError(
      f'SeqioConfig: the task {task} has no split {split!r}; it has '
      f'{", ".join(sorted(found.splits))}.'
    )
  if data_dir is not None:
    seqio.set_tfds_data_dir_override(data_dir)
  try:
    examples = found.get_dataset(None, split=split, shuffle=False)
  except ValueError as error:
    if 'Unknown split' not in str(error):
      raise
    raise configuration.ConfigurationError(
      f'{task}: its data set was built without problems of the split '
      f'{split!r} (allow_partial). Build it from the whole set (--overwrite), '
      f'or leave the split out: --gin.{task}/seqio_problems.SeqioConfig.'
      'eval_splits=[] where it is only evaluated.'
    ) from error
  found = of_examples(examples.as_numpy_iterator())
  if module is None:
    rows = tuple(splits.in_order(found.rows))
    found = dataclasses.replace(found, rows=rows)
  return found


def of_examples(examples: Iterable[Mapping[str, Any]]) -> Problems:
  """Turns examples of a SeqIO task into problems.

  Args:
    examples: features by name; texts are bytes.
  """
  rows, skipped, keys = [], {}, set()
  for number, example in enumerate(examples):
    row, fault = _row(example, number)
    if not fault and row.key in keys:
      fault = 'an id that an earlier problem has'
    if fault:
      skipped.setdefault(fault, []).append(f'problem {number}')
    else:
      keys.add(row.key)
      rows.append(row)
  return Problems(
    rows=tuple(rows), skipped={k: tuple(v) for k, v in skipped.items()}
  )


def _row(example: Mapping[str, Any], number: int) -> tuple[Row | None, str]:
  """(problem, ''), or (None, reason) for an example that is none."""
  texts = {}
  for field, names in _NAMES.items():
    value = next((example[name] for name in names if name in example), b'')
    if not isinstance(value, (bytes, str)):
      value = b''  # the feature holds token ids, not text
    try:
      text = value.decode() if isinstance(value, bytes) else value
    except UnicodeDecodeError:
      return None, f'{field} is not UTF-8'
    texts[field] = text
  if not texts['question'].strip():
    return None, 'no question'
  key = example.get('problem_id', b'')
  key = key.decode() if isinstance(key, bytes) else str(key)
  optional = ('answer', 'tests', 'level', 'type', 'solution')
  return Row(
    key=splits.key(key) if key else f'{number:06d}',
    question=texts['question'],
    lead=texts['lead'],
    **{name: texts[name] or None for name in optional},
  ), ''


@functools.cache
def _build(
  task: str,
  data_dir: str | None,
  manual_dir: str | None,
  download: bool,
  allow_partial: bool,
) -> None:
  """Builds a published task's TFDS data set unless it is there; once."""
  from rest_jax.tasks.benchmarks import preparation

  preparation.build(
    catalogue.get(task).data or task,
    data_dir=data_dir,
    manual_dir=manual_dir,
    download=download,
    allow_partial=allow_partial,
  )


def _import(module: str) -> None:
  try:
    importlib.import_module(module)
  except ImportError as error:
    raise configuration.ConfigurationError(
      f'SeqioConfig.module: {module} cannot be imported: {error}. Put its '
      'folder on PYTHONPATH.'
    ) from error
