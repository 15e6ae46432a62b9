"""Workers of one machine see its devices divided among them."""

import json
import sys

import pytest

from rest_jax.config import configuration
from rest_jax.executors import device_shares, machine, orders
from rest_jax.executors.jobs import Job
from rest_jax.executors.local import LocalExecutor

# What a worker's process finds in its environment.
PRINT = 'import json, os; print(json.dumps(dict(os.environ)), flush=True)'
GPU = '#!/bin/sh\n' + 'echo "NVIDIA H100, 81559"\n' * 4


@pytest.fixture
def chips(tmp_path, monkeypatch):
  """Gives the machine some chips of a TPU."""
  monkeypatch.delenv('JAX_PLATFORMS', raising=False)
  monkeypatch.setattr(machine.shutil, 'which', lambda name: None)

  def make(number):
    folder = tmp_path / 'dev'
    folder.mkdir()
    for index in range(number):
      (folder / f'accel{index}').touch()
    monkeypatch.setattr(machine, '_TPU_DEVICES', (f'{folder}/accel[0-9]*',))

  return make


@pytest.fixture
def gpus(tmp_path, monkeypatch):
  monkeypatch.delenv('JAX_PLATFORMS', raising=False)
  program = tmp_path / 'nvidia-smi'
  program.write_text(GPU)
  program.chmod(0o755)
  monkeypatch.setattr(machine, '_TPU_DEVICES', ('/nothing/here',))
  monkeypatch.setattr(machine.shutil, 'which', lambda name: str(program))


def job(workers, **fields):
  fields = {'accelerator': 'tpu', **fields}
  return Job(name='sample', stage='sample', workers=workers, **fields)


def environments(one):
  """The environment of each worker's process, as the process finds it."""
  executor = LocalExecutor((sys.executable, '-c', PRINT))
  made = orders.Orders('run', [], token='t', digests='d')
  found = []
  for worker in range(one.workers):
    lines = []
    task = executor.start(made.make(one, worker), lines.append)
    while task.poll() is None:
      executor.wait(1)
    found.append(json.loads(lines[-1]))
  return found


@pytest.mark.parametrize(
  'number, workers, bounds',
  [(4, 4, '1,1,1'), (4, 2, '1,2,1'), (8, 2, '2,2,1'), (8, 8, '1,1,1')],
)
def test_each_worker_has_chips_and_a_port_of_its_own(
  chips, number, workers, bounds
):
  chips(number)
  found = environments(job(workers))
  seen = [one['TPU_VISIBLE_CHIPS'].split(',') for one in found]
  assert sum(seen, []) == [str(index) for index in range(number)]
  assert {len(one) for one in seen} == {number // workers}
  ports = {one['TPU_PROCESS_PORT'] for one in found}
  assert len(ports) == workers
  for one in found:
    port = one['TPU_PROCESS_PORT']
    assert one['TPU_PROCESS_ADDRESSES'] == f'localhost:{port}'
    assert one['TPU_CHIPS_PER_PROCESS_BOUNDS'] == bounds
    assert one['TPU_PROCESS_BOUNDS'] == '1,1,1'
    assert one['CLOUD_TPU_TASK_ID'] == '0'


def test_each_worker_has_gpus_of_its_own(gpus, monkeypatch):
  found = environments(job(2))
  assert [one['CUDA_VISIBLE_DEVICES'] for one in found] == ['0,1', '2,3']
  monkeypatch.setenv('CUDA_VISIBLE_DEVICES', '3,1')
  found = environments(job(2))
  assert [one['CUDA_VISIBLE_DEVICES'] for one in found] == ['3', '1']


def test_a_job_of_one_process_has_all_devices(chips):
  chips(4)
  for one in (job(1), job(4, accelerator='cpu')):
    for environment in environments(one):
      assert 'TPU_VISIBLE_CHIPS' not in environment
      assert 'TPU_PROCESS_BOUNDS' not in environment


def test_on_cpus_nothing_is_set():
  assert device_shares.of_worker(job(2), 0, {'JAX_PLATFORMS': 'cpu'}) == {}


@pytest.mark.parametrize(
  'number, workers, allowed', [(4, 3, '1, 2, 4'), (4, 8, '1, 2, 4')]
)
def test_chips_that_cannot_be_shared_are_said(chips, number, workers, allowed):
  chips(number)
  with pytest.raises(
    configuration.ConfigurationError, match=f'WORKERS.*allowed: {allowed}'
  ):
    device_shares.of_worker(job(workers), 0, {})


def test_a_topology_of_another_size_is_said_with_the_right_one(chips):
  chips(8)
  with pytest.raises(
    configuration.ConfigurationError, match='SAMPLE_TOPOLOGY=v5e:1x2'
  ):
    device_shares.of_worker(job(4, topology='v5e:2x4'), 0, {})
  assert (
    device_shares.of_worker(job(4, topology='v5e:1x2'), 3, {})[
      'TPU_VISIBLE_CHIPS'
    ]
    == '6,7'
  )
