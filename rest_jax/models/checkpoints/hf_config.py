"""The network that a Hugging Face config.json describes, and that of MODEL.

Two checkpoints may have tensors of the same names and shapes and still be
different networks: the rotary base and its scaling, the norm's epsilon and the
activation stand in config.json alone. A value that the network does not have
is refused; nothing is approximated.
"""

from collections.abc import Mapping, Sequence
from typing import Any

from rest_jax.artifacts import storage
from rest_jax.config import configuration
from rest_jax.models.architecture import DecoderConfig, RopeScaling
from rest_jax.models.checkpoints import families, weights

NAME = 'config.json'
# config.json's key, our field. Keys that it lacks have the values of _defaults.
FIELDS = {
  'num_hidden_layers': 'num_layers',
  'hidden_size': 'embed_dim',
  'intermediate_size': 'mlp_dim',
  'num_attention_heads': 'num_heads',
  'num_key_value_heads': 'num_kv_heads',
  'head_dim': 'head_dim',
  'rms_norm_eps': 'norm_epsilon',
  'tie_word_embeddings': 'tie_embeddings',
  'vocab_size': 'vocab_size',
}
# The same, of keys that may be null.
OPTIONAL_FIELDS = {
  'query_pre_attn_scalar': 'query_pre_attn_scalar',
  'attn_logit_softcapping': 'attention_soft_cap',
  'final_logit_softcapping': 'logit_soft_cap',
}
_ACTIVATIONS = {
  'silu': 'silu',
  'swish': 'silu',
  'gelu_pytorch_tanh': 'gelu',
  'gelu_new': 'gelu',
  'gelu': 'gelu_exact',
}
_KINDS = {'full_attention': 'global', 'sliding_attention': 'local'}
_ROPE_THETA = 10_000.0  # transformers' default for all families but Gemma 3


def check(folder: storage.Path, config: DecoderConfig) -> None:
  """Raises unless config.json, where there is one, agrees with the network.

  Args:
    folder: of the checkpoint.
    config: the network.

  Raises:
    ConfigurationError: another family, or values that differ, all listed.
  """
  if not (folder / NAME).exists():
    return
  _, stated = _read(folder)
  wanted = families.bound(config, stated)
  weights.require_same(
    folder,
    [
      f'{name}: the file has {value}, MODEL binds {wanted[name]}'
      for name, value in stated.items()
      if value != wanted[name]
    ],
  )


def network(folder: storage.Path) -> DecoderConfig:
  """The network that config.json describes, in float32.

  Args:
    folder: of the checkpoint.

  Raises:
    ConfigurationError: there is no config.json, it lacks a size, or it is not
      of a network that is implemented.
  """
  if not (folder / NAME).exists():
    raise configuration.ConfigurationError(
      f'{folder}: has no {NAME}, which describes the network. Put the one that '
      'was published with the weights beside them, or bind MODEL yourself '
      '(gin/models/ has examples).'
    )
  found, stated = _read(folder)
  # transformers writes the key only where it is not the family's default.
  stated.setdefault('tie_embeddings', False)
  length = found.get('max_position_embeddings')
  missing = [
    key
    for key, field in (*FIELDS.items(), ('max_position_embeddings', None))
    if stated.get(field, found.get(key)) is None
  ]
  if missing:
    raise configuration.ConfigurationError(
      f'{folder / NAME}: lacks {", ".join(missing)}. Take the file that was '
      'published with the weights, or bind MODEL yourself.'
    )
  return DecoderConfig(max_length=length, **stated)


