"""Reads a published data set from the files in which it is published.

    a folder or an archive      ─▶ ParsedDataset ─▶ verified ─▶ TFDS (TFRecord)
    file_sources.py, tables.py     gsm8k.py, …      verification.py  builders.py

preparation.build does all of it. Only builders.py imports TensorFlow.
"""

import importlib
from collections.abc import Iterator

from rest_jax.artifacts import storage
from rest_jax.tasks.benchmarks import catalogue, file_sources, parsed_dataset
from rest_jax.tasks.benchmarks.published_task import Benchmark

_HERE = 'rest_jax.tasks.benchmarks'
# Data set to the 'module:function' that reads it from a source. The function
# returns None for a source without files of this data set.
READERS = {
  'math': 'mathematics:read',
  'math500': 'mathematics:read_500',
  'apps': 'apps:read',
  'gsm8k': 'gsm8k:read',
  'humaneval': 'humaneval:read',
  'mbpp': 'mbpp:read',
  'bbh': 'bbh:read',
  'hungarian_exam': 'hungarian_exam:read',
}


def data_set(name: str) -> Benchmark:
  """The row of the data set that a published task takes its problems from.

  It is another row for a task that only asks another question of the same
  problems (bbh_direct).

  Args:
    name: of a published task.

  Raises:
    ConfigurationError: there is no task of this name.
  """
  benchmark = catalogue.get(name)
  return catalogue.get(benchmark.data) if benchmark.data else benchmark


def read(
  name: str, folder: storage.PathLike | file_sources.Folder
) -> parsed_dataset.ParsedDataset:
  """Reads a published data set, in any layout in which it is published.

  Args:
    name: of a benchmark in the catalogue.
    folder: local or gs://; the folder of the one data set, or one that has a
      folder of this name in it. It may also hold the published archive, which
      is read without being unpacked.

  Returns:
    Its problems, with what was left out and why.

  Raises:
    file_sources.NotFoundError: no file of this data set is there.
    ConfigurationError: a file of the data set is damaged.
  """
  benchmark = data_set(name)
  module, _, function = READERS[benchmark.name].partition(':')
  reader = getattr(importlib.import_module(f'{_HERE}.{module}'), function)
  for one in _folders(benchmark.name, folder):
    for source in _sources(benchmark, one):
      dataset = reader(source)
      if dataset is not None:
        return dataset
  raise file_sources.NotFoundError(
    f'{one.where}: no file of {benchmark.name} is there. Found: '
    f'{_some(one.names)}. Allowed: {benchmark.files}.'
  )


def instructions(benchmark: Benchmark) -> str:
  """What to download, where to put it, and the command that then works."""
  addresses = ', '.join(benchmark.urls.values()) or benchmark.homepage
  return (
    f'{benchmark.title}. Get {benchmark.files}. From: {addresses}. Put it in a '
    f'folder DIR, or in DIR/{benchmark.name}, as it is published (no need to '
    'unpack an archive), and run: rest-jax prepare '
    f'--task={benchmark.name} --manual_dir=DIR'
  )


def _folders(
  name: str, folder: storage.PathLike | file_sources.Folder
) -> Iterator[file_sources.Folder]:
  """The folder NAME in `folder` if there is one, then `folder` itself."""
  if isinstance(folder, file_sources.Folder):
    yield folder
    return
  own = storage.path(folder).expanduser() / name
  if own.is_dir():
    yield file_sources.folder(own)
  yield file_sources.folder(folder)


def _sources(
  benchmark: Benchmark, folder: file_sources.Folder
) -> Iterator[file_sources.Source]:
  """The folder, then the archives in it, those of this data set first."""
  yield folder
  # Archives of other data sets may lie in the same folder.
  foreign = {name for row in catalogue.CATALOGUE.values() for name in row.urls}
  names = [
    name
    for name in folder.names
    if '/' not in name and name.endswith(file_sources.ARCHIVES)
  ]
  for name in sorted(names, key=lambda name: name not in benchmark.urls):
    if name in benchmark.urls or name not in foreign:
      yield file_sources.Archive(folder.path(name), name)


def _some(names: tuple[str, ...]) -> str:
  shown = ', '.join(names[:8])
  return shown if len(names) <= 8 else f'{shown}, … ({len(names)} files)'
