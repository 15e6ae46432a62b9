"""Weights from a GGUF file (llama.cpp), dequantised; Llama architecture.

llama.cpp turns dimension 2i of a head together with 2i + 1, this network (as
Hugging Face) turns i together with i + half. GGUF files hold the query and key
rows in llama.cpp's order; here they are put back.
"""

import dataclasses
from typing import Any

import numpy as np

from rest_jax.artifacts import gguf_files, storage
from rest_jax.models import rotary
from rest_jax.models.architecture import DecoderConfig
from rest_jax.models.checkpoints import gguf_config, weights

_LAYER_NAMES = {
  'query': 'attn_q',
  'key': 'attn_k',
  'value': 'attn_v',
  'output': 'attn_output',
  'gate': 'ffn_gate',
  'up': 'ffn_up',
  'down': 'ffn_down',
  'attention_norm': 'attn_norm',
  'mlp_norm': 'ffn_norm',
}
_WHOLE_NAMES = {
  'embedding': 'token_embd',
  'final_norm': 'output_norm',
  'unembedding': 'output',
}
_ROWS = 4096  # of two matrices compared at a time


def load(source: storage.PathLike, model: DecoderConfig, target: Any) -> Any:
  """The weights, on the mesh.

  Args:
    source: the file.
    model: the network they must fit.
    target: jax.ShapeDtypeStructs with shardings (policies.abstract).

  Raises:
    ConfigurationError: see `read_params`.
  """
  return weights.place(read_params(source, model), target)


def read_params(
  source: storage.PathLike, config: DecoderConfig
) -> weights.Params:
  """The parameters by path, float32 (see weights.stack).

  Raises:
    ConfigurationError: the file is not readable, or its architecture, sizes
      or tensors are not the config's, listing each difference.
  """
  reader = gguf_files.open_reader(source)
  check(reader, source, config)
  tensors = {tensor.name: tensor for tensor in reader.tensors}
  pairs = {'query': config.num_heads, 'key': config.num_kv_heads}

  def get(name: str, layer: int | None) -> np.ndarray:
    matrix = _dequantise(tensors[_named(name, layer)])
    return _half_split(matrix, pairs[name]) if name in pairs else matrix

  return weights.stack(get, config)


def check(reader: Any, source: Any, config: DecoderConfig) -> None:
  """Compares the file's metadata and tensors with the network.

  Args:
    reader: of gguf_files.open_reader.
    source: the file, for errors.
    config: the network.

  Raises:
    ConfigurationError: they differ, listing each difference.
  """
  gguf_config.require_family(reader, source)
  found = {tensor.name: _shape(tensor) for tensor in reader.tensors}
  lines = [
    f'{name}: the file has {value}, MODEL binds {getattr(config, name)}'
    for name, value in gguf_config.stated(reader).items()
    # GGUF holds numbers in float32; integers below 2**24 are exact in it.
    if value is None or np.float32(value) != np.float32(getattr(config, name))
  ]
  unused = {gguf_config.ROPE_FACTORS}
  head = _named('unembedding', None)
  if config.tie_embeddings and head in found:
    if _same(reader, head, _named('embedding', None)):
      unused.add(head)  # some files repeat the embedding
    else:
      lines.append(
        'tie_embeddings: the file has False, MODEL binds True '
        f'({head} differs from the embedding)'
      )
  elif not config.tie_embeddings and head not in found:
    lines.append('tie_embeddings: the file has True, MODEL binds False')
  lines += _rope_lines(reader, config)
  # What the sizes explain need not be said again for each tensor.
  weights.require_same(
    source, lines or weights.differences(config, _named, found, unused)
  )


def _rope_lines(reader: Any, config: DecoderConfig) -> list[str]:
  """How the file's rotary embedding differs from the network's.

  llama.cpp scales by `llama.rope.scaling.*` and divides each frequency by its
  entry in the tensor rope_freqs.weight, which Llama 3.1's scaling is written
  as.
  """

  def field(name: str, default: Any = None) -> Any:
    return gguf_files.field(reader, f'llama.rope.{name}', default)

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
  return lines + _factor_lines(reader, config)


def _factor_lines(reader: Any, config: DecoderConfig) -> list[str]:
  """How the tensor rope_freqs.weight differs from MODEL's rope_scaling."""
  expected = np.ones(config.head_dim // 2)
  if config.rope_scaling and config.rope_scaling.kind == 'llama3':
    plain = dataclasses.replace(config, rope_scaling=None)
    expected = np.asarray(rotary.frequencies(plain), np.float64)
    expected /= np.asarray(rotary.frequencies(config), np.float64)
  factors = np.ones(config.head_dim // 2)
  for tensor in reader.tensors:
    if tensor.name == gguf_config.ROPE_FACTORS:
      factors = _dequantise(tensor).reshape(-1)
  if factors.shape == expected.shape and np.allclose(
    factors, expected, rtol=1e-4
  ):
    return []
  return [
    f'rope_scaling: the file divides the rotary frequencies by '
    f'{factors.min():g} to {factors.max():g} ({gguf_config.ROPE_FACTORS}), '
    f'MODEL binds '
    f"{config.rope_scaling}. Llama 3.1 has kind = 'llama3', factor = 8, "
    'Llama 3.2 factor = 32; see gin/models/llama3_8b.gin'
  ]


def _same(reader: Any, one: str, other: str) -> bool:
  """Whether two matrices hold the same values; read a few rows at a time."""
  a, b = (
    next((t for t in reader.tensors if t.name == name), None)
    for name in (one, other)
  )
  if a is None or b is None or _shape(a) != _shape(b):
    return False
  from gguf import quants

  rows = _shape(a)[0]
  return all(
    np.array_equal(
      *(
        quants.dequantize(
          t.data.reshape(rows, -1)[start : start + _ROWS], t.tensor_type
        )
        for t in (a, b)
      )
    )
    for start in range(0, rows, _ROWS)
  )


def _named(name: str, layer: int | None) -> str:
  if layer is None:
    return f'{_WHOLE_NAMES[name]}.weight'
  return f'blk.{layer}.{_LAYER_NAMES[name]}.weight'


def _shape(tensor: Any) -> tuple[int, ...]:
  return tuple(int(n) for n in reversed(tensor.shape))  # GGUF: fastest first


def _dequantise(tensor: Any) -> np.ndarray:
  from gguf import quants

  values = quants.dequantize(tensor.data, tensor.tensor_type)
  return np.asarray(values, np.float32).reshape(_shape(tensor))


def _half_split(matrix: np.ndarray, heads: int) -> np.ndarray:
  """Reorders the rows of a query or key matrix from llama.cpp's pairs to ours.

  Args:
    matrix: (heads x head_dim, in); the rows of a head are ordered (pair, first
      or second of the pair).
    heads: of the queries or of the keys.

  Returns:
    The same rows, ordered (first or second, pair) within each head.
  """
  rows, columns = matrix.shape
  pairs = matrix.reshape(heads, rows // heads // 2, 2, columns)
  return pairs.swapaxes(1, 2).reshape(rows, columns)
