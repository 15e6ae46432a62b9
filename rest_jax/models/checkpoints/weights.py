"""From the tensors of published checkpoints to this network's stacked arrays.

Published decoders store (out, in) matrices, one per layer; here they are
(in, out) einsum operands with their heads apart, stacked over the layers.
"""

import collections
import functools
import math
from collections.abc import Callable, Collection, Mapping
from typing import NamedTuple, Protocol

import numpy as np

from rest_jax.config import configuration
from rest_jax.models import matrices
from rest_jax.models.architecture import DecoderConfig


class Tensor(NamedTuple):
  """A tensor of a published checkpoint, and where it lies here.

  Attributes:
    name: as in models/network.py.
    layer: of the network; None for what stands outside of the layers.
    path: of the array here, 'params/blocks/query' say.
    index: along that array's first axis; None if it is not stacked.
    inputs: sizes of the dimensions that a product sums over; none for vectors.
    outputs: sizes of the other dimensions.
    transposed: whether the array here is (inputs, outputs) and not the reverse.
  """

  name: str
  layer: int | None
  path: str
  index: int | None
  inputs: tuple[int, ...]
  outputs: tuple[int, ...]
  transposed: bool

  @property
  def shape(self) -> tuple[int, ...]:
    """As published: (out, in), or (out,)."""
    outputs = math.prod(self.outputs)
    return (outputs, math.prod(self.inputs)) if self.inputs else (outputs,)

  @property
  def here(self) -> tuple[int, ...]:
    """The shape in this network, without the axis of the layers."""
    if self.transposed:
      return self.inputs + self.outputs
    return self.outputs + self.inputs


class Source(Protocol):
  """A published checkpoint, open for reading."""

  def read(self, tensor: Tensor, rows: slice, columns: slice) -> np.ndarray:
    """A block of a tensor as published, with rotary pairs half-split.

    Args:
      tensor: one of `tensors(config)`.
      rows: of the outputs, whole heads.
      columns: of the inputs; a vector has none.

    Returns:
      (rows, columns) or (rows,), of any floating dtype.
    """

  def dtype(self, tensor: Tensor) -> np.dtype | None:
    """The dtype in which a tensor is stored; None: quantised to fewer bits."""


def tensors(config: DecoderConfig) -> list[Tensor]:
  """The tensors of a network, in the order of its layers."""
  D, V = config.embed_dim, config.vocab_size
  result = [
    Tensor('embedding', None, 'params/embedding', None, (D,), (V,), False)
  ]
  places = {
    layer: (stack.block(place), index)
    for stack in config.stacks
    for place in range(len(stack.kinds))
    for index, layer in enumerate(stack.layers(place))
  }
  for layer in range(config.num_layers):
    block, index = places[layer]
    result += _of_block(config, layer, f'params/{block}', index)
  result.append(
    Tensor('final_norm', None, 'params/final_norm/scale', None, (), (D,), False)
  )
  if not config.tie_embeddings:
    path = 'params/unembedding'
    result.append(Tensor('unembedding', None, path, None, (D,), (V,), False))
  return result


def by_array(config: DecoderConfig) -> list[Tensor]:
  """The tensors of a network, those that lie in one array together."""
  members: dict[str, list[Tensor]] = {}
  for tensor in tensors(config):
    members.setdefault(tensor.path, []).append(tensor)
  return [tensor for group in members.values() for tensor in group]


def shapes(config: DecoderConfig) -> dict[str, tuple[int, ...]]:
  """The shape of every array of a network, by its path."""
  layers = collections.Counter(tensor.path for tensor in tensors(config))
  return {
    tensor.path: tensor.here
    if tensor.index is None
    else (layers[tensor.path], *tensor.here)
    for tensor in tensors(config)
  }


def published(tensor: Tensor, here: np.ndarray) -> np.ndarray:
  """A tensor as published, (out, in) or (out,), from its shape here.

  Args:
    tensor: which one.
    here: of shape `tensor.here`; the result is a view of it.
  """
  if tensor.transposed:
    return here.reshape(math.prod(tensor.inputs), -1).T
  return here.reshape(tensor.shape)


def _of_block(
  config: DecoderConfig, layer: int, path: str, index: int
) -> list[Tensor]:
  sizes = functools.partial(matrices.shape, config)
  result = []
  for name, matrix in matrices.MATRICES.items():
    dimensions = sizes(matrix.inputs), sizes(matrix.outputs)
    result.append(
      Tensor(name, layer, f'{path}/{name}', index, *dimensions, True)
    )
    if config.qkv_bias and name in matrices.BIASED:
      name = f'{name}_bias'
      result.append(
        Tensor(name, layer, f'{path}/{name}', index, (), dimensions[1], False)
      )
  for name, dimension in matrices.names_of_norms(config).items():
    result.append(
      Tensor(
        *(name, layer, f'{path}/{name}/scale', index),
        *((), sizes(dimension), False),
      )
    )
  return result


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
  wanted = {named(t.name, t.layer): t.shape for t in tensors(config)}
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
  raise configuration.ConfigurationError(
    f'{source}: is not the network that MODEL binds:\n'
    + configuration.listed(lines)
    + '\nBind architecture.DecoderConfig to what the file has; see gin/models/.'
  )
