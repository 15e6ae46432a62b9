"""A set is built once, whole or not at all, and SeqIO reads what was read.

One process imports TensorFlow for all of these (5 s); the sets are small.
"""

import dataclasses
import functools
import http.server
import importlib
import json
import pickle
import shutil
import threading

import published_sets
import pytest

from rest_jax.config import configuration
from rest_jax.tasks.benchmarks import (
  catalogue,
  file_sources,
  preparation,
  published_files,
  published_task,
)


@pytest.fixture
def small(monkeypatch):
  """The catalogue with the counts of our own small sets; builders too."""
  from rest_jax.tasks.benchmarks import builders

  counts = {
    'humaneval': {'test': 2},
    'gsm8k': {'train': 1, 'test': 1},
    'apps': {'train': 2, 'test': 1},
  }
  for name, number in counts.items():
    row = dataclasses.replace(
      catalogue.get(name), counts=number, exemplars=(), num_shots=0
    )
    monkeypatch.setitem(catalogue.CATALOGUE, name, row)
    monkeypatch.setattr(builders.BUILDERS[name], 'benchmark', row)
  return builders


@pytest.fixture
def build(small, tmp_path):
  published_sets.write('jsonl', tmp_path / 'gsm8k', published_sets.GSM8K)
  return functools.partial(
    preparation.build,
    'gsm8k',
    manual_dir=tmp_path / 'gsm8k',
    data_dir=tmp_path / 'tfds',
  )


def kept(prepared):
  """Every file of a built set, with its content."""
  return {path.name: path.read_bytes() for path in prepared.path.iterdir()}


def change_source(tmp_path):
  rows = {
    **published_sets.GSM8K,
    'test': [{'question': 'Three times 600?', 'answer': 'Yes.\n#### 1800'}],
  }
  published_sets.write('jsonl', tmp_path / 'gsm8k', rows)


def test_seqio_reads_every_field_of_what_was_read(small, tmp_path):
  import seqio

  published_sets.write_apps_folders(tmp_path / 'apps')
  prepared = preparation.build(
    'apps', manual_dir=tmp_path, data_dir=tmp_path / 'tfds'
  )
  assert prepared.built and prepared.summary.rows['train'] == 2
  source = seqio.TfdsDataSource(
    'rest_apps:1.0.0', tfds_data_dir=str(tmp_path / 'tfds')
  )
  assert source.num_input_examples('train') == 2
  # SeqIO refuses to shuffle a set that TFDS keeps in order
  found = {
    row['problem_id'].decode(): row
    for row in source.get_dataset('train', shuffle=True).as_numpy_iterator()
  }
  for row in published_files.read('apps', tmp_path).rows['train']:
    example = found.pop(row.key)
    assert set(example) == set(published_task.FIELDS)
    for name in published_task.FIELDS[1:]:
      assert example[name].decode() == (getattr(row, name) or ''), name
  assert not found
  assert all(
    '.tfrecord-' in name or name.endswith('.json') or name == 'LICENSE'
    for name in kept(prepared)
  )


def test_a_second_build_changes_nothing(build, capsys):
  first = build()
  before = kept(first)
  second = build()
  assert first.built and not second.built
  assert kept(second) == before
  # nor does a call that names no source
  assert not build(manual_dir=None).built
  assert dataclasses.replace(first, built=False) == second
  lines = capsys.readouterr().out
  assert 'train: 1 problems; 1 are published' in lines
  assert f'rest_gsm8k: there already: {first.path}' in lines


def test_another_layout_of_the_same_problems_is_no_change(build, tmp_path):
  build()
  published_sets.write('parquet', tmp_path / 'hub', published_sets.GSM8K)
  assert not build(manual_dir=tmp_path / 'hub').built


def test_a_changed_source_is_refused_until_it_may_overwrite(build, tmp_path):
  first = build()
  before = kept(first)
  change_source(tmp_path)
  with pytest.raises(configuration.ConfigurationError) as error:
    build()
  assert str(first.path) in str(error.value)
  assert '--overwrite' in str(error.value)
  assert kept(first) == before
  second = build(overwrite=True)
  assert second.built and second.summary.digest != first.summary.digest
  assert not build().built


def test_a_build_that_dies_leaves_nothing_that_counts(
  build, small, tmp_path, monkeypatch
):
  def dies(self, rows):
    yield from list(original(self, rows))[:1]
    raise KeyboardInterrupt

  cls = small.BenchmarkBuilder
  original = cls._generate_examples
  with monkeypatch.context() as patch:
    patch.setattr(cls, '_generate_examples', dies)
    with pytest.raises(KeyboardInterrupt):
      build()
  assert not (tmp_path / 'tfds' / 'rest_gsm8k' / '1.0.0').exists()
  assert build().built


@pytest.mark.parametrize(
  'lost', ['dataset_info.json', 'metadata.json', 'rest_gsm8k-test', 'all']
)
def test_a_folder_that_is_not_whole_is_not_taken(build, lost):
  path = build().path
  for file in path.iterdir():
    if lost == 'all' or file.name.startswith(lost):
      file.unlink()
  with pytest.raises(configuration.ConfigurationError) as error:
    build()
  assert str(path) in str(error.value) and '--overwrite' in str(error.value)
  assert build(overwrite=True).built
  assert not build().built


