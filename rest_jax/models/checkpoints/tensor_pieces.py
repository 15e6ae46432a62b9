"""Tensors of a checkpoint some rows at a time, in the dtype that is wanted."""

import math
from collections.abc import Iterator

import ml_dtypes
import numpy as np

from rest_jax.config import configuration
from rest_jax.models.architecture import DecoderConfig
from rest_jax.models.checkpoints import weights

_LARGEST_HALF = 65504  # of float16
_CHUNK = 64 << 20  # bytes of float32 that are converted at a time


def of(source: weights.Source, tensor: weights.Tensor) -> Iterator[np.ndarray]:
  """A tensor as published, some rows at a time: whole heads, some megabytes."""
  rows = tensor.shape[0]
  width = tensor.shape[1] if tensor.inputs else 1
  unit = math.prod(tensor.outputs[1:])
  step = max(1, _CHUNK // (4 * width * unit)) * unit
  for low in range(0, rows, step):
    high = min(low + step, rows)
    yield source.read(tensor, slice(low, high), slice(0, width))


def converted(values: np.ndarray, dtype: np.dtype, name: str) -> np.ndarray:
  """Values in another dtype, row after row in memory.

  Args:
    values: of any floating dtype.
    dtype: wanted.
    name: of the tensor, for the error.

  Raises:
    ConfigurationError: float16 is too narrow for them.
  """
  if dtype == np.float16 and values.dtype != dtype:
    largest = float(np.abs(values).max(initial=0))
    if largest > _LARGEST_HALF:
      raise configuration.ConfigurationError(
        f'{name}: holds {largest:g}, more than float16 can ({_LARGEST_HALF}). '
        'Export as bfloat16 (bf16 of a GGUF file).'
      )
  return np.ascontiguousarray(values, dtype)


def natural_dtype(source: weights.Source, config: DecoderConfig) -> str:
  """The narrower of bfloat16 and float32 that holds a checkpoint's matrices.

  What was quantised to fewer bits was rounded more coarsely than bfloat16
  rounds: bfloat16.

  Args:
    source: the checkpoint.
    config: its network.
  """
  found = {
    source.dtype(tensor) for tensor in weights.tensors(config) if tensor.inputs
  }
  narrow = {None, np.dtype(ml_dtypes.bfloat16)}
  return 'bfloat16' if found <= narrow else 'float32'
