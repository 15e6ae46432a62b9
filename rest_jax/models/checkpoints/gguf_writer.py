"""Writes a GGUF file (llama.cpp), tensor by tensor.

The inverse of gguf.py: query and key rows of a Llama go into llama.cpp's order,
Gemma's norms get their 1, Llama 3.1's rotary scaling becomes a tensor.
"""

import dataclasses
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from rest_jax.artifacts import gguf_files
from rest_jax.config import configuration
from rest_jax.models.architecture import DecoderConfig
from rest_jax.models.checkpoints import (
  families,
  gguf,
  gguf_config,
  tensor_pieces,
  weights,
)
from rest_jax.tokenizers import piece_models, vocabularies

# By option: gguf's name of the type, and general.file_type in llama.cpp.
DTYPES = {'f32': ('F32', 0), 'f16': ('F16', 1), 'bf16': ('BF16', 32)}
DTYPES |= {'q8_0': ('Q8_0', 7)}
_QUANTISED = 32  # values share a scale in Q8_0: rows are multiples of it
_TOKENS = 'tokenizer.ggml.tokens'


def expressible(model: DecoderConfig) -> DecoderConfig:
  """The network as the file will say it; the same function of its input.

  Args:
    model: the network.

  Raises:
    ConfigurationError: llama.cpp computes no such network; the fields are
      named.
  """
  if model.window and model.window >= model.max_length:
    # No sequence is so long that a local layer would forget.
    turns_alike = model.local_rope_theta in (None, model.rope_theta)
    if turns_alike and not families.of_network(model).gguf.startswith('gemma'):
      model = dataclasses.replace(
        model, window=None, layer_pattern=('global',), local_rope_theta=None
      )
  family = families.of_network(model)
  stated = gguf_config.stated(gguf_files.GgufFile(metadata(model), {}), family)
  wanted = families.bound(model, stated)
  lines = [
    f'{name}: {wanted[name]}; llama.cpp would compute {value}'
    for name, value in stated.items()
    if not gguf_config.same(value, wanted[name])
  ]
  scaling = model.rope_scaling
  if scaling and scaling.kind == 'llama3' and family.gguf != 'llama':
    lines.append(f'rope_scaling: llama3; {family.gguf} has no rope_freqs')
  if family.gguf.startswith('gemma') and not model.tie_embeddings:
    lines.append('tie_embeddings: False; llama.cpp ties those of Gemma')
  width = model.num_heads * model.head_dim
  if family.gguf == 'qwen2' and width != model.embed_dim:
    lines.append(
      f'head_dim: {model.head_dim}; llama.cpp takes {model.num_heads} heads of '
      f'embed_dim = {model.embed_dim} together'
    )
  families.require_expressed(f'GGUF ({family.gguf})', lines)
  return model


def metadata(model: DecoderConfig) -> dict[str, Any]:
  """The keys that state a network; ints, floats and strings."""
  family = families.of_network(model)
  found = {
    'block_count': model.num_layers,
    'context_length': model.max_length,
    'embedding_length': model.embed_dim,
    'feed_forward_length': model.mlp_dim,
    'vocab_size': model.vocab_size,
    'attention.head_count': model.num_heads,
    'attention.head_count_kv': model.num_kv_heads,
    'attention.key_length': model.head_dim,
    'attention.value_length': model.head_dim,
    'attention.layer_norm_rms_epsilon': float(model.norm_epsilon),
    'rope.dimension_count': model.head_dim,
    'rope.freq_base': float(model.rope_theta),
  }
  if family.gguf in ('gemma2', 'gemma3') and model.window:
    found['attention.sliding_window'] = model.window
  if family.gguf == 'gemma3' and model.local_rope_theta:
    found['rope.freq_base_swa'] = float(model.local_rope_theta)
  if family.gguf == 'gemma2':
    caps = {
      'attn_logit_softcapping': model.attention_soft_cap,
      'final_logit_softcapping': model.logit_soft_cap,
    }
    found |= {name: float(cap) for name, cap in caps.items() if cap}
  if model.rope_scaling and model.rope_scaling.kind == 'linear':
    found |= {
      'rope.scaling.type': 'linear',
      'rope.scaling.factor': float(model.rope_scaling.factor),
    }
  return {f'{family.gguf}.{name}': value for name, value in found.items()}


