"""From the matrices of published checkpoints to this network's stacked ones.

Published decoders store (out, in) matrices, one per layer; here they are
(in, heads…) einsum operands, stacked over the layers.
"""

from collections.abc import Callable

import numpy as np

from rest_jax.models.configurations import DecoderConfig

# get(name, layer) -> the published matrix, float32; names as below.
Get = Callable[[str, int | None], np.ndarray]


def stack(get: Get, config: DecoderConfig) -> dict[str, np.ndarray]:
  """The network's parameters, by path.

  Args:
    get: gives 'query', 'key', 'value', 'output', 'gate', 'up', 'down',
      'attention_norm', 'mlp_norm' of a layer, and 'embedding', 'final_norm',
      'unembedding' of the whole (layer None), each as published: (out, in),
      rotary pairs half-split.
    config: the network.

  Returns:
    'params/blocks/query' and so on, as models/network.py names them.
  """
  D, K, E = config.embed_dim, config.num_kv_heads, config.head_dim
  R = config.num_heads // K

  def layers(name, arrange):
    return np.stack([arrange(get(name, i)) for i in range(config.num_layers)])

  blocks = {
    'query': layers(
      'query', lambda w: w.reshape(K, R, E, D).transpose(3, 0, 1, 2)
    ),
    'key': layers('key', lambda w: w.reshape(K, E, D).transpose(2, 0, 1)),
    'value': layers('value', lambda w: w.reshape(K, E, D).transpose(2, 0, 1)),
    'output': layers(
      'output', lambda w: w.reshape(D, K, R, E).transpose(1, 2, 3, 0)
    ),
    'gate': layers('gate', np.transpose),
    'up': layers('up', np.transpose),
    'down': layers('down', np.transpose),
    'attention_norm/scale': layers('attention_norm', np.asarray),
    'mlp_norm/scale': layers('mlp_norm', np.asarray),
  }
  whole = {
    'embedding': get('embedding', None),
    'final_norm/scale': get('final_norm', None),
  }
  if not config.tie_embeddings:
    whole['unembedding'] = get('unembedding', None)
  return {f'params/blocks/{name}': w for name, w in blocks.items()} | {
    f'params/{name}': w for name, w in whole.items()
  }
