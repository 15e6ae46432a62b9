"""The families of published decoders: one row each, one table of names.

A family is what a config.json calls `model_type` and a GGUF file
`general.architecture`. All are the one network of models/network.py with
different switches; which family a network belongs to follows from them.
"""

import dataclasses
from collections.abc import Mapping, Sequence
from typing import Any

from rest_jax.config import configuration
from rest_jax.models.architecture import DecoderConfig


@dataclasses.dataclass(frozen=True, kw_only=True)
class Family:
  """One family.

  Attributes:
    model_types: of config.json; the first is the one that is written.
    architecture: the class of transformers, `architectures` of config.json.
    gguf: `general.architecture` of a GGUF file.
    switches: fields of DecoderConfig that all its models share and that no
      file states.
    defaults: keys of config.json that its files may lack, and what they mean
      then: the defaults of transformers' class.
    interleaved: whether GGUF files hold the rows of queries and keys in
      llama.cpp's order (pairs 2i, 2i + 1).
  """

  model_types: tuple[str, ...]
  architecture: str
  gguf: str
  switches: Mapping[str, Any] = dataclasses.field(default_factory=dict)
  defaults: Mapping[str, Any] = dataclasses.field(default_factory=dict)
  interleaved: bool = False


_PLAIN = {
  'qk_norm': False,
  'qkv_bias': False,
  'post_norms': False,
  'norm_offset': 0.0,
  'scale_embeddings': False,
}
_GEMMA = _PLAIN | {'norm_offset': 1.0, 'scale_embeddings': True}
_GEMMA_DEFAULTS = {
  'head_dim': 256,
  'tie_word_embeddings': True,
  'hidden_activation': 'gelu_pytorch_tanh',
  'rms_norm_eps': 1e-6,
}
_WINDOWED = _GEMMA_DEFAULTS | {
  'query_pre_attn_scalar': 256,
  'sliding_window': 4096,
}

# The first row whose switches fit a network is its family.
FAMILIES = (
  Family(
    model_types=('llama',),
    architecture='LlamaForCausalLM',
    gguf='llama',
    switches=_PLAIN | {'window': None},
    interleaved=True,
  ),
  # Llama's switches and a window. llama.cpp has no name of its own for it.
  Family(
    model_types=('mistral',),
    architecture='MistralForCausalLM',
    gguf='llama',
    switches=_PLAIN,
    defaults={'sliding_window': 4096},
    interleaved=True,
  ),
  Family(
    model_types=('qwen2',),
    architecture='Qwen2ForCausalLM',
    gguf='qwen2',
    switches=_PLAIN | {'qkv_bias': True},
  ),
  Family(
    model_types=('qwen3',),
    architecture='Qwen3ForCausalLM',
    gguf='qwen3',
    switches=_PLAIN | {'qk_norm': True},
    defaults={'head_dim': 128},
  ),
  Family(
    model_types=('gemma',),
    architecture='GemmaForCausalLM',
    gguf='gemma',
    switches=_GEMMA,
    defaults=_GEMMA_DEFAULTS,
  ),
  Family(
    model_types=('gemma2',),
    architecture='Gemma2ForCausalLM',
    gguf='gemma2',
    switches=_GEMMA | {'post_norms': True},
    defaults=_WINDOWED
    | {
      'attn_logit_softcapping': 50.0,
      'final_logit_softcapping': 30.0,
      'sliding_window_pattern': 2,
    },
  ),
  Family(
    # 'gemma3' also reads images; its text_config is a gemma3_text.
    model_types=('gemma3_text', 'gemma3'),
    architecture='Gemma3ForCausalLM',
    gguf='gemma3',
    switches=_GEMMA | {'post_norms': True, 'qk_norm': True},
    defaults=_WINDOWED
    | {
      'sliding_window_pattern': 6,
      'rope_theta': 1e6,
      'rope_local_base_freq': 1e4,
      'num_attention_heads': 8,
      'num_key_value_heads': 4,
      'vocab_size': 262_208,
      'max_position_embeddings': 131_072,
    },
  ),
)


def of_model_type(name: str | None, where: Any) -> Family:
  """The family that a config.json names.

  Raises:
    ConfigurationError: it is none of the table.
  """
  for row in FAMILIES:
    if name in row.model_types:
      return row
  allowed = ', '.join(kind for row in FAMILIES for kind in row.model_types)
  raise configuration.ConfigurationError(
    f'{where}: model_type {name!r}; allowed: {allowed}.'
  )


def of_gguf(name: str | None, where: Any) -> Family:
  """The family that a GGUF file names.

  Raises:
    ConfigurationError: it is none of the table.
  """
  for row in FAMILIES:
    if name == row.gguf:
      return row
  allowed = ', '.join(dict.fromkeys(row.gguf for row in FAMILIES))
  raise configuration.ConfigurationError(
    f'{where}: architecture {name!r}; allowed: {allowed}.'
  )


