"""From the matrices of published checkpoints to this network's stacked ones.

Published decoders store (out, in) matrices, one per layer; here they are
(in, heads…) einsum operands, stacked over the layers.
"""

from collections.abc import Callable, Collection, Mapping
from typing import Any

import numpy as np

from rest_jax.config import configuration
from rest_jax.models.architecture import DecoderConfig

Place = tuple[str, int | None]  # a matrix's name, and its layer
# get(name, layer) -> the published matrix, float32; names as in `shapes`.
Get = Callable[[str, int | None], np.ndarray]
# By path, each read when it is called: only one at a time is in memory.
Params = Mapping[str, Callable[[], np.ndarray]]

_LISTED = 12  # differences in an error


def shapes(config: DecoderConfig) -> dict[Place, tuple[int, ...]]:
  """The published matrices of a network, and their shapes: (out, in)."""
  D, F, V = config.embed_dim, config.mlp_dim, config.vocab_size
  query = config.num_heads * config.head_dim
  key = config.num_kv_heads * config.head_dim
  block = {
    'query': (query, D),
    'key': (key, D),
    'value': (key, D),
    'output': (D, query),
    'gate': (F, D),
    'up': (F, D),
    'down': (D, F),
    'attention_norm': (D,),
    'mlp_norm': (D,),
  }
  whole = {'embedding': (V, D), 'final_norm': (D,)}
  if not config.tie_embeddings:
    whole['unembedding'] = (V, D)
  return {(name, None): shape for name, shape in whole.items()} | {
    (name, layer): shape
    for layer in range(config.num_layers)
    for name, shape in block.items()
  }


def differences(
  config: DecoderConfig,
  named: Callable[[str, int | None], str],
  found: Mapping[str, tuple[int, ...]],
  unused: Collection[str] = (),
) -> list[str]:
  """How a file's tensors differ from those that the network needs.

  Args:
    config: the network.
    named: (name, layer) to the file's name of it.
    found: the file's tensors and their shapes, (out, in).
    unused: tensors that may be there and are not needed.

  Returns:
    One line for each tensor that is missing, has another shape, or would be
    left unread (a bias, say: the network would silently be another one).
  """
  wanted = {named(*place): shape for place, shape in shapes(config).items()}
  lines = [
    f'{name}: not in the file'
    if name not in found
    else f'{name}: the file has {found[name]}, MODEL needs {shape}'
    for name, shape in wanted.items()
    if found.get(name) != shape
  ]
  extra = [name for name in found if name not in wanted and name not in unused]
  return lines + [f'{name}: nothing in MODEL uses it' for name in extra]


def require_same(source: object, lines: list[str]) -> None:
  """Raises ConfigurationError, listing the differences, unless none is."""
  if not lines:
    return
  shown = lines[:_LISTED]
  if len(lines) > _LISTED:
    shown.append(f'and {len(lines) - _LISTED} more')
  raise configuration.ConfigurationError(
    f'{source}: is not the network that MODEL binds:\n'
    + '\n'.join(f'  {line}' for line in shown)
    + '\nBind architecture.DecoderConfig to what the file has; see gin/models/.'
  )


def stack(get: Get, config: DecoderConfig) -> Params:
  """The network's parameters, by path.

  Args:
    get: gives the matrices that `shapes` lists, rotary pairs half-split.
    config: the network.

  Returns:
    'params/blocks/query' and so on, as models/network.py names them, each a
    function that reads it.
  """
  D, K, E = config.embed_dim, config.num_kv_heads, config.head_dim
  R = config.num_heads // K

  def heads(w):
    return w.reshape(K, E, D).transpose(2, 0, 1)

  arranged = {
    'query': lambda w: w.reshape(K, R, E, D).transpose(3, 0, 1, 2),
    'key': heads,
    'value': heads,
    'output': lambda w: w.reshape(D, K, R, E).transpose(1, 2, 3, 0),
    'gate': np.transpose,
    'up': np.transpose,
    'down': np.transpose,
    'attention_norm': np.asarray,
    'mlp_norm': np.asarray,
  }

  def layers(name):
    arrange = arranged[name]
    return np.stack([arrange(get(name, i)) for i in range(config.num_layers)])

  def path(name):
    return f'{name}/scale' if name.endswith('_norm') else name

  params = {
    f'params/blocks/{path(name)}': lambda name=name: layers(name)
    for name in arranged
  }
  for name, layer in shapes(config):
    if layer is None:
      params[f'params/{path(name)}'] = lambda name=name: get(name, None)
  return params


def place(read: Params, target: Any) -> Any:
  """Puts parameters onto the mesh, one stacked matrix at a time.

  Args:
    read: of `stack`.
    target: jax.ShapeDtypeStructs with shardings, as policies.abstract gives.

  Returns:
    The target's tree of arrays.
  """
  import jax  # what only compares sizes does without

  def put(path: Any, want: jax.ShapeDtypeStruct) -> jax.Array:
    name = '/'.join(str(entry.key) for entry in path)
    # Not ConfigurationErrors: the readers have compared every tensor.
    assert name in read, name
    array = read[name]()
    assert array.shape == want.shape, (name, array.shape, want.shape)
    return jax.device_put(array.astype(want.dtype), want.sharding)

  return jax.tree_util.tree_map_with_path(put, target)
