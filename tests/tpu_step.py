"""A small training step, compiled for eight TPUs that are not here."""

import importlib.util
import os
import subprocess
import sys

import pytest

needs_libtpu = pytest.mark.skipif(
  importlib.util.find_spec('libtpu') is None, reason='needs libtpu: extra tpu'
)

# GQA, local layers, a soft cap, padded rows, heads of no even width.
_COMPILED = """
import sys
import small_networks
from rest_jax.costs import tpu_compiler, training_program
from rest_jax.distributed import partitioning
from rest_jax.training import batches, packing
from rest_jax.training.hyperparameters import OptimizerConfig, TrainConfig

remat, shares = sys.argv[1], sys.argv[2] == 'True'
model = small_networks.network(
  embed_dim=128, num_layers=2, num_heads=4, head_dim=80, max_length=640,
  layer_pattern=('local', 'global'), window=200, attention_soft_cap=50.0,
  dtype='bfloat16', remat=remat,
)
mesh = partitioning.make_mesh(
  partitioning.MeshConfig(data=2, fsdp=2, tensor=2),
  tpu_compiler.devices('v5e:2x4'),
)
fields, prefixes = packing.PLAIN_FIELDS, None
if shares:
  fields, prefixes = (*fields, 'parents', 'prefixes'), (2, 256)
compiled = training_program.compile_step(
  model, OptimizerConfig(learning_rate=1e-3),
  TrainConfig(max_steps=1, batch_rows=8), mesh,
  batches.Plan(fields, 600, prefixes=prefixes),
)
for line in compiled.as_text().splitlines():
  if 'tpu_custom_call' in line:
    print(line.split(' = ')[0])
"""


def kernels(remat: str, *, shares: bool) -> str:
  """The names of the kernels that a step calls, one on a line.

  It is compiled in a process of its own: libtpu stays in a process that has
  loaded it, and takes it for a TPU's.

  Args:
    remat: what the backward pass computes again.
    shares: whether the rows share prompts.
  """
  done = subprocess.run(
    [sys.executable, '-c', _COMPILED, remat, str(shares)],
    capture_output=True,
    text=True,
    env=os.environ | {'PYTHONPATH': os.pathsep.join(sys.path)},
  )
  assert done.returncode == 0, done.stderr[-2000:]
  return done.stdout
