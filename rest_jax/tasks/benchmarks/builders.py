"""TFDS builders of the published data sets: rest_math, rest_gsm8k, …

    import rest_jax.tasks.benchmarks.builders  # registers them
    tfds.load('rest_gsm8k', builder_kwargs={'manual_dir': 'gsm8k'})

Importing this module registers them. They write TFRecord only, because SeqIO
reads no other format of TFDS. All features are texts (published_task.FIELDS);
'' stands for a field that a problem does not have.
"""

import socket
import types
from collections.abc import Iterable, Iterator, Sequence
from typing import Any
from urllib import parse, request

import tensorflow_datasets as tfds

from rest_jax.artifacts import storage
from rest_jax.config import configuration
from rest_jax.tasks import problem_sets
from rest_jax.tasks.benchmarks import (
  catalogue,
  file_sources,
  parsed_dataset,
  published_files,
  published_task,
  verification,
)
from rest_jax.tasks.benchmarks.published_task import Benchmark

FILE_FORMAT = 'tfrecord'


class BenchmarkBuilder(tfds.core.GeneratorBasedBuilder, skip_registration=True):
  """Prepares one benchmark. Its subclasses, one a benchmark, are registered.

  Attributes:
    benchmark: its row of the catalogue.
    verified: what was found in the data; None before download_and_prepare.
  """

  RELEASE_NOTES = {published_task.BUILDER_VERSION: 'First version.'}
  VERSION = tfds.core.Version(published_task.BUILDER_VERSION)
  # Otherwise TFDS 4.9.10 looks for the code's path with importlib_resources,
  # which it does not install.
  code_path = None
  benchmark: Benchmark
  verified: verification.Verification | None = None

  def __init__(
    self,
    *,
    manual_dir: storage.PathLike | None = None,
    allow_partial: bool = False,
    dataset: parsed_dataset.ParsedDataset | None = None,
    file_format: str | None = None,
    **kwargs: Any,
  ):
    """Makes a builder; nothing is read before `download_and_prepare`.

    Args:
      manual_dir: where the published files lie, as for published_files.read.
        None for TFDS's own manual_dir; if no file is there, they are
        downloaded.
      allow_partial: accept any number of problems above 0; the metadata then
        says that the set is partial.
      dataset: the problems, if they have been read already.
      file_format: 'tfrecord', or None, which means the same.
      **kwargs: of tfds.core.GeneratorBasedBuilder.

    Raises:
      ConfigurationError: file_format is another one.
    """
    _check_format(file_format)
    self._manual_dir = manual_dir
    self._allow_partial = allow_partial
    self._dataset = dataset
    super().__init__(file_format=FILE_FORMAT, **kwargs)

  def download_and_prepare(
    self, *, file_format: str | None = None, **kwargs: Any
  ) -> None:
    """As in TFDS; refuses every file_format but 'tfrecord'."""
    _check_format(file_format)
    super().download_and_prepare(**kwargs)

  def _info(self) -> tfds.core.DatasetInfo:
    return tfds.core.DatasetInfo(
      builder=self,
      description=f'{self.benchmark.title}. Prepared by rest_jax.',
      features=tfds.features.FeaturesDict(
        {name: tfds.features.Text() for name in published_task.FIELDS}
      ),
      homepage=self.benchmark.homepage,
      license=self.benchmark.licence,
      metadata=tfds.core.MetadataDict(),
    )

  def _split_generators(
    self, dl_manager: tfds.download.DownloadManager
  ) -> dict[str, Iterator[tuple[str, dict[str, str]]]]:
    dataset = self._dataset or self._read(dl_manager)
    self.verified = verification.verify(
      self.benchmark, dataset, allow_partial=self._allow_partial
    )
    self.info.metadata.update(self.verified.summary.to_json())
    return {
      split: self._generate_examples(rows)
      for split, rows in dataset.rows.items()
      if rows
    }

  def _generate_examples(
    self, rows: Sequence[problem_sets.Row]
  ) -> Iterator[tuple[str, dict[str, str]]]:
    for row in rows:
      values = {'problem_id': row.key}
      for name in published_task.FIELDS[1:]:
        values[name] = getattr(row, name) or ''
      yield row.key, values

  def _read(
    self, dl_manager: tfds.download.DownloadManager
  ) -> parsed_dataset.ParsedDataset:
    if self._manual_dir is not None:
      return published_files.read(self.benchmark.name, self._manual_dir)
    try:
      return published_files.read(self.benchmark.name, dl_manager.manual_dir)
    except (AssertionError, file_sources.NotFoundError):
      return self._download(dl_manager)

  def _download(
    self, dl_manager: tfds.download.DownloadManager
  ) -> parsed_dataset.ParsedDataset:
    urls = dict(self.benchmark.urls)
    if not urls:
      raise file_sources.NotFoundError(
        f'{self.benchmark.name}: nothing was found, and there is no address to '
        f'download it from. {published_files.instructions(self.benchmark)}'
      )
    try:
      _check_reachable(urls.values())
      paths = dl_manager.download(urls)
    except (OSError, tfds.download.DownloadError) as error:
      raise configuration.ConfigurationError(
        f'{self.benchmark.name}: it could not be downloaded ({error}). '
        f'{published_files.instructions(self.benchmark)}'
      ) from error
    folder = file_sources.Folder(', '.join(urls.values()), paths)
    return published_files.read(self.benchmark.name, folder)


def builder(name: str, **kwargs: Any) -> BenchmarkBuilder:
  """The builder of a benchmark; see BenchmarkBuilder for its arguments."""
  return BUILDERS[published_files.data_set(name).name](**kwargs)


def _check_reachable(addresses: Iterable[str]) -> None:
  """Raises OSError at once if there is no network; TFDS retries for minutes."""
  if request.getproxies():
    return  # the proxy resolves host names
  for address in addresses:
    socket.getaddrinfo(parse.urlsplit(address).hostname, None)


def _check_format(file_format: Any) -> None:
  value = getattr(file_format, 'value', file_format)  # an enum of TFDS
  if value not in (None, FILE_FORMAT):
    raise configuration.ConfigurationError(
      f'file_format: got {value!r}; allowed: {FILE_FORMAT!r}. SeqIO reads no '
      'other format of TFDS.'
    )


def _builder_class(benchmark: Benchmark) -> type[BenchmarkBuilder]:
  """Makes a builder, which registers it; returns it if it is registered."""
  words = benchmark.builder.split('_')
  fields = {
    '__module__': __name__,
    '__doc__': f'Prepares {benchmark.title}.',
    'name': benchmark.builder,
    'benchmark': benchmark,
    'MANUAL_DOWNLOAD_INSTRUCTIONS': published_files.instructions(benchmark),
  }
  try:
    return types.new_class(
      ''.join(word.capitalize() for word in words),
      (BenchmarkBuilder,),
      exec_body=lambda namespace: namespace.update(fields),
    )
  except ValueError:  # registered: this module has been loaded before
    return tfds.builder_cls(benchmark.builder)


BUILDERS = {
  name: _builder_class(benchmark)
  for name, benchmark in catalogue.CATALOGUE.items()
  if benchmark.data is None
}
# Pickle finds a class by its name in this module.
globals().update({cls.__name__: cls for cls in BUILDERS.values()})
