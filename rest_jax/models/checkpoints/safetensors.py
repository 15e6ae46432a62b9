"""Weights from a folder of Hugging Face safetensors; Llama architecture.

A file is: 8 bytes, the length of a JSON header; the header, {name: {dtype,
shape, data_offsets}}; the matrices, little-endian. Read here, without a
package, so that gs:// works and nothing passes through a device.
"""

import json
from typing import Any

import ml_dtypes
import numpy as np

from rest_jax.artifacts import storage
from rest_jax.config import configuration
from rest_jax.models.architecture import DecoderConfig
from rest_jax.models.checkpoints import weights

_LAYER_NAMES = {
  'query': 'self_attn.q_proj',
  'key': 'self_attn.k_proj',
  'value': 'self_attn.v_proj',
  'output': 'self_attn.o_proj',
  'gate': 'mlp.gate_proj',
  'up': 'mlp.up_proj',
  'down': 'mlp.down_proj',
  'attention_norm': 'input_layernorm',
  'mlp_norm': 'post_attention_layernorm',
}
_WHOLE_NAMES = {
  'embedding': 'model.embed_tokens',
  'final_norm': 'model.norm',
  'unembedding': 'lm_head',
}
_DTYPES = {
  'F64': np.dtype('<f8'),
  'F32': np.dtype('<f4'),
  'F16': np.dtype('<f2'),
  'BF16': np.dtype(ml_dtypes.bfloat16),
}
# config.json's names, and ours.
_FIELDS = {
  'num_hidden_layers': 'num_layers',
  'hidden_size': 'embed_dim',
  'intermediate_size': 'mlp_dim',
  'num_attention_heads': 'num_heads',
  'num_key_value_heads': 'num_kv_heads',
  'head_dim': 'head_dim',
  'rope_theta': 'rope_theta',
  'rms_norm_eps': 'norm_epsilon',
  'tie_word_embeddings': 'tie_embeddings',
  'hidden_act': 'activation',
  'vocab_size': 'vocab_size',
}
_FAMILIES = ('llama', 'mistral')


def read_params(
  source: storage.PathLike, config: DecoderConfig
) -> weights.Params:
  """The parameters by path, float32 (see weights.stack).

  Raises:
    ConfigurationError: a file is damaged, or config.json or the tensors are
      not the network's, listing each difference.
  """
  folder = storage.path(source)
  check(folder, config)
  entries: dict[str, tuple[storage.Path, dict[str, Any]]] = {}
  for file in sorted(folder.glob('*.safetensors')):
    entries |= {name: (file, entry) for name, entry in header(file).items()}
  found = {n: tuple(entry['shape']) for n, (_, entry) in entries.items()}
  unused = {name for name in found if name.endswith('rotary_emb.inv_freq')}
  if config.tie_embeddings:
    unused.add(_named('unembedding', None))  # some folders repeat it
  weights.require_same(
    source, weights.differences(config, _named, found, unused)
  )

  def get(name: str, layer: int | None) -> np.ndarray:
    return read_tensor(*entries[_named(name, layer)])

  return weights.stack(get, config)


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
      entries = json.loads(stream.read(length))
    entries.pop('__metadata__', None)
    for entry in entries.values():
      low, high = entry['data_offsets']
      entry['data_offsets'] = [low + 8 + length, high + 8 + length]
      if high + 8 + length > size:
        raise ValueError('its end is missing')
  except (ValueError, KeyError, TypeError, AttributeError) as error:
    raise configuration.ConfigurationError(
      f'{file}: not a safetensors file, or a part of one ({error}). Copy it '
      'again.'
    ) from error
  return entries


def read_tensor(file: storage.Path, entry: dict[str, Any]) -> np.ndarray:
  """One matrix, as float32."""
  dtype = _DTYPES.get(entry['dtype'])
  if dtype is None:
    raise configuration.ConfigurationError(
      f'{file}: holds {entry["dtype"]} matrices; allowed: {", ".join(_DTYPES)}.'
    )
  low, high = entry['data_offsets']
  with file.open('rb') as stream:
    stream.seek(low)
    data = stream.read(high - low)
  return np.frombuffer(data, dtype).reshape(entry['shape']).astype(np.float32)


def check(folder: storage.Path, config: DecoderConfig) -> None:
  """Raises unless config.json, where there is one, agrees with the network."""
  if not (folder / 'config.json').exists():
    return
  found: dict[str, Any] = storage.read_json(folder / 'config.json')
  family = found.get('model_type', 'llama')
  if family not in _FAMILIES:
    raise configuration.ConfigurationError(
      f'{folder}: model_type {family!r}; allowed: {", ".join(_FAMILIES)}.'
    )
  weights.require_same(
    folder,
    [
      f'{ours}: the file has {found[theirs]}, MODEL binds '
      f'{getattr(config, ours)}'
      for theirs, ours in _FIELDS.items()
      if found.get(theirs) not in (None, getattr(config, ours))
    ],
  )
  if found.get('rope_scaling'):
    print(
      f'{folder}: WARNING: config.json scales the rotary frequencies '
      f'({found["rope_scaling"]}), this network does not: its outputs differ '
      'a little from the published ones.'
    )


def _named(name: str, layer: int | None) -> str:
  if layer is None:
    return f'{_WHOLE_NAMES[name]}.weight'
  return f'model.layers.{layer}.{_LAYER_NAMES[name]}.weight'
