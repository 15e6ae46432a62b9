"""Reads a published data set from the files in which it is published.

    a folder or an archive ─▶ Reading ─▶ verification ─▶ TFDS (TFRecord)
    files.py, tables.py       one module   verification.py  builders.py
                              for each set

preparation.build does all of it. Only builders.py imports TensorFlow.
"""

import importlib
from collections.abc import Iterator

from rest_jax.artifacts import storage
from rest_jax.tasks.benchmarks import catalogue, files, readings

_HERE = 'rest_jax.tasks.benchmarks'
# Benchmark to 'module:function', which gives None where a source is not its.
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


def data_set(name: str) -> catalogue.Benchmark:
  """The row of the data set that a published task is made of.

  Raises:
    ConfigurationError: there is no task of this name.
  """
  benchmark = catalogue.get(name)
  return catalogue.get(benchmark.data) if benchmark.data else benchmark


def read(
  name: str, folder: storage.PathLike | files.Folder
) -> readings.Reading:
  """Reads a published data set, in any layout in which it is published.

  Args:
    name: of a benchmark in the catalogue.
    folder: local or gs://; the folder of the one data set, or one that has a
      folder of this name in it. It may also hold the published archive, which
      is read as it is.

  Returns:
    Its problems, with what was left out and why.

  Raises:
    files.NotFoundError: there is nothing of this data set.
    ConfigurationError: something is there, but it is damaged.
  """
  benchmark = data_set(name)
  module, _, function = READERS[benchmark.name].partition(':')
  reader = getattr(importlib.import_module(f'{_HERE}.{module}'), function)
  for one in _folders(benchmark.name, folder):
    for source in _sources(benchmark, one):
      reading = reader(source)
      if reading is not None:
        return reading
  raise files.NotFoundError(
    f'{one.where}: nothing of {benchmark.name} is there. Found: '
    f'{_some(one.names)}. Allowed: {benchmark.files}.'
  )


def instructions(benchmark: catalogue.Benchmark) -> str:
  """What to download, where to put it, and the command that then works."""
  addresses = ', '.join(benchmark.urls.values()) or benchmark.homepage
  return (
    f'{benchmark.title}. Get {benchmark.files}. From: {addresses}. Put it in a '
    f'folder DIR, or in DIR/{benchmark.name}, as it is published (no need to '
    'unpack an archive), and run: rest-jax prepare '
    f'--task={benchmark.name} --manual_dir=DIR'
  )


def _folders(name, folder) -> Iterator[files.Folder]:
  """A folder's own folder of this name where it has one, then itself."""
  if isinstance(folder, files.Folder):
    yield folder
    return
  own = storage.path(folder).expanduser() / name
  if own.is_dir():
    yield files.folder(own)
  yield files.folder(folder)


def _sources(benchmark, folder: files.Folder) -> Iterator[files.Source]:
  """A folder, then the archives that lie in it, its own first."""
  yield folder
  foreign = {name for row in catalogue.CATALOGUE.values() for name in row.urls}
  names = [
    name
    for name in folder.names
    if '/' not in name and name.endswith(files.ARCHIVES)
  ]
  for name in sorted(names, key=lambda name: name not in benchmark.urls):
    if name in benchmark.urls or name not in foreign:
      yield files.Archive(folder.path(name), name)


def _some(names: tuple[str, ...]) -> str:
  shown = ', '.join(names[:8])
  return shown if len(names) <= 8 else f'{shown}, … ({len(names)} files)'
