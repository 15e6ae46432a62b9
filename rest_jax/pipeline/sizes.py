"""Sizes that follow from the model, the problems and the devices.

What is derived are the dials that a user should not have to find by trial: how
much is decoded at once (sampling_sizes.py), how long a row of training examples
is, how large a step, and what must be recomputed to fit into memory
(training_sizes.py). Each comes with its reason, which stands beside it in the
run's configuration. Here is what both depend on.

The memory is counted, not measured: parameters, optimiser state, keys and
values, logits and activations, each with a factor that was fitted to the
compiler's figures (LOG.md). `rest-jax preflight` compiles the real program.
"""

import dataclasses
import math
from collections.abc import Mapping, Sequence
from typing import Any, Literal, NamedTuple

from rest_jax.config import configuration
from rest_jax.executors.machine import Machine
from rest_jax.models import architecture, lora, recomputation
from rest_jax.models.architecture import DecoderConfig
from rest_jax.training import loss_chunks

GIB = 2**30
USABLE = 0.8  # of the memory: the rest is the program's and the runtime's
_OPTIMIZER_COPIES = 2  # of the parameters, in float32: adamw
_NO_ADAPTERS = lora.LoraConfig()


class Dial(NamedTuple):
  """A dial's derived value, and why it has that value."""

  value: Any
  reason: str


AUTO = 'auto'
Size = int | Literal['auto']  # a dial that may be left to be derived


