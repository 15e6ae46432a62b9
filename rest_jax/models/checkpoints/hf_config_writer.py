"""The config.json of a network, as transformers 4.56 and 5, and vLLM, read it.

What transformers 5 says in other words than 4 (the rotary embedding) is written
in both.
"""

from typing import Any

from rest_jax.config import configuration
from rest_jax.models.architecture import DecoderConfig, RopeScaling
from rest_jax.models.checkpoints import families, hf_config

_KINDS = {'global': 'full_attention', 'local': 'sliding_attention'}
_ACTIVATIONS = {
  'silu': 'silu',
  'gelu': 'gelu_pytorch_tanh',
  'gelu_exact': 'gelu',
}
_GEMMAS = ('gemma', 'gemma2', 'gemma3')
# Families whose config.json states the kind of each layer.
_BY_LAYER = ('qwen2', 'qwen3', 'gemma2', 'gemma3')


def content(model: DecoderConfig, dtype: str) -> dict[str, Any]:
  """The config.json of a network, checked by reading it back.

  Args:
    model: the network.
    dtype: of the tensors beside it, such as 'bfloat16'.

  Raises:
    ConfigurationError: no published family has this network; the fields that
      it cannot express are named.
  """
  family = families.of_network(model)
  name = family.gguf
  found: dict[str, Any] = {
    'architectures': [family.architecture],
    'model_type': family.model_types[0],
    'torch_dtype': dtype,
    'hidden_act': _ACTIVATIONS[model.activation],
    'max_position_embeddings': model.max_length,
    'attention_bias': model.qkv_bias,
    'use_cache': True,
  }
  found |= {key: getattr(model, f) for key, f in hf_config.FIELDS.items()}
  if family.model_types[0] in ('llama', 'mistral'):
    found['mlp_bias'] = False
  if name in _GEMMAS:
    found['hidden_activation'] = found['hidden_act']
  if name in ('gemma2', 'gemma3'):
    found |= {
      key: getattr(model, f) for key, f in hf_config.OPTIONAL_FIELDS.items()
    }
    scalar = model.query_pre_attn_scalar or model.head_dim
    # An integer in the published files.
    found['query_pre_attn_scalar'] = (
      int(scalar) if int(scalar) == scalar else scalar
    )
  found |= _layers(model, family) | _rope(model, family)
  _require_read_back(family, found, model)
  return found


def _layers(model: DecoderConfig, family: families.Family) -> dict[str, Any]:
  """Which layers attend to a window."""
  if family.gguf not in _BY_LAYER:
    windowed = 'mistral' in family.model_types
    return {'sliding_window': model.window} if windowed else {}
  kinds = [_KINDS[model.kind(layer)] for layer in range(model.num_layers)]
  found = {'layer_types': kinds, 'sliding_window': model.window}
  if family.gguf in ('qwen2', 'qwen3'):
    first = kinds.index(_KINDS['local']) if model.window else model.num_layers
    found |= {
      'use_sliding_window': model.window is not None,
      'max_window_layers': first,
    }
  return found


def _rope(model: DecoderConfig, family: families.Family) -> dict[str, Any]:
  """The rotary embedding, in the words of transformers 4 and of 5."""
  scaling = _scaling(model.rope_scaling)
  plain = {'rope_type': 'default', 'rope_theta': model.rope_theta}
  whole = plain | (scaling or {})
  found = {'rope_theta': model.rope_theta, 'rope_scaling': scaling}
  if family.gguf != 'gemma3':
    return found | {'rope_parameters': whole}
  local = model.local_rope_theta or model.rope_theta
  return found | {
    'rope_local_base_freq': local,
    'rope_parameters': {
      'full_attention': whole,
      'sliding_attention': plain | {'rope_theta': local},
    },
  }


def _scaling(scaling: RopeScaling | None) -> dict[str, Any] | None:
  if scaling is None:
    return None
  if scaling.kind == 'linear':
    return {'rope_type': 'linear', 'factor': scaling.factor}
  return {
    'rope_type': 'llama3',
    'factor': scaling.factor,
    'low_freq_factor': scaling.low_freq_factor,
    'high_freq_factor': scaling.high_freq_factor,
    'original_max_position_embeddings': scaling.original_max_length,
  }


def _require_read_back(
  family: families.Family, found: dict[str, Any], model: DecoderConfig
) -> None:
  """Raises where a file of these keys would be read as another network."""
  try:
    stated = hf_config.fields(family, found)
  except ValueError as error:
    raise configuration.ConfigurationError(
      f'MODEL: {family.architecture} cannot express it: {error}'
    ) from error
  wanted = families.bound(model, stated)
  families.require_expressed(
    family.architecture,
    [
      f'{name}: {wanted[name]}; it would be read as {value}'
      for name, value in stated.items()
      if value != wanted[name]
    ],
  )
