"""Sizes that follow from the model, the problems and the devices.

What is derived here are the dials that a user should not have to find by
trial: how much is decoded at once, how long a row of training examples is, how
large a step, and what must be recomputed to fit into memory. Each comes with
its reason, which stands beside it in the run's configuration.

The memory is counted, not measured: parameters, optimiser state, keys and
values, logits and activations, each with a factor that was fitted to the
compiler's figures (LOG.md). `rest-jax preflight` compiles the real program.
"""

import dataclasses
import math
import statistics
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Literal, NamedTuple

from rest_jax.config import configuration
from rest_jax.executors.machine import Machine
from rest_jax.models.architecture import DecoderConfig

_GIB = 2**30
_USABLE = 0.8  # of the memory: the rest is the program's and the runtime's
# By kind of device: rows decoded at once at most on one device (beyond them
# the matrix products, not the weights' bandwidth, take the time); tokens of a
# training step at most; multiples of a prompt's padded length.
_ROWS = {'cpu': 32, 'gpu': 256, 'tpu': 256}
# A microbatch of more tokens makes no step on a CPU faster, and needs memory.
_MICROBATCH_TOKENS = {'cpu': 1024}
_STEP_TOKENS = {'cpu': 2048, 'gpu': 65_536, 'tpu': 131_072}
_BUCKET = {'cpu': 16, 'gpu': 64, 'tpu': 128}
_ROW = {'cpu': 64, 'gpu': 128, 'tpu': 128}
_MAX_LANES = 8
_STEPS_PER_EPOCH = 8  # at least, where there are enough examples
_OPTIMIZER_COPIES = 2  # of the parameters, in float32: adamw


class Dial(NamedTuple):
  """A dial's derived value, and why it has that value."""

  value: Any
  reason: str


AUTO = 'auto'
Size = int | Literal['auto']  # a dial that may be left to this module


@dataclasses.dataclass(frozen=True, kw_only=True)
class Asked:
  """The dials that sizes depend on, and those that are sizes themselves.

  Attributes:
    model: the network.
    num_samples: of a training problem in an E-step, or {task: number}.
    max_decode_length: of a completion, in tokens.
    solutions_kept: of a problem at most, as training examples; or for each
      task.
    derives_remat: whether MODEL's remat is open; else the model's own counts.
    prompt_bucket, lanes, row_length, batch_rows: what the user has set; 'auto'
      is derived, and row_length None is the model's max_length.
  """

  model: DecoderConfig
  num_samples: int
  max_decode_length: int
  solutions_kept: int
  prompt_bucket: Size = AUTO
  lanes: Size = AUTO
  row_length: Size | None = AUTO
  batch_rows: Size = AUTO
  derives_remat: bool = True


@configuration.checked
def sizes(
  *,
  model: DecoderConfig,
  num_samples: int | Mapping[str, int],
  max_decode_length: int,
  solutions_kept: int | Mapping[str, int],
  prompt_bucket: Size,
  lanes: Size,
  row_length: Size | None,
  batch_rows: Size,
) -> Asked:
  """What gin binds, for one task: the largest of what differs between tasks."""

  def most(value: int | Mapping[str, int]) -> int:
    return max(value.values()) if isinstance(value, Mapping) else value

  return Asked(
    model=model,
    num_samples=max(1, most(num_samples)),
    max_decode_length=max_decode_length,
    solutions_kept=most(solutions_kept),
    prompt_bucket=prompt_bucket,
    lanes=lanes,
    row_length=row_length,
    batch_rows=batch_rows,
  )


@dataclasses.dataclass(frozen=True, kw_only=True)
class Prompts:
  """Lengths of the prepared prompts, in tokens.

  Attributes:
    train: of the problems that the E-step samples.
    evaluated: of those that are answered once: evaluation and D_val.
  """

  train: Sequence[int]
  evaluated: Sequence[int]

  @property
  def longest(self) -> int:
    """Of all; 1 where there are none."""
    return max([*self.train, *self.evaluated, 1])


