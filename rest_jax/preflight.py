"""Compiles the training step for a TPU that is not here, and says if it fits.

libtpu holds the whole TPU compiler; given a topology's name it compiles ahead
of time on a machine without TPUs (needs the extra 'tpu' and x86-64 Linux):

    rest-jax preflight --gin_file=models/llama3_8b.gin \\
      --gin.PREFLIGHT_TOPOLOGY=v5e:16x16 --gin.BATCH_ROWS=256

Every figure here is the compiler's estimate, never a measurement.
"""

import dataclasses
import os
import re
import time
from collections.abc import Sequence
from typing import Any

# Before jax is imported: no TPU is here, and libtpu must not look for one.
os.environ['JAX_PLATFORMS'] = 'cpu'
os.environ.setdefault('TPU_SKIP_MDS_QUERY', '1')
os.environ.setdefault('ALLOW_MULTIPLE_LIBTPU_LOAD', '1')  # none is locked
os.environ.setdefault('TPU_WORKER_HOSTNAMES', 'localhost')
os.environ.setdefault('TPU_ACCELERATOR_TYPE', 'v5litepod-8')

import jax  # noqa: E402

from rest_jax.config import configuration
from rest_jax.distributed import partitioning  # noqa: E402
from rest_jax.executors import memory_errors, topologies  # noqa: E402
from rest_jax.models.architecture import DecoderConfig  # noqa: E402
from rest_jax.models.checkpoints import policies  # noqa: E402
from rest_jax.training import (
  batches,  # noqa: E402
  collectives,  # noqa: E402
  optimizers,  # noqa: E402
  packing,  # noqa: E402
  train_step,  # noqa: E402
)
from rest_jax.training.hyperparameters import OptimizerConfig, TrainConfig  # noqa: E402


@configuration.checked
def preflight(
  *,
  topology: str,
  slices: int,
  model: DecoderConfig,
  optimizer: OptimizerConfig,
  config: TrainConfig,
  mesh: partitioning.MeshConfig,
) -> None:
  """Compiles the training step, prints what it needs, and fails if too much.

  Args:
    topology: such as v5e:16x16, v5p:4x4x4, v6e:16x16, v4:4x4x8, or a type of
      Google Cloud such as v5litepod-256.
    slices: of that topology.
    model: the network.
    optimizer: whose state counts too.
    config: batch_rows, row_length, LoRA.
    mesh: over all chips.

  Raises:
    ConfigurationError: the program does not fit, or gathers activations.
  """
  named = topologies.parse(topology, 'PREFLIGHT_TOPOLOGY')
  topology = str(named)
  devices = topology_devices(topology, slices)
  grid = partitioning.make_mesh(mesh, devices)
  _require_divisible(model, config, grid, devices)
  rows, length = config.batch_rows, config.row_length or model.max_length
  started = time.monotonic()
  try:
    compiled = compile_step(model, optimizer, config, grid, length)
  except Exception as error:
    if not memory_errors.is_out_of_memory(error):
      raise
    raise configuration.ConfigurationError(
      f'preflight: does not fit {topology}, {rows} rows of {length} tokens: '
      f'{_needed(str(error))}. '
      + _what_fits(model, optimizer, config, grid, length, named)
    ) from None
  print(
    f'preflight: {topology} x {slices}, {len(devices)} chips, mesh '
    + ' x '.join(f'{axis}={size}' for axis, size in grid.shape.items())
    + f', {rows} rows of {length} tokens, '
    f'{model.num_parameters / 1e9:.2f} G parameters, compiled in '
    f'{time.monotonic() - started:.0f} s'
  )
  needed = memory_bytes(compiled)
  limit = named.generation.hbm_bytes
  for name, value in needed.items():
    print(f'  {name:12}{value / 2**30:8.2f} GiB per chip')
  found = list(collectives.read(compiled.as_text()))
  for line in collectives.summary(found):
    print(f'  {line}')
  summed = [
    shapes for name, shapes in found if name == collectives.GATHER_BY_SUM
  ]
  if any(dtype[0] not in 'su' for shapes in summed for dtype, _ in shapes):
    print(
      f'  {collectives.GATHER_BY_SUM} moves twice the bytes of an all-gather; '
      'another split of MESH_DATA x MESH_FSDP may avoid it'
    )
  wrong = collectives.gathered_activations(found, model, rows, length, grid)
  if wrong:
    raise configuration.ConfigurationError(
      'preflight: activations are gathered, so a sharding rule is missing:\n  '
      + '\n  '.join(wrong)
    )
  if needed['total'] > limit:
    raise configuration.ConfigurationError(
      f'preflight: needs {needed["total"] / 2**30:.1f} GiB per chip, a '
      f'{topology} chip has {limit / 2**30:.0f}. '
      + _what_fits(model, optimizer, config, grid, length, named)
    )
  print(f'preflight: fits {topology} (compiler estimates, not measurements)')


def _needed(text: str) -> str:
  """What XLA says of the memory that a program needs, in one clause."""
  found = re.search(r'Used ([\d.]+)([KMGT]) of ([\d.]+)([KMGT])', text)
  if not found:
    return f'the compiler says: {" ".join(text.split())[:160]}'
  used, unit, limit, of = found.groups()
  return f'needs {used} {unit}iB per chip, a chip has {limit} {of}iB'


