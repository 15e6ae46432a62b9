"""What the TPUs' compiler is told, for which devices."""

import types

import jax
import numpy as np
import pytest

from rest_jax.training import compiler_options
from rest_jax.training.hyperparameters import TrainConfig

CONFIG = TrainConfig(max_steps=1, batch_rows=8)


def options(kind, chips, config=CONFIG):
  device = types.SimpleNamespace(platform='tpu', device_kind=kind)
  mesh = types.SimpleNamespace(devices=np.array([device] * chips), size=chips)
  return compiler_options.of(mesh, config)


@pytest.mark.parametrize('kind', ['TPU v5', 'TPU v5 lite', 'TPU v6 lite'])
def test_one_chip_has_nothing_to_sum_beside_its_products(kind):
  alone, many = options(kind, 1), options(kind, 8)
  assert not any('async' in name for name in alone)
  assert many['xla_tpu_enable_async_collective_fusion_fuse_all_reduce'] == (
    'true'
  )
  assert many.items() >= alone.items()


@pytest.mark.parametrize(
  'kind, mib, of', [('TPU v5', 32, 64), ('TPU v6 lite', 96, 128)]
)
def test_products_get_a_part_of_the_memory_on_the_chip(kind, mib, of):
  """A half or more, and not all: what is fetched ahead lies there too."""
  set_ = options(kind, 1)['xla_tpu_scoped_vmem_limit_kib']
  assert of / 2 <= int(set_) / 1024 == mib < of


def test_no_other_device_is_told_anything():
  assert options('TPU v4', 8) == {}
  mesh = jax.sharding.Mesh(np.array(jax.devices()), 'a')
  assert mesh.size == 8 and compiler_options.of(mesh, CONFIG) == {}


def test_another_libtpu_may_go_without_them():
  config = TrainConfig(max_steps=1, batch_rows=8, tune_compiler=False)
  assert options('TPU v5p', 8) and options('TPU v5p', 8, config) == {}
