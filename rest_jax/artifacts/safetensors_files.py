"""Folders of safetensors: which files count, and what they hold.

A file is: 8 bytes, the length of a JSON header; the header, {name: {dtype,
shape, data_offsets}}; the matrices, little-endian. Read here, without a
package, so that gs:// works and nothing passes through a device.

Which files count: those that model.safetensors.index.json names; without it,
all that hold tensors by Hugging Face's names. A tensor that two of these files
hold is refused: one of them is stale, and nothing says which.
"""

import collections
import hashlib
import json
import math
import re
from collections.abc import Mapping
from typing import Any

import ml_dtypes
import numpy as np

from rest_jax.artifacts import storage
from rest_jax.config import configuration

INDEX = 'model.safetensors.index.json'
_PATTERN = '*.safetensors'
# Mistral publishes its own format, with other names, beside Hugging Face's.
_NATIVE = 'consolidated'
_ADAPTER = 'adapter_'  # adapter_model.safetensors, adapter_config.json
_SHARD = re.compile(r'(.*)-(\d{5})-of-(\d{5})\.safetensors')
DTYPES = {
  'F64': np.dtype('<f8'),
  'F32': np.dtype('<f4'),
  'F16': np.dtype('<f2'),
  'BF16': np.dtype(ml_dtypes.bfloat16),
}
_ROWS = 4096  # of two matrices compared at a time
_PAGE = 4096  # bytes that a disk reads at once

# A tensor's file, and its row in that file's header.
Entry = tuple[storage.Path, dict[str, Any]]


def digest(folder: storage.Path) -> str:
  """What identifies the tensors: the bytes of the files that count."""
  chosen = files(folder)
  total = hashlib.sha256()
  for file in sorted(chosen):
    with file.open('rb') as stream:
      while block := stream.read(1 << 24):
        total.update(block)
  index = _index(folder)
  held = collections.Counter(name for file in chosen for name in header(file))
  for name in sorted(name for name, number in held.items() if number > 1):
    # Only here do the bytes of the files not say which tensor is read.
    total.update(f'{name} {index.get(name)}\n'.encode())
  return total.hexdigest()[:32]


def digested(folder: storage.Path) -> list[storage.Path]:
  """The files that `digest` depends on.

  Raises:
    ConfigurationError: as `files`.
  """
  index = folder / INDEX
  return [*files(folder), *([index] if index.exists() else [])]


def files(folder: storage.Path) -> list[storage.Path]:
  """The files of a folder whose tensors count, by name.

  Raises:
    ConfigurationError: some are missing, or are an adapter or of another
      layout.
  """
  there = sorted(folder.glob(_PATTERN))
  adapter = [file for file in there if file.name.startswith(_ADAPTER)]
  if adapter or (folder / 'adapter_config.json').exists():
    named = next(iter(header(adapter[0])), '') if adapter else ''
    raise configuration.ConfigurationError(
      f'{folder}: holds an adapter '
      f'({adapter[0].name if adapter else "adapter_config.json"}'
      f'{": " + named if named else ""}), which nothing in MODEL uses. Merge '
      "it into its base model (peft's merge_and_unload) and save that, or move "
      'it out of the folder.'
    )
  if index := _index(folder):
    chosen = [folder / name for name in sorted(set(index.values()))]
    lost = [file.name for file in chosen if not file.exists()]
    if lost:
      raise configuration.ConfigurationError(
        f'{folder}: {", ".join(lost)}: named by {INDEX}, but not there. Copy '
        'the folder again.'
      )
    return chosen
  chosen = [file for file in there if not file.name.startswith(_NATIVE)]
  if not chosen:
    raise configuration.ConfigurationError(
      f'{folder}: holds {", ".join(file.name for file in there) or "nothing"}; '
      "expected *.safetensors with Hugging Face's names (Mistral's "
      'consolidated*.safetensors has others).'
    )
  names = {file.name for file in chosen}
  for stem, _, number in filter(None, map(_parts, names)):
    lost = [
      shard
      for i in range(1, number + 1)
      if (shard := f'{stem}-{i:05d}-of-{number:05d}.safetensors') not in names
    ]
    if lost:
      raise configuration.ConfigurationError(
        f'{folder}: {", ".join(lost)}: not there; {number} files make up the '
        'checkpoint. Copy the folder again.'
      )
  return chosen