def of_network(config: DecoderConfig) -> Family:
  """The family whose switches a network has.

  Raises:
    ConfigurationError: no published family combines them so.
  """
  for row in FAMILIES:
    if all(getattr(config, key) == row.switches[key] for key in row.switches):
      return row
  switches = {key: getattr(config, key) for key in _PLAIN}
  raise configuration.ConfigurationError(
    f'MODEL: no published family has {switches}. Allowed: the combinations of '
    'docs/models.md.'
  )


def require_expressed(where: str, lines: Sequence[str]) -> None:
  """Raises ConfigurationError where a format cannot state a network.

  Args:
    where: the format.
    lines: what it cannot state, a field each.
  """
  if lines:
    raise configuration.ConfigurationError(
      f'MODEL: {where} cannot express this network:\n'
      + '\n'.join(f'  {line}' for line in lines)
      + '\nExport to the other format, a folder or a .gguf file.'
    )


def bound(
  config: DecoderConfig, stated: Mapping[str, Any], *, windowless: bool = False
) -> dict[str, Any]:
  """What MODEL binds where a file states something, in the file's spelling.

  Args:
    config: that MODEL binds.
    stated: the fields of DecoderConfig that a file states.
    windowless: whether the format has no way to state a window.

  Returns:
    A value for each field of `stated`; one that means the same as the file's
    is given as the file's.
  """
  result = {name: getattr(config, name) for name in stated}
  scalar = 'query_pre_attn_scalar'
  meant = stated.get(scalar) or stated.get('head_dim')
  if meant == (config.query_pre_attn_scalar or config.head_dim):
    result[scalar] = stated.get(scalar)
  window = stated['window']
  # No sequence is so long that a local layer would forget.
  forgets_nothing = window and window >= config.max_length
  if (forgets_nothing and not config.window) or (windowless and not window):
    result |= {
      name: stated[name]
      for name in ('window', 'layer_pattern', 'local_rope_theta')
      if name in stated
    }
  return result


_HF_NAMES = {
  'embedding': 'model.embed_tokens.weight',
  'final_norm': 'model.norm.weight',
  'unembedding': 'lm_head.weight',
  'query': 'self_attn.q_proj.weight',
  'key': 'self_attn.k_proj.weight',
  'value': 'self_attn.v_proj.weight',
  'output': 'self_attn.o_proj.weight',
  'query_bias': 'self_attn.q_proj.bias',
  'key_bias': 'self_attn.k_proj.bias',
  'value_bias': 'self_attn.v_proj.bias',
  'query_norm': 'self_attn.q_norm.weight',
  'key_norm': 'self_attn.k_norm.weight',
  'gate': 'mlp.gate_proj.weight',
  'up': 'mlp.up_proj.weight',
  'down': 'mlp.down_proj.weight',
  'attention_norm': 'input_layernorm.weight',
  'mlp_norm': 'post_attention_layernorm.weight',
}
# Where norms also follow the branches, the name of the MLP's norm has moved.
_HF_POST_NORMS = {
  'post_attention_norm': 'post_attention_layernorm.weight',
  'mlp_norm': 'pre_feedforward_layernorm.weight',
  'post_mlp_norm': 'post_feedforward_layernorm.weight',
}
_GGUF_NAMES = {
  'embedding': 'token_embd.weight',
  'final_norm': 'output_norm.weight',
  'unembedding': 'output.weight',
  'query': 'attn_q.weight',
  'key': 'attn_k.weight',
  'value': 'attn_v.weight',
  'output': 'attn_output.weight',
  'query_bias': 'attn_q.bias',
  'key_bias': 'attn_k.bias',
  'value_bias': 'attn_v.bias',
  'query_norm': 'attn_q_norm.weight',
  'key_norm': 'attn_k_norm.weight',
  'gate': 'ffn_gate.weight',
  'up': 'ffn_up.weight',
  'down': 'ffn_down.weight',
  'attention_norm': 'attn_norm.weight',
  'mlp_norm': 'ffn_norm.weight',
  'post_attention_norm': 'post_attention_norm.weight',
  'post_mlp_norm': 'post_ffw_norm.weight',
}


def hf_name(config: DecoderConfig, name: str, layer: int | None) -> str:
  """The tensor's name in a Hugging Face checkpoint.

  Args:
    config: of the network.
    name: as in models/network.py, 'query' say.
    layer: None for what stands outside of the layers.
  """
  names = _HF_NAMES | _HF_POST_NORMS if config.post_norms else _HF_NAMES
  prefix = '' if layer is None else f'model.layers.{layer}.'
  return prefix + names[name]


def gguf_name(name: str, layer: int | None) -> str:
  """The tensor's name in a GGUF file; arguments as of `hf_name`."""
  prefix = '' if layer is None else f'blk.{layer}.'
  return prefix + _GGUF_NAMES[name]
