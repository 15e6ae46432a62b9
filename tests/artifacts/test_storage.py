"""Files are there whole or not at all, here and on gs://."""

import errno
import os
import subprocess
import sys

import pytest

from rest_jax.artifacts import storage
from rest_jax.config import configuration


@pytest.fixture(params=['local', 'remote'])
def folder(request, tmp_path):
  """A folder on this machine, and one on an object store."""
  if request.param == 'local':
    return storage.path(tmp_path)
  return storage.path(f'{request.getfixturevalue("bucket")}/run')


def test_what_is_written_is_read(folder):
  storage.write_json(folder / 'a' / 'b.json', {'x': [1, 'ü']})
  assert storage.read_json(folder / 'a' / 'b.json') == {'x': [1, 'ü']}
  storage.write_bytes(folder / 'a' / 'b.json', b'{"x": 2}')
  assert storage.read_json(folder / 'a' / 'b.json') == {'x': 2}
  assert [path.name for path in (folder / 'a').iterdir()] == ['b.json']


def test_a_broken_json_is_named_with_what_to_do(folder):
  storage.write_bytes(folder / 'x.json', b'{"a": ')
  with pytest.raises(configuration.ConfigurationError, match='x.json.*delete'):
    storage.read_json(folder / 'x.json')


def test_a_folder_set_aside_keeps_its_files_and_earlier_ones(folder):
  for content in (b'1', b'2'):
    storage.write_bytes(folder / 'part' / 'deep' / 'f', content)
    storage.set_aside(folder / 'part')
    assert not (folder / 'part').exists()
  kept = [
    (folder / f'part.superseded-{k}' / 'deep' / 'f').read_bytes()
    for k in (1, 2)
  ]
  assert kept == [b'1', b'2']


def test_a_store_moves_a_folder_aside_by_itself(bucket, store):
  """No byte of a checkpoint passes through this machine, whole or in part."""
  for number in range(20):
    store.put(f'bucket/run/c/d/{number:02}', bytes(10_000))
  before = store.bytes_in + store.bytes_out
  storage.set_aside(f'{bucket}/run')
  assert store.bytes_in + store.bytes_out - before < 40_000  # of 200 000
  assert sorted(store.objects) == [
    f'bucket/run.superseded-1/c/d/{number:02}' for number in range(20)
  ]


def test_a_move_aside_that_was_interrupted_goes_on(bucket, store):
  names = ['a', 'deep/b', 'deep/c', 'started.json', 'manifest.json']
  last = ('started.json', 'manifest.json')
  for name in names:
    store.put(f'bucket/run/{name}', name.encode())
  store.fault('POST.*deep/c/', status=403, times=2)  # a move, then a copy
  with pytest.raises(OSError, match='403|status'):
    storage.set_aside(f'{bucket}/run', last=last)
  # What says whose folder it is stays as long as anything else does.
  assert all(f'bucket/run/{name}' in store.objects for name in last)
  store.fault('POST.*deep/c/moveTo', status=503, after=True)  # answer lost
  storage.set_aside(f'{bucket}/run', last=last)
  assert {key: made.data for key, made in store.objects.items()} == {
    f'bucket/run.superseded-1/{name}': name.encode() for name in names
  }


def test_what_another_process_writes_is_seen_at_once(bucket, store):
  """gcsfs would answer sizes and absences from its cache of listings."""
  folder = storage.path(f'{bucket}/run')
  store.put('bucket/run/part', b'old')
  assert [path.name for path in folder.iterdir()] == ['part']
  assert (folder / 'part').stat().length == 3
  store.put('bucket/run/part', b'longer')
  store.put('bucket/run/new', b'x')
  assert (folder / 'part').stat().length == 6
  assert (folder / 'part').read_bytes() == b'longer'
  assert (folder / 'new').exists()
  assert len(list(folder.iterdir())) == 2


def test_a_request_that_fails_is_sent_again(bucket, store):
  store.fault('POST /upload')
  storage.write_bytes(f'{bucket}/run/a', b'x')
  store.fault('GET .*run')
  assert storage.path(f'{bucket}/run/a').read_bytes() == b'x'


