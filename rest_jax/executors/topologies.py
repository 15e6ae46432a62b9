"""TPU slices by name: `v5e:4x4`, the name that jax and libtpu use.

Google Cloud's accelerator types (v5litepod-16, v6e-16, v5p-128, v4-32) are
accepted and translated. They count chips for v5e and v6e, TensorCores (two a
chip) for v4 and v5p.

https://cloud.google.com/tpu/docs/system-architecture-tpu-vm
"""

import dataclasses
import math
import re

from rest_jax.config import configuration


@dataclasses.dataclass(frozen=True)
class Generation:
  """One generation of TPUs.

  Attributes:
    name: in jax's topologies.
    cloud_prefix: of Cloud's accelerator types.
    cores: what Cloud's number counts for each chip.
    hbm_bytes: memory of a chip.
    shapes: of the slices that Cloud's types name.
  """

  name: str
  cloud_prefix: str
  cores: int
  hbm_bytes: int
  shapes: tuple[str, ...]


_FLAT = ('1x1', '2x2', '2x4', '4x4', '4x8', '8x8', '8x16', '16x16')
_CUBES = (
  *('2x2x1', '2x2x2', '2x2x4', '2x4x4', '4x4x4', '4x4x8', '4x8x8', '8x8x8'),
  *('8x8x16', '8x16x16'),
)
_GIB = 2**30
GENERATIONS = {
  row.name: row
  for row in (
    Generation('v4', 'v4', 2, 32 * _GIB, _CUBES),
    Generation('v5e', 'v5litepod', 1, 16 * _GIB, _FLAT),
    Generation(
      'v5p', 'v5p', 2, 95 * _GIB, (*_CUBES, '4x4x12', '4x8x12', '8x8x12')
    ),
    Generation('v6e', 'v6e', 1, 32 * _GIB, _FLAT),
  )
}


@dataclasses.dataclass(frozen=True)
class Topology:
  """One TPU slice.

  Attributes:
    generation: its row of GENERATIONS.
    shape: chips along each axis of the torus.
  """

  generation: Generation
  shape: tuple[int, ...]

  def __str__(self) -> str:
    return f'{self.generation.name}:{"x".join(map(str, self.shape))}'

  @property
  def chips(self) -> int:
    """How many chips the slice has."""
    return math.prod(self.shape)


def parse(text: str, where: str) -> Topology:
  """The slice that a name means.

  Args:
    text: such as v5e:4x4, or a type of Google Cloud such as v5litepod-16.
    where: the dial, for the error.

  Raises:
    ConfigurationError: no slice is named so.
  """
  written = re.fullmatch(r'(\w+):(\d+(?:x\d+)*)', text)
  if written and written[1] in GENERATIONS:
    generation = GENERATIONS[written[1]]
    shape = tuple(map(int, written[2].split('x')))
    dimensions = len(_sizes(generation.shapes[0]))
    if len(shape) == dimensions and all(shape):
      return Topology(generation, shape)
    raise configuration.ConfigurationError(
      f'{where}: got {text!r}; a slice of {generation.name} has {dimensions} '
      f'dimensions, such as {generation.name}:{generation.shapes[3]}.'
    )
  for generation in GENERATIONS.values():
    found = re.fullmatch(rf'{generation.cloud_prefix}-(\d+)', text)
    if found is None:
      continue
    for sizes in map(_sizes, generation.shapes):
      if math.prod(sizes) * generation.cores == int(found[1]):
        return Topology(generation, sizes)
    known = ', '.join(
      f'{generation.cloud_prefix}-{math.prod(_sizes(s)) * generation.cores}'
      for s in generation.shapes
    )
    raise configuration.ConfigurationError(
      f'{where}: got {text!r}; Google Cloud has {known}. Other slices are '
      f'named by their shape, such as {generation.name}:{generation.shapes[3]}.'
    )
  raise configuration.ConfigurationError(
    f'{where}: got {text!r}; allowed: names such as v5e:4x4, v6e:16x16, '
    'v5p:4x4x4, v4:2x2x4, or Google Cloud types such as v5litepod-16.'
  )


def _sizes(shape: str) -> tuple[int, ...]:
  return tuple(map(int, shape.split('x')))
