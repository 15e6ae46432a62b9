"""Real stages on a cluster and on TPU VMs, with RUN_DIR on gs://.

The first jobs of the tiny run of kill.py; cluster_run.py has all of them. The
launcher runs in this process, what it starts by the real executors, clients and
stages, against a fake cluster, a fake Google Cloud and a store of ours.
"""

import os
import pathlib

import fake_cloud
import fake_cluster
import kill
import pytest
import xla_flags

from rest_jax import main
from rest_jax.executors.gke import gke
from rest_jax.executors.tpu_vm import agent, tpu_vm

FLAGS = [
  *kill.TINY,
  '--until=base/train',
  '--gin.PRETRAIN_STEPS=3',
  '--gin.CORPUS_DOCUMENTS=100',
  '--gin.LOG_EVERY=1',
  '--gin.GREEDY_GROUPS=8',
  # Two hosts of one chip: a sum of two has the same bits in any order, so that
  # they must make what one process with two devices makes.
  '--gin.TOPOLOGY=v5e:1x1',
  '--gin.SLICES=2',
  '--gin.IMAGE=none',
  '--gin.TPU_VM_ZONE=us-east5-a',
]
# Derived after prepare: jobs read RUN_DIR/automatic.gin.
OWN = "GROUPS = 'auto'\n"
# What hosts run in the agent's place, only quicker to tell.
AGENT = """
import sys
from rest_jax.executors.tpu_vm import agent
agent.SECONDS = 0.1
sys.exit(agent.main())
"""


@pytest.fixture(scope='module')
def expected(tmp_path_factory):
  """What the local executor makes."""
  folder = tmp_path_factory.mktemp('local')
  (folder / 'own.gin').write_text(OWN)
  flags = [*FLAGS, f'--gin_file={folder}/own.gin']
  with pytest.MonkeyPatch.context() as patch:
    patch.setenv('XLA_FLAGS', xla_flags.simulated(2))
    assert main.run(['run', f'--gin.RUN_DIR={folder}/run', *flags]) == 0
  return kill.content(folder / 'run')


@pytest.fixture
def surroundings(tmp_path, monkeypatch, root):
  """Starts what an executor talks to; by its name."""
  for module, name in (
    (gke, 'POLL_SECONDS'),
    (tpu_vm, 'POLL_SECONDS'),
    (agent, 'SECONDS'),
  ):
    monkeypatch.setattr(module, name, 0.2)
  folder = tmp_path / 'fake'
  folder.mkdir()
  environment = {'PYTHONPATH': str(root), 'XLA_FLAGS': xla_flags.QUICK}

  def start(executor):
    if executor == 'gke':
      fake = fake_cluster.FakeCluster(folder, environment)
    else:
      quick = tmp_path / 'agent.py'
      quick.write_text(AGENT)
      environment['FAKE_AGENT'] = str(quick)
      fake = fake_cloud.FakeCloud(folder, environment)
      monkeypatch.setenv('PATH', f'{fake.bin}:{os.environ["PATH"]}')
    fake.__enter__()
    stop.append(fake)
    if executor == 'gke':
      monkeypatch.setenv('KUBECONFIG', str(fake.kubeconfig))
    return fake

  stop = []
  yield start
  for fake in stop:
    fake.__exit__()


def copied(store, folder: pathlib.Path) -> pathlib.Path:
  """The objects of the store's run as files."""
  for name, found in store.objects.items():
    if not name.endswith('/'):
      file = folder / name.removeprefix('bucket/')
      file.parent.mkdir(parents=True, exist_ok=True)
      file.write_bytes(found.data)
  return folder / 'run'


@pytest.mark.parametrize('executor', ['gke', 'tpu_vm'])
def test_two_hosts_train_on_gs_what_one_process_trains_on_a_disk(
  executor, expected, surroundings, store, bucket, tmp_path
):
  if executor == 'gke':
    pytest.importorskip('kubernetes')
  surroundings(executor)
  store.fault('POST /upload.*parquet', status=503, times=2)
  store.fault('POST /upload.*manifest', status=503, after=True)
  store.fault('GET .*checkpoints', status=503, times=2)
  store.fault('/upload.*checkpoints', status=None, delay=1.0, times=3)
  store.put('bucket/own.gin', OWN.encode())
  flags = [f'--gin.RUN_DIR={bucket}/run', f'--executor={executor}', *FLAGS]
  flags += [f'--gin_file={bucket}/own.gin']
  assert main.run(['run', *flags]) == 0
  assert not any(fault.times for fault in store.faults)  # all have happened
  assert b'GROUPS = ' in store.objects['bucket/run/automatic.gin'].data
  # Each process has written its own shards.
  assert any('ocdbt.process_1/' in name for name in store.objects)
  found = kill.content(copied(store, tmp_path / 'copy'))
  assert len(expected) > 5 and found == expected
