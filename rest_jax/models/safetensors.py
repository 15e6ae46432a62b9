"""Weights from a folder of Hugging Face safetensors; Llama architecture."""

import json
from typing import Any

import numpy as np

from rest_jax import configuration, storage
from rest_jax.models import weights
from rest_jax.models.configurations import DecoderConfig

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


def read_params(
  source: storage.PathLike, config: DecoderConfig
) -> dict[str, np.ndarray]:
  """The parameters by path, float32 (see weights.stack).

  Raises:
    ConfigurationError: config.json is not the network's, or a tensor lacks.
  """
  try:
    import safetensors
  except ImportError as error:
    raise configuration.ConfigurationError(
      f'{source}: reading safetensors needs the package safetensors: '
      "pip install 'rest_jax[hf]'."
    ) from error
  folder = storage.path(source)
  check(folder, config)
  places = {}
  for file in sorted(folder.glob('*.safetensors')):
    handle = safetensors.safe_open(str(file), framework='flax')
    places |= {name: handle for name in handle.keys()}  # noqa: SIM118

  def get(name: str, layer: int | None) -> np.ndarray:
    if layer is None:
      full = f'{_WHOLE_NAMES[name]}.weight'
    else:
      full = f'model.layers.{layer}.{_LAYER_NAMES[name]}.weight'
    if full not in places:
      raise configuration.ConfigurationError(f'{source}: holds no {full}.')
    return np.asarray(places[full].get_tensor(full), np.float32)

  return weights.stack(get, config)


def check(folder: storage.Path, config: DecoderConfig) -> None:
  """Raises unless config.json, where there is one, agrees with the network."""
  if not (folder / 'config.json').exists():
    return
  found: dict[str, Any] = json.loads((folder / 'config.json').read_text())
  names = {
    'num_hidden_layers': 'num_layers',
    'hidden_size': 'embed_dim',
    'intermediate_size': 'mlp_dim',
    'num_attention_heads': 'num_heads',
    'num_key_value_heads': 'num_kv_heads',
    'rope_theta': 'rope_theta',
    'rms_norm_eps': 'norm_epsilon',
    'tie_word_embeddings': 'tie_embeddings',
    'vocab_size': 'vocab_size',
  }
  wrong = [
    f'  {ours}: the file has {found[theirs]}, MODEL binds '
    f'{getattr(config, ours)}'
    for theirs, ours in names.items()
    if theirs in found and found[theirs] != getattr(config, ours)
  ]
  if wrong:
    raise configuration.ConfigurationError(
      f'{folder}: is not the network that MODEL binds:\n' + '\n'.join(wrong)
    )
