"""Meshes of TPUs that are not here: every chip once, copies within slices."""

import dataclasses

import numpy as np
import pytest

from rest_jax.config import configuration
from rest_jax.distributed import partitioning

KINDS = {'v5e': 'TPU v5 lite', 'v5p': 'TPU v5', 'v6e': 'TPU v6 lite'}


@dataclasses.dataclass(frozen=True)
class Chip:
  """What jax says of a TPU."""

  id: int
  device_kind: str
  coords: tuple[int, int, int]
  slice_index: int
  process_index: int
  platform: str = 'tpu'
  core_on_chip: int = 0


def chips(kind, grid, slices=1):
  found = []
  for number in range(slices):
    for place in np.ndindex(*reversed(grid)):
      coords = tuple(reversed(place)) + (0,) * (3 - len(grid))
      index = len(found)
      found.append(Chip(index, KINDS[kind], coords, number, index // 4))
  return found


@pytest.mark.parametrize('tensor', [1, 2, 4, 8])
@pytest.mark.parametrize('slices', [1, 2])
@pytest.mark.parametrize(
  ('kind', 'grid'),
  [
    ('v5e', (2, 4)),
    ('v5e', (4, 4)),
    ('v5e', (16, 16)),
    ('v5p', (4, 4, 4)),
    ('v6e', (8, 8)),
  ],
  ids=str,
)
def test_each_chip_has_one_place_and_no_copy_leaves_its_slice(
  kind, grid, slices, tensor
):
  devices = chips(kind, grid, slices)
  config = partitioning.MeshConfig(data=slices, fsdp=-1, tensor=tensor)
  mesh = partitioning.make_mesh(config, devices)
  here = int(np.prod(grid))
  assert dict(mesh.shape) == {
    'data': slices,
    'fsdp': here // tensor,
    'tensor': tensor,
  }
  assert {chip.id for chip in mesh.devices.flat} == set(range(len(devices)))
  for copy in mesh.devices:
    assert len({chip.slice_index for chip in copy.flat}) == 1


def test_a_copy_over_two_slices_is_refused_with_what_to_set():
  with pytest.raises(configuration.ConfigurationError) as error:
    partitioning.make_mesh(
      partitioning.MeshConfig(data=1, fsdp=-1), chips('v5e', (4, 4), 2)
    )
  assert '--gin.MESH_DATA=2' in str(error.value)
