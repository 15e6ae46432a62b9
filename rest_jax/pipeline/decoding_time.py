"""How long decoding and training take, roughly: counted from operations.

A step of decoding reads the weights that a device holds, multiplies them with
all rows, and chooses a token of the vocabulary for each row, at the share of a
device's speed that these programs were seen to reach. On TPUs, whose programs
can be compiled without one (`rest-jax preflight`), it is counted in more parts.
"""

import math

from rest_jax.executors.machine import Machine
from rest_jax.pipeline import sampling_memory, sizes

# By kind of device: floating-point operations and bytes of memory a second
# that are reached, and seconds to choose a token, by ids of the vocabulary. A
# CPU's are those of one core with AVX2 and of its socket's share; a GPU's were
# measured on an H200 (tests/benchmarks).
_FLOPS = {'cpu': 15e9, 'gpu': 150e12}
_BYTES = {'cpu': 8e9, 'gpu': 1.6e12}
_CHOICE = {'cpu': 6e-9, 'gpu': 0.15e-9}
_TPU_FLOPS = 0.4  # of the peak, in training and in reading prompts: a guess
# How many times what a TPU's memory and peak would allow the parts of a decode
# step take one after the other, and bytes that a choice moves for each id.
# Fitted to what preflight printed for eight steps of Llama 3 and SmolLM2, to
# 1 % of each. Two of Gemma 2 took 8 and 23 % longer (LOG.md).
_TPU_WEIGHTS = 1.03
_TPU_CACHES = 1.13
_TPU_PRODUCTS = 1.05
_TPU_CHOICE_BYTES = 84
# Seconds of a hop from chip to chip, whatever is sent: 8 us were seen for an
# all-gather of three (https://jax-ml.github.io/scaling-book/sharding).
_HOP = 2.7e-6
# Of max_decode_length, for the longest sample of a batch.
_LONGEST = 0.9


def flops(machine: Machine, cores: int) -> float:
  """Operations a second, of all devices; `cores` of a CPU."""
  if machine.topology is not None:
    peak = machine.topology.generation.peak_flops
    return _TPU_FLOPS * peak * machine.devices
  number = cores if machine.kind == 'cpu' else machine.devices
  return _FLOPS[machine.kind] * number


def step(
  asked: sizes.Asked,
  machine: Machine,
  *,
  rows: int,
  row_bytes: float,
  cores: int,
) -> float:
  """Seconds of one decode step on one set of devices.

  Args:
    asked: the dials that sizes depend on; sample_tensor is a number.
    machine: the devices.
    rows: samples at once, over all devices.
    row_bytes: keys and values that a row reads. Other devices' speeds were
      measured with the caches, and these are not counted there.
    cores: of a CPU.
  """
  model, kind = asked.model, machine.kind
  weights = sampling_memory.weights_bytes(asked) / asked.sample_tensor
  here = rows / machine.devices
  if machine.topology is None:
    work = 2 * model.num_parameters * rows / flops(machine, cores)
    choice = _CHOICE[kind] * model.vocab_size * here
    return max(weights / _BYTES[kind], work) + choice
  chip = machine.topology.generation
  moved = _TPU_WEIGHTS * weights + _TPU_CACHES * row_bytes * here
  moved += _TPU_CHOICE_BYTES * model.vocab_size * here
  work = _TPU_PRODUCTS * 2 * model.num_parameters * here
  return (
    moved / chip.hbm_bandwidth
    + work / chip.peak_flops
    + _waiting(asked, machine, rows)
  )


def _waiting(asked: sizes.Asked, machine: Machine, rows: int) -> float:
  """Seconds that the chips of a copy wait for each other's sums in a step.

  Each layer's attention and MLP, and the embedding, are summed over them, an
  all-reduce of a row of embed_dim numbers for each sample. They go round a
  ring, which has one link of a chip each way.

  Args:
    asked: the dials that sizes depend on.
    machine: TPUs.
    rows: samples at once, over all devices.
  """
  chips, model = asked.sample_tensor, asked.model
  if chips == 1:
    return 0.0
  width = 2 if model.dtype == 'bfloat16' else 4
  summed = rows * chips / machine.devices * model.embed_dim * width
  speed = min(2, chips - 1) * machine.topology.generation.link_speed
  one = 2 * (chips - 1) / chips * summed / speed + 2 * _hops(chips) * _HOP
  return (2 * model.num_layers + 1) * one


def _hops(chips: int) -> int:
  """Between the farthest two of neighbours that lie as nearly in a square."""
  side = next(n for n in range(math.isqrt(chips), 0, -1) if chips % n == 0)
  return side + chips // side - 2


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
  model = asked.model
  steps = _LONGEST * asked.max_decode_length
  # Caches fill while they are read.
  kept = prompt + steps / 2
  each = step(
    asked,
    machine,
    rows=rows,
    row_bytes=kept * sampling_memory.token_bytes(model, asked.sample_cache),
    cores=cores,
  )
  read = 2 * model.num_parameters * prompt * rows / flops(machine, cores)
  return math.ceil(number / rows) * (steps * each + read)


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