def derive(asked: Asked, prompts: Prompts, machine: Machine) -> dict[str, Dial]:
  """The sizes of a run, by their dials.

  Args:
    asked: the dials that are set.
    prompts: of the run's problems.
    machine: the devices.

  Returns:
    GROUPS, LANES, GREEDY_GROUPS, PROMPT_BUCKET, PROBLEMS_PER_PART, ROW_LENGTH,
    BATCH_ROWS, MICROBATCHES, and the fields REMAT and DECODE_LOOP of MODEL.

  Raises:
    ConfigurationError: the model does not fit into the devices' memory,
      whatever the sizes.
  """
  return _engine(asked, prompts, machine) | _training(asked, prompts, machine)


def require_room(asked: Asked, prompts: Prompts) -> None:
  """Raises ConfigurationError where prompts do not fit into the model.

  One in a hundred may be too long: those problems are never solved.
  """
  room = asked.model.max_length - asked.max_decode_length
  lengths = [*prompts.train, *prompts.evaluated]
  long = sum(length > room for length in lengths)
  if long > len(lengths) / 100:
    raise configuration.ConfigurationError(
      f'{long} of {len(lengths)} prompts do not fit: they have up to '
      f"{prompts.longest} tokens, and MODEL's max_length = "
      f'{asked.model.max_length} leaves {max(room, 0)} beside '
      f'MAX_DECODE_LENGTH = {asked.max_decode_length}. Lower NUM_SHOTS or '
      'MAX_DECODE_LENGTH, leave out the long problems, or take a model of a '
      'longer context.'
    )


# ---- sampling ---------------------------------------------------------------