def _read(folder: storage.Path) -> tuple[dict[str, Any], dict[str, Any]]:
  """(config.json, the fields of DecoderConfig that it states).

  Raises:
    ConfigurationError: another family, or something that is not implemented.
  """
  found = storage.read_json(folder / NAME)
  family = families.of_model_type(found.get('model_type', 'llama'), folder)
  method = (found.get('quantization_config') or {}).get('quant_method')
  if method:
    raise configuration.ConfigurationError(
      f'{folder}: config.json says that the weights are quantised ({method}); '
      'allowed: plain float64, 32, 16 or bfloat16 tensors. Take the '
      'unquantised checkpoint, or a GGUF file.'
    )
  # A model that also reads images keeps its text's part apart.
  found = found | (found.get('text_config') or {})
  try:
    return found, fields(family, found)
  except ValueError as error:
    raise configuration.ConfigurationError(
      f'{folder}: config.json: {error}'
    ) from error


def fields(family: families.Family, found: Mapping[str, Any]) -> dict[str, Any]:
  """The fields of DecoderConfig that a config.json states.

  Args:
    family: that it names.
    found: its content.

  Raises:
    ValueError: something that is not implemented, by its name.
  """
  if found.get('use_bidirectional_attention'):
    raise ValueError(
      'use_bidirectional_attention: tokens attend to later ones. The network '
      'is causal.'
    )
  found = _defaults(found) | family.defaults | _without_null(found)
  stated = dict(family.switches)
  stated |= {FIELDS[key]: found[key] for key in FIELDS if key in found}
  for key, field in OPTIONAL_FIELDS.items():
    value = found.get(key)  # null: there is none
    stated[field] = None if value is None else float(value)
  # The published Gemma 1 says 'gelu' and means the approximation.
  gelu = {'gelu': 'gelu'} if family.gguf == 'gemma' else {}
  activation = found.get('hidden_activation', found['hidden_act'])
  stated['activation'] = (_ACTIVATIONS | gelu).get(activation, activation)
  return stated | _layers(found) | rope(found)


def _without_null(found: Mapping[str, Any]) -> dict[str, Any]:
  """Keys with a value; a window of null says that there is none."""
  keep = {'sliding_window', *OPTIONAL_FIELDS}
  stated = {key: value for key, value in found.items() if value is not None}
  return stated | {key: found[key] for key in keep & found.keys()}


def _layers(found: Mapping[str, Any]) -> dict[str, Any]:
  """Which layers attend to a window only: {'layer_pattern', 'window'}."""
  window, layers = found.get('sliding_window'), found.get('num_hidden_layers')
  kinds = found.get('layer_types')
  if not found.get('use_sliding_window', True):
    kinds, window = None, None
  elif kinds is None and window and layers:
    kinds = _kinds_before_layer_types(found, layers)
  if kinds is None or set(kinds) == {'full_attention'}:
    return {'layer_pattern': ('global',), 'window': None}
  unknown = sorted(set(kinds) - set(_KINDS))
  if unknown:
    raise ValueError(
      f'layer_types has {", ".join(unknown)}, which is not implemented; '
      f'allowed: {", ".join(_KINDS)}.'
    )
  return {
    'layer_pattern': shortest_pattern([_KINDS[kind] for kind in kinds]),
    'window': window,
  }


def _kinds_before_layer_types(
  found: Mapping[str, Any], layers: int
) -> list[str]:
  """The layer_types that older files state in three other ways."""
  # Gemma: the last of each so many layers is global.
  pattern = found.get('sliding_window_pattern')
  # Qwen: layers from here on are local.
  first = found.get('max_window_layers', 0)
  return [
    'full_attention'
    if (pattern and (i + 1) % pattern == 0) or (not pattern and i < first)
    else 'sliding_attention'
    for i in range(layers)
  ]


def shortest_pattern(kinds: Sequence[str]) -> tuple[str, ...]:
  """The shortest start of a sequence that gives it when it is repeated."""
  for size in range(1, len(kinds)):
    if all(kind == kinds[i % size] for i, kind in enumerate(kinds)):
      return tuple(kinds[:size])
  return tuple(kinds)


