"""What all attention has in common.

Dimensions as in network.py; G group, N lane, S place of a part.

Scores and the softmax are float32 whatever the network's dtype: bfloat16 has 8
bits, so that two scores near 30 may differ by 0.1 and round to the same value,
and a sum of many small weights stops growing.
"""

from typing import Any

import jax
import jax.numpy as jnp

from rest_jax.models.architecture import DecoderConfig, LayerKind

# A masked score. Not -inf: the softmax of a row of nothing but -inf is NaN, in
# value and gradient. exp(NEVER - top) is exactly 0 in float32 beside any score
# that the network can give.
NEVER = -1e30


def capped(scores: jax.Array, cap: float | None) -> jax.Array:
  """Scores squeezed into (-cap, cap) by a tanh (Gemma 2), or as they are."""
  return scores if cap is None else cap * jnp.tanh(scores / cap)


def scale(config: DecoderConfig) -> float:
  """What the products of queries and keys are multiplied by."""
  scalar = config.query_pre_attn_scalar or config.head_dim
  return float(scalar) ** -0.5


def kernel_precision(config: DecoderConfig, dtype: Any) -> str:
  """Of a kernel's products, as jax.default_matmul_precision names it."""
  # The products of bfloat16 have one precision; the TPU's compiler refuses a
  # kernel that asks for more.
  return 'default' if dtype == jnp.bfloat16 else config.matmul_precision


class Sight:
  """Which cached tokens the tokens at some positions attend to."""

  def __init__(self, config: DecoderConfig, positions_GN: jax.Array):
    """Args:
    config: of the network.
    positions_GN: of the tokens that attend.
    """
    self._window, self._positions_GN = config.window, positions_GN

  def mask(
    self,
    kind: LayerKind,
    start: jax.Array | int,
    length: jax.Array | int,
    places: int,
  ) -> jax.Array:
    """The places of one part that count, (G, N, S), booleans.

    Args:
      kind: of the layer: a local one sees the last `window` tokens.
      start: position of the part's first token: one, or one for each of (G, N).
      length: its tokens; the places behind them are padding.
      places: S.
    """
    place_11S = jnp.arange(places)[None, None]
    start_GN1, length_GN1 = (
      jnp.broadcast_to(value, self._positions_GN.shape)[..., None]
      for value in (start, length)
    )
    positions_GNS = start_GN1 + place_11S
    newest_GN1 = self._positions_GN[..., None]
    seen_GNS = (place_11S < length_GN1) & (positions_GNS <= newest_GN1)
    if kind == 'local':
      seen_GNS &= positions_GNS > newest_GN1 - self._window
    return seen_GNS
