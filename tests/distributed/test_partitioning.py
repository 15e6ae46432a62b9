"""The mesh's shape and the one table that maps logical axes to it."""

import itertools

import jax
import numpy as np
import pytest
from flax import linen as nn
from jax.sharding import PartitionSpec

from rest_jax.config import configuration
from rest_jax.distributed import partitioning

Error = configuration.ConfigurationError


def mesh(data=1, fsdp=1, tensor=1, devices=8):
  config = partitioning.MeshConfig(data=data, fsdp=fsdp, tensor=tensor)
  return partitioning.make_mesh(config, jax.devices()[:devices])


@pytest.mark.parametrize(
  'asked, devices, expected',
  [
    ((1, -1, 1), 8, (1, 8, 1)),
    ((2, -1, 2), 8, (2, 2, 2)),
    ((-1, 2, 1), 6, (3, 2, 1)),
    ((1, 1, -1), 1, (1, 1, 1)),
    ((2, 2, 2), 8, (2, 2, 2)),
  ],
)
def test_minus_one_is_what_the_devices_leave_over(asked, devices, expected):
  made = mesh(*asked, devices=devices)
  assert tuple(made.shape.values()) == expected
  assert made.axis_names == partitioning.AXES
  assert len(set(made.devices.flat)) == devices


@pytest.mark.parametrize('asked', [(3, -1, 1), (2, 2, 1), (16, 1, 1)])
def test_a_shape_that_does_not_fit_names_the_dials(asked):
  with pytest.raises(Error, match='does not fit 8 devices.*MESH_FSDP'):
    mesh(*asked)


@pytest.mark.parametrize('asked', [(0, 1, 1), (1, -2, 1), (-1, -1, 1)])
def test_a_shape_that_is_none_is_refused(asked):
  with pytest.raises(Error, match='MeshConfig'):
    mesh(*asked)


def test_two_dimensions_on_one_mesh_axis_are_ambiguous():
  with pytest.raises(
    Error, match="w_DD maps heads and mlp both to mesh axis 'tensor'. Edit"
  ):
    partitioning.spec(('heads', 'mlp'), (8, 8), mesh(2, 2, 2), 'w_DD')
  # Where that axis has one device nothing is split, and nothing ambiguous.
  found = partitioning.spec(('heads', 'mlp'), (8, 8), mesh(8), 'w_DD')
  assert found == PartitionSpec(None, None)


def test_a_size_that_its_axes_do_not_divide_names_size_and_mesh():
  with pytest.raises(Error) as error:
    partitioning.spec(('embed', 'mlp'), (8, 6), mesh(1, 2, 4), 'w_DF')
  assert 'w_DF: mlp = 6 is not divisible by 4' in str(error.value)
  assert 'mesh tensor=4' in str(error.value)
  with pytest.raises(Error, match='batch = 6 is not divisible by 4'):
    partitioning.spec(('batch', None), (6, 3), mesh(2, 2, 2), 'batch')


def test_an_unknown_axis_lists_the_known_ones():
  with pytest.raises(Error, match="'wings' is not in RULES.*embed, mlp"):
    partitioning.spec(('wings',), (8,), mesh(8), 'w')


def test_a_specification_splits_what_the_table_says():
  on = mesh(2, 2, 2)
  spec = partitioning.spec
  assert spec(('embed', 'mlp'), (8, 8), on, 'w') == PartitionSpec(
    'fsdp', 'tensor'
  )
  assert spec(('batch', 'length'), (8, 3), on, 'x') == PartitionSpec(
    ('data', 'fsdp'), None
  )
  assert spec((None, 'norm'), (3, 3), on, 's') == PartitionSpec(None, None)


def test_boxed_parameters_get_shardings_and_plain_ones_are_replicated():
  on = mesh(2, 2, 2)
  tree = {
    'w': nn.LogicallyPartitioned(
      jax.ShapeDtypeStruct((8, 4), np.float32), ('embed', 'mlp')
    ),
    'count': jax.ShapeDtypeStruct((), np.int32),
  }
  found = partitioning.param_shardings(tree, on)
  assert found['w'].spec == PartitionSpec('fsdp', 'tensor')
  assert found['w'].shard_shape((8, 4)) == (4, 2)
  assert found['count'].is_fully_replicated


def test_constrain_acts_on_the_mesh_in_use_alone():
  on = mesh(2, 2, 2)

  def pinned(x):
    return partitioning.constrain(x, 'batch', 'mlp')

  x = np.zeros((8, 4), np.float32)
  assert jax.jit(pinned)(x).sharding.is_fully_replicated

  def within(x):
    with partitioning.use(on):
      return pinned(x)

  assert jax.jit(within)(x).sharding.shard_shape((8, 4)) == (2, 2)
  with partitioning.use(on), pytest.raises(Error, match='activation batch_mlp'):
    pinned(np.zeros((6, 4), np.float32))


class _Chip:
  """As much of a TPU's device as the layout of a mesh asks for."""

  platform, core_on_chip, process_index, slice_index = 'tpu', 0, 0, 0

  def __init__(self, number, coords, kind):
    self.id, self.coords, self.device_kind = number, coords, kind


@pytest.mark.parametrize(
  'kind, shape',
  [
    ('TPU v5 lite', (2, 4, 1)),
    ('TPU v5 lite', (4, 4, 1)),
    ('TPU v5 lite', (16, 16, 1)),
    ('TPU v5p', (2, 2, 1)),
    ('TPU v5p', (4, 4, 2)),
    ('TPU v6 lite', (8, 8, 1)),
  ],
)
@pytest.mark.parametrize('tensor', [1, 2, 4, 8, 16])
def test_a_torus_is_laid_out_also_where_its_axes_must_be_split(
  kind, shape, tensor
):
  places = itertools.product(*map(range, shape))
  chips = [_Chip(i, coords, kind) for i, coords in enumerate(places)]
  if len(chips) % tensor:
    return
  found = partitioning.make_mesh(
    partitioning.MeshConfig(data=1, fsdp=-1, tensor=tensor), chips
  )
  assert found.shape['tensor'] == tensor
  assert sorted(chip.id for chip in found.devices.flat) == [*range(len(chips))]