def rope(found: Mapping[str, Any]) -> dict[str, Any]:
  """The rotary embedding that a config.json describes.

  Args:
    found: transformers 4 writes `rope_theta` and, where the frequencies are
      scaled, `rope_scaling`; transformers 5 writes both as `rope_parameters`.

  Returns:
    {'rope_theta': …, 'rope_scaling': RopeScaling or None, 'local_rope_theta':
    … or None}.

  Raises:
    ValueError: a scaling that is not implemented here, by its name.
  """
  for key in ('rope_scaling', 'rope_parameters'):
    if not isinstance(found.get(key) or {}, Mapping):
      raise ValueError(f'{key} is {found[key]!r}; expected an object.')
  local = found.get('rope_local_base_freq')
  by_kind = found.get('rope_parameters') or {}
  if set(by_kind) == set(_KINDS):
    # As transformers 5 writes Gemma: one entry for each kind of layer.
    whole, part = (dict(by_kind[kind]) for kind in _KINDS)
    if part != whole:
      local = part.get('rope_theta', local)
      if part.get('rope_type', 'default') != 'default':
        raise ValueError(
          f'scales the frequencies of its local layers ({part}); allowed: '
          "rope_type 'default'."
        )
    found = {**found, 'rope_parameters': whole, 'rope_scaling': None}
  # transformers gives rope_scaling precedence where both are there.
  stated = found.get('rope_scaling') or found.get('rope_parameters') or {}
  theta = stated.get('rope_theta', found.get('rope_theta'))
  other = (found.get('rope_parameters') or {}).get('rope_theta', theta)
  if theta is not None and other not in (None, theta):
    raise ValueError(
      f'states two bases of the rotary embedding, {theta} and {other}. Correct '
      'it.'
    )
  turned = stated.get(
    'partial_rotary_factor', found.get('partial_rotary_factor')
  )
  if turned not in (None, 1, 1.0):
    raise ValueError(
      f'turns a part of each head only (partial_rotary_factor {turned}); the '
      'network turns all of it.'
    )
  return {
    'rope_theta': float(_ROPE_THETA if theta is None else theta),
    'rope_scaling': _scaling(stated, found),
    'local_rope_theta': None if local is None else float(local),
  }


def _scaling(
  stated: Mapping[str, Any], found: Mapping[str, Any]
) -> RopeScaling | None:
  if not set(stated) - {'rope_theta', 'partial_rotary_factor'}:
    return None
  kind = stated.get('rope_type', stated.get('type'))  # older files: type
  if kind == 'default':
    return None
  if kind not in ('llama3', 'linear'):
    name = repr(kind) if isinstance(kind, str) else f'{dict(stated)!r}'
    raise ValueError(
      f'the rotary scaling {name} is not implemented; allowed: none, '
      "'llama3', 'linear'. This network would give other outputs than the "
      'published model.'
    )
  try:
    if kind == 'linear':
      factor = float(stated['factor'])
      return None if factor == 1 else RopeScaling(kind=kind, factor=factor)
    length = found.get(
      'original_max_position_embeddings',
      stated.get(
        'original_max_position_embeddings',
        found.get('max_position_embeddings'),
      ),
    )
    return RopeScaling(
      kind=kind,
      factor=float(stated['factor']),
      low_freq_factor=float(stated['low_freq_factor']),
      high_freq_factor=float(stated['high_freq_factor']),
      original_max_length=length,
    )
  except (KeyError, TypeError) as error:
    raise ValueError(
      f'the rotary scaling {kind!r} lacks a number ({error}): {dict(stated)}.'
    ) from error


def _defaults(found: Mapping[str, Any]) -> dict[str, Any]:
  """What transformers takes for keys that a config.json lacks."""
  heads, width = found.get('num_attention_heads'), found.get('hidden_size')
  result = {'hidden_act': 'silu', 'rms_norm_eps': 1e-6}
  if heads:
    result['num_key_value_heads'] = heads
    if width:
      result['head_dim'] = width // heads
  return result
