"""D_val on the devices of a training: its mesh, its memory and its time.

Few problems are decoded on many devices, so that reading the weights takes the
time of a step: they are split over more devices than in sampling, where each
copy has rows enough.
"""

import dataclasses
from typing import NamedTuple

from rest_jax.executors.machine import Machine
from rest_jax.pipeline import (
  decoding_time,
  sampling_memory,
  sampling_sizes,
  sizes,
  weight_splits,
)
from rest_jax.pipeline.sizes import GIB, Asked, Dial

# Devices that share a copy at most: beyond them the sums over the devices take
# longer than the weights that each need not read.
_MOST = 8


class Validation(NamedTuple):
  """What one validation needs.

  Attributes:
    seconds: roughly.
    device_bytes: memory of one device, the training's state included.
  """

  seconds: float
  device_bytes: float


def tensor(asked: Asked, machine: Machine, problems: int) -> Dial:
  """DVAL_MESH_TENSOR.

  Args:
    asked: the dials that are set.
    machine: the devices of the training.
    problems: that are decoded at once.
  """
  state = sizes.state_bytes(asked.model, machine, asked.adapters)
  least = weight_splits.fewest(asked, machine, beside=state)
  value, reason = least, 'the fewest that hold one'
  if machine.kind != 'cpu':  # one memory feeds all devices of a CPU
    most = sampling_sizes.ROWS[machine.kind] * machine.devices
    for split in weight_splits.splits(asked, machine):
      if least < split <= _MOST and problems * split <= most:
        value, reason = split, f'each reads a part, for {problems} problems'
  copy = sampling_memory.weights_bytes(asked) / value / GIB
  return Dial(
    value,
    f'devices that share a copy of the weights ({reason}): {copy:.1f} GiB on '
    f'each, beside {state / GIB:.1f} of training',
  )


def fitting_rows(
  asked: Asked,
  machine: Machine,
  *,
  split: int,
  rows: int,
  prompts: sizes.Prompts,
  bucket: int,
) -> int:
  """Rows that fit beside the training's state: a multiple of the devices.

  Args:
    asked, machine, split, prompts, bucket: as for `needs`.
    rows: at most so many.
  """

  def taken(count: int) -> float:
    return _bytes(asked, machine, split, count, prompts, bucket)

  room = sizes.USABLE * machine.device_bytes - taken(0)
  one = taken(machine.devices) - taken(0)  # a row on each device
  return min(rows, max(1, int(room // one)) * machine.devices)


def needs(
  asked: Asked,
  machine: Machine,
  *,
  split: int,
  problems: int,
  rows: int,
  prompts: sizes.Prompts,
  bucket: int,
  cores: int,
) -> Validation:
  """What a validation needs, greedy and with one sample of each problem.

  Args:
    asked: the dials that sizes depend on.
    machine: the devices of the training.
    split: DVAL_MESH_TENSOR.
    problems: of D_val.
    rows: GREEDY_GROUPS.
    prompts: of the run's problems.
    bucket: PROMPT_BUCKET.
    cores: of a CPU.
  """
  return Validation(
    seconds=decoding_time.seconds(
      dataclasses.replace(asked, sample_tensor=split),
      machine,
      number=problems,
      rows=rows,
      prompt=prompts.longest - prompts.shared,
      cores=cores,
    ),
    device_bytes=_bytes(asked, machine, split, rows, prompts, bucket),
  )


def _bytes(
  asked: Asked,
  machine: Machine,
  split: int,
  rows: int,
  prompts: sizes.Prompts,
  bucket: int,
) -> float:
  """Memory of one device while D_val is decoded."""
  asked = dataclasses.replace(asked, sample_tensor=split)
  decoding = sampling_memory.device_bytes(
    asked, prompts, machine, rows=rows, lanes=1, bucket=bucket
  )
  state = sizes.state_bytes(asked.model, machine, asked.adapters)
  # Cast where they lie, and then moved.
  cast = sampling_memory.weights_bytes(asked) / machine.devices
  return state + cast + decoding
