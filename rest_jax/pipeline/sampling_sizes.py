"""How much a run decodes at once: groups, lanes, prompt buckets and parts."""

import dataclasses
import math
import statistics

from rest_jax.config import configuration
from rest_jax.executors.machine import Machine
from rest_jax.pipeline import sampling_memory, weight_splits
from rest_jax.pipeline.sizes import (
  AUTO,
  GIB,
  USABLE,
  Asked,
  Dial,
  Prompts,
  multiple,
)

# By kind of device: rows decoded at once at most on one device (beyond them
# the matrix products, not the weights' bandwidth, take the time); multiples of
# a prompt's padded length.
ROWS = {'cpu': 32, 'gpu': 256, 'tpu': 256}
_BUCKET = {'cpu': 16, 'gpu': 64, 'tpu': 128}
# Decode steps between two looks of the host. A sample that has ended holds its
# lane for one and a half chunks; a look costs a fraction of a step on a CPU and
# some steps of a fast device.
_CHUNK = {'cpu': 8, 'gpu': 16, 'tpu': 16}
_MAX_LANES = 8
_SAMPLES_PER_LANE = 4  # one after the other, so that lanes seldom wait


def derive(asked: Asked, prompts: Prompts, machine: Machine) -> dict[str, Dial]:
  """The sizes of sampling, by their dials.

  Args:
    asked: the dials that are set.
    prompts: of the run's problems.
    machine: the devices.

  Returns:
    SAMPLE_MESH_TENSOR, GROUPS, LANES, GREEDY_GROUPS, PROMPT_BUCKET,
    DECODE_CHUNK, PROBLEMS_PER_PART, and the field DECODE_LOOP of MODEL.

  Raises:
    ConfigurationError: the model does not fit into the devices' memory,
      whatever the sizes.
  """
  bucket = _bucket(asked, prompts, machine)
  padded = sampling_memory.padded(bucket.value, prompts)
  lanes = asked.lanes
  if lanes == AUTO:
    lanes = _lanes(asked.num_samples)
  tensor = asked.sample_tensor
  if tensor == AUTO:
    tensor = _split(asked, prompts, machine, padded, lanes)
  asked = dataclasses.replace(asked, sample_tensor=tensor)
  if asked.lanes == AUTO:
    # Too few problems for all rows: more samples of each at once.
    most = _rows(asked, machine, padded, lanes, prompts.shared)
    wanted = -(-most // max(1, len(prompts.train)))
    lanes = max(lanes, min(asked.num_samples, wanted))
  rows = _rows(asked, machine, padded, lanes, prompts.shared)
  problems = max(1, len(prompts.train))
  groups = multiple(min(max(rows // lanes, 1), problems), machine.devices)
  evaluated = max(prompts.largest_set or len(prompts.evaluated), 1)
  greedy = multiple(min(rows, evaluated), machine.devices)
  per_batch = max(1, groups * lanes // asked.num_samples)
  part = max(greedy, per_batch) * (1 if machine.kind == 'cpu' else 4)
  free = machine.device_bytes / GIB
  copy = sampling_memory.weights_bytes(asked) / GIB
  return {
    'SAMPLE_MESH_TENSOR': Dial(
      tensor,
      f'devices that hold a copy of the weights, {copy:.1f} GiB; one has '
      f'{free:.1f}',
    ),
    'PROMPT_BUCKET': bucket,
    'DECODE_CHUNK': Dial(
      _CHUNK[machine.kind],
      f'steps until lanes are filled again: {machine.kind.upper()}',
    ),
    'LANES': Dial(lanes, f'{asked.num_samples} samples of a problem'),
    'GROUPS': Dial(
      groups,
      f'{rows} rows at once: {machine.kind.upper()}, {free:.1f} GiB; '
      f'{len(prompts.train)} training problems',
    ),
    'GREEDY_GROUPS': Dial(
      greedy, f'{evaluated} problems are evaluated together'
    ),
    'PROBLEMS_PER_PART': Dial(
      part, 'as many as are decoded at once, or a few times as many'
    ),
    'DECODE_LOOP': Dial(
      'scan' if machine.kind == 'cpu' else 'unroll',
      'compiles in seconds'
      if machine.kind == 'cpu'
      else 'decodes faster, compiles longer',
    ),
  }


def _bucket(asked: Asked, prompts: Prompts, machine: Machine) -> Dial:
  """The padded length of questions; its double, … compile another program."""
  if asked.prompt_bucket != AUTO:
    return Dial(asked.prompt_bucket, 'as set')
  lengths = sorted([*prompts.train, *prompts.evaluated]) or [1]
  lengths = [max(1, length - prompts.shared) for length in lengths]
  unit, longest = _BUCKET[machine.kind], lengths[-1]
  median = statistics.median_low(lengths)
  # Another program is worth it where most questions are less than half as long.
  # Each ends with its last sample alone: few problems have one program, unless
  # the longest question is far longer than the others.
  many = len(lengths) > 8 * ROWS[machine.kind] * machine.devices
  parts = (
    4 if 4 * median < longest else 2 if many and 2 * median < longest else 1
  )
  room = asked.model.max_length - asked.max_decode_length
  value = multiple(-(-longest // parts), unit)
  shared = f', behind {prompts.shared} that all share' if prompts.shared else ''
  return Dial(
    max(1, min(value, room)),
    f'questions of {lengths[0]} to {longest} tokens, half of them up to '
    f'{median}{shared}',
  )


def _split(
  asked: Asked, prompts: Prompts, machine: Machine, padded: int, lanes: int
) -> int:
  """Devices that share a copy of the weights.

  Args:
    asked: the dials that are set.
    prompts: of the run's problems.
    machine: the devices.
    padded: length of a question, in tokens.
    lanes: of a group.
  """
  samples = max(1, len(prompts.train)) * asked.num_samples

  def rows_of(split: int) -> int:
    of_split = dataclasses.replace(asked, sample_tensor=split)
    fitting, _ = _fitting(of_split, machine, padded, lanes, prompts.shared)
    return min(fitting, samples)

  return weight_splits.cheapest(
    *(asked, machine, rows_of),
    row_bytes=sampling_memory.row_bytes(
      asked.model, lanes, padded, asked.max_decode_length, asked.sample_cache
    ),
  )


def _lanes(num_samples: int) -> int:
  """Samples of a problem that are decoded at once and share its question."""
  wanted = -(-num_samples // _SAMPLES_PER_LANE)
  return min(num_samples, max(2, min(wanted, _MAX_LANES)))


def _rows(
  asked: Asked, machine: Machine, padded: int, lanes: int, shared: int
) -> int:
  """`_fitting`'s rows; raises ConfigurationError where a group does not fit."""
  rows, needed = _fitting(asked, machine, padded, lanes, shared)
  if not rows:
    raise _refusal(asked, machine, lanes, needed)
  return rows


def _fitting(
  asked: Asked, machine: Machine, padded: int, lanes: int, shared: int
) -> tuple[int, float]:
  """Samples that are decoded at once, over all devices; a multiple of lanes.

  Args:
    asked: the dials that are set.
    machine: the devices.
    padded: length of a question, in tokens.
    lanes: of a group.
    shared: tokens that all prompts begin with.

  Returns:
    (samples, bytes that a device needs for the fewest); no samples, where
    those do not fit.
  """
  model = asked.model
  row = sampling_memory.sample_bytes(
    *(model, lanes, padded, asked.max_decode_length, asked.sample_cache)
  )
  total = machine.devices * machine.device_bytes * USABLE
  token = sampling_memory.token_bytes(model, asked.sample_cache)
  copies = machine.devices // asked.sample_tensor
  of_copy = sampling_memory.weights_bytes(asked) + shared * token
  left = total - copies * of_copy
  most = machine.devices * ROWS[machine.kind]
  rows = min(most, int(left // row)) // lanes * lanes
  read = sampling_memory.read_bytes(model)
  needed = max(total - left + lanes * row, read) / machine.devices
  return (0 if rows < lanes or read > total else rows), needed


def _refusal(
  asked: Asked, machine: Machine, lanes: int, needed: float
) -> configuration.ConfigurationError:
  """Why the model does not fit, and what to change.

  Args:
    asked: the dials that are set.
    machine: the devices.
    lanes: the fewest rows that are decoded at once.
    needed: bytes of each device.
  """
  model, split = asked.model, asked.sample_tensor
  usable = USABLE * machine.device_bytes
  is_read = sampling_memory.read_bytes(model) <= machine.devices * usable
  is_int8 = is_read and asked.sample_weights == 'int8'
  most = math.gcd(*weight_splits.divided(model))
  on_tpu = machine.kind == 'tpu'
  changes = []
  if is_read and sampling_memory.weights_bytes(asked) / split < usable:
    changes.append('lower MAX_DECODE_LENGTH')
  if model.dtype != 'bfloat16':
    changes.append("set MODEL's dtype = 'bfloat16'")
  if is_read and asked.sample_weights != 'int8':
    changes.append("set SAMPLE_WEIGHTS = 'int8'")
  if is_read and split < weight_splits.splits(asked, machine)[-1]:
    changes.append('raise SAMPLE_MESH_TENSOR')
  elif split < most or not is_read:
    changes.append('take more devices' + (' (TOPOLOGY)' if on_tpu else ''))
  else:
    where = (
      'TOPOLOGY, or SAMPLE_TOPOLOGY for sampling alone; ' if on_tpu else ''
    )
    changes.append(
      f"take devices of more memory ({where}more of them do not help: MODEL's "
      f'num_heads, num_kv_heads, mlp_dim and vocab_size divide by {most} at '
      'most)'
    )
  advice = ', or '.join(changes)
  return configuration.ConfigurationError(
    f'sampling: {model.num_parameters / 1e9:.2f} G parameters in '
    f'{"int8" if is_int8 else model.dtype}, a copy on '
    f'{"each device" if split == 1 else f"every {split} devices"}, and {lanes} '
    f'completions of {asked.max_decode_length} tokens need '
    f'{needed / GIB:.1f} GiB of each device; {machine} has '
    f'{usable / GIB:.1f} to use. {advice[0].upper()}{advice[1:]}.'
  )
