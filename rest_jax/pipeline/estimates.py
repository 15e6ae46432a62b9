"""What a run will need, before it starts: memory, disk and a rough time.

Time is counted from floating-point operations, from the bytes of weights that
each decoded token reads and from the choice among the vocabulary's ids, at the
share of a device's speed that these programs were seen to reach. It is right to
a factor of two or three at best, and says whether a run takes minutes, hours or
days.
"""

import dataclasses
import math
import shutil
import statistics
from collections.abc import Mapping, Sequence
from typing import NamedTuple

from rest_jax.artifacts import storage
from rest_jax.config import configuration
from rest_jax.executors.machine import Machine
from rest_jax.pipeline import (
  decoding_time,
  sampling_memory,
  sizes,
  validation_sizes,
)

_GIB = 2**30


class Needs(NamedTuple):
  """Of a whole run.

  Attributes:
    sampling_seconds: of all E-steps and evaluations.
    training_seconds: of all M-steps, where half of the samples are right.
    sampling_bytes: memory of one device in sampling.
    training_bytes: memory of one device in training.
    validation_seconds: of all validations on D_val.
    validation_bytes: memory of one device in one of them.
    disk_bytes: below RUN_DIR, at most.
  """

  sampling_seconds: float
  training_seconds: float
  sampling_bytes: float
  training_bytes: float
  validation_seconds: float
  validation_bytes: float
  disk_bytes: float


class Devices(NamedTuple):
  """What a run has.

  Attributes:
    sampling: of one worker.
    training: of the M-step.
    workers: that sample.
  """

  sampling: Machine
  training: Machine
  workers: int = 1


