"""A file is read once for as long as it stays what it is."""

import hashlib
import os

import pytest

from rest_jax.artifacts import file_digests


@pytest.fixture
def read(monkeypatch):
  """The files that were read, in order."""
  found = []
  content = file_digests.content
  monkeypatch.setattr(
    file_digests, 'content', lambda f: found.append(str(f)) or content(f)
  )
  return found


@pytest.fixture
def file(tmp_path):
  made = tmp_path / 'model.gguf'
  made.write_bytes(b'weights')
  os.utime(made, (1_000, 1_000))
  return made


def digest(tmp_path, file):
  return file_digests.Cache(tmp_path / 'ledger' / 'files.json').content(file)


def test_a_digest_is_that_of_the_bytes_and_taken_once(tmp_path, file, read):
  expected = hashlib.sha256(b'weights').hexdigest()[:32]
  assert [digest(tmp_path, file) for _ in range(3)] == [expected] * 3
  assert read == [str(file)]


def test_a_touched_file_is_read_again_and_is_the_same(tmp_path, file, read):
  before = digest(tmp_path, file)
  os.utime(file, (2_000, 2_000))
  assert digest(tmp_path, file) == before
  assert len(read) == 2


@pytest.mark.parametrize('data', [b'WEIGHTS', b'more weights', b''])
def test_other_bytes_are_seen_even_with_the_old_time(tmp_path, file, data):
  before = digest(tmp_path, file)
  file.write_bytes(data)
  os.utime(file, (1_000, 1_000))  # as `cp -p` and `rsync -t` do
  assert digest(tmp_path, file) != before


def test_a_file_written_just_now_is_read_again(tmp_path, read):
  # A second edit within the clock's step would have the same size and time.
  file = tmp_path / 'rows.jsonl'
  file.write_text('one')
  for _ in range(2):
    digest(tmp_path, file)
  assert len(read) == 2


def test_a_damaged_cache_costs_time_alone(tmp_path, file):
  before = digest(tmp_path, file)
  for text in ('{', '[]', '{"a": 1}'):
    (tmp_path / 'ledger' / 'files.json').write_text(text)
    assert digest(tmp_path, file) == before


def test_without_a_cache_every_digest_is_taken(file, read, monkeypatch):
  monkeypatch.delenv(file_digests.CACHE, raising=False)
  for _ in range(2):
    file_digests.of_this_process().content(file)
  assert len(read) == 2


def test_several_files_have_one_digest(tmp_path, file):
  cache = file_digests.Cache(tmp_path / 'files.json')
  taken = []

  def compute():
    taken.append(1)
    return 'd'

  other = tmp_path / 'other'
  other.write_bytes(b'x')
  os.utime(other, (1_000, 1_000))
  for _ in range(2):
    assert cache.of([file, other], compute) == 'd'
  other.write_bytes(b'y')
  cache.of([file, other], compute)
  assert len(taken) == 2


def test_a_remote_file_is_read_once(bucket, tmp_path, read, monkeypatch):
  from rest_jax.artifacts import storage

  monkeypatch.setattr(file_digests, '_SETTLED_SECONDS', -1e9)
  path = f'{bucket}/m/model.gguf'
  storage.write_bytes(path, b'weights')
  first = [digest(tmp_path, path) for _ in range(2)]
  storage.write_bytes(path, b'other weights')
  assert digest(tmp_path, path) != first[0] == first[1]
  assert len(read) == 2
