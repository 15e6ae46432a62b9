"""The examples of a SeqIO task as rows of text.

SeqIO and TensorFlow are imported when the first task is read: by `prepare`
alone.
"""

import dataclasses
import functools
import hashlib
import importlib
from collections.abc import Iterable, Mapping

from rest_jax.config import configuration
from rest_jax.tasks import splits
from rest_jax.tasks.benchmarks import catalogue
from rest_jax.tasks.problem_sets import Row

# What a feature is called, in the order in which it is looked for.
_NAMES = {
  'question': ('question', 'inputs_pretokenized', 'inputs'),
  'answer': ('answer', 'targets_pretokenized', 'targets'),
  'solution': ('solution',),
  'tests': ('tests',),
  'level': ('level',),
  'type': ('type',),
  'lead': ('lead',),
}


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
) -> tuple[tuple[Row, ...], Mapping[str, tuple[str, ...]]]:
  """The problems of a split of a SeqIO task.

  Args:
    task: as SeqIO knows it.
    split: of its.
    module, data_dir, manual_dir, download, allow_partial: see
      seqio_problems.SeqioConfig.

  Returns:
    (the rows, reason to where of those that are none); a published task's in
    the order of their keys.

  Raises:
    ConfigurationError: no such task or split, or its data is not there.
  """
  if module is not None:
    _import(module)
  elif task in catalogue.CATALOGUE:
    _build(task, data_dir, manual_dir, download, allow_partial)
  import seqio  # the published tasks register themselves then

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
  rows, skipped = of_examples(examples.as_numpy_iterator())
  if module is None:
    rows = tuple(splits.in_order(rows))
  return rows, skipped


def of_examples(
  examples: Iterable[Mapping],
) -> tuple[tuple[Row, ...], Mapping[str, tuple[str, ...]]]:
  """Examples of a SeqIO task as rows.

  Args:
    examples: features by name; texts as bytes.

  Returns:
    (the rows, reason to where of those that are none).
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
  return tuple(rows), {k: tuple(v) for k, v in skipped.items()}


def _row(example: Mapping, number: int) -> tuple[Row | None, str]:
  """(the row, '') or (None, why there is none)."""
  texts = {}
  for field, names in _NAMES.items():
    value = next((example[name] for name in names if name in example), b'')
    if not isinstance(value, (bytes, str)):
      value = b''  # token ids
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
  """Makes sure, once, that a published task's TFDS data set is there."""
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


def digest(rows: Iterable[Row]) -> str:
  """Identity of rows, in their order."""
  found = hashlib.sha256()
  for row in rows:
    found.update(repr(dataclasses.astuple(row)).encode())
  return found.hexdigest()[:32]
