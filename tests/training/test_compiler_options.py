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


def test_no_other_device_is_told_anything():
  assert options('TPU v4', 8) == {}
  mesh = jax.sharding.Mesh(np.array(jax.devices()), 'a')
  assert mesh.size == 8 and compiler_options.of(mesh, CONFIG) == {}


def test_another_libtpu_may_go_without_them():
  config = TrainConfig(max_steps=1, batch_rows=8, tune_compiler=False)
  assert options('TPU v5p', 8) and options('TPU v5p', 8, config) == {}
