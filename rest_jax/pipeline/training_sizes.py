"""How large a training step is: rows, their length, microbatches and remat."""

import math
import statistics
from collections.abc import Iterator
from typing import NamedTuple

from rest_jax.config import configuration
from rest_jax.executors.machine import Machine
from rest_jax.pipeline.sizes import (
  AUTO,
  GIB,
  USABLE,
  Asked,
  Dial,
  Prompts,
  multiple,
  training_bytes,
)

# By kind of device: tokens of a training step at most; multiples of a row's
# length.
_STEP_TOKENS = {'cpu': 2048, 'gpu': 65_536, 'tpu': 131_072}
_ROW = {'cpu': 64, 'gpu': 128, 'tpu': 512}  # 512: splash.py's blocks
# A microbatch of more tokens makes no step on a CPU faster, and needs memory.
_MICROBATCH_TOKENS = {'cpu': 1024}
# More and more is computed again. TPUs do not keep all: copies of it take a
# fifth of a step of Llama-3.1-8B on v5p:4x4x8, by the compiler's estimate, and
# 'dots' keeps a third of its bytes.
_REMAT = {
  'cpu': ('none', 'dots', 'attention', 'full'),
  'gpu': ('none', 'dots', 'attention', 'full'),
  'tpu': ('dots', 'attention', 'full'),
}
_REASONS = {
  'none': 'all activations fit',
  'dots': 'products fit',
  'attention': 'products of attention fit',
  'full': 'nothing more fits',
}
# Devices that may share a row: with eight, the compiler gathers activations of
# 70B on v5e:16x16, and a step has half of the MFU.
_TENSORS = (2, 4)
_STEPS_PER_EPOCH = 8  # at least, where there are enough examples
# Tokens of a row on accelerators: at least; and at most to have room for two
# problems, where the examples of a problem lie in one row. With room for one
# and a half (MATH's in 3,072) 11 % of the rows is padding, with two 3 %.
_LEAST_ROW, _ROW_OF_PROBLEMS = 2048, 4096


class _Step(NamedTuple):
  """A step that fits.

  Attributes:
    length: tokens of a row.
    rows: over all devices.
    microbatches: that the rows are split into.
    remat: what the backward pass computes again.
    needed: bytes of a device.
  """

  length: int
  rows: int
  microbatches: int
  remat: str
  needed: float


def derive(asked: Asked, prompts: Prompts, machine: Machine) -> dict[str, Dial]:
  """The sizes of training, by their dials.

  Args:
    asked: the dials that are set.
    prompts: of the run's problems.
    machine: the devices.

  Returns:
    ROW_LENGTH, BATCH_ROWS, MICROBATCHES, and the field REMAT of MODEL.

  Raises:
    ConfigurationError: the model does not fit into the devices' memory,
      whatever the sizes.
  """
  kept = kept_solutions(asked)
  tokens = epoch_tokens(asked, prompts, kept)
  least = least_row(asked, prompts, machine)
  step = _step(asked, machine, tokens, least)
  if step is None:
    raise _too_large(asked, machine, least)
  reason = f'prompt and completion have up to {_longest(asked, prompts)} tokens'
  wide = _row_of_problems(asked, prompts, machine)
  longer = _step(asked, machine, tokens, wide) if wide > least else None
  # What is computed again costs more than padding does.
  if longer is not None and longer.remat == step.remat:
    step, reason = longer, 'room for two problems'
  row, rows, microbatches, remat, needed = step
  return {
    'ROW_LENGTH': Dial(row, reason),
    'BATCH_ROWS': Dial(
      rows, f'about {max(1, tokens / (rows * row)):.0f} steps an epoch'
    ),
    'MICROBATCHES': Dial(
      microbatches,
      f'{needed / GIB:.1f} of {machine.device_bytes / GIB:.1f} GiB',
    ),
    'REMAT': Dial(
      remat,
      _REASONS[remat] if asked.derives_remat else 'set in MODEL',
    ),
  }


def kept_solutions(asked: Asked) -> float:
  """Solutions of a problem that are learned, on average: a guess.

  Half as many as there can be.
  """
  return min(asked.num_samples, asked.solutions_kept) / 2


def epoch_tokens(asked: Asked, prompts: Prompts, kept: float) -> float:
  """Tokens of all rows of an epoch, about.

  Args:
    asked: the dials that are set.
    prompts: of the run's problems.
    kept: solutions of a problem.
  """
  prompt = statistics.fmean(prompts.train or [1])
  solutions = kept * asked.max_decode_length / 2
  if asked.share_prompt:
    return len(prompts.train) * (prompt - prompts.shared + solutions)
  return len(prompts.train) * (kept * prompt + solutions)