def of_run(
  asked: sizes.Asked,
  prompts: sizes.Prompts,
  devices: Devices,
  dials: Mapping[str, int],
  *,
  remat: str,
  iterations: int,
  cores: int,
) -> Needs:
  """What the loop will need; without evaluation streams beside greedy.

  Args:
    asked: the dials that sizes depend on.
    prompts: of the run's problems.
    devices: that the run has.
    dials: GROUPS, LANES, GREEDY_GROUPS, PROMPT_BUCKET, SAMPLE_MESH_TENSOR,
      DVAL_MESH_TENSOR, DVAL_PROBLEMS, DVAL_EVERY, BATCH_ROWS, ROW_LENGTH,
      MICROBATCHES, MAX_STEPS.
    remat: what the backward pass recomputes.
    iterations: of the loop.
    cores: of a CPU.
  """
  asked = dataclasses.replace(asked, sample_tensor=dials['SAMPLE_MESH_TENSOR'])
  model = asked.model
  machine = devices.sampling

  def decoding(number: int, rows: int, prompt: float) -> float:
    """Seconds for `number` samples, `rows` of them at once."""
    return decoding_time.seconds(
      *(asked, machine),
      number=math.ceil(number / devices.workers),
      rows=rows,
      prompt=prompt,
      cores=cores,
    )

  mean = statistics.fmean([*prompts.train, *prompts.evaluated, 1])
  lanes = dials['GROUPS'] * dials['LANES']
  e_step = decoding(
    len(prompts.train) * asked.num_samples, lanes, mean / dials['LANES']
  )
  greedy = decoding(len(prompts.evaluated), dials['GREEDY_GROUPS'], mean)
  tokens = dials['BATCH_ROWS'] * dials['ROW_LENGTH']
  trained = sizes.trained_parameters(model, asked.adapters)
  step = decoding_time.training_step(asked, devices.training, tokens, cores)
  weights = 4 * trained
  layouts = ((lanes, dials['LANES']), (dials['GREEDY_GROUPS'], 1))
  sampling_bytes = max(
    sampling_memory.device_bytes(
      asked,
      prompts,
      machine,
      rows=rows,
      lanes=width,
      bucket=dials['PROMPT_BUCKET'],
    )
    for rows, width in layouts
  )
  steps = dials['MAX_STEPS'] / 2
  validation = validation_sizes.needs(
    *(asked, devices.training),
    split=dials['DVAL_MESH_TENSOR'],
    problems=dials['DVAL_PROBLEMS'] or prompts.validated,
    rows=dials['GREEDY_GROUPS'],
    prompts=prompts,
    bucket=dials['PROMPT_BUCKET'],
    cores=cores,
  )
  validations = iterations * (1 + steps // dials['DVAL_EVERY'])
  return Needs(
    sampling_seconds=iterations * e_step + (1 + iterations) * greedy,
    training_seconds=iterations * steps * step,
    validation_seconds=validations * validation.seconds,
    validation_bytes=validation.device_bytes,
    sampling_bytes=sampling_bytes,
    training_bytes=sizes.training_bytes(
      model,
      devices.training,
      tokens // dials['MICROBATCHES'] // asked.row_shards(devices.training),
      dials['ROW_LENGTH'],
      remat,
      asked.adapters,
      asked.train_tensor,
    ),
    # While an M-step runs: the weights and the optimiser's state of two steps;
    # afterwards the weights of one.
    disk_bytes=weights * (iterations - 1 + 2 * 3) if iterations else 0,
  )


def lines(needs: Needs, machine: Machine) -> list[str]:
  """For a person; `machine` trains."""
  return [
    f'need  sampling {_time(needs.sampling_seconds)}, training '
    f'{_time(needs.training_seconds)}, validation '
    f'{_time(needs.validation_seconds)} (a rough guess, for {machine})',
    f'need  memory for sampling {needs.sampling_bytes / _GIB:.1f}, for '
    f'training {needs.training_bytes / _GIB:.1f} and for validation '
    f'{needs.validation_bytes / _GIB:.1f} GiB of '
    f'{machine.device_bytes / _GIB:.1f}; disk up to '
    f'{needs.disk_bytes / _GIB:.1f} GiB',
  ]


def require_memory(
  needs: Needs, devices: Devices, dials: Mapping[str, int], *, trains: bool
) -> None:
  """Raises ConfigurationError where dials set by hand cannot fit.

  Those that are derived fit with some room to spare; here all of the memory
  counts, since this is an estimate.
  """

  def refuse(
    stage: str, machine: Machine, needed: float, names: Sequence[str], rest: str
  ) -> None:
    there = machine.device_bytes
    if needed <= there:
      return
    values = ', '.join(f'{name} = {dials[name]}' for name in names)
    raise configuration.ConfigurationError(
      f'{stage}: {values} need {needed / _GIB:.1f} GiB of a device; {machine} '
      f'has {there / _GIB:.1f}. {rest}'
    )

  refuse(
    'sampling',
    devices.sampling,
    needs.sampling_bytes,
    ('GROUPS', 'LANES', 'GREEDY_GROUPS'),
    "Leave them 'auto', or lower them.",
  )
  if trains:
    refuse(
      'training',
      devices.training,
      needs.training_bytes,
      ('BATCH_ROWS', 'ROW_LENGTH', 'MICROBATCHES'),
      "Leave MICROBATCHES 'auto', or set it to a multiple.",
    )
    refuse(
      'validation beside the state of the training',
      devices.training,
      needs.validation_bytes,
      ('GREEDY_GROUPS', 'DVAL_MESH_TENSOR'),
      'Lower GREEDY_GROUPS, or set DVAL_MESH_TENSOR to more devices.',
    )


def require_disk(needs: Needs, run_dir: storage.PathLike) -> None:
  """Raises ConfigurationError where a local disk is too full for the run."""
  if storage.is_remote(run_dir):
    return
  free = shutil.disk_usage(run_dir).free
  if free < needs.disk_bytes:
    raise configuration.ConfigurationError(
      f'RUN_DIR: {run_dir} has {free / _GIB:.1f} GiB free; the checkpoints of '
      f'this run take up to {needs.disk_bytes / _GIB:.1f}. Free some, set '
      'RUN_DIR to another disk, or lower NUM_ITERATIONS.'
    )


def _time(seconds: float) -> str:
  minutes = max(1, round(seconds / 60))
  hours, minutes = divmod(minutes, 60)
  return f'{hours}:{minutes:02d} h' if hours else f'{minutes} min'
