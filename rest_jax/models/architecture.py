"""The sizes and choices of a decoder. A model is a gin file that binds them."""

import dataclasses
from typing import Literal

from rest_jax.config import configuration
from rest_jax.config.configuration import operational


@dataclasses.dataclass(frozen=True, kw_only=True)
class RopeScaling(configuration.Configuration):
  """How the rotary frequencies were lowered to read longer texts.

  The fields are those of `rope_scaling` (transformers 4) or `rope_parameters`
  (transformers 5) in a published config.json; rotary.py applies them.

  Attributes:
    kind: 'llama3' for Llama 3.1 and later, 'linear' for position
      interpolation (arXiv 2306.15595).
    factor: what the scaled frequencies are divided by.
    low_freq_factor: 'llama3' only: wavelengths longer than
      original_max_length / low_freq_factor are scaled in full.
    high_freq_factor: 'llama3' only: wavelengths shorter than
      original_max_length / high_freq_factor are not scaled.
    original_max_length: 'llama3' only: length before the extension, in tokens.
  """

  kind: Literal['llama3', 'linear']
  factor: float
  low_freq_factor: float = 1.0
  high_freq_factor: float = 4.0
  original_max_length: int = 8192

  def check(self):
    self.require(self.factor >= 1, 'factor', '>= 1')
    self.require(self.low_freq_factor > 0, 'low_freq_factor', '> 0')
    self.require(
      self.high_freq_factor > self.low_freq_factor,
      'high_freq_factor',
      f'more than low_freq_factor = {self.low_freq_factor}',
    )
    self.require(
      self.original_max_length > 0, 'original_max_length', 'a positive integer'
    )


@dataclasses.dataclass(frozen=True, kw_only=True)
class DecoderConfig(configuration.Configuration):
  """A pre-norm decoder: RoPE, grouped-query attention, RMSNorm, gated MLP.

  Attributes:
    vocab_size: rows of the embedding (may exceed the vocabulary's pieces).
    num_layers: decoder blocks.
    embed_dim: width of the residual stream.
    num_heads: query heads.
    num_kv_heads: key and value heads; divides num_heads.
    head_dim: width of a head; even.
    mlp_dim: hidden width of the gated MLP.
    max_length: longest sequence, prompt and completion together, in tokens.
    activation: of the MLP's gate.
    rope_theta: base of the rotary wavelengths.
    rope_scaling: how the model scales its rotary frequencies; None if not.
    norm_epsilon: of every RMSNorm.
    tie_embeddings: whether the output matrix is the embedding.
    dtype: of activations and of the matrices as they are multiplied.
    param_dtype: of the stored parameters and the optimiser's state.
    remat: what the backward pass recomputes: 'none' keeps every activation,
      'full' keeps each block's input, 'dots' keeps matrix products.
    decode_loop: whether decoding unrolls the layers or scans over them.
    attention: kernel of training and prefill; 'einsum' runs anywhere.
  """

  vocab_size: int
  num_layers: int
  embed_dim: int
  num_heads: int
  num_kv_heads: int
  head_dim: int
  mlp_dim: int
  max_length: int
  activation: Literal['silu', 'gelu'] = 'silu'
  rope_theta: float = 10_000.0
  rope_scaling: RopeScaling | None = None
  norm_epsilon: float = 1e-5
  tie_embeddings: bool = True
  dtype: Literal['float32', 'bfloat16'] = 'float32'
  param_dtype: Literal['float32', 'bfloat16'] = 'float32'
  remat: Literal['none', 'full', 'dots'] = operational('none')
  decode_loop: Literal['unroll', 'scan'] = operational('unroll')
  attention: Literal['einsum'] = operational('einsum')

  def check(self):
    for name in ('vocab_size', 'num_layers', 'embed_dim', 'mlp_dim'):
      self.require(getattr(self, name) > 0, name, 'a positive integer')
    self.require(
      self.num_kv_heads > 0 and self.num_heads % self.num_kv_heads == 0,
      'num_kv_heads',
      f'a divisor of num_heads = {self.num_heads}',
    )
    self.require(
      self.head_dim > 0 and self.head_dim % 2 == 0,
      'head_dim',
      'a positive even number (rotary pairs)',
    )
    self.require(self.max_length > 1, 'max_length', 'at least 2 tokens')
    self.require(self.rope_theta > 0, 'rope_theta', '> 0')
    self.require(self.norm_epsilon > 0, 'norm_epsilon', '> 0')

  @property
  def num_parameters(self) -> int:
    """Weights of the network, the tied embedding counted once."""
    heads = 2 * self.num_heads + 2 * self.num_kv_heads
    block = self.embed_dim * (heads * self.head_dim + 3 * self.mlp_dim + 2)
    embeddings = (1 if self.tie_embeddings else 2) * self.vocab_size
    return self.num_layers * block + (embeddings + 1) * self.embed_dim
