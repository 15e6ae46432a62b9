"""A training goes on with other hosts, devices and meshes."""

import json
import os

import pytest
import tiny_run
from processes import start, wait

from rest_jax.artifacts import manifests

SCRIPT = """
import os, pathlib, signal, sys
mesh, folder = sys.argv[1], pathlib.Path(sys.argv[2])
sys.path[:0] = sys.argv[3:]
import tiny_run
from rest_jax import main, train
from rest_jax.distributed import partitioning
from rest_jax.sampling.streams import Stream
from rest_jax.training import checkpointing, metric_writer
from rest_jax.training.hyperparameters import (
  OptimizerConfig, TrainConfig, ValidationConfig)

stop, add = int(os.environ['STOP_AT']), metric_writer.StepMeter.add

def stopping(self, done, *arguments, **fields):
  if done == stop and os.environ.get('JAX_PROCESS_ID', '0') == '0':
    os.kill(os.getpid(), signal.SIGTERM)
  return add(self, done, *arguments, **fields)

metric_writer.StepMeter.add = stopping
if 'BACKGROUND' in os.environ:  # as on a TPU
  checkpointing.in_background = lambda: True

def run():
  data, fsdp, tensor = map(int, mesh.split('x'))
  train.train(
    examples_dir=str(folder / '../examples'),
    checkpoints_dir=str(folder / 'checkpoints'),
    init_path=None, iteration=1, model=tiny_run.MODEL,
    optimizer=OptimizerConfig(learning_rate=1.0), learning_rates=[0.01],
    config=TrainConfig(max_steps=9, batch_rows=int(os.environ['ROWS']),
                       row_length=32, log_every=1, save_every=2),
    mesh=partitioning.MeshConfig(data=data, fsdp=fsdp, tensor=tensor),
    dval_dirs=[], validation=ValidationConfig(every=3),
    dval_stream=Stream(name='dval', num_samples=1, temperature=0.0),
    engine=tiny_run.ENGINE)

main.run = lambda arguments: run() or 0
main.main([])
"""


@pytest.fixture
def attempt(root, tmp_path):
  """Runs a training, or goes on with it; returns what process 0 says."""
  pairs = [(f'1+6=7;Q{i}:', '#### 7') for i in range(12)]
  tiny_run.examples(tmp_path / 'examples', pairs)

  def attempt(name, mesh, *, processes, code, stop=0, rows=4, **variables):
    started = start(
      *(root, SCRIPT, tmp_path / name, mesh),
      count=processes,
      devices=4,
      STOP_AT=str(stop),
      ROWS=str(rows),
      **variables,
    )
    return ''.join(wait(started, code=code)[0])

  return attempt


def losses(folder):
  text = (folder / 'checkpoints/lr_0.01/metrics.jsonl').read_text()
  lines = [json.loads(line) for line in text.splitlines()]
  return {line['step']: (line['loss'], line['grad_norm']) for line in lines}


def test_a_training_goes_on_with_other_hosts_devices_and_meshes(
  attempt, tmp_path
):
  attempt('straight', '1x4x1', processes=1, code=0)
  attempt('moved', '1x4x1', processes=2, code=42, stop=3, BACKGROUND='1')
  attempt('moved', '2x2x1', processes=1, code=42, stop=6)
  attempt('moved', '1x2x2', processes=4, code=0)
  straight, moved = (losses(tmp_path / n) for n in ('straight', 'moved'))
  assert list(moved) == list(straight) == list(range(1, 10))
  # The same examples in the same order: another batch would be off by far more.
  for step, expected in straight.items():
    assert moved[step] == pytest.approx(expected, rel=1e-4), step
  found = sorted(loss for loss, _ in straight.values())
  apart = zip(found, found[1:], strict=False)
  assert min(1 - low / high for low, high in apart) > 1e-3
  done = manifests.load(tmp_path / 'moved/checkpoints')
  assert done.recorded['mesh'] == {'data': 1, 'fsdp': 2, 'tensor': 2}
  assert set(os.listdir(done.folder / 'lr_0.01')) >= {'9', 'result.json'}


def test_rows_that_a_new_mesh_does_not_divide_are_refused(attempt):
  attempt('odd', '1x2x2', processes=1, code=42, stop=2, rows=6)
  said = attempt('odd', '1x4x1', processes=1, code=2, rows=6)
  assert 'BATCH_ROWS: batch = 6 is not divisible by 4 (mesh fsdp=4)' in said
