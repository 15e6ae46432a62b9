"""GGUF files read here hold what the package gguf reads in them."""

import itertools

import numpy as np
import pytest

from rest_jax.artifacts import gguf_files
from rest_jax.config import configuration

gguf = pytest.importorskip('gguf')

FIELDS = {
  'uint8': 255,
  'int8': -128,
  'uint16': 65535,
  'int16': -32768,
  'uint32': 2**32 - 1,
  'int32': -(2**31),
  'uint64': 2**64 - 1,
  'int64': -(2**63),
  'float32': 0.1,
  'float64': 0.1,
  'bool': True,
  'string': 'naïve ▁\x00 🙂',
}
ARRAYS = {
  'strings': ['', 'a', '▁Ġé', 'a' * 1000],
  'floats': [0.5, -1.0],
  'integers': [1, -2, 3],
  'truths': [True, False],
}
TYPES = ('F32', 'F16', 'BF16', 'Q8_0', 'Q4_0', 'Q4_1', 'Q6_K', 'Q4_K')


def write(path, alignment=None):
  """A file with metadata of every type, and a matrix of several types."""
  writer = gguf.GGUFWriter(path, 'llama')
  if alignment:
    writer.add_custom_alignment(alignment)
  for name, value in FIELDS.items():
    getattr(writer, f'add_{name}')(f'test.{name}', value)
  for name, value in ARRAYS.items():
    writer.add_array(f'test.{name}', value)
  rng = np.random.default_rng(0)
  for name in TYPES:
    kind = gguf.GGMLQuantizationType[name]
    block, size = gguf.GGML_QUANT_SIZES[kind]
    shape = (3, 512 // block * size)
    packed = rng.integers(0, 60, shape).astype(np.uint8)
    writer.add_tensor(name, packed, raw_dtype=kind)
  writer.add_tensor('vector', rng.normal(size=7).astype(np.float32))
  writer.add_tensor('cube', rng.normal(size=(2, 3, 4)).astype(np.float32))
  writer.write_header_to_file()
  writer.write_kv_data_to_file()
  writer.write_tensors_to_file()
  writer.close()
  return path


@pytest.mark.parametrize('alignment', [None, 64])
def test_fields_and_tensors_are_those_that_the_package_reads(
  tmp_path, alignment
):
  path = write(tmp_path / 'm.gguf', alignment)
  found, reader = gguf_files.opened(path), gguf.GGUFReader(path)
  for name, value in found.fields.items():
    assert reader.fields[name].contents() == value, name
  assert {n for n in reader.fields if '.' in n and n[0] != 'G'} == set(
    found.fields
  )
  assert list(found.tensors) == [tensor.name for tensor in reader.tensors]
  for tensor in reader.tensors:
    ours = found.tensors[tensor.name]
    assert ours.shape == tuple(map(int, tensor.shape[::-1]))
    assert ours.type == tensor.tensor_type
    rows = tensor.data.reshape(-1, tensor.data.shape[-1])
    expected = gguf.quants.dequantize(rows, tensor.tensor_type)
    np.testing.assert_array_equal(ours.values(), expected, tensor.name)
    np.testing.assert_array_equal(ours.values(slice(1, 3)), expected[1:3])


def test_a_file_that_ends_anywhere_is_refused_by_its_name(tmp_path):
  """Never another error, and never a tensor that is not whole."""
  whole = write(tmp_path / 'm.gguf').read_bytes()
  header = len(whole) - sum(
    tensor.packed.nbytes
    for tensor in gguf_files.opened(tmp_path / 'm.gguf').tensors.values()
  )
  path = tmp_path / 'short.gguf'
  ends = itertools.chain(range(0, header, 7), range(header, len(whole), 997))
  for end in [*ends, len(whole) - 33]:
    path.write_bytes(whole[:end])
    with pytest.raises(
      configuration.ConfigurationError, match=r'short\.gguf: not a readable'
    ):
      gguf_files.opened(path)


def test_bytes_that_lie_are_refused_at_once(tmp_path):
  """Counts and lengths of 2**64 - 1, and types that there are not."""
  whole = bytearray(write(tmp_path / 'm.gguf').read_bytes())
  tensors = gguf_files.opened(tmp_path / 'm.gguf').tensors
  header = len(whole) - sum(t.packed.nbytes for t in tensors.values())
  path = tmp_path / 'wrong.gguf'
  refused = 0
  for at in range(0, header, 11):
    wrong = bytearray(whole)
    wrong[at : at + 8] = b'\xff' * 8
    path.write_bytes(wrong)
    try:
      gguf_files.opened(path)
    except configuration.ConfigurationError:
      refused += 1
  # The others are a string, or a number, of another value.
  assert refused > header / 11 / 4


def test_a_key_that_is_there_twice_is_refused(tmp_path):
  whole = write(tmp_path / 'm.gguf').read_bytes()
  (tmp_path / 'm.gguf').write_bytes(whole.replace(b'test.int16', b'test.uint8'))
  with pytest.raises(configuration.ConfigurationError, match='test.uint8 is'):
    gguf_files.opened(tmp_path / 'm.gguf')


def test_a_file_on_a_store_is_copied_once_until_it_changes(
  tmp_path, bucket, store, monkeypatch
):
  monkeypatch.setenv('XDG_CACHE_HOME', str(tmp_path / 'cache'))
  here = write(tmp_path / 'm.gguf')
  store.put('bucket/m.gguf', here.read_bytes())
  found, expected = (
    gguf_files.opened(f'{bucket}/m.gguf'),
    gguf_files.opened(here),
  )
  assert found.fields == expected.fields
  for name, tensor in expected.tensors.items():
    np.testing.assert_array_equal(found.tensors[name].packed, tensor.packed)
  before = store.bytes_out
  gguf_files.opened(f'{bucket}/m.gguf')
  assert store.bytes_out - before < 2000
  other = write(tmp_path / 'other.gguf', alignment=64)
  store.put('bucket/m.gguf', other.read_bytes())
  assert gguf_files.opened(f'{bucket}/m.gguf').field('general.alignment') == 64
  copies = [path for path in (tmp_path / 'cache').rglob('*.gguf')]
  assert len(copies) == 1


def test_a_copy_that_fails_leaves_none(tmp_path, bucket, store, monkeypatch):
  monkeypatch.setenv('XDG_CACHE_HOME', str(tmp_path / 'cache'))
  store.put('bucket/m.gguf', write(tmp_path / 'm.gguf').read_bytes())
  store.fault('GET .*alt=media', times=99, status=403)
  with pytest.raises(OSError, match='m.gguf'):
    gguf_files.opened(f'{bucket}/m.gguf')
  store.fault_nothing()
  assert gguf_files.opened(f'{bucket}/m.gguf').field('test.bool')
