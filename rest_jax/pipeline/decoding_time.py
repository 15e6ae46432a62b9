"""How long decoding and training take, roughly: counted from operations.

A step of decoding reads the weights that a device holds, multiplies them with
all rows, and chooses a token of the vocabulary for each row, at the share of a
device's speed that these programs were seen to reach.
"""

import math

from rest_jax.executors.machine import Machine
from rest_jax.pipeline import sampling_memory, sizes

# By kind of device: floating-point operations and bytes of memory a second
# that are reached, and seconds to choose a token, by ids of the vocabulary. A
# CPU's are those of one core with AVX2 and of its socket's share; a GPU's were
# measured on an H200 (tests/benchmarks), a TPU's are guessed for a v5e.
_FLOPS = {'cpu': 15e9, 'gpu': 150e12, 'tpu': 80e12}
_BYTES = {'cpu': 8e9, 'gpu': 1.6e12, 'tpu': 0.6e12}
_CHOICE = {'cpu': 6e-9, 'gpu': 0.15e-9, 'tpu': 0.1e-9}
# Of max_decode_length, for the longest sample of a batch.
_LONGEST = 0.9


def flops(machine: Machine, cores: int) -> float:
  """Operations a second, of all devices; `cores` of a CPU."""
  number = cores if machine.kind == 'cpu' else machine.devices
  return _FLOPS[machine.kind] * number


def seconds(
  asked: sizes.Asked,
  machine: Machine,
  *,
  number: int,
  rows: int,
  prompt: float,
  cores: int,
) -> float:
  """For so many samples on one set of devices.

  Args:
    asked: the dials that sizes depend on; sample_tensor is a number.
    machine: the devices.
    number: of samples.
    rows: of them at once.
    prompt: tokens that are read for each.
    cores: of a CPU.
  """
  model, kind = asked.model, machine.kind
  work = 2 * model.num_parameters / flops(machine, cores)
  weights = sampling_memory.weights_bytes(asked) / asked.sample_tensor
  step = max(weights / _BYTES[kind], work * rows)
  step += _CHOICE[kind] / machine.devices * model.vocab_size * rows
  steps = _LONGEST * asked.max_decode_length
  return math.ceil(number / rows) * (steps * step + work * prompt * rows)


def training_step(
  asked: sizes.Asked, machine: Machine, tokens: int, cores: int
) -> float:
  """Seconds of one step of the M-step.

  Args:
    asked: the network, and which weights are trained.
    machine: the devices.
    tokens: of a step's rows.
    cores: of a CPU.
  """
  # A multiplication and an addition each: forward, for the gradients of the
  # activations, and for those of what is trained.
  trained = sizes.trained_parameters(asked.model, asked.adapters)
  work = (4 * asked.model.num_parameters + 2 * trained) * tokens
  return work / flops(machine, cores)
