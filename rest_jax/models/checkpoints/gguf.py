"""Weights from a GGUF file (llama.cpp), dequantised.

llama.cpp turns dimension 2i of a Llama's head together with 2i + 1, this
network (as Hugging Face) turns i together with i + half: such files hold the
query and key rows in llama.cpp's order, and here they are put back. Gemma's
norms are stored with the 1 that the network adds to them.
"""

import dataclasses
from typing import Any

import ml_dtypes
import numpy as np

from rest_jax.artifacts import gguf_files, storage
from rest_jax.models import rotary
from rest_jax.models.architecture import DecoderConfig
from rest_jax.models.checkpoints import (
  families,
  gguf_config,
  placement,
  weights,
)

# By gguf's names of types; the others are quantised.
_DTYPES = {
  'F64': np.dtype(np.float64),
  'F32': np.dtype(np.float32),
  'F16': np.dtype(np.float16),
  'BF16': np.dtype(ml_dtypes.bfloat16),
}
_ROWS = 4096  # of two matrices compared at a time


def load(source: storage.PathLike, model: DecoderConfig, target: Any) -> Any:
  """The weights, on the mesh.

  Args:
    source: the file.
    model: the network they must fit.
    target: jax.ShapeDtypeStructs with shardings (policies.abstract).

  Raises:
    ConfigurationError: see `opened`.
  """
  return placement.place(opened(source, model), model, target)


class File:
  """A GGUF file as a weights.Source."""

  def __init__(
    self, file: gguf_files.GgufFile, config: DecoderConfig, interleaved: bool
  ):
    """Args:
    file: of gguf_files.opened.
    config: the network.
    interleaved: whether query and key rows are in llama.cpp's order.
    """
    self._tensors = file.tensors
    self._config = config
    self._permuted = ('query', 'key') if interleaved else ()

  def dtype(self, tensor: weights.Tensor) -> np.dtype | None:
    """See weights.Source."""
    found = self._tensors[families.gguf_name(tensor.name, tensor.layer)]
    return _DTYPES.get(found.type.name)

  def read(
    self, tensor: weights.Tensor, rows: slice, columns: slice
  ) -> np.ndarray:
    """See weights.Source."""
    found = self._tensors[families.gguf_name(tensor.name, tensor.layer)]
    if not tensor.inputs:
      values = found.values().reshape(-1)[rows]
      if tensor.name.endswith('_norm'):
        values = values - np.float32(self._config.norm_offset)
      return values
    matrix = found.values(rows)[:, columns]
    if tensor.name in self._permuted:
      matrix = half_split(matrix, self._config.head_dim)
    return matrix


def opened(source: storage.PathLike, config: DecoderConfig) -> File:
  """Compares a file with the network and opens it.

  Raises:
    ConfigurationError: the file is not readable, or its architecture, sizes
      or tensors are not the config's, listing each difference.
  """
  file = gguf_files.opened(source)
  family = gguf_config.family(file, source)
  found = {name: tensor.shape for name, tensor in file.tensors.items()}
  stated = gguf_config.stated(file, family)
  # A Mistral is written as a Llama: its window is then MODEL's to bind.
  wanted = families.bound(config, stated, windowless=family.gguf == 'llama')
  lines = [
    f'{name}: the file has {value}, MODEL binds {wanted[name]}'
    for name, value in stated.items()
    if not gguf_config.same(value, wanted[name])
  ]
  unused = {gguf_config.ROPE_FACTORS}
  head = families.gguf_name('unembedding', None)
  if config.tie_embeddings and head in found:
    if _same(file, head, families.gguf_name('embedding', None)):
      unused.add(head)  # some files repeat the embedding
    else:
      lines.append(
        'tie_embeddings: the file has False, MODEL binds True '
        f'({head} differs from the embedding)'
      )
  elif not config.tie_embeddings and head not in found:
    lines.append('tie_embeddings: the file has True, MODEL binds False')
  lines += _rope_lines(file, family, config)
  # What the sizes explain need not be said again for each tensor.
  weights.require_same(
    source,
    lines or weights.differences(config, families.gguf_name, found, unused),
  )
  return File(file, config, family.interleaved)


