"""Meshes over the devices that a test has: eight on a CPU, fewer elsewhere."""

import functools

import jax
import pytest

from rest_jax.distributed import partitioning


@functools.cache
def mesh(data: int = 1, fsdp: int = 1, tensor: int = 1) -> jax.sharding.Mesh:
  """A mesh of the first devices; the test is skipped where there are too few.

  Args:
    data, fsdp, tensor: sizes of its axes.
  """
  wanted, found = data * fsdp * tensor, jax.devices()
  if len(found) < wanted:
    pytest.skip(
      f'needs {wanted} devices, and {len(found)} of the kind '
      f'{found[0].platform!r} are here; JAX_PLATFORMS=cpu simulates 8',
      allow_module_level=True,
    )
  sizes = partitioning.MeshConfig(data=data, fsdp=fsdp, tensor=tensor)
  return partitioning.make_mesh(sizes, found[:wanted])