def write(
  path: str,
  source: weights.Source,
  model: DecoderConfig,
  *,
  dtype: str,
  tokenizer: Mapping[str, Any],
  name: str,
) -> None:
  """Writes the file.

  Args:
    path: on a local disk.
    source: the checkpoint.
    model: its network, as `expressible` gave it.
    dtype: of the matrices, one of DTYPES; vectors are float32.
    tokenizer: the keys 'tokenizer.…'.
    name: of the model, for people.

  Raises:
    ConfigurationError: values beyond float16's range, or more pieces than the
      network embeds.
    OSError: the disk is full.
  """
  library = vocabularies.need('gguf')
  family = families.of_network(model)
  writer = library.GGUFWriter(path, family.gguf)
  code, number = DTYPES[dtype]
  writer.add_type('model')
  writer.add_name(name)
  writer.add_file_type(number)
  writer.add_quantization_version(library.GGML_QUANT_VERSION)
  for key, value in (metadata(model) | padded(tokenizer, model)).items():
    _add(writer, key, value)
  tensors = weights.by_array(model)
  kinds = [
    _kind(library.GGMLQuantizationType, tensor, code) for tensor in tensors
  ]
  factors = _factors(model)
  if factors is not None:
    kind = library.GGMLQuantizationType.F32
    writer.add_tensor_info(
      gguf_config.ROPE_FACTORS, factors.shape, factors.dtype, factors.nbytes
    )
  for tensor, kind in zip(tensors, kinds, strict=True):
    writer.add_tensor_info(
      families.gguf_name(tensor.name, tensor.layer),
      tensor.shape,
      np.dtype(np.float32),
      _num_bytes(tensor.shape, kind),
      raw_dtype=kind,
    )
  try:
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_ti_data_to_file()
    if factors is not None:
      writer.write_tensor_data(factors)
    for tensor, kind in zip(tensors, kinds, strict=True):
      writer.write_tensor_data(_encoded(source, model, tensor, kind))
  finally:
    writer.close()


def num_bytes(model: DecoderConfig, dtype: str) -> int:
  """About what the file takes on a disk, without the tokenizer."""
  bits = {'f32': 32, 'f16': 16, 'bf16': 16, 'q8_0': 8.5}[dtype]
  return int(model.num_parameters * bits / 8)


def padded(
  tokenizer: Mapping[str, Any], model: DecoderConfig
) -> dict[str, Any]:
  """The tokenizer with a piece for every row of the embedding.

  Raises:
    ConfigurationError: it has more pieces than the network embeds.
  """
  result = dict(tokenizer)
  pieces = list(result[_TOKENS])
  missing = model.vocab_size - len(pieces)
  if missing < 0:
    raise configuration.ConfigurationError(
      f'VOCABULARY: {len(pieces)} ids, but MODEL embeds {model.vocab_size}: '
      'they do not belong together. Give the tokenizer of the model: '
      '--tokenizer=PATH.'
    )
  if not missing:
    return result
  names = [f'[PAD{i}]' for i in range(len(pieces), model.vocab_size)]
  result[_TOKENS] = pieces + names
  types = piece_models.types_of(tokenizer) + [piece_models.UNUSED] * missing
  result['tokenizer.ggml.token_type'] = types
  if 'tokenizer.ggml.scores' in result:
    scores = list(result['tokenizer.ggml.scores'])
    result['tokenizer.ggml.scores'] = scores + [-10_000.0] * missing
  return result


def interleaved(matrix: np.ndarray, width: int) -> np.ndarray:
  """The inverse of gguf.half_split: rows in the order of llama.cpp's pairs."""
  rows, columns = matrix.shape
  halves = matrix.reshape(rows // width, 2, width // 2, columns)
  return halves.swapaxes(1, 2).reshape(rows, columns)


def _factors(model: DecoderConfig) -> np.ndarray | None:
  """What llama.cpp divides the rotary frequencies by; None: nothing."""
  if model.rope_scaling is None or model.rope_scaling.kind != 'llama3':
    return None
  return gguf.rope_factors(model).astype(np.float32)


def _kind(types: Any, tensor: weights.Tensor, code: str) -> Any:
  """The type of a tensor: float32 for vectors, float16 where Q8_0 is not."""
  if not tensor.inputs:
    return types.F32
  if code == 'Q8_0' and tensor.shape[1] % _QUANTISED:
    return types.F16
  return types[code]


def _num_bytes(shape: Sequence[int], kind: Any) -> int:
  block, size = vocabularies.need('gguf').GGML_QUANT_SIZES[kind]
  return int(np.prod(shape)) // block * size


def _encoded(
  source: weights.Source,
  model: DecoderConfig,
  tensor: weights.Tensor,
  kind: Any,
) -> np.ndarray:
  """A tensor's bytes in the file, made piece by piece."""
  quants = vocabularies.need('gguf').quants
  family = families.of_network(model)
  name = families.gguf_name(tensor.name, tensor.layer)
  result = np.empty(_num_bytes(tensor.shape, kind), np.uint8)
  start = 0
  for piece in tensor_pieces.of(source, tensor):
    values = np.asarray(piece, np.float32)
    if tensor.name.endswith('_norm'):
      values = values + np.float32(model.norm_offset)
    if family.interleaved and tensor.name in ('query', 'key'):
      values = interleaved(values, model.head_dim)
    if kind.name == 'F16':
      values = tensor_pieces.converted(values, np.dtype(np.float16), name)
    else:
      values = quants.quantize(np.ascontiguousarray(values), kind)
    raw = np.ascontiguousarray(values).view(np.uint8).reshape(-1)
    result[start : start + raw.size] = raw
    start += raw.size
  assert start == result.size, name
  return result


def _add(writer: Any, key: str, value: Any) -> None:
  """Adds a key by the type of its value."""
  if isinstance(value, bool):
    writer.add_bool(key, value)
  elif isinstance(value, int):
    (writer.add_uint32 if value >= 0 else writer.add_int32)(key, value)
  elif isinstance(value, float):
    writer.add_float32(key, value)
  elif isinstance(value, str):
    writer.add_string(key, value)
  else:
    writer.add_array(key, value)