def least_row(asked: Asked, prompts: Prompts, machine: Machine) -> int:
  """Tokens of a row, at least.

  Args:
    asked: the dials that are set.
    prompts: of the run's problems.
    machine: the devices.
  """
  most = asked.model.max_length
  if asked.row_length is None:
    return most
  if asked.row_length != AUTO:
    return asked.row_length
  row = multiple(_longest(asked, prompts), _ROW[machine.kind])
  if machine.kind != 'cpu':  # long rows waste less of them
    row = max(row, _LEAST_ROW)
  return min(row, most)


def _row_of_problems(asked: Asked, prompts: Prompts, machine: Machine) -> int:
  """Tokens of a row that wastes less of it; 0 where none is known to."""
  is_open = asked.row_length == AUTO and machine.kind != 'cpu'
  if not (is_open and asked.share_prompt and prompts.train):
    return 0
  problem = epoch_tokens(asked, prompts, kept_solutions(asked))
  problem /= len(prompts.train)
  two = multiple(2 * problem, _ROW[machine.kind])
  return min(two, _ROW_OF_PROBLEMS, asked.model.max_length)


def _longest(asked: Asked, prompts: Prompts) -> int:
  """Tokens of a prompt and its completion, at most."""
  return max(prompts.train, default=1) + asked.max_decode_length


def _step(
  asked: Asked, machine: Machine, tokens: float, length: int
) -> _Step | None:
  """A step of rows of this length that fits; None: none does.

  As few microbatches as fit without recomputing, down to one row at a time on
  each device; else as few as fit with as little of it as possible.

  Args:
    asked: the dials that are set.
    machine: the devices.
    tokens: of an epoch, about.
    length: of a row.
  """
  model = asked.model
  usable = machine.device_bytes * USABLE
  rows, split = asked.batch_rows, asked.row_shards(machine)
  if rows == AUTO:
    step = min(_STEP_TOKENS[machine.kind], tokens / _STEPS_PER_EPOCH)
    rows = 2 ** max(0, round(math.log2(max(1, step / length))))
    rows = multiple(rows, split)
  # Rows that do not divide are computed by every device.
  shards = split if rows % split == 0 else 1
  choices = _REMAT[machine.kind] if asked.derives_remat else (model.remat,)
  for remat in choices:
    for microbatches in _divisors(rows // shards):
      on_device = rows // shards // microbatches * length
      needed = training_bytes(
        *(model, machine, on_device, length, remat, asked.adapters),
        asked.train_tensor,
      )
      few = on_device <= _MICROBATCH_TOKENS.get(machine.kind, on_device)
      if needed <= usable and (few or on_device == length):
        return _Step(length, rows, microbatches, remat, needed)
  return None


def _too_large(
  asked: Asked, machine: Machine, length: int
) -> configuration.ConfigurationError:
  model, remat = asked.model, asked.model.remat
  if asked.derives_remat:
    remat = _REMAT[machine.kind][-1]

  def needed(tensor: int) -> float:
    work = (model, machine, length, length, remat, asked.adapters)
    return training_bytes(*work, tensor)

  usable = machine.device_bytes * USABLE
  wider = [
    tensor
    for tensor in _TENSORS
    if asked.train_tensor < tensor <= machine.devices
    and model.num_kv_heads % tensor == model.mlp_dim % tensor == 0
    and needed(tensor) <= usable
  ]
  advice = 'Lower ROW_LENGTH or MAX_DECODE_LENGTH'
  if wider:
    advice = (
      f'MESH_TENSOR = {wider[0]} with BATCH_ROWS = '
      f'{machine.devices // wider[0]} fits, {needed(wider[0]) / GIB:.1f} GiB; '
      f'or lower ROW_LENGTH or MAX_DECODE_LENGTH'
    )
  return configuration.ConfigurationError(
    f'training: {model.num_parameters / 1e9:.2f} G parameters and one row of '
    f'{length} tokens need {needed(asked.train_tensor) / GIB:.1f} GiB of a '
    f'device with remat = {remat!r}; {machine} has {usable / GIB:.1f} to use. '
    f"{advice}, take OPTIMIZER = 'adafactor', "
    'LORA_RANK = 16, more devices (TOPOLOGY, MESH_FSDP), or several a row '
    '(MESH_TENSOR).'
  )


def _divisors(number: int) -> Iterator[int]:
  return (n for n in range(1, number + 1) if number % n == 0)
