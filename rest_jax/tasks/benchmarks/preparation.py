"""Builds a published data set: read it, verify it, keep it for TFDS.

What is kept has the digest of its problems beside it (metadata.json), so a
second call knows whether its source has changed. TFDS writes into a folder of
another name and renames it last: a build that was killed leaves nothing that
looks finished.
"""

import json
import os
from collections.abc import Mapping
from typing import Any

from rest_jax.artifacts import storage
from rest_jax.config import configuration
from rest_jax.tasks.benchmarks import (
  catalogue,
  files,
  published_files,
  readings,
  verification,
)

INFO, METADATA = 'dataset_info.json', 'metadata.json'


def build(
  name: str,
  *,
  manual_dir: storage.PathLike | None = None,
  data_dir: storage.PathLike | None = None,
  download: bool = False,
  allow_partial: bool = False,
  overwrite: bool = False,
) -> dict[str, Any]:
  """Prepares a published data set for TFDS and SeqIO; prints what was found.

  Does nothing where it stands already and its source has not changed, or no
  source is named.

  Args:
    name: of a benchmark in the catalogue.
    manual_dir: where the published files lie, as for published_files.read;
      None for the folder downloads/manual in `data_dir`.
    data_dir: where TFDS keeps its data; None for TFDS_DATA_DIR, or
      ~/tensorflow_datasets.
    download: whether to download it where nothing is found.
    allow_partial: take any number of problems.
    overwrite: build it anew where it stands already.

  Returns:
    Verification.summary, with name, builder, path and state: 'built', or
    'there' where nothing was done.

  Raises:
    ConfigurationError: nothing was found; it is damaged or incomplete; or
      other problems are kept there already.
  """
  benchmark = published_files.data_set(name)
  data_dir = _data_dir(data_dir)
  path = data_dir / benchmark.builder / catalogue.BUILDER_VERSION
  kept = None if overwrite else _kept(path, benchmark.builder)
  reading = _read(benchmark, manual_dir, data_dir)
  if reading is None and kept is None and not download:
    looked = manual_dir or data_dir / 'downloads' / 'manual'
    raise files.NotFoundError(
      f'{benchmark.name}: nothing was found in {looked}. '
      f'{published_files.instructions(benchmark)}'
      + ('; or add --download' if benchmark.urls else '')
    )
  if reading is not None:
    found = verification.verify(benchmark, reading, allow_partial=allow_partial)
    print('\n'.join(found.lines), flush=True)
    if kept is not None and kept['digest'] != found.summary['digest']:
      raise configuration.ConfigurationError(
        f'{path}: it was built from other problems (digest '
        f'{kept["digest"][:12]}; those in {reading.where} have '
        f'{found.summary["digest"][:12]}). Delete that folder, or add '
        '--overwrite, to build it anew.'
      )
  elif kept is not None and kept['partial'] and not allow_partial:
    raise configuration.ConfigurationError(
      f'{path}: it was built from a part of the data set '
      f'({"; ".join(kept["wrong"])}). Take it as it is with --allow_partial, '
      'or build it anew from all of it: '
      f'{published_files.instructions(benchmark)} --overwrite'
    )
  if kept is None:
    kept = _prepare(benchmark, data_dir, path, reading, allow_partial)
    state = 'built'
  else:
    state = 'there'
  print(f'{benchmark.builder}: {state}: {path}', flush=True)
  return {
    **kept,
    'name': benchmark.name,
    'builder': benchmark.builder,
    'path': str(path),
    'state': state,
  }


def _data_dir(data_dir: storage.PathLike | None):
  default = os.environ.get('TFDS_DATA_DIR') or '~/tensorflow_datasets'
  return storage.path(data_dir or default).expanduser()


def _read(benchmark, manual_dir, data_dir) -> readings.Reading | None:
  """What lies in the folder; None where nothing does and none was named."""
  if manual_dir is not None:
    try:
      return published_files.read(benchmark.name, manual_dir)
    except files.NotFoundError as error:
      raise files.NotFoundError(
        f'{error} {published_files.instructions(benchmark)}'
      ) from None
  try:
    return published_files.read(
      benchmark.name, data_dir / 'downloads' / 'manual'
    )
  except files.NotFoundError:
    return None


def _prepare(benchmark, data_dir, path, reading, allow_partial) -> Mapping:
  from rest_jax.tasks.benchmarks import builders  # imports TensorFlow

  if path.exists():
    path.rmtree()
  builders.tfds.disable_progress_bar()
  builder = builders.builder(
    benchmark.name,
    data_dir=str(data_dir),
    reading=reading,
    allow_partial=allow_partial,
  )
  builder.download_and_prepare()
  if reading is None:  # it was downloaded
    print('\n'.join(builder.verified.lines), flush=True)
  return _kept(path, benchmark.builder)


def _kept(path, builder: str) -> Mapping | None:
  """The metadata of what was built; None where nothing is there.

  Raises:
    ConfigurationError: a folder is there that is not whole.
  """
  if not path.exists():
    return None
  try:
    info = json.loads((path / INFO).read_text())
    metadata = json.loads((path / METADATA).read_text())
    missing = [name for name in _shards(info) if not (path / name).exists()]
    whole = 'digest' in metadata and info['splits'] and not missing
  except (OSError, ValueError, KeyError, TypeError):
    whole = False
  if not whole:
    raise configuration.ConfigurationError(
      f'{path}: a folder is there that no build has finished, or that lost '
      f'files (of {builder}). Delete it, or add --overwrite, to build it anew.'
    )
  return metadata


def _shards(info: Mapping) -> list[str]:
  """Names of the files that a data set consists of."""
  names = []
  for split in info['splits']:
    total = len(split['shardLengths'])
    names += [
      f'{info["name"]}-{split["name"]}.{info["fileFormat"]}'
      f'-{number:05d}-of-{total:05d}'
      for number in range(total)
    ]
  return names