def test_partial_data_says_so(build, tmp_path):
  (tmp_path / 'gsm8k' / 'test.jsonl').unlink()
  with pytest.raises(configuration.ConfigurationError, match='test has 0'):
    build()
  assert not (tmp_path / 'tfds').exists()  # found out before anything is made
  prepared = build(allow_partial=True)
  assert prepared.summary.partial
  metadata = json.loads(kept(prepared)['metadata.json'])
  assert metadata['partial'] and metadata['rows'] == {'train': 1}
  # and does not pass for the whole of it later
  with pytest.raises(configuration.ConfigurationError, match='--allow_partial'):
    build(manual_dir=None)
  assert not build(manual_dir=None, allow_partial=True).built


def test_where_nothing_is_found_it_says_what_to_do(small, tmp_path):
  for manual_dir in (None, tmp_path / 'nowhere'):
    with pytest.raises(file_sources.NotFoundError) as error:
      preparation.build('gsm8k', manual_dir=manual_dir, data_dir=tmp_path)
    for words in (
      catalogue.get('gsm8k').files,
      *catalogue.get('gsm8k').urls.values(),
      'rest-jax prepare --task=gsm8k --manual_dir=DIR',
    ):
      assert words in str(error.value)
  assert not list(tmp_path.iterdir())


def test_the_folder_of_tfds_for_manual_files_is_looked_at(build, tmp_path):
  manual = tmp_path / 'tfds' / 'downloads' / 'manual'
  shutil.copytree(tmp_path / 'gsm8k', manual / 'gsm8k')
  assert build(manual_dir=None).built


@pytest.fixture
def served(tmp_path, monkeypatch, small):
  """Our small GSM8K at the addresses of the catalogue; a folder to change."""
  folder = tmp_path / 'served'
  published_sets.write('jsonl', folder, published_sets.GSM8K)
  handler = functools.partial(_Quiet, directory=str(folder))
  server = http.server.ThreadingHTTPServer(('127.0.0.1', 0), handler)
  threading.Thread(target=server.serve_forever, daemon=True).start()
  address = f'http://127.0.0.1:{server.server_port}'
  urls = {
    f'{split}.jsonl': f'{address}/{split}.jsonl'
    for split in published_sets.GSM8K
  }
  row = dataclasses.replace(catalogue.get('gsm8k'), urls=urls)
  monkeypatch.setitem(catalogue.CATALOGUE, 'gsm8k', row)
  monkeypatch.setattr(small.BUILDERS['gsm8k'], 'benchmark', row)
  monkeypatch.setenv('no_proxy', '127.0.0.1')
  yield folder
  server.shutdown()
  server.server_close()


class _Quiet(http.server.SimpleHTTPRequestHandler):
  def log_message(self, *_):
    pass


def test_a_download_gives_the_same_problems(served, build, tmp_path):
  local = build()
  fetched = preparation.build(
    'gsm8k', data_dir=tmp_path / 'other', download=True
  )
  assert fetched.built
  assert fetched.summary.digest == local.summary.digest
  again = preparation.build('gsm8k', data_dir=tmp_path / 'other', download=True)
  assert not again.built


def test_a_download_that_fails_says_how_to_do_without(served, tmp_path):
  (served / 'test.jsonl').unlink()
  with pytest.raises(configuration.ConfigurationError) as error:
    preparation.build('gsm8k', data_dir=tmp_path / 'other', download=True)
  assert 'could not be downloaded' in str(error.value)
  assert '--manual_dir=DIR' in str(error.value)


def test_every_benchmark_has_its_builder_once(small):
  import tensorflow_datasets as tfds

  names = {row.builder for row in catalogue.CATALOGUE.values()}
  assert {cls.name for cls in small.BUILDERS.values()} == names
  for cls in small.BUILDERS.values():
    assert tfds.builder_cls(cls.name) is cls
  classes = dict(small.BUILDERS)
  importlib.reload(small)  # as a second copy of the module would
  assert small.BUILDERS == classes


def test_only_tfrecord_is_written(build, small, tmp_path):
  import tensorflow_datasets as tfds

  for make in (
    small.builder,
    lambda name, **kw: tfds.builder(f'rest_{name}', **kw),
  ):
    with pytest.raises(configuration.ConfigurationError, match='tfrecord'):
      make('gsm8k', data_dir=str(tmp_path), file_format='array_record')
  builder = small.builder('gsm8k', data_dir=str(tmp_path))
  with pytest.raises(configuration.ConfigurationError, match='tfrecord'):
    builder.download_and_prepare(file_format='array_record')
  build()
  data_dir = str(tmp_path / 'tfds')
  built = tfds.builder('rest_gsm8k', data_dir=data_dir, file_format='tfrecord')
  again = pickle.loads(pickle.dumps(built))
  assert again.info.splits['train'].num_examples == 1
  assert again.info.metadata['digest'] == built.info.metadata['digest']


def test_plain_tfds_takes_a_manual_dir_too(small, tmp_path):
  import tensorflow_datasets as tfds

  rows = published_sets.HUMANEVAL['test']
  published_sets.write('jsonl.gz', tmp_path / 'he', {'HumanEval': rows})
  found = tfds.load(
    'rest_humaneval',
    split='test',
    data_dir=str(tmp_path / 'tfds'),
    builder_kwargs={'manual_dir': str(tmp_path / 'he')},
  )
  ids = {row['problem_id'] for row in found.as_numpy_iterator()}
  assert ids == {b'0', b'10'}
