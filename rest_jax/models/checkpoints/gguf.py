"""Weights from a GGUF file (llama.cpp), dequantised; Llama architecture.

GGUF stores Llama's query and key rows for interleaved rotary pairs; here pairs
are half-split, so the rows are put back. Read with the `gguf` package (extra
'hf').
"""

from typing import Any

import numpy as np

from rest_jax.artifacts import storage
from rest_jax.config import configuration
from rest_jax.models.architecture import DecoderConfig
from rest_jax.models.checkpoints import weights

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
_ROPE_SCALES = 'rope_freqs.weight'  # Llama 3.1's, see `check`


def read_params(
  source: storage.PathLike, config: DecoderConfig
) -> weights.Params:
  """The parameters by path, float32 (see weights.stack).

  Raises:
    ConfigurationError: the file is not readable, or its architecture, sizes
      or tensors are not the config's, listing each difference.
  """
  reader = open_reader(source)
  check(reader, source, config)
  tensors = {tensor.name: tensor for tensor in reader.tensors}
  pairs = {'query': config.num_heads, 'key': config.num_kv_heads}

  def get(name: str, layer: int | None) -> np.ndarray:
    matrix = _dequantise(tensors[_named(name, layer)])
    return _half_split(matrix, pairs[name]) if name in pairs else matrix

  return weights.stack(get, config)


def open_reader(source: storage.PathLike) -> Any:
  """A GGUFReader; raises ConfigurationError where it cannot be read."""
  if storage.is_remote(source):
    raise configuration.ConfigurationError(
      f'{source}: a GGUF file is read in place; copy it to a local disk first.'
    )
  try:
    import gguf
  except ImportError as error:
    raise configuration.ConfigurationError(
      f'{source}: reading GGUF needs the package gguf: '
      "pip install 'rest_jax[hf]'."
    ) from error
  try:
    return gguf.GGUFReader(str(source))
  except (ValueError, OSError, IndexError, KeyError) as error:
    raise configuration.ConfigurationError(
      f'{source}: not a readable GGUF file, or a part of one ({error}).'
    ) from error


def check(reader: Any, source: Any, config: DecoderConfig) -> None:
  """Raises unless the file's metadata and tensors agree with the network."""

  def field(name, default=None):
    entry = reader.get_field(name)
    return default if entry is None else entry.contents()

  architecture = field('general.architecture')
  if architecture != 'llama':
    raise configuration.ConfigurationError(
      f'{source}: architecture {architecture!r}; allowed: llama.'
    )
  heads = field('llama.attention.head_count')
  width = field('llama.embedding_length')
  found = {tensor.name: _shape(tensor) for tensor in reader.tensors}
  stated = {
    'num_layers': field('llama.block_count'),
    'embed_dim': width,
    'mlp_dim': field('llama.feed_forward_length'),
    'num_heads': heads,
    'num_kv_heads': field('llama.attention.head_count_kv', heads),
    'head_dim': field(
      'llama.attention.key_length', (width or 0) // (heads or 1)
    ),
    'rope_theta': field('llama.rope.freq_base', 10000.0),
    'norm_epsilon': field('llama.attention.layer_norm_rms_epsilon'),
    'tie_embeddings': _named('unembedding', None) not in found,
  }
  lines = [
    f'{name}: the file has {value}, MODEL binds {getattr(config, name)}'
    for name, value in stated.items()
    if value is None
    or not np.isclose(value, getattr(config, name), rtol=1e-5, atol=0)
  ]
  # What the sizes explain need not be said again for each tensor.
  weights.require_same(
    source, lines or weights.differences(config, _named, found, [_ROPE_SCALES])
  )
  if (
    _ROPE_SCALES in found or field('llama.rope.scaling.type', 'none') != 'none'
  ):
    print(
      f'{source}: WARNING: the file scales its rotary frequencies for long '
      'contexts, this network does not: its outputs differ a little from the '
      'published ones.'
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
  """Rows (pair, which) of each head to (which, pair)."""
  rows, columns = matrix.shape
  pairs = matrix.reshape(heads, rows // heads // 2, 2, columns)
  return pairs.swapaxes(1, 2).reshape(rows, columns)