def _engine(
  asked: Asked, prompts: Prompts, machine: Machine
) -> dict[str, Dial]:
  bucket = _bucket(asked, prompts, machine)
  padded = -(-prompts.longest // bucket.value) * bucket.value
  lanes = asked.lanes
  if lanes == AUTO:
    lanes = _lanes(asked.num_samples)
  rows = _rows(asked, machine, padded, lanes)
  shards = machine.devices
  pieces = len(prompts.train) * -(-asked.num_samples // lanes)
  groups = _whole(min(max(rows // lanes, 1), pieces), shards)
  greedy = _whole(min(rows, max(len(prompts.evaluated), 1)), shards)
  per_batch = max(1, groups * lanes // asked.num_samples)
  part = max(greedy, per_batch) * (1 if machine.kind == 'cpu' else 4)
  free = machine.device_bytes / _GIB
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
  value = _whole(-(-longest // programs), unit)
  return Dial(
    max(1, min(value, room)),
    f'prompts of {lengths[0]} to {longest} tokens, half of them up to {median}',
  )


def _lanes(num_samples: int) -> int:
  """Samples of a problem that are decoded at once and share its prompt."""
  most = min(num_samples, _MAX_LANES)
  even = [n for n in range(most, 0, -1) if num_samples % n == 0]
  return even[0] if even[0] > most // 2 else most


def _rows(asked: Asked, machine: Machine, padded: int, lanes: int) -> int:
  """Samples that are decoded at once, over all devices; a multiple of lanes."""
  model = asked.model
  width = 2 if model.dtype == 'bfloat16' else 4
  kept = 2 * model.num_layers * model.num_kv_heads * model.head_dim * width
  # A row keeps its own completion and its share of the prompt; the logits are
  # there in float32, sorted, and once more as masses.
  row = kept * (asked.max_decode_length + padded / lanes)
  row += 6 * 4 * model.vocab_size
  total = machine.devices * machine.device_bytes * _USABLE
  left = total - model.num_parameters * width
  most = machine.devices * _ROWS[machine.kind]
  rows = min(most, int(left // row)) // lanes * lanes
  if rows < lanes:
    raise configuration.ConfigurationError(
      f'sampling: {model.num_parameters / 1e9:.2f} G parameters in '
      f'{model.dtype} and {lanes} completions of {asked.max_decode_length} '
      f'tokens need {(total - left + lanes * row) / _GIB:.1f} GiB; '
      f'{machine} has {total / _GIB:.1f} to use. Lower MAX_DECODE_LENGTH, set '
      "MODEL's dtype = 'bfloat16', or take more devices (TOPOLOGY)."
    )
  return rows


# ---- training ---------------------------------------------------------------


def _training(
  asked: Asked, prompts: Prompts, machine: Machine
) -> dict[str, Dial]:
  model = asked.model
  longest = max(prompts.train, default=1) + asked.max_decode_length
  row = asked.row_length
  if row is None:
    row = model.max_length
  elif row == AUTO:
    row = _whole(longest, _ROW[machine.kind])
    if machine.kind != 'cpu':  # long rows waste less of them
      row = max(row, 2048)
    row = min(row, model.max_length)
  example = statistics.fmean(prompts.train or [1]) + asked.max_decode_length / 2
  kept = min(asked.num_samples, asked.solutions_kept) / 2  # a guess
  tokens = len(prompts.train) * kept * example
  rows = asked.batch_rows
  if rows == AUTO:
    step = min(_STEP_TOKENS[machine.kind], tokens / _STEPS_PER_EPOCH)
    rows = 2 ** max(0, round(math.log2(max(1, step / row))))
    rows = _whole(rows, machine.devices)
  microbatches, remat, needed = _fitted(asked, machine, rows, row)
  return {
    'ROW_LENGTH': Dial(
      row, f'prompt and completion have up to {longest} tokens'
    ),
    'BATCH_ROWS': Dial(
      rows, f'about {max(1, tokens / (rows * row)):.0f} steps an epoch'
    ),
    'MICROBATCHES': Dial(
      microbatches,
      f'{needed / _GIB:.1f} of {machine.device_bytes / _GIB:.1f} GiB',
    ),
    'REMAT': Dial(
      remat,
      'activations fit' if remat == 'none' else 'activations would not fit',
    ),
  }


def _fitted(
  asked: Asked, machine: Machine, rows: int, length: int
) -> tuple[int, str, float]:
  """(microbatches, remat, bytes of a device) of a step that fits.

  As few microbatches as fit without recomputing, down to one row at a time on
  each device; else as few as fit with it.
  """
  model = asked.model
  usable = machine.device_bytes * _USABLE
  # Rows that do not divide are computed by every device.
  shards = machine.devices if rows % machine.devices == 0 else 1
  for remat in ('none', 'full') if asked.derives_remat else (model.remat,):
    for microbatches in _divisors(rows // shards):
      tokens = rows // shards // microbatches * length  # of a device
      needed = training_bytes(model, machine.devices, tokens, length, remat)
      few = tokens <= _MICROBATCH_TOKENS.get(machine.kind, tokens)
      if needed <= usable and (few or tokens == length):
        return microbatches, remat, needed
  raise configuration.ConfigurationError(
    f'training: {model.num_parameters / 1e9:.2f} G parameters and one row of '
    f'{length} tokens need {needed / _GIB:.1f} GiB of a device with '
    f'remat = {remat!r}; {machine} has {usable / _GIB:.1f} to use. Lower '
    "ROW_LENGTH or MAX_DECODE_LENGTH, take OPTIMIZER = 'adafactor', or more "
    'devices (TOPOLOGY, MESH_FSDP).'
  )


def training_bytes(
  model: DecoderConfig, devices: int, tokens: int, length: int, remat: str
) -> float:
  """Memory of one device in a training step, estimated.

  Args:
    model: the network.
    devices: that the parameters are split over.
    tokens: of a microbatch, on one device.
    length: of a row, in tokens.
    remat: what the backward pass recomputes.
  """
  width = 2 if model.dtype == 'bfloat16' else 4
  stored = 2 if model.param_dtype == 'bfloat16' else 4
  copies = 2 + _OPTIMIZER_COPIES  # parameters, gradients, the optimiser's
  state = model.num_parameters * stored * copies / devices
  heads = model.num_heads * model.head_dim
  block = width * (6 * model.embed_dim + 4 * heads + 4 * model.mlp_dim)
  block += 4 * 2 * model.num_heads * length  # scores of the attention
  kept = width * model.embed_dim
  layers = model.num_layers * block if remat == 'none' else block
  layers += model.num_layers * kept
  logits = 3 * 4 * model.vocab_size
  return state + tokens * (layers + logits)


def _whole(number: float, unit: int) -> int:
  """The next multiple of a unit."""
  return max(1, math.ceil(number / unit)) * unit


def _divisors(number: int) -> Iterator[int]:
  return (n for n in range(1, number + 1) if number % n == 0)
