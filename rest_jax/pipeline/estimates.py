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
from rest_jax.pipeline import sampling_sizes, sizes

_GIB = 2**30
# By kind of device: floating-point operations and bytes of memory a second
# that are reached, and seconds to choose a token, by ids of the vocabulary. A
# CPU's are those of one core with AVX2 and of its socket's share; a GPU's were
# measured on an H100 (tests/benchmarks), a TPU's are guessed for a v5e.
_FLOPS = {'cpu': 15e9, 'gpu': 75e12, 'tpu': 80e12}
_BYTES = {'cpu': 8e9, 'gpu': 1e12, 'tpu': 0.6e12}
_CHOICE = {'cpu': 6e-9, 'gpu': 0.4e-9, 'tpu': 0.1e-9}
# Of max_decode_length, for the longest sample of a batch.
_LONGEST = 0.9


class Needs(NamedTuple):
  """Of a whole run.

  Attributes:
    sampling_seconds: of all E-steps and evaluations.
    training_seconds: of all M-steps, where half of the samples are right.
    sampling_bytes: memory of one device in sampling.
    training_bytes: memory of one device in training.
    disk_bytes: below RUN_DIR, at most.
  """

  sampling_seconds: float
  training_seconds: float
  sampling_bytes: float
  training_bytes: float
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
      BATCH_ROWS, ROW_LENGTH, MICROBATCHES, MAX_STEPS.
    remat: what the backward pass recomputes.
    iterations: of the loop.
    cores: of a CPU.
  """
  asked = dataclasses.replace(asked, sample_tensor=dials['SAMPLE_MESH_TENSOR'])
  model = asked.model
  machine = devices.sampling
  kind, number = machine.kind, machine.devices
  flops = _flops(machine, cores)
  reading = sampling_sizes.weights_bytes(asked) / (_BYTES[kind] * number)
  choice = _CHOICE[kind] / number * model.vocab_size
  steps = _LONGEST * asked.max_decode_length

  def decoding(number: int, rows: int, prompt: float) -> float:
    """Seconds for `number` samples, `rows` of them at once."""
    batches = math.ceil(number / rows / devices.workers)
    step = max(reading, 2 * model.num_parameters * rows / flops)
    step += choice * rows
    prefill = 2 * model.num_parameters * prompt * rows / flops
    return batches * (steps * step + prefill)

  mean = statistics.fmean([*prompts.train, *prompts.evaluated, 1])
  lanes = dials['GROUPS'] * dials['LANES']
  e_step = decoding(
    len(prompts.train) * asked.num_samples, lanes, mean / dials['LANES']
  )
  greedy = decoding(len(prompts.evaluated), dials['GREEDY_GROUPS'], mean)
  tokens = dials['BATCH_ROWS'] * dials['ROW_LENGTH']
  trained = sizes.trained_parameters(model, asked.adapters)
  # A multiplication and an addition each: forward, for the gradients of the
  # activations, and for those of what is trained.
  step = (4 * model.num_parameters + 2 * trained) * tokens
  step /= _flops(devices.training, cores)
  weights = 4 * trained
  layouts = ((lanes, dials['LANES']), (dials['GREEDY_GROUPS'], 1))
  sampling_bytes = max(
    sampling_sizes.device_bytes(
      asked,
      prompts,
      machine,
      rows=rows,
      lanes=width,
      bucket=dials['PROMPT_BUCKET'],
    )
    for rows, width in layouts
  )
  return Needs(
    sampling_seconds=iterations * e_step + (1 + 4 * iterations) * greedy,
    training_seconds=iterations * dials['MAX_STEPS'] / 2 * step,
    sampling_bytes=sampling_bytes,
    training_bytes=sizes.training_bytes(
      model,
      devices.training,
      tokens // dials['MICROBATCHES'] // devices.training.devices,
      dials['ROW_LENGTH'],
      remat,
      asked.adapters,
    ),
    # While an M-step runs: the weights and the optimiser's state of two steps;
    # afterwards the weights of one.
    disk_bytes=weights * (iterations - 1 + 2 * 3) if iterations else 0,
  )


def _flops(machine: Machine, cores: int) -> float:
  """A second, of all devices."""
  number = cores if machine.kind == 'cpu' else machine.devices
  return _FLOPS[machine.kind] * number


def lines(needs: Needs, machine: Machine) -> list[str]:
  """For a person; `machine` trains."""
  return [
    f'need  sampling {_time(needs.sampling_seconds)}, training '
    f'{_time(needs.training_seconds)} (a rough guess, for {machine})',
    f'need  memory for sampling {needs.sampling_bytes / _GIB:.1f} and for '
    f'training {needs.training_bytes / _GIB:.1f} GiB of '
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
