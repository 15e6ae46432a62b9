"""LoRA (Hu et al., arXiv 2106.09685): which matrices of a network are adapted.

A matrix W of a block becomes W + alpha / rank * A B. A maps W's inputs to
`rank` numbers, B maps these to W's outputs; only A and B are trained. This
module needs no jax; adapters.py makes the arrays and merges them into W.
"""

import dataclasses
import math
import re
from typing import NamedTuple

from rest_jax.config import configuration
from rest_jax.models import matrices
from rest_jax.models.architecture import DecoderConfig
from rest_jax.models.matrices import MATRICES, Matrix

TARGETS = '/(query|key|value|output|gate|up|down)$'  # all matrices of a block


@dataclasses.dataclass(frozen=True, kw_only=True)
class LoraConfig(configuration.Configuration):
  """What an M-step trains beside frozen weights; rank 0: all weights instead.

  Attributes:
    rank: columns of A and rows of B; 0 turns LoRA off.
    alpha: A B is multiplied by alpha / rank.
    targets: a regular expression; a matrix is adapted where it matches
      anywhere in the matrix's path, such as 'blocks/query', or
      'blocks/layers_2/down' in a network whose layer_pattern has several kinds.
  """

  rank: int = 0
  alpha: float = 16.0
  targets: str = TARGETS

  def check(self):
    self.require(self.rank >= 0, 'rank', '>= 0 (0: LoRA is off)')
    self.require(self.alpha > 0, 'alpha', '> 0')
    try:
      re.compile(self.targets)
    except re.error as error:
      raise configuration.ConfigurationError(
        f'LoraConfig.targets: got {self.targets!r}, which is no regular '
        f'expression ({error}).'
      ) from error
    if not self.rank:
      # Off is one value: dials that then mean nothing refuse no standing run.
      object.__setattr__(self, 'alpha', 16.0)
      object.__setattr__(self, 'targets', TARGETS)

  @property
  def is_on(self) -> bool:
    return self.rank > 0

  @property
  def scale(self) -> float:
    """What A B is multiplied by."""
    return self.alpha / self.rank


class AdaptedMatrix(NamedTuple):
  """A matrix that has an adapter.

  Attributes:
    path: of its stacked weights in the tree of parameters: 'blocks/query'.
    matrix: its row of the table.
    layers: of the network whose weights are stacked there, in order.
  """

  path: str
  matrix: Matrix
  layers: range

  def shapes(
    self, model: DecoderConfig, rank: int
  ) -> dict[str, tuple[int, ...]]:
    """Of the stacked A, (layers, inputs…, rank), and B, (…, outputs…)."""
    inputs = matrices.shape(model, self.matrix.inputs)
    outputs = matrices.shape(model, self.matrix.outputs)
    layers = len(self.layers)
    return {'a': (layers, *inputs, rank), 'b': (layers, rank, *outputs)}

  def axes(self) -> dict[str, tuple[str | None, ...]]:
    """The logical axes (partitioning.py) of both."""
    inputs = matrices.axes(self.matrix.inputs)
    outputs = matrices.axes(self.matrix.outputs)
    return {
      'a': ('layers', *inputs, 'lora_rank'),
      'b': ('layers', 'lora_rank', *outputs),
    }


def adapted(model: DecoderConfig, config: LoraConfig) -> list[AdaptedMatrix]:
  """The matrices that have an adapter, in the order of the network.

  Raises:
    ConfigurationError: config.targets matches none of the network's matrices.
  """
  every = [
    AdaptedMatrix(f'{stack.block(place)}/{name}', matrix, stack.layers(place))
    for stack in model.stacks
    for place in range(len(stack.kinds))
    for name, matrix in MATRICES.items()
  ]
  found = [one for one in every if re.search(config.targets, one.path)]
  if not found:
    raise configuration.ConfigurationError(
      f'LORA_TARGETS: got {config.targets!r}, which matches no matrix of '
      f'MODEL; it has: {", ".join(one.path for one in every)}.'
    )
  return found


def num_parameters(model: DecoderConfig, config: LoraConfig) -> int:
  """Numbers that the adapters hold; 0 where LoRA is off."""
  if not config.is_on:
    return 0
  return sum(
    math.prod(shape)
    for one in adapted(model, config)
    for shape in one.shapes(model, config.rank).values()
  )
