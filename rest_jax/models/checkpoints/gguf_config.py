"""The network that the metadata of a GGUF file describes.

https://github.com/ggml-org/ggml/blob/master/docs/gguf.md lists the keys.
"""

from typing import Any

import numpy as np

from rest_jax.artifacts import gguf_files, storage
from rest_jax.config import configuration
from rest_jax.models.architecture import DecoderConfig, RopeScaling

ROPE_FACTORS = 'rope_freqs.weight'  # what each rotary frequency is divided by
_EMBEDDING, _HEAD = 'token_embd.weight', 'output.weight'


def network(source: storage.PathLike) -> DecoderConfig:
  """The network that a file describes, in float32.

  Args:
    source: the file, on a local disk.

  Raises:
    ConfigurationError: it is not readable, lacks a size, or is not of a
      network that is implemented.
  """
  reader = gguf_files.open_reader(source)
  require_family(reader, source)
  shapes = {tensor.name: tensor.shape for tensor in reader.tensors}
  found = stated(reader) | {
    'vocab_size': int(shapes[_EMBEDDING][1]) if _EMBEDDING in shapes else None,
    'max_length': gguf_files.field(reader, 'llama.context_length'),
  }
  missing = [name for name, value in found.items() if value is None]
  if missing:
    raise configuration.ConfigurationError(
      f'{source}: its metadata lack what says {", ".join(missing)}. Convert '
      'the model anew, or bind MODEL yourself (gin/models/ has examples).'
    )
  return DecoderConfig(
    tie_embeddings=_HEAD not in shapes,
    rope_scaling=_rope_scaling(reader),
    **found
    | {
      # GGUF holds numbers in float32: 9.99999974e-06 was 1e-05.
      name: float(str(np.float32(found[name])))
      for name in ('rope_theta', 'norm_epsilon')
    },
  )


def require_family(reader: Any, source: Any) -> None:
  """Raises ConfigurationError for an architecture that is not implemented."""
  architecture = gguf_files.field(reader, 'general.architecture')
  if architecture != 'llama':
    raise configuration.ConfigurationError(
      f'{source}: architecture {architecture!r}; allowed: llama.'
    )


def stated(reader: Any) -> dict[str, Any]:
  """The fields of DecoderConfig that the metadata states, None if it must."""

  def field(name: str, default: Any = None) -> Any:
    return gguf_files.field(reader, f'llama.{name}', default)

  heads = field('attention.head_count')
  width = field('embedding_length')
  head_dim = field('attention.key_length', (width or 0) // (heads or 1))
  return {
    'num_layers': field('block_count'),
    'embed_dim': width,
    'mlp_dim': field('feed_forward_length'),
    'num_heads': heads,
    'num_kv_heads': field('attention.head_count_kv', heads),
    'head_dim': head_dim,
    'rope_theta': field('rope.freq_base', 10000.0),
    'norm_epsilon': field('attention.layer_norm_rms_epsilon'),
  }


def _rope_scaling(reader: Any) -> RopeScaling | None:
  """How the rotary frequencies are scaled.

  Llama 3.1's scaling is written as a tensor of factors. The largest of them is
  the factor; the other constants have been 1, 4 and 8192 in every release, and
  loading compares all factors.
  """
  for tensor in reader.tensors:
    if tensor.name == ROPE_FACTORS and np.max(tensor.data) > 1:
      return RopeScaling(kind='llama3', factor=float(np.max(tensor.data)))
  factor = gguf_files.field(reader, 'llama.rope.scaling.factor', 1.0) or 1.0
  kind = gguf_files.field(reader, 'llama.rope.scaling.type', 'linear')
  if kind != 'linear' or factor == 1.0:
    return None  # another kind is refused by its name where the file is loaded
  return RopeScaling(kind='linear', factor=float(factor))