def _what_fits(
  model: DecoderConfig,
  optimizer: OptimizerConfig,
  config: TrainConfig,
  mesh: jax.sharding.Mesh,
  length: int,
  topology: topologies.Topology,
) -> str:
  """The first change of dials that fits, found by compiling; in a sentence."""
  print('preflight: does not fit; compiling with other dials', flush=True)
  remat = '--gin.architecture.DecoderConfig.remat=full'
  changed = [] if model.remat == 'full' else [remat]
  model = dataclasses.replace(model, remat='full')
  share = config.batch_rows // (mesh.shape['data'] * mesh.shape['fsdp'])
  limit = topology.generation.hbm_bytes
  now = config.microbatches
  for microbatches in sorted({now, max(now, min(8 * now, share)), share}):
    dials = [*changed]
    if microbatches != now:
      dials.append(f'--gin.MICROBATCHES={microbatches}')
    if not dials:
      continue
    tried = dataclasses.replace(config, microbatches=microbatches)
    try:
      compiled = compile_step(model, optimizer, tried, mesh, length)
    except Exception as error:
      if not memory_errors.is_out_of_memory(error):
        raise
      continue
    needed = memory_bytes(compiled)['total']
    if needed <= limit:
      return f'With {" ".join(dials)} it fits: {needed / 2**30:.2f} GiB.'
  return (
    'Neither remat nor MICROBATCHES makes it fit: lower ROW_LENGTH, raise '
    'MESH_FSDP or MESH_TENSOR, or set PREFLIGHT_TOPOLOGY to more chips or to '
    'chips with more memory (v6e 32 GiB, v5p 95 GiB).'
  )


def _require_divisible(
  model: DecoderConfig,
  config: TrainConfig,
  mesh: jax.sharding.Mesh,
  devices: Sequence[Any],
) -> None:
  """Raises, naming a mesh that fits, where the mesh does not divide sizes."""
  problem = _indivisible(model, config.batch_rows, mesh)
  if problem is None:
    return
  total = len(devices)
  advice = 'Set PREFLIGHT_TOPOLOGY to fewer chips.'
  for fsdp in range(total, 0, -1):
    if total % fsdp:
      continue
    split = partitioning.MeshConfig(data=total // fsdp, fsdp=fsdp, tensor=1)
    try:
      other = partitioning.make_mesh(split, devices)
    except configuration.ConfigurationError:  # not on these chips' torus
      continue
    if _indivisible(model, total, other) is None:
      rows = -(-config.batch_rows // total) * total
      more = f' --gin.BATCH_ROWS={rows}' if rows != config.batch_rows else ''
      advice = (
        f'--gin.MESH_DATA={total // fsdp} --gin.MESH_FSDP={fsdp}{more} divides '
        f'everything on {total} chips; or set PREFLIGHT_TOPOLOGY to fewer.'
      )
      break
  raise configuration.ConfigurationError(f'preflight: {problem} {advice}')


def _indivisible(
  model: DecoderConfig, rows: int, mesh: jax.sharding.Mesh
) -> str | None:
  """What a mesh does not divide: a sentence, or None."""
  try:
    policies.abstract(model, mesh)
    partitioning.sharding(mesh, ('batch',), (rows,), 'batch')
  except configuration.ConfigurationError as error:
    return str(error).partition(' Change ')[0]
  return None


def topology_devices(topology: str, slices: int) -> Sequence[Any]:
  """The devices of a topology that is not here."""
  from jax.experimental import topologies

  try:
    description = topologies.get_topology_desc(
      topology, platform='tpu', **({'num_slices': slices} if slices > 1 else {})
    )
  except Exception as error:
    text = ' '.join(str(error).split())[:300]
    raise configuration.ConfigurationError(
      f'PREFLIGHT_TOPOLOGY: cannot compile for {topology!r} ({text}). '
      "It needs libtpu (pip install 'rest_jax[tpu]'); names look like "
      'v5e:16x16, v5p:4x4x4, v6e:16x16, v4:4x4x8.'
    ) from error
  return description.devices


def compile_step(
  model: DecoderConfig,
  optimizer: OptimizerConfig,
  config: TrainConfig,
  mesh: jax.sharding.Mesh,
  length: int,
) -> Any:
  """The compiled training step of the train stage, for these devices."""
  transform = optimizers.make(optimizer, config.max_steps)
  abstract, shardings = train_step.shardings(
    model, transform, mesh, config.lora
  )
  state = jax.tree.map(
    lambda leaf, where: jax.ShapeDtypeStruct(
      leaf.shape, leaf.dtype, sharding=where
    ),
    abstract,
    shardings,
  )
  plan = batches.Plan(packing.PLAIN_FIELDS, length)
  places = batches.batch_shardings(mesh, config.batch_rows, plan)
  batch = {
    name: jax.ShapeDtypeStruct(leaf.shape, leaf.dtype, sharding=places[name])
    for name, leaf in plan.shapes(config.batch_rows).items()
  }
  step = train_step.make_step(
    model,
    transform,
    mesh,
    plan,
    microbatches=config.microbatches,
    lora=config.lora,
  )
  base = train_step.frozen(model, mesh, config.lora)
  return (
    jax.jit(step, donate_argnums=(0,), out_shardings=(shardings, None))
    .lower(state, batch, base)
    .compile()
  )


def memory_bytes(compiled: Any) -> dict[str, int]:
  """What one chip holds: arguments, outputs that alias none, temporaries."""
  analysis = compiled.memory_analysis()
  parts = {
    'arguments': analysis.argument_size_in_bytes,
    'outputs': analysis.output_size_in_bytes - analysis.alias_size_in_bytes,
    'temporary': analysis.temp_size_in_bytes,
    'code': analysis.generated_code_size_in_bytes,
  }
  return parts | {'total': sum(parts.values())}
