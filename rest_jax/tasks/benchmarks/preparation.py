"""Builds the TFDS data set of a published task: reads, verifies and writes it.

The digest of the problems is kept in metadata.json beside the data set, so
that a second call sees whether its source has changed. TFDS writes into a
folder of another name and renames it last: a build that was killed leaves
nothing that looks finished.
"""

import dataclasses
import json
import os
from collections.abc import Mapping
from typing import Any

from rest_jax.artifacts import storage
from rest_jax.config import configuration
from rest_jax.tasks.benchmarks import (
  file_sources,
  parsed_dataset,
  published_files,
  published_task,
  verification,
)
from rest_jax.tasks.benchmarks.published_task import Benchmark

INFO, METADATA = 'dataset_info.json', 'metadata.json'


@dataclasses.dataclass(frozen=True, kw_only=True)
class Prepared:
  """A data set that TFDS and SeqIO can read.

  Attributes:
    name: of the benchmark in the catalogue.
    builder: of the TFDS builder.
    path: its folder.
    built: whether this call built it; False if it was there already.
    summary: what was found in its data.
  """

  name: str
  builder: str
  path: storage.Path
  built: bool
  summary: verification.Summary


def build(
  name: str,
  *,
  manual_dir: storage.PathLike | None = None,
  data_dir: storage.PathLike | None = None,
  download: bool = False,
  allow_partial: bool = False,
  overwrite: bool = False,
) -> Prepared:
  """Prepares a published data set for TFDS and SeqIO; prints what was found.

  Writes nothing if the data set has been built already and its source is
  unchanged or not there.

  Args:
    name: of a benchmark in the catalogue.
    manual_dir: where the published files lie, as for published_files.read;
      None for the folder downloads/manual in `data_dir`.
    data_dir: where TFDS keeps its data; None for TFDS_DATA_DIR, or
      ~/tensorflow_datasets.
    download: whether to download it if no files are found.
    allow_partial: accept any number of problems above 0.
    overwrite: build it again if it has been built already.

  Returns:
    Where it is, and what was found in it.

  Raises:
    ConfigurationError: nothing was found; it is damaged or incomplete; or it
      was built from other problems before.
  """
  benchmark = published_files.data_set(name)
  data_dir = _data_dir(data_dir)
  path = data_dir / benchmark.builder / published_task.BUILDER_VERSION
  kept = None if overwrite else _kept(path, benchmark.builder)
  dataset = _read(benchmark, manual_dir, data_dir)
  if dataset is None and kept is None and not download:
    looked = manual_dir or data_dir / 'downloads' / 'manual'
    raise file_sources.NotFoundError(
      f'{benchmark.name}: nothing was found in {looked}. '
      f'{published_files.instructions(benchmark)}'
      + ('; or add --download' if benchmark.urls else '')
    )
  if dataset is not None:
    found = verification.verify(benchmark, dataset, allow_partial=allow_partial)
    print('\n'.join(found.lines), flush=True)
    if kept is not None and kept.digest != found.summary.digest:
      raise configuration.ConfigurationError(
        f'{path}: it was built from other problems (digest '
        f'{kept.digest[:12]}; those in {dataset.where} have '
        f'{found.summary.digest[:12]}). Delete that folder, or add '
        '--overwrite, to build it again.'
      )
  elif kept is not None and kept.partial and not allow_partial:
    raise configuration.ConfigurationError(
      f'{path}: it was built from a part of the data set '
      f'({"; ".join(kept.wrong)}). Use it as it is with --allow_partial, '
      'or build it again from the whole set: '
      f'{published_files.instructions(benchmark)} --overwrite'
    )
  built = kept is None
  if built:
    kept = _prepare(benchmark, data_dir, path, dataset, allow_partial)
  state = 'built' if built else 'there already'
  print(f'{benchmark.builder}: {state}: {path}', flush=True)
  return Prepared(
    name=benchmark.name,
    builder=benchmark.builder,
    path=path,
    built=built,
    summary=kept,
  )


def _data_dir(data_dir: storage.PathLike | None) -> storage.Path:
  default = os.environ.get('TFDS_DATA_DIR') or '~/tensorflow_datasets'
  return storage.path(data_dir or default).expanduser()


def _read(
  benchmark: Benchmark,
  manual_dir: storage.PathLike | None,
  data_dir: storage.Path,
) -> parsed_dataset.ParsedDataset | None:
  """Reads the published files; None if none is found and no folder is named."""
  if manual_dir is not None:
    try:
      return published_files.read(benchmark.name, manual_dir)
    except file_sources.NotFoundError as error:
      raise file_sources.NotFoundError(
        f'{error} {published_files.instructions(benchmark)}'
      ) from None
  try:
    return published_files.read(
      benchmark.name, data_dir / 'downloads' / 'manual'
    )
  except file_sources.NotFoundError:
    return None


def _prepare(
  benchmark: Benchmark,
  data_dir: storage.Path,
  path: storage.Path,
  dataset: parsed_dataset.ParsedDataset | None,
  allow_partial: bool,
) -> verification.Summary:
  """Runs the TFDS builder; replaces what is in `path`."""
  from rest_jax.tasks.benchmarks import builders  # imports TensorFlow

  if path.exists():
    path.rmtree()
  builders.tfds.disable_progress_bar()
  builder = builders.builder(
    benchmark.name,
    data_dir=str(data_dir),
    dataset=dataset,
    allow_partial=allow_partial,
  )
  builder.download_and_prepare()
  if dataset is None:  # TFDS downloaded it, and its builder verified it
    print('\n'.join(builder.verified.lines), flush=True)
  return _kept(path, benchmark.builder)


def _kept(path: storage.Path, builder: str) -> verification.Summary | None:
  """The summary of a data set that has been built; None if there is none.

  Raises:
    ConfigurationError: the folder is there, and lacks some of its files.
  """
  if not path.exists():
    return None
  try:
    info = json.loads((path / INFO).read_text())
    metadata = json.loads((path / METADATA).read_text())
    missing = [name for name in _shards(info) if not (path / name).exists()]
    summary = verification.Summary.from_json(metadata)
    whole = info['splits'] and not missing
  except (OSError, ValueError, KeyError, TypeError):
    whole = False
  if not whole:
    raise configuration.ConfigurationError(
      f'{path}: the folder of {builder} is not complete: no build finished it, '
      'or it lost files. Delete it, or add --overwrite, to build it again.'
    )
  return summary


def _shards(info: Mapping[str, Any]) -> list[str]:
  """Names of the data files, from the content of dataset_info.json."""
  names = []
  for split in info['splits']:
    total = len(split['shardLengths'])
    names += [
      f'{info["name"]}-{split["name"]}.{info["fileFormat"]}'
      f'-{number:05d}-of-{total:05d}'
      for number in range(total)
    ]
  return names
