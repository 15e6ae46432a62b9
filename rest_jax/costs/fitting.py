"""What to change where a training step does not fit."""

import dataclasses
from collections.abc import Callable, Sequence
from typing import Any

import jax

from rest_jax.config import configuration
from rest_jax.distributed import partitioning
from rest_jax.executors import memory_errors
from rest_jax.models.architecture import DecoderConfig
from rest_jax.models.checkpoints import policies
from rest_jax.training.hyperparameters import TrainConfig

REMAT = '--gin.architecture.DecoderConfig.remat'


def what_fits(
  total: Callable[[DecoderConfig, TrainConfig], float],
  model: DecoderConfig,
  config: TrainConfig,
  mesh: jax.sharding.Mesh,
  limit: int,
) -> str:
  """The first change of dials that fits, found by compiling; in a sentence.

  Args:
    total: compiles a step, and gives the bytes of a chip that it needs.
    model: the network.
    config: of the step that does not fit.
    mesh: of the devices.
    limit: bytes of a chip.
  """
  print('preflight: does not fit; compiling with other dials', flush=True)
  changed = [] if model.remat == 'full' else [f'{REMAT}=full']
  model = dataclasses.replace(model, remat='full')
  share = config.batch_rows // (mesh.shape['data'] * mesh.shape['fsdp'])
  now = config.microbatches
  for microbatches in sorted({now, max(now, min(8 * now, share)), share}):
    dials = [*changed]
    if microbatches != now:
      dials.append(f'--gin.MICROBATCHES={microbatches}')
    if not dials:
      continue
    tried = dataclasses.replace(config, microbatches=microbatches)
    try:
      needed = total(model, tried)
    except Exception as error:
      if not memory_errors.is_out_of_memory(error):
        raise
      continue
    if needed <= limit:
      return f'With {" ".join(dials)} it fits: {needed / 2**30:.2f} GiB.'
  return (
    'Neither remat nor MICROBATCHES makes it fit: lower ROW_LENGTH, raise '
    'MESH_FSDP or MESH_TENSOR, or set PREFLIGHT_TOPOLOGY to more chips or to '
    'chips with more memory (v6e 32 GiB, v5p 95 GiB).'
  )


def require_divisible(
  model: DecoderConfig,
  config: TrainConfig,
  mesh: jax.sharding.Mesh,
  devices: Sequence[Any],
) -> None:
  """Raises, naming a mesh that fits, where the mesh does not divide sizes."""
  problem = indivisible(model, config.batch_rows, mesh)
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
    if indivisible(model, total, other) is None:
      rows = -(-config.batch_rows // total) * total
      more = f' --gin.BATCH_ROWS={rows}' if rows != config.batch_rows else ''
      advice = (
        f'--gin.MESH_DATA={total // fsdp} --gin.MESH_FSDP={fsdp}{more} divides '
        f'everything on {total} chips; or set PREFLIGHT_TOPOLOGY to fewer.'
      )
      break
  raise configuration.ConfigurationError(f'preflight: {problem} {advice}')


def indivisible(
  model: DecoderConfig, rows: int, mesh: jax.sharding.Mesh
) -> str | None:
  """What a mesh does not divide: a sentence, or None."""
  try:
    policies.abstract(model, mesh)
    partitioning.sharding(mesh, ('batch',), (rows,), 'batch')
  except configuration.ConfigurationError as error:
    return str(error).partition(' Change ')[0]
  return None
