"""How much a run decodes at once: groups, lanes, prompt buckets and parts."""

import statistics

from rest_jax.config import configuration
from rest_jax.executors.machine import Machine
from rest_jax.models.architecture import DecoderConfig
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
_ROWS = {'cpu': 32, 'gpu': 256, 'tpu': 256}
_BUCKET = {'cpu': 16, 'gpu': 64, 'tpu': 128}
_MAX_LANES = 8


def derive(asked: Asked, prompts: Prompts, machine: Machine) -> dict[str, Dial]:
  """The sizes of sampling, by their dials.

  Args:
    asked: the dials that are set.
    prompts: of the run's problems.
    machine: the devices.

  Returns:
    GROUPS, LANES, GREEDY_GROUPS, PROMPT_BUCKET, PROBLEMS_PER_PART, and the
    field DECODE_LOOP of MODEL.

  Raises:
    ConfigurationError: the model does not fit into the devices' memory,
      whatever the sizes.
  """
  bucket = _bucket(asked, prompts, machine)
  padded = -(-prompts.longest // bucket.value) * bucket.value
  lanes = asked.lanes
  if lanes == AUTO:
    lanes = _lanes(asked.num_samples)
  rows = _rows(asked, machine, padded, lanes)
  shards = machine.devices
  pieces = len(prompts.train) * -(-asked.num_samples // lanes)
  groups = multiple(min(max(rows // lanes, 1), pieces), shards)
  greedy = multiple(min(rows, max(len(prompts.evaluated), 1)), shards)
  per_batch = max(1, groups * lanes // asked.num_samples)
  part = max(greedy, per_batch) * (1 if machine.kind == 'cpu' else 4)
  free = machine.device_bytes / GIB
  return {
    'PROMPT_BUCKET': bucket,
    'LANES': Dial(lanes, f'{asked.num_samples} samples of a problem'),
    'GROUPS': Dial(
      groups,
      f'{rows} rows at once: {machine.kind.upper()}, {free:.1f} GiB; '
      f'{len(prompts.train)} training problems',
    ),
    'GREEDY_GROUPS': Dial(
      greedy, f'{len(prompts.evaluated)} evaluated problems'
    ),
    'PROBLEMS_PER_PART': Dial(
      part, 'whole batches; what a kill may lose is one part'
    ),
    'DECODE_LOOP': Dial(
      'scan' if machine.kind == 'cpu' else 'unroll',
      'compiles in seconds'
      if machine.kind == 'cpu'
      else 'decodes faster, compiles longer',
    ),
  }


def _bucket(asked: Asked, prompts: Prompts, machine: Machine) -> Dial:
  """The padded length of prompts: each multiple of it compiles a program."""
  if asked.prompt_bucket != AUTO:
    return Dial(asked.prompt_bucket, 'as set')
  lengths = sorted([*prompts.train, *prompts.evaluated]) or [1]
  unit, longest = _BUCKET[machine.kind], lengths[-1]
  median = statistics.median_low(lengths)
  # Another program is worth it where most prompts are less than half as long.
  programs = 1 if 2 * median >= longest else 2 if 4 * median >= longest else 4
  room = asked.model.max_length - asked.max_decode_length
  value = multiple(-(-longest // programs), unit)
  return Dial(
    max(1, min(value, room)),
    f'prompts of {lengths[0]} to {longest} tokens, half of them up to {median}',
  )


def _lanes(num_samples: int) -> int:
  """Samples of a problem that are decoded at once and share its prompt."""
  most = min(num_samples, _MAX_LANES)
  even = [n for n in range(most, 0, -1) if num_samples % n == 0]
  return even[0] if even[0] > most // 2 else most


def sample_bytes(
  model: DecoderConfig, lanes: int, prompt: int, completion: int
) -> float:
  """Memory of one sample while it is decoded, estimated.

  Args:
    model: the network.
    lanes: samples that share the keys and values of a prompt.
    prompt: its padded length, in tokens.
    completion: its greatest length, in tokens.
  """
  width = 2 if model.dtype == 'bfloat16' else 4
  token = 2 * model.num_layers * model.num_kv_heads * model.head_dim * width
  kept = token * (completion + prompt / lanes)
  # The logits are there in float32, sorted, and once more as masses.
  return kept + 6 * 4 * model.vocab_size


def _rows(asked: Asked, machine: Machine, padded: int, lanes: int) -> int:
  """Samples that are decoded at once, over all devices; a multiple of lanes."""
  model = asked.model
  width = 2 if model.dtype == 'bfloat16' else 4
  row = sample_bytes(model, lanes, padded, asked.max_decode_length)
  total = machine.devices * machine.device_bytes * USABLE
  left = total - weights_bytes(asked)
  most = machine.devices * _ROWS[machine.kind]
  rows = min(most, int(left // row)) // lanes * lanes
  # Weights are read in dtype, and only then rounded to int8.
  read = model.num_parameters * width
  needed = max(total - left + lanes * row, read)
  if rows < lanes or read > total:
    raise configuration.ConfigurationError(
      f'sampling: {model.num_parameters / 1e9:.2f} G parameters in '
      f'{model.dtype} and {lanes} completions of {asked.max_decode_length} '
      f'tokens need {needed / GIB:.1f} GiB; '
      f'{machine} has {total / GIB:.1f} to use. Lower MAX_DECODE_LENGTH, set '
      "MODEL's dtype = 'bfloat16' or SAMPLE_WEIGHTS = 'int8', or take more "
      'devices (TOPOLOGY).'
    )
  return rows


def weights_bytes(asked: Asked) -> int:
  """Of the weights that are sampled from, over all devices."""
  width = 2 if asked.model.dtype == 'bfloat16' else 4
  if asked.sample_weights == 'int8':
    width = 1  # and a scale per channel, which is less than a hundredth
  return asked.model.num_parameters * width
