"""Weights from a GGUF file (llama.cpp), dequantised; Llama architecture.

GGUF stores Llama's query and key rows for interleaved rotary pairs; here pairs
are half-split, so the rows are put back. Read with the `gguf` package (extra
'hf').
"""

from typing import Any

import numpy as np

from rest_jax import configuration, storage
from rest_jax.models import weights
from rest_jax.models.configurations import DecoderConfig

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


def read_params(
  source: storage.PathLike, config: DecoderConfig
) -> dict[str, np.ndarray]:
  """The parameters by path, float32 (see weights.stack).

  Raises:
    ConfigurationError: the file's architecture or sizes are not the config's,
      listing each difference.
  """
  reader = open_reader(source)
  check(reader, source, config)
  tensors = {tensor.name: tensor for tensor in reader.tensors}

  def get(name: str, layer: int | None) -> np.ndarray:
    if layer is None:
      full = f'{_WHOLE_NAMES[name]}.weight'
    else:
      full = f'blk.{layer}.{_LAYER_NAMES[name]}.weight'
    if full not in tensors:
      raise configuration.ConfigurationError(
        f'{source}: holds no {full}. Set tie_embeddings = True in MODEL if the '
        'file has no output matrix of its own.'
      )
    matrix = _dequantise(tensors[full])
    heads = {'query': config.num_heads, 'key': config.num_kv_heads}.get(name)
    return _half_split(matrix, heads) if heads else matrix

  return weights.stack(get, config)


def open_reader(source: storage.PathLike) -> Any:
  """A GGUFReader; raises ConfigurationError where it cannot be read."""
  try:
    import gguf
  except ImportError as error:
    raise configuration.ConfigurationError(
      f'{source}: reading GGUF needs the package gguf: '
      "pip install 'rest_jax[hf]'."
    ) from error
  try:
    return gguf.GGUFReader(str(source))
  except (ValueError, OSError) as error:
    raise configuration.ConfigurationError(
      f'{source}: not a readable GGUF file ({error}).'
    ) from error


def check(reader: Any, source: Any, config: DecoderConfig) -> None:
  """Raises unless the file's metadata agrees with the network."""

  def field(name, default=None):
    entry = reader.get_field(name)
    return default if entry is None else entry.contents()

  architecture = field('general.architecture')
  if architecture != 'llama':
    raise configuration.ConfigurationError(
      f'{source}: architecture {architecture!r}; allowed: llama.'
    )
  heads = field('llama.attention.head_count')
  found = {
    'num_layers': field('llama.block_count'),
    'embed_dim': field('llama.embedding_length'),
    'mlp_dim': field('llama.feed_forward_length'),
    'num_heads': heads,
    'num_kv_heads': field('llama.attention.head_count_kv', heads),
    'rope_theta': field('llama.rope.freq_base', 10000.0),
    'norm_epsilon': field('llama.attention.layer_norm_rms_epsilon'),
    'vocab_size': len(field('tokenizer.ggml.tokens')),
  }
  wrong = [
    f'  {name}: the file has {value}, MODEL binds {getattr(config, name)}'
    for name, value in found.items()
    if not np.isclose(value, getattr(config, name), rtol=1e-5)
  ]
  if wrong:
    raise configuration.ConfigurationError(
      f'{source}: is not the network that MODEL binds:\n' + '\n'.join(wrong)
    )


def _dequantise(tensor: Any) -> np.ndarray:
  from gguf import quants

  values = quants.dequantize(tensor.data, tensor.tensor_type)
  shape = tuple(int(n) for n in reversed(tensor.shape))
  return np.asarray(values, np.float32).reshape(shape)


def _half_split(matrix: np.ndarray, heads: int) -> np.ndarray:
  """Rows (pair, which) of each head to (which, pair)."""
  rows, columns = matrix.shape
  pairs = matrix.reshape(heads, rows // heads // 2, 2, columns)
  return pairs.swapaxes(1, 2).reshape(rows, columns)
