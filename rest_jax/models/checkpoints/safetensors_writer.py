"""Writes a folder of Hugging Face safetensors, tensor by tensor.

The sizes are known before the first byte, so each file's header is written
first and its tensors follow, in pieces of some megabytes.
"""

import json
import math
import os
from collections.abc import Sequence
from typing import Any

import numpy as np

from rest_jax.artifacts import safetensors_files, storage
from rest_jax.models.architecture import DecoderConfig
from rest_jax.models.checkpoints import (
  families,
  hf_config,
  tensor_pieces,
  weights,
)

SHARD_BYTES = 5_000_000_000  # at most so many in a file, as transformers
DTYPES = ('bfloat16', 'float16', 'float32')
_CODES = {'bfloat16': 'BF16', 'float16': 'F16', 'float32': 'F32'}


def write(
  folder: storage.PathLike,
  source: weights.Source,
  model: DecoderConfig,
  *,
  dtype: str,
  config: dict[str, Any],
  shard_bytes: int = SHARD_BYTES,
) -> None:
  """Writes the tensors, their index if they need one, and config.json.

  Args:
    folder: on a local disk; it is there.
    source: the checkpoint.
    model: its network.
    dtype: one of DTYPES.
    config: of hf_config_writer.content, with ids of special tokens.
    shard_bytes: at most so many in a file, but for one tensor alone.

  Raises:
    ConfigurationError: values beyond float16's range.
    OSError: the disk is full.
  """
  shards = _shards(model, safetensors_files.DTYPES[_CODES[dtype]], shard_bytes)
  index = {}
  for number, members in enumerate(shards, 1):
    name = 'model.safetensors'
    if len(shards) > 1:
      name = f'model-{number:05d}-of-{len(shards):05d}.safetensors'
    path = os.path.join(os.fspath(folder), name)
    _write_shard(path, source, model, members, dtype)
    index |= {_name(model, tensor): name for tensor in members}
  if len(shards) > 1:
    size = sum(
      math.prod(tensor.shape) for members in shards for tensor in members
    )
    size *= safetensors_files.DTYPES[_CODES[dtype]].itemsize
    storage.write_json(
      storage.path(folder) / safetensors_files.INDEX,
      {'metadata': {'total_size': size}, 'weight_map': index},
    )
  storage.write_json(storage.path(folder) / hf_config.NAME, config)


def num_bytes(model: DecoderConfig, dtype: str) -> int:
  """What the tensors take on a disk."""
  size = safetensors_files.DTYPES[_CODES[dtype]].itemsize
  return model.num_parameters * size


def _name(model: DecoderConfig, tensor: weights.Tensor) -> str:
  return families.hf_name(model, tensor.name, tensor.layer)


def _shards(
  model: DecoderConfig, dtype: np.dtype, limit: int
) -> list[list[weights.Tensor]]:
  """The tensors by file, in the order in which a source reads them best."""
  shards: list[list[weights.Tensor]] = [[]]
  held = 0
  for tensor in weights.by_array(model):
    size = math.prod(tensor.shape) * dtype.itemsize
    if shards[-1] and held + size > limit:
      shards.append([])
      held = 0
    shards[-1].append(tensor)
    held += size
  return shards


def _write_shard(
  path: str,
  source: weights.Source,
  model: DecoderConfig,
  members: Sequence[weights.Tensor],
  dtype: str,
) -> None:
  kind = safetensors_files.DTYPES[_CODES[dtype]]
  header: dict[str, Any] = {'__metadata__': {'format': 'pt'}}
  start = 0
  for tensor in members:
    stop = start + math.prod(tensor.shape) * kind.itemsize
    header[_name(model, tensor)] = {
      'dtype': _CODES[dtype],
      'shape': list(tensor.shape),
      'data_offsets': [start, stop],
    }
    start = stop
  text = json.dumps(header, separators=(',', ':')).encode()
  text += b' ' * (-len(text) % 8)
  with open(path, 'wb') as file:
    file.write(len(text).to_bytes(8, 'little') + text)
    for tensor in members:
      for piece in tensor_pieces.of(source, tensor):
        tensor_pieces.converted(piece, kind, _name(model, tensor)).tofile(file)
    file.flush()
    os.fsync(file.fileno())
