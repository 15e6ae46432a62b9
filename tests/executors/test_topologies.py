"""One name for a TPU slice, whichever way it is written."""

import math

import pytest

from rest_jax.config import configuration
from rest_jax.executors import jobs, topologies

# From Google Cloud's tables of accelerator types.
CLOUD = {
  'v5litepod-1': ('v5e:1x1', 1),
  'v5litepod-4': ('v5e:2x2', 4),
  'v5litepod-16': ('v5e:4x4', 16),
  'v5litepod-256': ('v5e:16x16', 256),
  'v6e-8': ('v6e:2x4', 8),
  'v6e-16': ('v6e:4x4', 16),
  'v6e-256': ('v6e:16x16', 256),
  'v4-8': ('v4:2x2x1', 4),
  'v4-32': ('v4:2x2x4', 16),
  'v4-128': ('v4:4x4x4', 64),
  'v5p-8': ('v5p:2x2x1', 4),
  'v5p-128': ('v5p:4x4x4', 64),
  'v5p-384': ('v5p:4x4x12', 192),
  'v5p-2048': ('v5p:8x8x16', 1024),
}


@pytest.mark.parametrize(('name', 'wanted'), CLOUD.items())
def test_a_type_of_google_cloud_is_translated(name, wanted):
  slice_ = topologies.parse(name, 'TOPOLOGY')
  assert (str(slice_), slice_.chips) == wanted
  assert topologies.parse(str(slice_), 'TOPOLOGY') == slice_
  assert jobs.Resources(topology=name).topology == wanted[0]


def test_every_shape_of_the_table_has_its_own_number_of_chips():
  for row in topologies.GENERATIONS.values():
    chips = [math.prod(map(int, s.split('x'))) for s in row.shapes]
    assert len(set(chips)) == len(chips), row.name


@pytest.mark.parametrize('name', ['v5p:4x4x28', 'v5e:8x4', 'v4:16x16x16'])
def test_a_slice_that_cloud_has_no_type_for_is_named_by_its_shape(name):
  assert str(topologies.parse(name, 'TOPOLOGY')) == name


@pytest.mark.parametrize(
  ('name', 'told'),
  [
    ('v5litepod-17', 'v5litepod-16'),
    ('v5p-4', 'v5p-8'),
    ('v5e-16', 'v5e:4x4'),
    ('v5e:4x4x4', '2 dimensions'),
    ('v5p:4x4', '3 dimensions'),
    ('v5e:0x4', '2 dimensions'),
    ('v9:4x4', 'v5e:4x4'),
    ('4x4', 'v5e:4x4'),
    ('', 'v5e:4x4'),
    ('v5e:4x4 ', 'v5e:4x4'),
  ],
)
def test_an_unknown_name_is_refused_with_what_is_allowed(name, told):
  with pytest.raises(configuration.ConfigurationError) as caught:
    jobs.Resources(topology=name)
  assert told in str(caught.value) and str(caught.value).startswith('TOPOLOGY')