@pytest.mark.parametrize('status', [400, 403])
def test_a_store_that_refuses_a_write_is_an_error_of_the_file(
  bucket, store, status
):
  """gcsfs raises classes of several libraries; callers know OSError."""
  store.put('bucket/run/a', b'old')
  store.fault('POST /upload', times=9, status=status)
  with pytest.raises(OSError, match='run/a|status'):
    storage.write_bytes(f'{bucket}/run/a', b'new')
  assert store.objects['bucket/run/a'].data == b'old'


def test_a_bare_name_is_a_file_of_the_working_directory(tmp_path, monkeypatch):
  monkeypatch.chdir(tmp_path)
  storage.write_bytes('name', b'x')
  assert (tmp_path / 'name').read_bytes() == b'x'


def test_a_failed_write_leaves_the_old_file_and_nothing_beside(
  tmp_path, monkeypatch
):
  target = tmp_path / 'manifest.json'
  storage.write_bytes(target, b'old')

  def full(descriptor):
    raise OSError(errno.ENOSPC, 'No space left on device')

  monkeypatch.setattr(os, 'fsync', full)
  with pytest.raises(OSError, match='disk is full; free some space') as caught:
    storage.write_bytes(target, b'new')
  assert caught.value.errno in storage.FINAL_ERRNOS
  assert target.read_bytes() == b'old'
  assert os.listdir(tmp_path) == ['manifest.json']


def test_a_real_full_disk_is_said_and_leaves_nothing_half_written(tmp_path):
  if os.geteuid() != 0:
    pytest.skip('mounting a small tmpfs needs root')
  small = tmp_path / 'small'
  small.mkdir()
  mount = ['mount', '-t', 'tmpfs', '-o', 'size=64k', 'tmpfs', str(small)]
  if subprocess.run(mount, capture_output=True).returncode != 0:
    pytest.skip('this machine does not let us mount a tmpfs')
  try:
    storage.write_bytes(small / 'a', b'x' * 10_000)
    with pytest.raises(OSError, match='the disk is full'):
      storage.write_bytes(small / 'b', os.urandom(200_000))
    assert sorted(os.listdir(small)) == ['a']
    storage.write_bytes(small / 'c', b'there is room again')
  finally:
    subprocess.run(['umount', str(small)], check=True)


def test_an_unwritable_folder_is_said(tmp_path):
  locked = tmp_path / 'locked'
  locked.mkdir()
  locked.chmod(0o555)
  script = (
    'import os, sys\n'
    'from rest_jax.artifacts import storage\n'
    'os.chdir(sys.argv[1])\n'
    'if os.geteuid() == 0: os.setuid(65534)  # root may write anywhere\n'
    'try: storage.write_bytes("deep/file", b"x")\n'
    'except OSError as error: print(error)\n'
  )
  done = subprocess.run(
    [sys.executable, '-c', script, str(locked)],
    capture_output=True,
    text=True,
    env=os.environ | {'PYTHONPATH': os.pathsep.join(sys.path)},
  )
  assert 'cannot be written; check its owner' in done.stdout, done.stderr


def test_gs_paths_need_no_tensorflow(bucket):
  storage.write_bytes(f'{bucket}/a/b', b'x')
  assert storage.path(f'{bucket}/a').exists()
  names = [os.fspath(p) for p in storage.path(f'{bucket}/a').glob('*')]
  assert names == [f'{bucket}/a/b']
  script = (
    'import sys\n'
    'from rest_jax.artifacts import storage\n'
    'storage.path("gs://b/x")\n'
    'sys.exit("tensorflow" in sys.modules)\n'
  )
  subprocess.run([sys.executable, '-c', script], check=True)


def test_another_librarys_word_of_a_full_disk_is_said_as_ours(tmp_path):
  text = 'RESOURCE_EXHAUSTED: … No space left on device [os_error_code=28]'
  with pytest.raises(OSError, match='the disk is full') as caught:
    with storage.disk_errors(tmp_path):
      raise ValueError(text)
  assert caught.value.errno == errno.ENOSPC
  assert str(tmp_path) in str(caught.value)
  again = storage.with_advice(caught.value)
  assert str(again).count('the disk is full') == 1
  with pytest.raises(ValueError, match='out of memory'):
    with storage.disk_errors(tmp_path):
      raise ValueError('RESOURCE_EXHAUSTED: out of memory')