@dataclasses.dataclass(frozen=True, kw_only=True)
class Asked:
  """The dials that sizes depend on, and those that are sizes themselves.

  Attributes:
    model: the network.
    num_samples: of a training problem in an E-step, or {task: number}.
    max_decode_length: of a completion, in tokens.
    solutions_kept: of a problem at most, as training examples; or for each
      task.
    adapters: what LoRA trains; off: all weights are trained.
    sample_weights: 'as_trained' or 'int8', as EngineConfig.weights.
    sample_cache: 'as_computed' or 'int8', as EngineConfig.cache.
    sample_tensor: devices that hold one copy of the weights in sampling.
    train_tensor: devices that share heads and MLP in training.
    derives_remat: whether MODEL's remat is open; else the model's own counts.
    share_prompt: whether the examples of a problem share its prompt.
    prompt_bucket, lanes, row_length, batch_rows: what the user has set; 'auto'
      is derived, and row_length None is the model's max_length.
  """

  model: DecoderConfig
  num_samples: int
  max_decode_length: int
  solutions_kept: int
  share_prompt: bool = True
  prompt_bucket: Size = AUTO
  lanes: Size = AUTO
  row_length: Size | None = AUTO
  batch_rows: Size = AUTO
  adapters: lora.LoraConfig = _NO_ADAPTERS
  sample_weights: Literal['as_trained', 'int8'] = 'as_trained'
  sample_cache: Literal['as_computed', 'int8'] = 'as_computed'
  sample_tensor: Size = AUTO
  train_tensor: int = 1
  derives_remat: bool = True

  def row_shards(self, machine: Machine) -> int:
    """Parts that the rows of a training step are split into."""
    # More devices a row than there are is refused where the mesh is made.
    return max(1, machine.devices // self.train_tensor)


@configuration.checked
def sizes(
  *,
  model: DecoderConfig,
  num_samples: int | Mapping[str, int],
  max_decode_length: int,
  solutions_kept: int | Mapping[str, int],
  share_prompt: bool = True,
  prompt_bucket: Size,
  lanes: Size,
  row_length: Size | None,
  batch_rows: Size,
  adapters: lora.LoraConfig = _NO_ADAPTERS,
  sample_weights: Literal['as_trained', 'int8'] = 'as_trained',
  sample_cache: Literal['as_computed', 'int8'] = 'as_computed',
  sample_tensor: Size = AUTO,
  train_tensor: int = 1,
) -> Asked:
  """What gin binds, for one task: the largest of what differs between tasks.

  Raises:
    ConfigurationError: LORA_TARGETS matches no matrix of the model.
  """
  lora.num_parameters(model, adapters)  # raises where it adapts nothing

  def most(value: int | Mapping[str, int]) -> int:
    return max(value.values()) if isinstance(value, Mapping) else value

  return Asked(
    model=model,
    num_samples=max(1, most(num_samples)),
    max_decode_length=max_decode_length,
    solutions_kept=most(solutions_kept),
    share_prompt=share_prompt,
    prompt_bucket=prompt_bucket,
    lanes=lanes,
    row_length=row_length,
    batch_rows=batch_rows,
    adapters=adapters,
    sample_weights=sample_weights,
    sample_cache=sample_cache,
    sample_tensor=sample_tensor,
    # -1, what the other axes leave, is counted as if it were 1.
    train_tensor=max(1, train_tensor),
  )


@dataclasses.dataclass(frozen=True, kw_only=True)
class Prompts:
  """Lengths of the prepared prompts, in tokens.

  Attributes:
    train: of the problems that the E-step samples.
    evaluated: of those that are answered once: evaluation and D_val.
    largest_set: how many of those are answered together, at most: a task's test
      problems, or its D_val; 0: all of them are.
    validated: problems of D_val, of all tasks.
    shared: tokens at the start of all of them, at most, which are read once.
  """

  train: Sequence[int]
  evaluated: Sequence[int]
  largest_set: int = 0
  validated: int = 0
  shared: int = 0

  @property
  def longest(self) -> int:
    """Of all; 1 where there are none."""
    return max([*self.train, *self.evaluated, 1])


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


def trained_parameters(model: DecoderConfig, adapters: lora.LoraConfig) -> int:
  """Numbers that a training changes and saves."""
  if adapters.is_on:
    return lora.num_parameters(model, adapters)
  return model.num_parameters


def training_bytes(
  model: DecoderConfig,
  machine: Machine,
  tokens: int,
  length: int,
  remat: str,
  adapters: lora.LoraConfig = _NO_ADAPTERS,
  tensor: int = 1,
) -> float:
  """Memory of one device in a training step, estimated.

  Args:
    model: the network.
    machine: whose devices the parameters are split over.
    tokens: of a microbatch, of the rows that are on one device.
    length: of a row, in tokens.
    remat: what the backward pass recomputes.
    adapters: what LoRA trains; off: all weights are trained.
    tensor: devices that share a row's heads and the width of its MLP.
  """
  width = 2 if model.dtype == 'bfloat16' else 4
  stored = 2 if model.param_dtype == 'bfloat16' and not adapters.is_on else 4
  gradients = trained_parameters(model, adapters) * stored / machine.devices
  state = state_bytes(model, machine, adapters) + gradients
  shared = (model.num_heads * model.head_dim + model.mlp_dim) / tensor
  block = width * (6 * model.embed_dim + 4 * shared)
  how = architecture.attention_on(machine.kind, model)
  if how == 'einsum':
    # Scores of the attention.
    block += 4 * 2 * model.num_heads / tensor * length
  elif how == 'cudnn':
    block += 4 * length  # its mask
  kept = width * model.embed_dim
  if remat != 'none':
    kept = width * recomputation.kept_numbers(model, remat, tensor)
  # network.py recomputes layer by layer, but a CPU's compiler holds the
  # activations of a whole pattern, and a TPU's has not been seen to do less.
  together = len(model.layer_pattern)
  if remat == 'none':
    together = model.num_layers
    if width == 2:
      # Norms keep float32, and the activation function its steps: what jax
      # keeps of Llama-3.1-8B, 315 kB of a token and layer.
      block += width * (8 * model.embed_dim + 2 * model.mlp_dim / tensor)
  layers = together * block + model.num_layers * kept
  loss = loss_chunks.held_bytes(
    *(tokens, -(-model.vocab_size // tensor), model.embed_dim, width),
    machine.devices // tensor,
    machine.device_bytes if machine.kind == 'tpu' else None,
  )
  return state + tokens * layers + (loss if tokens else 0)


def state_bytes(
  model: DecoderConfig,
  machine: Machine,
  adapters: lora.LoraConfig = _NO_ADAPTERS,
) -> float:
  """Memory of one device between two training steps, estimated.

  Args:
    model: the network.
    machine: whose devices the parameters are split over.
    adapters: what LoRA trains; off: all weights are trained.
  """
  width = 2 if model.dtype == 'bfloat16' else 4
  stored = 2 if model.param_dtype == 'bfloat16' else 4
  frozen = 0
  if adapters.is_on:  # float32, beside weights in the arithmetic's dtype
    stored, frozen = 4, model.num_parameters * width
  each = stored + 4 * _OPTIMIZER_COPIES
  return (frozen + trained_parameters(model, adapters) * each) / machine.devices


def multiple(number: float, unit: int) -> int:
  """The next multiple of a unit."""
  return max(1, math.ceil(number / unit)) * unit
