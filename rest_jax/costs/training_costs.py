"""What the M-step costs a chip."""

import dataclasses

import jax

from rest_jax.costs import (
  collectives,
  hlo_program,
  tpu_compiler,
  training_program,
)
from rest_jax.costs.figures import Figures, Training
from rest_jax.costs.training_rows import Rows
from rest_jax.executors.topologies import Generation
from rest_jax.models import lora
from rest_jax.models.architecture import DecoderConfig
from rest_jax.training import train_step
from rest_jax.training.hyperparameters import OptimizerConfig, TrainConfig


@dataclasses.dataclass(frozen=True)
class Trained:
  """The figures of training, and what is wrong with the program.

  Attributes:
    training: the figures.
    gathered: activations that are gathered, where a sharding rule is missing.
    summed: whether parameters are gathered by sums.
  """

  training: Training
  gathered: list[str]
  summed: bool


def cost(
  model: DecoderConfig,
  optimizer: OptimizerConfig,
  config: TrainConfig,
  mesh: jax.sharding.Mesh,
  rows: Rows,
  chip: Generation,
) -> Trained:
  """Compiles the step, and gives its figures.

  Raises:
    JaxRuntimeError: it does not fit, and the compiler gives up.
  """
  length = rows.plan.row_length
  compiled = training_program.compile_step(
    model, optimizer, config, mesh, rows.plan
  )
  cost = training_program.cost(
    *(compiled, chip, model, config, mesh, length, rows.most_targets)
  )
  found = [(sent.collective.kind, sent.collective.shapes) for sent in cost.sent]
  share = 1.0
  if config.lora.is_on:
    share = lora.num_parameters(model, config.lora) / model.num_parameters
  number = config.batch_rows
  return Trained(
    Training(
      step=Figures.of(chip, tpu_compiler.memory_bytes(compiled), cost),
      flops=rows.flops(model, number, share),
      chips=mesh.size,
      tokens=number * rows.tokens,
      examples=number * rows.examples,
      fill=rows.tokens / length,
      state=_state_bytes(model, optimizer, config, mesh),
    ),
    collectives.gathered_activations(found, model, number, length, mesh),
    _gathers_by_sums(cost),
  )


def _state_bytes(
  model: DecoderConfig,
  optimizer: OptimizerConfig,
  config: TrainConfig,
  mesh: jax.sharding.Mesh,
) -> dict[str, float]:
  """Of one chip: what lasts from step to step, and the gradients."""
  state = training_program.abstract_state(model, optimizer, config, mesh)
  trained = tpu_compiler.chip_bytes(state.params)
  frozen = train_step.frozen(model, mesh, config.lora)
  return {
    'parameters': trained + tpu_compiler.chip_bytes(frozen),
    'gradients': trained,
    'optimiser': tpu_compiler.chip_bytes(state.opt_state),
  }


def _gathers_by_sums(cost: hlo_program.Cost) -> bool:
  """Whether numbers, not ids, are gathered by all-reduces."""
  return any(
    dtype[0] not in 'su'
    for sent in cost.sent
    if sent.collective.kind == collectives.GATHER_BY_SUM
    for dtype, _ in sent.collective.shapes
  )
