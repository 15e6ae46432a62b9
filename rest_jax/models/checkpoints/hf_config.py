"""The network that a Hugging Face config.json describes, and that of MODEL.

Two checkpoints may have tensors of the same names and shapes and still be
different networks: the rotary base and its scaling, the norm's epsilon and the
activation stand in config.json alone. A value that the network does not have
is refused; nothing is approximated.
"""

from collections.abc import Mapping
from typing import Any

from rest_jax.artifacts import storage
from rest_jax.config import configuration
from rest_jax.models.architecture import DecoderConfig, RopeScaling
from rest_jax.models.checkpoints import weights

NAME = 'config.json'
_FAMILIES = ('llama', 'mistral')
# config.json's key, our field. Keys that it lacks have the values of _defaults.
_FIELDS = {
  'num_hidden_layers': 'num_layers',
  'hidden_size': 'embed_dim',
  'intermediate_size': 'mlp_dim',
  'num_attention_heads': 'num_heads',
  'num_key_value_heads': 'num_kv_heads',
  'head_dim': 'head_dim',
  'rms_norm_eps': 'norm_epsilon',
  'tie_word_embeddings': 'tie_embeddings',
  'hidden_act': 'activation',
  'vocab_size': 'vocab_size',
}
# 'gelu' of config.json is the exact one, ours is the tanh approximation.
_ACTIVATIONS = {
  'silu': 'silu',
  'swish': 'silu',
  'gelu_pytorch_tanh': 'gelu',
  'gelu_new': 'gelu',
  'gelu': 'the exact gelu',
}
_ROPE_THETA = 10_000.0  # transformers' default for both families


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
  found, stated = _read(folder)
  lines = [
    f'{name}: the file has {value}, MODEL binds {getattr(config, name)}'
    for name, value in stated.items()
    if value != getattr(config, name)
  ]
  window = _window(found)
  if window is not None and window < config.max_length:
    lines.append(
      f'max_length: the file attends to the last {window} tokens only '
      f'(sliding_window), MODEL binds {config.max_length}'
    )
  weights.require_same(folder, lines)


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
    for key, field in (*_FIELDS.items(), ('max_position_embeddings', None))
    if stated.get(field, found.get(key)) is None
  ]
  if missing:
    raise configuration.ConfigurationError(
      f'{folder / NAME}: lacks {", ".join(missing)}. Take the file that was '
      'published with the weights, or bind MODEL yourself.'
    )
  return DecoderConfig(
    max_length=min(filter(None, (length, _window(found)))), **stated
  )


def _window(found: Mapping[str, Any]) -> int | None:
  """To how many tokens Mistral attends; None: to all."""
  if found.get('model_type') != 'mistral':
    return None
  return found.get('sliding_window')


def _read(folder: storage.Path) -> tuple[dict[str, Any], dict[str, Any]]:
  """(config.json, the fields of DecoderConfig that it states).

  Raises:
    ConfigurationError: another family, or something that is not implemented.
  """
  found = storage.read_json(folder / NAME)
  family = found.get('model_type', 'llama')
  if family not in _FAMILIES:
    raise configuration.ConfigurationError(
      f'{folder}: model_type {family!r}; allowed: {", ".join(_FAMILIES)}.'
    )
  method = (found.get('quantization_config') or {}).get('quant_method')
  if method:
    raise configuration.ConfigurationError(
      f'{folder}: config.json says that the weights are quantised ({method}); '
      'allowed: plain float64, 32, 16 or bfloat16 tensors. Take the '
      'unquantised checkpoint, or a GGUF file.'
    )
  stated = _defaults(found) | {
    ours: found[theirs]
    for theirs, ours in _FIELDS.items()
    if found.get(theirs) is not None
  }
  stated['activation'] = _ACTIVATIONS.get(
    stated['activation'], stated['activation']
  )
  try:
    stated |= rope(found)
  except ValueError as error:
    raise configuration.ConfigurationError(
      f'{folder}: config.json: {error}'
    ) from error
  return found, stated


def rope(found: Mapping[str, Any]) -> dict[str, Any]:
  """The rotary embedding that a config.json describes.

  Args:
    found: transformers 4 writes `rope_theta` and, where the frequencies are
      scaled, `rope_scaling`; transformers 5 writes both as `rope_parameters`.

  Returns:
    {'rope_theta': …, 'rope_scaling': RopeScaling or None}.

  Raises:
    ValueError: a scaling that is not implemented here, by its name.
  """
  for key in ('rope_scaling', 'rope_parameters'):
    if not isinstance(found.get(key) or {}, Mapping):
      raise ValueError(f'{key} is {found[key]!r}; expected an object.')
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
  result = {'activation': 'silu', 'norm_epsilon': 1e-6}
  if heads:
    result['num_kv_heads'] = heads
    if width:
      result['head_dim'] = width // heads
  return result
