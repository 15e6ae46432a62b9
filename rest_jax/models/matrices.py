"""The matrices of a block: one table for all that must know their dimensions.

Dimensions as in network.py: D embed, K kv heads, R heads per kv head, E head
width, F mlp.
"""

from typing import NamedTuple

from rest_jax.models.architecture import DecoderConfig


class Matrix(NamedTuple):
  """One matrix of a block, an einsum operand of dimensions inputs + outputs.

  Attributes:
    inputs: the dimensions that a product sums over, which come first.
    outputs: the dimensions that it makes.
    residual: whether its product is added to the residual stream.
  """

  inputs: str
  outputs: str
  residual: bool = False

  @property
  def dimensions(self) -> str:
    return self.inputs + self.outputs

  @property
  def einsum(self) -> str:
    """Of (B, L, inputs) and this matrix to (B, L, outputs)."""
    return f'BL{self.inputs},{self.dimensions}->BL{self.outputs}'

  @property
  def adapter_einsums(self) -> tuple[str, str]:
    """Of (B, L, inputs) and A to (B, L, Z), and of that and B to the outputs.

    Z is the rank of an adapter (lora.py): A is inputs + Z, B is Z + outputs.
    """
    return (
      f'BL{self.inputs},{self.inputs}Z->BLZ',
      f'BLZ,Z{self.outputs}->BL{self.outputs}',
    )

  def shape(self, config: DecoderConfig) -> tuple[int, ...]:
    return shape(config, self.dimensions)

  def axes(self) -> tuple[str | None, ...]:
    """The logical axes of partitioning.py."""
    return axes(self.dimensions)


MATRICES = {
  'query': Matrix('D', 'KRE'),
  'key': Matrix('D', 'KE'),
  'value': Matrix('D', 'KE'),
  'output': Matrix('KRE', 'D', residual=True),
  'gate': Matrix('D', 'F'),
  'up': Matrix('D', 'F'),
  'down': Matrix('F', 'D', residual=True),
}


# Which of them have a bias where qkv_bias is set.
BIASED = ('query', 'key', 'value')

_AXES = {'D': 'embed', 'K': 'kv_heads', 'R': None, 'E': 'head_dim', 'F': 'mlp'}


def axes(dimensions: str) -> tuple[str | None, ...]:
  """The logical axes (partitioning.py) of an array of these dimensions."""
  return tuple(_AXES[letter] for letter in dimensions)


def shape(config: DecoderConfig, dimensions: str) -> tuple[int, ...]:
  """The sizes of dimensions, each a letter of this module's table."""
  sizes = {
    'D': config.embed_dim,
    'K': config.num_kv_heads,
    'R': config.num_heads // config.num_kv_heads,
    'E': config.head_dim,
    'F': config.mlp_dim,
  }
  return tuple(sizes[letter] for letter in dimensions)


def names_of_norms(config: DecoderConfig) -> dict[str, str]:
  """A block's norms, and the dimension of each one's scale: D or E."""
  names = {'attention_norm': 'D', 'mlp_norm': 'D'}
  if config.post_norms:
    names |= {'post_attention_norm': 'D', 'post_mlp_norm': 'D'}
  if config.qk_norm:
    names |= {'query_norm': 'E', 'key_norm': 'E'}
  return names
