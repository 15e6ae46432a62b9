"""Opens GGUF files (llama.cpp's format) for their weights and tokenizer.

https://github.com/ggml-org/ggml/blob/master/docs/gguf.md describes the format.
The header is read here and not with the package gguf, whose reader makes some
arrays of each piece of a vocabulary: 4 s for SmolLM2's 49,000 pieces and 19 s
for Gemma's 262,000, in each stage of a run. That package (extra 'hf') knows the
types of tensors and dequantises them.
"""

import dataclasses
import functools
import mmap
import os
import struct
from collections.abc import Iterator
from typing import Any

import numpy as np

from rest_jax.artifacts import file_digests, local_copies, storage
from rest_jax.config import configuration

_MAGIC, _VERSIONS = b'GGUF', (2, 3)
_BOOL, _STRING, _ARRAY = 7, 8, 9
# The other types of metadata, by their numbers in the file.
_SCALARS = {
  0: np.dtype('<u1'),
  1: np.dtype('<i1'),
  2: np.dtype('<u2'),
  3: np.dtype('<i2'),
  4: np.dtype('<u4'),
  5: np.dtype('<i4'),
  6: np.dtype('<f4'),
  _BOOL: np.dtype('?'),
  10: np.dtype('<u8'),
  11: np.dtype('<i8'),
  12: np.dtype('<f8'),
}
_ALIGNMENT = 'general.alignment'


@dataclasses.dataclass(frozen=True)
class GgufTensor:
  """A tensor as it lies in a file.

  Attributes:
    name: in llama.cpp's words.
    shape: sizes, the fastest last, as in numpy.
    type: a gguf.GGMLQuantizationType.
    packed: uint8, (rows, bytes of a row); a row is the fastest dimension.
  """

  name: str
  shape: tuple[int, ...]
  type: Any
  packed: np.ndarray

  def values(self, rows: slice = slice(None)) -> np.ndarray:
    """Some rows, dequantised: float32, (rows, width); a vector is one row."""
    from gguf import quants

    width = self.shape[-1] if self.shape else 1
    values = quants.dequantize(self.packed[rows], self.type)
    return np.asarray(values, np.float32).reshape(-1, width)


@dataclasses.dataclass(frozen=True)
class GgufFile:
  """The contents of a file; the weights stay on the disk until they are read.

  Attributes:
    fields: the metadata: numbers, truth values, strings, and lists of them.
    tensors: by name, in the file's order.
  """

  fields: dict[str, Any]
  tensors: dict[str, GgufTensor]

  def field(self, name: str, default: Any = None) -> Any:
    """The value of a metadata key, or the default where the file lacks it."""
    return self.fields.get(name, default)


def digested(path: storage.Path) -> list[storage.Path]:
  """The files that `digest` depends on: the file itself."""
  return [path]


def digest(path: storage.PathLike) -> str:
  """What identifies the weights: the bytes of the file."""
  return file_digests.content(path)


def opened(source: storage.PathLike) -> GgufFile:
  """Opens a file.

  Args:
    source: its path; one on a store is copied to this machine once.

  Raises:
    ConfigurationError: the file is damaged or one part of several, or the
      package gguf is not installed.
    OSError: it cannot be copied.
  """
  try:
    import gguf  # noqa: F401
  except ImportError as error:
    raise configuration.ConfigurationError(
      f'{source}: reading GGUF needs the package gguf: '
      "pip install 'rest_jax[hf]'."
    ) from error
  local = local_copies.of(source)
  try:
    stat = os.stat(local)
    found = _read(os.path.realpath(local), stat.st_mtime_ns, stat.st_size)
  except (ValueError, OSError) as error:
    raise configuration.ConfigurationError(
      f'{source}: not a readable GGUF file, or a part of one ({error}).'
    ) from error
  parts = found.field('split.count', 1)
  if parts > 1:
    raise configuration.ConfigurationError(
      f'{source}: one of {parts} parts of a model. Join them first: '
      'llama-gguf-split --merge FIRST_PART WHOLE.gguf.'
    )
  return found


