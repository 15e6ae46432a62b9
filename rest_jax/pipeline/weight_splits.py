"""Over how many devices a copy of the weights is split while sampling.

More devices hold less of the weights each: they read less of them in a decode
step, and have room for the caches of more samples. But they wait for each
other's sums. decoding_time.py estimates both.
"""

import dataclasses
from collections.abc import Callable

from rest_jax.executors.machine import Machine
from rest_jax.models.architecture import DecoderConfig
from rest_jax.pipeline import decoding_time, sampling_memory
from rest_jax.pipeline.sizes import Asked

_WEIGHTS_SHARE = 0.6  # of a device's memory, so that caches find room
# More tokens a second that more devices must give: the estimate is no better,
# and they wait longer for each other than it knows where the links are slow.
LEAST_GAIN = 0.1


def divided(model: DecoderConfig) -> tuple[int, ...]:
  """The sizes that are divided where devices share a copy of the weights."""
  return model.num_heads, model.num_kv_heads, model.mlp_dim, model.vocab_size


def splits(asked: Asked, machine: Machine) -> list[int]:
  """Numbers of devices that the network's matrices divide over, growing."""
  sizes = (*divided(asked.model), machine.devices)
  return [
    number
    for number in range(1, machine.devices + 1)
    if not any(size % number for size in sizes)
  ]


def fewest(asked: Asked, machine: Machine, beside: float = 0.0) -> int:
  """The fewest devices that hold the weights, or the most that may share them.

  Args:
    asked: the dials that are set.
    machine: the devices.
    beside: bytes of each device that are taken.
  """
  room = _WEIGHTS_SHARE * machine.device_bytes - beside
  found = splits(asked, machine)
  fits = (n for n in found if sampling_memory.weights_bytes(asked) / n <= room)
  return next(fits, found[-1])


def cheapest(
  asked: Asked,
  machine: Machine,
  rows_of: Callable[[int], int],
  row_bytes: float,
) -> int:
  """The split that gives the most tokens a second, of TPUs; else the fewest.

  It is raised above the fewest devices that hold the weights only for a gain of
  LEAST_GAIN over each lower split, and stays within a host where one suffices:
  beyond it, a worker would be several processes. Nothing is known here of the
  links of other devices.

  Args:
    asked: the dials that are set.
    machine: the devices.
    rows_of: how many samples are decoded at once over all devices, by the
      number of devices that share a copy; 0: none fit.
    row_bytes: keys and values that a sample reads in a decode step.
  """
  best = fewest(asked, machine)
  if machine.topology is None:
    return best

  def rate(split: int) -> float:
    """Tokens a second, of all devices."""
    rows = rows_of(split)
    of_split = dataclasses.replace(asked, sample_tensor=split)
    return rows and rows / decoding_time.step(
      of_split, machine, rows=rows, row_bytes=row_bytes, cores=1
    )

  for split in splits(asked, machine):
    if best < split <= machine.topology.chips_per_host:
      if rate(split) > (1 + LEAST_GAIN) * rate(best):
        best = split
  return best