def entries(folder: storage.Path) -> dict[str, Entry]:
  """The tensors of a folder: name to its file and its header's row.

  Raises:
    ConfigurationError: two files hold a tensor and no index says which counts,
      or the index names one that its file does not hold.
  """
  found: dict[str, list[Entry]] = {}
  for file in files(folder):
    for name, entry in header(file).items():
      found.setdefault(name, []).append((file, entry))
  if index := _index(folder):
    lines = []
    chosen = {}
    for name, where in index.items():
      held = [place for place in found.get(name, ()) if place[0].name == where]
      if held:
        chosen[name] = held[0]
      else:
        lines.append(f'{name}: {INDEX} says {where}, which does not hold it')
    if lines:
      raise configuration.ConfigurationError(
        f'{folder}: an incomplete checkpoint:\n'
        + configuration.listed(lines)
        + '\nCopy the folder again.'
      )
    return chosen
  for name, places in found.items():
    if len(places) > 1:
      raise configuration.ConfigurationError(
        f'{folder}: {name} stands in '
        f'{" and in ".join(file.name for file, _ in places)}, and there is no '
        f'{INDEX} that says which counts. Move the files that do not belong to '
        'the checkpoint out of the folder.'
      )
  return {name: places[0] for name, places in found.items()}


def header(file: storage.Path) -> dict[str, dict[str, Any]]:
  """The tensors of a file: name to {dtype, shape, data_offsets}.

  The offsets are made to count from the start of the file.

  Raises:
    ConfigurationError: it is no safetensors file, or the end of it is missing.
  """
  size = file.stat().length
  try:
    with file.open('rb') as stream:
      length = int.from_bytes(stream.read(8), 'little')
      if length > size:
        raise ValueError('the header does not end')
      found = json.loads(stream.read(length))
    found.pop('__metadata__', None)
    for name, entry in found.items():
      low, high = entry['data_offsets']
      entry['data_offsets'] = [low + 8 + length, high + 8 + length]
      if high + 8 + length > size:
        raise ValueError('its end is missing')
      dtype = DTYPES.get(entry['dtype'])
      if dtype and math.prod(entry['shape']) * dtype.itemsize != high - low:
        raise ValueError(f'{name} has not the bytes of its shape')
  except (ValueError, KeyError, TypeError, AttributeError) as error:
    raise configuration.ConfigurationError(
      f'{file}: not a safetensors file, or a part of one ({error}). Copy it '
      'again.'
    ) from error
  return found


def read_block(
  file: storage.Path, entry: Mapping[str, Any], rows: slice, columns: slice
) -> np.ndarray:
  """Some rows and columns of a tensor, in the file's dtype.

  Only the bytes of the block are read where that saves whole pages of a local
  file; else the rows are read whole.

  Args:
    file: that holds it.
    entry: of `header`; its dtype is one of DTYPES, its shape has one or two
      dimensions.
    rows: along the first dimension.
    columns: along the second, if there is one.

  Returns:
    (rows, columns) or (rows,).
  """
  dtype, shape = DTYPES[entry['dtype']], entry['shape']
  width = shape[1] if len(shape) == 2 else 1
  low, high, _ = rows.indices(shape[0])
  first, last, _ = columns.indices(width)
  start, row = entry['data_offsets'][0], width * dtype.itemsize
  start += low * row
  piece = (last - first) * dtype.itemsize
  if len(shape) == 2 and _PAGE <= piece < row and not storage.is_remote(file):
    block = np.empty((high - low, last - first), dtype)
    skipped = first * dtype.itemsize
    with open(file, 'rb', buffering=0) as stream:
      for number, into in enumerate(block):
        stream.seek(start + number * row + skipped)
        _read_into(stream, into)
    return block
  with file.open('rb') as stream:
    stream.seek(start)
    data = stream.read((high - low) * row)
  block = np.frombuffer(data, dtype)
  return block.reshape(-1, width)[:, first:last] if len(shape) == 2 else block


def _read_into(stream: Any, into: np.ndarray) -> None:
  """Fills an array; a read of a file may give less than it was asked for."""
  rest = memoryview(into.view(np.uint8))
  while rest:
    number = stream.readinto(rest)
    if not number:
      raise EOFError(f'{stream.name}: has become shorter while it was read')
    rest = rest[number:]


def _index(folder: storage.Path) -> dict[str, str]:
  """The index's map from tensor to file name; empty where there is none."""
  if not (folder / INDEX).exists():
    return {}
  try:
    return dict(storage.read_json(folder / INDEX)['weight_map'])
  except (ValueError, KeyError, TypeError) as error:
    raise configuration.ConfigurationError(
      f'{folder / INDEX}: has no weight_map ({error}). Copy it again.'
    ) from error


def _parts(name: str) -> tuple[str, int, int] | None:
  found = _SHARD.fullmatch(name)
  return found and (found[1], int(found[2]), int(found[3]))


def same(one: Entry, other: Entry) -> bool:
  """Whether two matrices hold the same values; read a few rows at a time."""
  shape = one[1]['shape']
  if shape != other[1]['shape'] or len(shape) != 2:
    return False
  if not {one[1]['dtype'], other[1]['dtype']} <= set(DTYPES):
    return False
  blocks = (
    slice(low, min(low + _ROWS, shape[0])) for low in range(0, shape[0], _ROWS)
  )
  return all(
    np.array_equal(
      read_block(*one, rows, slice(None)), read_block(*other, rows, slice(None))
    )
    for rows in blocks
  )
