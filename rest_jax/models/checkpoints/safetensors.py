"""Weights from a folder of Hugging Face safetensors; Llama architecture.

artifacts/safetensors_files.py says which files of the folder count.
"""

from typing import Any

import numpy as np

from rest_jax.artifacts import safetensors_files, storage
from rest_jax.config import configuration
from rest_jax.models.architecture import DecoderConfig
from rest_jax.models.checkpoints import hf_config, weights

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


def load(source: storage.PathLike, model: DecoderConfig, target: Any) -> Any:
  """The weights, on the mesh.

  Args:
    source: the folder.
    model: the network they must fit.
    target: jax.ShapeDtypeStructs with shardings (policies.abstract).

  Raises:
    ConfigurationError: see `read_params`.
  """
  return weights.place(read_params(source, model), target)


def read_params(
  source: storage.PathLike, config: DecoderConfig
) -> weights.Params:
  """The parameters by path, float32 (see weights.stack).

  Args:
    source: the folder.
    config: the network.

  Raises:
    ConfigurationError: a file is missing or damaged, or config.json or the
      tensors are not the network's, listing each difference.
  """
  folder = storage.path(source)
  hf_config.check(folder, config)
  found = safetensors_files.entries(folder)
  shapes = {name: tuple(entry['shape']) for name, (_, entry) in found.items()}
  unused = {name for name in found if name.endswith('rotary_emb.inv_freq')}
  head, embedding = _named('unembedding', None), _named('embedding', None)
  if config.tie_embeddings and head in found and embedding in found:
    if not safetensors_files.same(found[head], found[embedding]):
      raise configuration.ConfigurationError(
        f'{source}: {head} differs from {embedding}, and MODEL ties the two. '
        'Set architecture.DecoderConfig.tie_embeddings = False (and '
        '"tie_word_embeddings": false in config.json), so that the output '
        'matrix is read.'
      )
    unused.add(head)  # some folders repeat the embedding
  lines = weights.differences(config, _named, shapes, unused)
  allowed = ', '.join(safetensors_files.DTYPES)
  lines += [
    f'{name}: holds {entry["dtype"]}; allowed: {allowed}'
    for name, (_, entry) in found.items()
    if entry['dtype'] not in safetensors_files.DTYPES and name not in unused
  ]
  weights.require_same(source, lines)

  def get(name: str, layer: int | None) -> np.ndarray:
    return safetensors_files.read_tensor(*found[_named(name, layer)])

  return weights.stack(get, config)


def _named(name: str, layer: int | None) -> str:
  if layer is None:
    return f'{_WHOLE_NAMES[name]}.weight'
  return f'model.layers.{layer}.{_LAYER_NAMES[name]}.weight'
