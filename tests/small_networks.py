"""Configurations of networks that are small enough for any test."""

from rest_jax.models.architecture import DecoderConfig

_SIZES = {
  'vocab_size': 32,
  'num_layers': 1,
  'embed_dim': 16,
  'num_heads': 2,
  'num_kv_heads': 2,
  'head_dim': 8,
  'mlp_dim': 32,
  'max_length': 32,
}


def network(**changes) -> DecoderConfig:
  """A network of one layer and a few thousand weights.

  Args:
    **changes: the fields of DecoderConfig that a test depends on.
  """
  return DecoderConfig(**_SIZES | changes)


def grouped(**changes) -> DecoderConfig:
  """Two key heads, each of two query heads (grouped-query attention)."""
  return network(**{'num_heads': 4, 'num_kv_heads': 2} | changes)


def windowed(window: int, **changes) -> DecoderConfig:
  """`grouped` with a second layer that sees the last `window` tokens alone."""
  pattern = ('global', 'local')
  return grouped(num_layers=2, layer_pattern=pattern, window=window, **changes)
