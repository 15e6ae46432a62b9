"""The sizes and choices of a decoder. A model is a gin file that binds them."""

import dataclasses
from collections.abc import Mapping
from typing import Any, Literal, NamedTuple

from rest_jax.config import configuration
from rest_jax.config.configuration import operational

LayerKind = Literal['global', 'local']
Attention = Literal['auto', 'einsum', 'splash', 'cudnn']
BLOCKS, REST = 'blocks', 'rest'  # where a network's stacks lie


# Whose each fused kernel is, by jax's names of the platforms.
_KERNELS = {'splash': ('tpu', 'TPUs'), 'cudnn': ('gpu', "NVIDIA's GPUs")}


def require_kernel(platform: str, asked: Attention) -> None:
  """Refuses an attention that devices of one kind do not have.

  Args:
    platform: 'cpu', 'gpu' or 'tpu', as jax names it.
    asked: DecoderConfig.attention.

  Raises:
    ConfigurationError: the kernel does not run there.
  """
  runs_on, whose = _KERNELS.get(asked, (platform, ''))
  if platform != runs_on:
    raise configuration.ConfigurationError(
      f'ATTENTION (DecoderConfig.attention): got {asked!r}, the fused kernel '
      f'of {whose}, and the devices here are of the kind {platform!r}. Use '
      "--gin.ATTENTION=auto or 'einsum'."
    )


def attention_on(
  platform: str, config: 'DecoderConfig'
) -> Literal['einsum', 'splash', 'cudnn']:
  """How a network attends on devices of one kind.

  Args:
    platform: 'cpu', 'gpu' or 'tpu', as jax names it.
    config: of the network.

  Raises:
    ConfigurationError: the kernel does not run there, or not for this network.
  """
  asked = config.attention
  require_kernel(platform, asked)
  refusal = None
  if config.dtype != 'bfloat16':
    refusal = f'dtype = {config.dtype!r}; it takes bfloat16'
  elif config.attention_soft_cap is not None:
    refusal = f'attention_soft_cap = {config.attention_soft_cap}; it has none'
  elif config.head_dim % 8:
    refusal = f'head_dim = {config.head_dim}; it takes multiples of 8'
  if asked == 'cudnn' and refusal:
    raise configuration.ConfigurationError(
      "ATTENTION (DecoderConfig.attention): got 'cudnn' for a network of "
      f"{refusal}. Use --gin.ATTENTION=auto or 'einsum'."
    )
  if asked != 'auto':
    return asked
  # Wider heads run on Hopper and later, if they are asked for.
  if platform == 'gpu' and not refusal and config.head_dim <= 128:
    return 'cudnn'
  return 'splash' if platform == 'tpu' else 'einsum'


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


class Stack(NamedTuple):
  """Layers whose weights lie in the same arrays, one pattern after another.

  Attributes:
    path: of the weights in the tree of parameters: 'blocks' or 'rest'.
    kinds: of the layers of one pattern.
    first: the stack's first layer.
    repeats: of the pattern: the first axis of every array.
  """

  path: str
  kinds: tuple[LayerKind, ...]
  first: int
  repeats: int

  def block(self, place: int) -> str:
    """The path of the weights of the pattern's layer `place`."""
    if len(self.kinds) == 1 and self.path == BLOCKS:
      return self.path
    return f'{self.path}/layers_{place}'

  def layers(self, place: int) -> range:
    """The layers of the network whose weights lie at `block(place)`."""
    step = len(self.kinds)
    return range(self.first + place, self.first + step * self.repeats, step)


