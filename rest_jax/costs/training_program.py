"""The training step, compiled for devices that are not here."""

import jax

from rest_jax.costs import hlo_program
from rest_jax.distributed import partitioning
from rest_jax.executors.topologies import Generation
from rest_jax.models.architecture import DecoderConfig
from rest_jax.training import (
  batches,
  compiler_options,
  loss_chunks,
  optimizers,
  train_step,
)
from rest_jax.training.hyperparameters import OptimizerConfig, TrainConfig


def compile_step(
  model: DecoderConfig,
  optimizer: OptimizerConfig,
  config: TrainConfig,
  mesh: jax.sharding.Mesh,
  plan: batches.Plan,
) -> jax.stages.Compiled:
  """The compiled training step of the train stage, for these devices."""
  transform = optimizers.make(optimizer, config.max_steps)
  state = abstract_state(model, optimizer, config, mesh)
  places = batches.batch_shardings(mesh, config.batch_rows, plan)
  batch = {
    name: jax.ShapeDtypeStruct(leaf.shape, leaf.dtype, sharding=places[name])
    for name, leaf in plan.shapes(config.batch_rows).items()
  }
  step = train_step.make_step(
    model,
    transform,
    mesh,
    plan,
    microbatches=config.microbatches,
    lora=config.lora,
  )
  base = train_step.frozen(model, mesh, config.lora)
  shardings = jax.tree.map(lambda leaf: leaf.sharding, state)
  return (
    jax.jit(
      step,
      donate_argnums=(0,),
      out_shardings=(shardings, None),
      compiler_options=compiler_options.of(mesh, config),
    )
    .lower(state, batch, base)
    .compile()
  )


def abstract_state(
  model: DecoderConfig,
  optimizer: OptimizerConfig,
  config: TrainConfig,
  mesh: jax.sharding.Mesh,
) -> train_step.TrainState:
  """What a step reads and replaces, without its values."""
  transform = optimizers.make(optimizer, config.max_steps)
  abstract, shardings = train_step.shardings(
    model, transform, mesh, config.lora
  )
  return jax.tree.map(
    lambda leaf, where: jax.ShapeDtypeStruct(
      leaf.shape, leaf.dtype, sharding=where
    ),
    abstract,
    shardings,
  )


def cost(
  compiled: jax.stages.Compiled,
  chip: Generation,
  model: DecoderConfig,
  config: TrainConfig,
  mesh: jax.sharding.Mesh,
  row_length: int,
  targets: float,
) -> hlo_program.Cost:
  """What a compiled step costs a chip.

  Args:
    compiled: of compile_step.
    chip: that it is compiled for.
    model: the network.
    config: of the step.
    mesh: of the devices.
    row_length: places of a row.
    targets: of a row, those of the row that has most.
  """
  # The loss goes over the targets chunk by chunk: the only loop of the step
  # whose number of rounds the text does not know.
  rows = config.batch_rows // config.microbatches
  rows //= partitioning.shards(mesh, 'batch')
  vocabulary = model.vocab_size // partitioning.shards(mesh, 'vocab')
  chunk = loss_chunks.chunk_places(
    max(rows, 1), row_length, vocabulary, chip.hbm_bytes
  )
  return hlo_program.Program.read(
    compiled.as_text(), chip, unknown_trips=-(-targets // chunk)
  ).cost()
