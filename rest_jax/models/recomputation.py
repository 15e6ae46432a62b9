"""What a layer keeps for the backward pass, and what is computed again.

DecoderConfig.remat trades memory for arithmetic. Each choice keeps some of a
layer's activations, by their names; all others are computed again from them,
layer by layer. A fused kernel of TPUs whose result is kept is not run again;
attention by einsum has no such result, as its backward pass needs the weights
of its softmax.
"""

import math
from collections.abc import Callable
from typing import Any

from rest_jax.models import matrices
from rest_jax.models.architecture import DecoderConfig

# What a fused kernel gives, and the sums of its softmax: its backward pass
# needs both.
ATTENDED = 'attended'
_OF_ATTENTION = ('query', 'key', 'value', ATTENDED, 'output')
_KEPT = {
  'dots': (*_OF_ATTENTION, 'gate', 'up', 'down'),
  'attention': _OF_ATTENTION,
  'full': (),
}


def named(x: Any, name: str) -> Any:
  """An array that a choice may keep by this name."""
  from jax.ad_checkpoint import checkpoint_name

  return checkpoint_name(x, name)


def policy(remat: str) -> Callable[..., Any]:
  """What jax.checkpoint keeps with one choice; all but 'none' have one."""
  import jax

  return jax.checkpoint_policies.save_only_these_names(*_KEPT[remat])


def kept_numbers(config: DecoderConfig, remat: str, tensor: int = 1) -> float:
  """Numbers that a device keeps of a token and layer, its input included.

  Args:
    config: of the network.
    remat: any choice but 'none'.
    tensor: devices that share the heads and the width of the MLP.
  """
  total = config.embed_dim
  for name in _KEPT[remat]:
    if name == ATTENDED:
      total += config.num_heads * (config.head_dim + 1) / tensor
    elif name != 'down' or config.post_norms:  # else nothing asks for it
      outputs = matrices.MATRICES[name].outputs
      whole = 1 if outputs == ('embed',) else tensor
      total += math.prod(matrices.shape(config, outputs)) / whole
  return total