@dataclasses.dataclass(frozen=True, kw_only=True)
class DecoderConfig(configuration.Configuration):
  """A pre-norm decoder: RoPE, grouped-query attention, RMSNorm, gated MLP.

  One network for the families Llama, Mistral, Qwen, Gemma: docs/models.md says
  which switches each of them turns.

  Attributes:
    vocab_size: rows of the embedding (may exceed the vocabulary's pieces).
    num_layers: decoder blocks.
    embed_dim: width of the residual stream.
    num_heads: query heads.
    num_kv_heads: key and value heads; divides num_heads.
    head_dim: width of a head; even.
    mlp_dim: hidden width of the gated MLP.
    max_length: longest sequence, prompt and completion together, in tokens.
    activation: of the MLP's gate: 'gelu' is the tanh approximation (Gemma),
      'gelu_exact' the one with the error function.
    layer_pattern: kinds of the layers, repeated from the first layer on. A
      'global' layer attends to all earlier tokens, a 'local' one to the last
      `window`. Gemma 2 alternates, Gemma 3 has five local layers to a global.
    window: tokens that a local layer attends to, the newest included.
    rope_theta: base of the rotary wavelengths.
    rope_scaling: how the model scales its rotary frequencies; None if not.
    local_rope_theta: base of the local layers, whose frequencies are then not
      scaled (Gemma 3); None: all layers turn alike.
    query_pre_attn_scalar: scores are divided by its square root; None: by that
      of head_dim.
    attention_soft_cap: scores s become cap x tanh(s / cap); None: no cap.
    logit_soft_cap: the same for the logits of the vocabulary.
    qk_norm: whether each head's query and key are normalised (Qwen 3, Gemma 3).
    qkv_bias: whether query, key and value have biases (Qwen 2).
    post_norms: whether a norm also follows attention and MLP (Gemma 2 and 3).
    norm_offset: added to every norm's scale, 1 in Gemma.
    norm_epsilon: of every RMSNorm.
    scale_embeddings: whether embeddings are multiplied by sqrt(embed_dim).
    tie_embeddings: whether the output matrix is the embedding.
    dtype: of activations and of the matrices as they are multiplied.
    param_dtype: of the parameters in training. Updates of bfloat16 ones are
      rounded stochastically; the optimiser's state is float32 in any case.
    matmul_precision: of the products of float32 matrices on accelerators that
      have several (TPUs multiply in bfloat16, GPUs in TF32, if they are
      allowed to): 'float32' is exact on all of them.
    remat: what is kept for the backward pass (recomputation.py), which computes
      the rest again: 'none' keeps every activation; 'dots' the matrix products
      and the results of fused attention kernels; 'attention' these without
      the products of the MLP; 'full' each block's input alone.
    decode_loop: whether decoding unrolls the layers or scans over them.
    attention: how training and decoding attend: 'einsum' runs anywhere;
      'splash' is the fused kernels of TPUs (splash.py, tree_attention.py,
      decode_attention.py); 'cudnn' is that of NVIDIA's GPUs for training and
      prompts, in bfloat16 without soft cap (cudnn_attention.py); 'auto' takes
      the kernel of the devices where there is one for this network.
  """

  vocab_size: int
  num_layers: int
  embed_dim: int
  num_heads: int
  num_kv_heads: int
  head_dim: int
  mlp_dim: int
  max_length: int
  activation: Literal['silu', 'gelu', 'gelu_exact'] = 'silu'
  layer_pattern: tuple[LayerKind, ...] = ('global',)
  window: int | None = None
  rope_theta: float = 10_000.0
  rope_scaling: RopeScaling | None = None
  local_rope_theta: float | None = None
  query_pre_attn_scalar: float | None = None
  attention_soft_cap: float | None = None
  logit_soft_cap: float | None = None
  qk_norm: bool = False
  qkv_bias: bool = False
  post_norms: bool = False
  norm_offset: float = 0.0
  norm_epsilon: float = 1e-5
  scale_embeddings: bool = False
  tie_embeddings: bool = True
  dtype: Literal['float32', 'bfloat16'] = 'float32'
  param_dtype: Literal['float32', 'bfloat16'] = 'float32'
  matmul_precision: Literal['float32', 'tensorfloat32', 'bfloat16'] = 'float32'
  remat: Literal['none', 'dots', 'attention', 'full'] = operational('none')
  decode_loop: Literal['unroll', 'scan'] = operational('unroll')
  attention: Attention = operational('auto')

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
    self.require(
      0 < len(self.layer_pattern) <= self.num_layers,
      'layer_pattern',
      f'1 to num_layers = {self.num_layers} kinds',
    )
    local = 'local' in self.layer_pattern
    self.require(
      (self.window is not None) == local,
      'window',
      'a number of tokens if layer_pattern has a local layer, else None',
    )
    self.require(
      local or self.local_rope_theta is None,
      'local_rope_theta',
      'None, as layer_pattern has no local layer',
    )
    for name in (
      'window',
      'rope_theta',
      'local_rope_theta',
      'query_pre_attn_scalar',
      'attention_soft_cap',
      'logit_soft_cap',
      'norm_epsilon',
    ):
      value = getattr(self, name)
      self.require(value is None or value > 0, name, '> 0')

  @property
  def stacks(self) -> tuple[Stack, ...]:
    """The layers by the arrays that hold their weights.

    Training scans over the pattern. Layers that are left over behind its last
    repetition make a stack of their own.
    """
    kinds, size = self.layer_pattern, len(self.layer_pattern)
    repeats, left = divmod(self.num_layers, size)
    stacks = [Stack(BLOCKS, kinds, 0, repeats)]
    if left:
      stacks.append(Stack(REST, kinds[:left], repeats * size, 1))
    return tuple(stacks)

  def kind(self, layer: int) -> LayerKind:
    """Of the layer of this number, from 0."""
    return self.layer_pattern[layer % len(self.layer_pattern)]

  @property
  def num_parameters(self) -> int:
    """Weights of the network, the tied embedding counted once."""
    D, E = self.embed_dim, self.head_dim
    heads, kv_heads = self.num_heads, self.num_kv_heads
    block = D * (2 * (heads + kv_heads) * E + 3 * self.mlp_dim)
    block += D * (4 if self.post_norms else 2)
    block += 2 * E * self.qk_norm + (heads + 2 * kv_heads) * E * self.qkv_bias
    embeddings = (1 if self.tie_embeddings else 2) * self.vocab_size
    return self.num_layers * block + (embeddings + 1) * D


def from_semantics(fields: Mapping[str, Any]) -> DecoderConfig:
  """The inverse of configuration.semantics, read from JSON.

  Args:
    fields: of a network; those that it lacks have their declared default.

  Raises:
    TypeError: a field that this version does not know.
  """
  fields = dict(fields)
  scaling = fields.pop('rope_scaling', None)
  if scaling is not None:
    fields['rope_scaling'] = RopeScaling(**scaling)
  return DecoderConfig(**fields)  # lists of JSON become tuples
