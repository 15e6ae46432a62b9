"""The devices of a run, found without jax."""

import os

import pytest

from rest_jax.config import configuration
from rest_jax.executors import machine
from rest_jax.executors.jobs import Resources

GIB = 2**30


@pytest.fixture(autouse=True)
def _nothing_here(monkeypatch):
  monkeypatch.setattr(machine, '_TPU_DEVICES', ())
  monkeypatch.setattr(machine.shutil, 'which', lambda name: None)


def test_a_topology_is_taken_at_its_word():
  found = machine.find(Resources(topology='v5litepod-16', slices=2), {})
  assert (found.kind, found.devices) == ('tpu', 32)
  assert found.device_bytes == 16 * GIB and '2 x v5e:4x4' in str(found)


def test_a_cpu_has_the_memory_that_is_free_within_its_container(
  tmp_path, monkeypatch
):
  memory, group = tmp_path / 'meminfo', tmp_path / 'memory.max'
  memory.write_text('MemTotal: 64 kB\nMemAvailable:  8388608 kB\n')
  monkeypatch.setattr(machine, '_MEMORY', memory)
  monkeypatch.setattr(machine, '_CGROUP', group)
  found = machine.find(Resources(), {})
  assert (found.kind, found.devices) == ('cpu', 1)
  assert found.device_bytes == 8 * GIB
  for limit, gib in (('max\n', 8), (f'{2 * GIB}\n', 2), (f'{99 * GIB}\n', 8)):
    group.write_text(limit)
    assert machine.find(Resources(), {}).device_bytes == gib * GIB
  flags = {'XLA_FLAGS': '--xla_force_host_platform_device_count=8'}
  assert machine.find(Resources(), flags).device_bytes == GIB


def test_gpus_are_those_that_the_driver_lists(tmp_path, monkeypatch):
  program = tmp_path / 'nvidia-smi'
  program.write_text('#!/bin/sh\necho "NVIDIA H100, 81559"\necho "A, 40960"\n')
  os.chmod(program, 0o755)
  monkeypatch.setattr(machine.shutil, 'which', lambda name: str(program))
  found = machine.find(Resources(), {})
  assert (found.kind, found.devices) == ('gpu', 2)
  assert [found.shared(n).devices for n in (1, 2, 4)] == [2, 1, 1]
  assert found.device_bytes == 30 * GIB  # of the smaller, what jax takes
  assert machine.find(Resources(), {'JAX_PLATFORMS': 'cpu'}).kind == 'cpu'
  program.write_text('#!/bin/sh\necho "no devices were found"\nexit 6\n')
  assert machine.find(Resources(), {}).kind == 'cpu'


def test_a_tpu_must_say_which_it_is(tmp_path, monkeypatch):
  monkeypatch.setattr(machine, '_TPU_DEVICES', (str(tmp_path),))
  with pytest.raises(configuration.ConfigurationError, match='TOPOLOGY'):
    machine.find(Resources(), {})
  found = machine.find(Resources(), {'TPU_ACCELERATOR_TYPE': 'v5litepod-8'})
  assert (found.kind, found.devices) == ('tpu', 8)


def test_a_process_sees_the_accelerators_that_are_named_to_it(
  tmp_path, monkeypatch
):
  assert machine.visible({}) == ('cpu', [])
  for number in range(4):
    (tmp_path / f'accel{number}').touch()
  devices = (f'{tmp_path}/accel[0-9]*', f'{tmp_path}/vfio/[0-9]*')
  monkeypatch.setattr(machine, '_TPU_DEVICES', devices)
  assert machine.visible({}) == ('tpu', ['0', '1', '2', '3'])
  assert machine.visible({'TPU_VISIBLE_CHIPS': '2,3'}) == ('tpu', ['2', '3'])
  assert machine.visible({'JAX_PLATFORMS': 'cpu'}) == ('cpu', [])