@functools.lru_cache(maxsize=1)
def _read(source: str, modified: int, size: int) -> GgufFile:
  """Reads a file's header; raises ValueError where it is damaged."""
  del modified, size  # they say whether it is still the same file
  with open(source, 'rb') as stream:
    content = mmap.mmap(stream.fileno(), 0, access=mmap.ACCESS_READ)
  header = _Header(content)
  if header.bytes(4) != _MAGIC:
    raise ValueError('it does not begin with GGUF')
  version = header.unpack('<I')
  if version not in _VERSIONS:
    raise ValueError(f'version {version} of the format; 2 and 3 are read')
  num_tensors, num_fields = header.unpack('<Q'), header.unpack('<Q')
  fields: dict[str, Any] = {}
  for _ in range(num_fields):
    name = header.string()
    if name in fields:
      raise ValueError(f'the key {name} is there twice')
    fields[name] = header.value(header.unpack('<I'))
  rows = [_tensor_row(header) for _ in range(num_tensors)]
  alignment = fields.get(_ALIGNMENT, 32)
  if not isinstance(alignment, int) or alignment < 1:
    raise ValueError(f'{_ALIGNMENT} is {alignment!r}')
  start = -(-header.at // alignment) * alignment
  tensors = {}
  for tensor in _tensors(content, start, rows):
    if tensor.name in tensors:
      raise ValueError(f'the tensor {tensor.name} is there twice')
    tensors[tensor.name] = tensor
  return GgufFile(fields, tensors)


class _Header:
  """Reads values one after the other; ValueError beyond the end."""

  def __init__(self, content: mmap.mmap):
    self._content, self._size, self.at = content, len(content), 0

  def bytes(self, count: int) -> bytes:
    start = self.at
    if count > self._size - start:
      raise ValueError(f'it ends at byte {self._size}, within its header')
    self.at = start + count
    return self._content[start : self.at]

  def unpack(self, form: str) -> Any:
    return struct.unpack(form, self.bytes(struct.calcsize(form)))[0]

  def string(self) -> str:
    return self.bytes(self.unpack('<Q')).decode()

  def value(self, kind: int) -> Any:
    """A value of metadata: of a type, by its number."""
    if kind == _STRING:
      return self.string()
    if kind == _ARRAY:
      return self._array(self.unpack('<I'), self.unpack('<Q'))
    return self._numbers(kind, 1)[0]

  def _array(self, kind: int, count: int) -> list[Any]:
    if kind not in (_STRING, _ARRAY):
      return self._numbers(kind, count)
    if 8 * count > self._size - self.at:  # before a loop of any length
      raise ValueError(f'an array of {count} values goes beyond its end')
    return [self.value(kind) for _ in range(count)]

  def _numbers(self, kind: int, count: int) -> list[Any]:
    if kind not in _SCALARS:
      raise ValueError(f'metadata of the unknown type {kind}')
    dtype = _SCALARS[kind]
    return np.frombuffer(self.bytes(count * dtype.itemsize), dtype).tolist()


def _tensor_row(header: _Header) -> tuple[str, tuple[int, ...], int, int]:
  """(name, shape, number of its type, offset behind the header)."""
  name = header.string()
  sizes = [header.unpack('<Q') for _ in range(header.unpack('<I'))]
  return name, tuple(reversed(sizes)), header.unpack('<I'), header.unpack('<Q')


def _tensors(
  content: mmap.mmap, start: int, rows: list[tuple[str, tuple, int, int]]
) -> Iterator[GgufTensor]:
  import gguf

  values = np.frombuffer(content, np.uint8)
  for name, shape, number, offset in rows:
    type_ = gguf.GGMLQuantizationType(number)
    block, block_bytes = gguf.GGML_QUANT_SIZES[type_]
    *outer, width = shape or (1,)
    if width % block:
      raise ValueError(f'{name}: rows of {width} values in blocks of {block}')
    row_bytes = width // block * block_bytes
    count = int(np.prod(outer, dtype=object)) if outer else 1
    first, last = start + offset, start + offset + count * row_bytes
    if last > len(values):
      raise ValueError(f'{name} ends at byte {last} of {len(values)}')
    packed = values[first:last].reshape(count, row_bytes)
    yield GgufTensor(name, shape, type_, packed)