def _rope_lines(
  file: gguf_files.GgufFile, family: families.Family, config: DecoderConfig
) -> list[str]:
  """How the file's rotary embedding differs from the network's.

  llama.cpp scales by `….rope.scaling.*` and divides each frequency by its entry
  in the tensor rope_freqs.weight, which Llama 3.1's scaling is written as.
  """

  def field(name: str, default: Any = None) -> Any:
    return file.field(f'{family.gguf}.rope.{name}', default)

  lines = []
  turned = field('dimension_count', config.head_dim)
  if turned != config.head_dim:
    lines.append(
      f'head_dim: the file turns {turned} dimensions of a head '
      f'(rope.dimension_count), MODEL turns all {config.head_dim}'
    )
  # llama.cpp takes a factor without a type for 'linear', and 0 for 1.
  factor = field('scaling.factor', field('scale_linear', 1.0)) or 1.0
  kind = field('scaling.type', 'linear')
  if kind not in ('none', 'linear'):
    return [
      *lines,
      f'rope_scaling: the file has {kind!r}, which is not implemented; '
      "allowed: none, 'llama3', 'linear'",
    ]
  ours = config.rope_scaling
  linear = ours.factor if ours and ours.kind == 'linear' else 1.0
  theirs = factor if kind == 'linear' else 1.0
  if np.float32(theirs) != np.float32(linear):
    lines.append(
      f"rope_scaling: the file has 'linear' with factor {theirs}, MODEL binds "
      f'{ours}'
    )
  return lines + _factor_lines(file, config)


def rope_factors(config: DecoderConfig) -> np.ndarray:
  """What llama.cpp divides each rotary frequency by, (head_dim / 2,)."""
  if config.rope_scaling is None or config.rope_scaling.kind != 'llama3':
    return np.ones(config.head_dim // 2)
  plain = dataclasses.replace(config, rope_scaling=None)
  factors = np.asarray(rotary.frequencies(plain), np.float64)
  return factors / np.asarray(rotary.frequencies(config), np.float64)


def _factor_lines(
  file: gguf_files.GgufFile, config: DecoderConfig
) -> list[str]:
  """How the tensor rope_freqs.weight differs from MODEL's rope_scaling."""
  expected = rope_factors(config)
  factors = np.ones(config.head_dim // 2)
  if gguf_config.ROPE_FACTORS in file.tensors:
    factors = file.tensors[gguf_config.ROPE_FACTORS].values().reshape(-1)
  if factors.shape == expected.shape and np.allclose(
    factors, expected, rtol=1e-4
  ):
    return []
  return [
    f'rope_scaling: the file divides the rotary frequencies by '
    f'{factors.min():g} to {factors.max():g} ({gguf_config.ROPE_FACTORS}), '
    f'MODEL binds '
    f"{config.rope_scaling}. Llama 3.1 has kind = 'llama3', factor = 8, "
    'Llama 3.2 factor = 32; see gin/families/llama3.gin'
  ]


def _same(file: gguf_files.GgufFile, one: str, other: str) -> bool:
  """Whether two matrices hold the same values; read a few rows at a time."""
  a, b = file.tensors.get(one), file.tensors.get(other)
  if a is None or b is None or a.shape != b.shape:
    return False
  return all(
    np.array_equal(*(t.values(slice(i, i + _ROWS)) for t in (a, b)))
    for i in range(0, a.shape[0], _ROWS)
  )


def half_split(matrix: np.ndarray, width: int) -> np.ndarray:
  """Reorders the rows of a query or key matrix from llama.cpp's pairs to ours.

  Args:
    matrix: (heads x width, in); the rows of a head are ordered (pair, first or
      second of the pair).
    width: of a head.

  Returns:
    The same rows, ordered (first or second, pair) within each head.
  """
  rows, columns = matrix.shape
  pairs = matrix.reshape(rows // width, width // 2, 2, columns)
  return pairs.swapaxes(1, 2).reshape(rows, columns)
