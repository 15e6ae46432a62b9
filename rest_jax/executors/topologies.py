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
from rest_jax.distributed import chips


@dataclasses.dataclass(frozen=True)
class Generation:
  """One generation of TPUs.

  Attributes:
    name: in jax's topologies.
    cloud_prefix: of Cloud's accelerator types.
    cores: what Cloud's number counts for each chip.
    hbm_bytes: memory of a chip.
    clock_hertz: of a chip.
    hbm_bandwidth: of a chip's memory, in bytes a second.
    peak_flops: bfloat16 operations a second of a chip, at most.
    links: of a chip to its neighbours in the slice.
    link_speed: bytes a second that a chip can send over one of them.
    gke_label: the node label cloud.google.com/gke-tpu-accelerator.
    runtime: the image of a Cloud TPU VM, its --version.
    shapes: of the slices that Cloud's types name.
  """

  name: str
  cloud_prefix: str
  cores: int
  hbm_bytes: int
  clock_hertz: float
  hbm_bandwidth: float
  peak_flops: float
  links: int
  link_speed: float
  gke_label: str
  runtime: str
  shapes: tuple[str, ...]

  @property
  def link_bandwidth(self) -> float:
    """Bytes a second that a chip can send over all of its links together."""
    return self.links * self.link_speed


_FLAT = ('1x1', '2x2', '2x4', '4x4', '4x8', '8x8', '8x16', '16x16')
_CUBES = (
  *('2x2x1', '2x2x2', '2x2x4', '2x4x4', '4x4x4', '4x4x8', '4x8x8', '8x8x8'),
  *('8x8x16', '8x16x16'),
)
GENERATIONS = {
  row.name: row
  for row in (
    # Speeds: Google's public specifications; links one way, from
    # https://jax-ml.github.io/scaling-book/tpus.
    Generation(
      'v4',
      'v4',
      2,
      chips.HBM_BYTES['TPU v4'],
      *(1.05e9, 1228e9, 275e12, 6, 45e9),
      'tpu-v4-podslice',
      'tpu-ubuntu2204-base',
      _CUBES,
    ),
    Generation(
      'v5e',
      'v5litepod',
      1,
      chips.HBM_BYTES['TPU v5e'],
      *(1.5e9, 819e9, 197e12, 4, 45e9),
      'tpu-v5-lite-podslice',
      'v2-alpha-tpuv5-lite',
      _FLAT,
    ),
    Generation(
      'v5p',
      'v5p',
      2,
      chips.HBM_BYTES['TPU v5p'],
      *(1.75e9, 2765e9, 459e12, 6, 90e9),
      'tpu-v5p-slice',
      'v2-alpha-tpuv5',
      (*_CUBES, '4x4x12', '4x8x12', '8x8x12'),
    ),
    Generation(
      'v6e',
      'v6e',
      1,
      chips.HBM_BYTES['TPU v6e'],
      *(1.75e9, 1640e9, 918e12, 4, 90e9),
      'tpu-v6e-slice',
      'v2-alpha-tpuv6e',
      _FLAT,
    ),
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
    return f'{self.generation.name}:{self.grid}'

  @property
  def chips(self) -> int:
    """How many chips the slice has."""
    return math.prod(self.shape)

  @property
  def chips_per_host(self) -> int:
    """Chips of one machine: four, or all of a slice that one machine holds."""
    if len(self.shape) == 2 and self.chips <= 8:  # v5e-8, v6e-8
      return self.chips
    return 4

  @property
  def hosts(self) -> int:
    """How many machines the slice has, each with a process."""
    return -(-self.chips // self.chips_per_host)

  @property
  def cloud_type(self) -> str:
    """Google Cloud's accelerator type, such as v5litepod-16."""
    generation = self.generation
    return f'{generation.cloud_prefix}-{self.chips * generation.cores}'

  @property
  def grid(self) -> str:
    """The shape as Google Cloud and GKE write it, such as 4x4."""
    return 'x'.join(map(str, self.shape))


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
