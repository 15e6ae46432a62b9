"""The network that the metadata of a GGUF file describes.

https://github.com/ggml-org/ggml/blob/master/docs/gguf.md lists the keys. What
llama.cpp knows of a family without being told stands in `_KNOWN`.
"""

from typing import Any

import numpy as np

from rest_jax.artifacts import gguf_files, storage
from rest_jax.config import configuration
from rest_jax.models.architecture import DecoderConfig, RopeScaling
from rest_jax.models.checkpoints import families, hf_config

ROPE_FACTORS = 'rope_freqs.weight'  # what each rotary frequency is divided by
_EMBEDDING, _HEAD = 'token_embd.weight', 'output.weight'
# By architecture: what llama.cpp takes where the metadata do not say.
_KNOWN = {
  'gemma': {'activation': 'gelu'},
  'gemma2': {
    'activation': 'gelu',
    'attention_soft_cap': 50.0,
    'logit_soft_cap': 30.0,
    'pattern': 2,
    'window': 4096,
  },
  'gemma3': {'activation': 'gelu', 'pattern': 6, 'local_rope_theta': 10_000.0},
}
# The largest Gemmas divide scores by sqrt(width / heads), by their layers.
_BY_WIDTH = {'gemma2': 46, 'gemma3': 62}


def network(source: storage.PathLike) -> DecoderConfig:
  """The network that a file describes, in float32.

  Args:
    source: the file, on a local disk.

  Raises:
    ConfigurationError: it is not readable, lacks a size, or is not of a
      network that is implemented.
  """
  file = gguf_files.opened(source)
  row = family(file, source)
  shapes = {name: tensor.shape for name, tensor in file.tensors.items()}
  found = stated(file, row)
  sizes = {
    'vocab_size': shapes[_EMBEDDING][0] if _EMBEDDING in shapes else None,
    'max_length': file.field(f'{row.gguf}.context_length'),
  } | {name: found[name] for name in hf_config.FIELDS.values() if name in found}
  missing = [name for name, value in sizes.items() if value is None]
  if missing:
    raise configuration.ConfigurationError(
      f'{source}: its metadata lack what says {", ".join(missing)}. Convert '
      'the model anew, or bind MODEL yourself (gin/models/ has examples).'
    )
  return DecoderConfig(
    tie_embeddings=_HEAD not in shapes,
    rope_scaling=_rope_scaling(file, row),
    **found | sizes,
  )


def family(file: gguf_files.GgufFile, source: Any) -> families.Family:
  """The family that a file names.

  Raises:
    ConfigurationError: it is not implemented.
  """
  name = file.field('general.architecture')
  return families.of_gguf(name, source)


def stated(file: gguf_files.GgufFile, row: families.Family) -> dict[str, Any]:
  """The fields of DecoderConfig that the metadata state, None if they must.

  Args:
    file: of gguf_files.opened.
    row: the family that the file names.
  """

  def field(name: str, default: Any = None) -> Any:
    return file.field(f'{row.gguf}.{name}', default)

  known = _KNOWN.get(row.gguf, {})
  heads, width = field('attention.head_count'), field('embedding_length')
  head_dim = field('attention.key_length', (width or 0) // (heads or 1))
  return {
    **row.switches,
    'num_layers': field('block_count'),
    'embed_dim': width,
    'mlp_dim': field('feed_forward_length'),
    'num_heads': heads,
    'num_kv_heads': field('attention.head_count_kv', heads),
    'head_dim': head_dim,
    'activation': known.get('activation', 'silu'),
    'rope_theta': _float(field('rope.freq_base', 10000.0)),
    'norm_epsilon': _float(field('attention.layer_norm_rms_epsilon')),
    'attention_soft_cap': _float(
      field('attn_logit_softcapping', known.get('attention_soft_cap'))
    ),
    'logit_soft_cap': _float(
      field('final_logit_softcapping', known.get('logit_soft_cap'))
    ),
    'query_pre_attn_scalar': _scalar(field, row),
  } | _layers(field, known)


def _layers(field: Any, known: dict[str, Any]) -> dict[str, Any]:
  """Which layers attend to a window, and how these turn."""
  window = field('attention.sliding_window', known.get('window')) or None
  pattern = field('attention.sliding_window_pattern', known.get('pattern'))
  if not window or not pattern:
    return {
      'layer_pattern': ('global',),
      'window': None,
      'local_rope_theta': None,
    }
  if isinstance(pattern, list):  # for each layer, whether it is local
    local = [bool(one) for one in pattern]
  else:  # the last of each so many is global
    local = [bool((i + 1) % pattern) for i in range(field('block_count', 1))]
  kinds = ['local' if one else 'global' for one in local]
  theta = field('rope.freq_base_swa', known.get('local_rope_theta'))
  return {
    'layer_pattern': hf_config.shortest_pattern(kinds),
    'window': window,
    'local_rope_theta': _float(theta),
  }


def _scalar(field: Any, row: families.Family) -> float | None:
  """query_pre_attn_scalar: scores are divided by its root."""
  scale = field('attention.scale')
  if scale:
    return _float(np.float32(scale) ** -2)
  if 'query_pre_attn_scalar' not in row.defaults:
    return None
  width, heads = field('embedding_length'), field('attention.head_count')
  if field('block_count') == _BY_WIDTH[row.gguf] and width and heads:
    return float(width // heads)
  return _float(field('attention.key_length'))


def _float(value: Any) -> float | None:
  """GGUF holds numbers in float32: 9.99999974e-06 was 1e-05."""
  return None if value is None else float(str(np.float32(value)))


def same(value: Any, bound: Any) -> bool:
  """Whether a value of the file is one of MODEL, which is not in float32."""
  if isinstance(value, float) and isinstance(bound, float):
    return np.float32(value) == np.float32(bound)
  return value is not None and value == bound or value is bound


def _rope_scaling(
  file: gguf_files.GgufFile, row: families.Family
) -> RopeScaling | None:
  """How the rotary frequencies are scaled.

  Llama 3.1's scaling is written as a tensor of factors. The largest of them is
  the factor; the other constants have been 1, 4 and 8192 in every release, and
  loading compares all factors.
  """
  if ROPE_FACTORS in file.tensors:
    largest = float(file.tensors[ROPE_FACTORS].values().max())
    if largest > 1:
      return RopeScaling(kind='llama3', factor=largest)
  name = f'{row.gguf}.rope.scaling'
  factor = file.field(f'{name}.factor', 1.0) or 1.0
  kind = file.field(f'{name}.type', 'linear')
  if kind != 'linear' or factor == 1.0:
    return None  # another kind is refused by its name where the file is loaded
  return RopeScaling(kind='linear', factor=float(factor))
