"""The programs of one run, compiled with its dials or with others."""

import dataclasses
import functools

import jax

from rest_jax.costs import (
  fitting,
  sampling_costs,
  tpu_compiler,
  training_costs,
  training_program,
  training_rows,
)
from rest_jax.costs.foreseen import Foreseen
from rest_jax.costs.sampling_costs import Sampled
from rest_jax.costs.search import Decoding, Step
from rest_jax.costs.training_costs import Trained
from rest_jax.distributed import partitioning
from rest_jax.executors.topologies import Topology
from rest_jax.models.architecture import DecoderConfig
from rest_jax.sampling.streams import EngineConfig, Stream
from rest_jax.training.hyperparameters import OptimizerConfig, TrainConfig


@dataclasses.dataclass(frozen=True)
class CompiledRun:
  """A run's dials, and the slices that it is compiled for.

  Attributes:
    slice_, slices: of training and D_val.
    model, optimizer, config, mesh: of training.
    engine, sample_mesh: of sampling.
    dval_mesh: of D_val, over the devices of the training.
    foreseen: lengths, and the slice of a worker that samples.
  """

  slice_: Topology
  slices: int
  model: DecoderConfig
  optimizer: OptimizerConfig
  config: TrainConfig
  mesh: partitioning.MeshConfig
  engine: EngineConfig
  sample_mesh: partitioning.MeshConfig
  dval_mesh: partitioning.MeshConfig
  foreseen: Foreseen

  @functools.cached_property
  def devices(self) -> list[jax.Device]:
    """Of training."""
    return list(tpu_compiler.devices(str(self.slice_), self.slices))

  @functools.cached_property
  def training_mesh(self) -> jax.sharding.Mesh:
    """Of training.

    Raises:
      ConfigurationError: it does not divide the network or the rows.
    """
    mesh = partitioning.make_mesh(self.mesh, self.devices)
    fitting.require_divisible(self.model, self.config, mesh, self.devices)
    return mesh

  @functools.cached_property
  def validation_mesh(self) -> jax.sharding.Mesh:
    """Of D_val."""
    return partitioning.make_mesh(self.dval_mesh, self.devices)

  @functools.cached_property
  def worker_mesh(self) -> jax.sharding.Mesh:
    """Of one worker that samples."""
    worker = self.foreseen.worker
    # Without a slice of their own, workers are what the training runs on.
    slices = self.slices if worker == self.slice_ else 1
    return partitioning.make_mesh(
      self.sample_mesh, tpu_compiler.devices(str(worker), slices)
    )

  @functools.cached_property
  def rows(self) -> training_rows.Rows:
    """Of training."""
    if self.foreseen.full_rows:
      length = self.config.row_length or self.model.max_length
      return training_rows.full(self.model, length)
    return training_rows.packed(self.model, self.config, self.foreseen.texts)

  def training(self) -> Trained:
    """The M-step's step.

    Raises:
      JaxRuntimeError: it does not fit, and the compiler gives up.
    """
    return training_costs.cost(
      *(self.model, self.optimizer, self.config, self.training_mesh),
      *(self.rows, self.slice_.generation),
    )

  def training_bytes(self, model: DecoderConfig, config: TrainConfig) -> float:
    """What a step with other dials needs on a chip; raises as `training`."""
    compiled = training_program.compile_step(
      *(model, self.optimizer, config, self.training_mesh, self.rows.plan)
    )
    return tpu_compiler.memory_bytes(compiled)['total']

  def sampling(self, stream: Stream) -> Sampled:
    """The E-step's programs, on one worker."""
    return self._sampled(stream, self.worker_mesh, 0)

  def validation(self, stream: Stream) -> Sampled:
    """D_val's, beside the state of a training."""
    state = training_program.abstract_state(
      self.model, self.optimizer, self.config, self.training_mesh
    )
    held = tpu_compiler.chip_bytes(state)
    return self._sampled(stream, self.validation_mesh, held)

  def _sampled(
    self, stream: Stream, mesh: jax.sharding.Mesh, held: int
  ) -> Sampled:
    shards = sampling_costs.shards(mesh)
    layout, longest = (
      sampling_costs.layout(
        *(self.engine, stream, self.foreseen.prompts.shared, question, shards)
      )
      for question in (
        self.foreseen.question,
        self.foreseen.longest_question,
      )
    )
    return sampling_costs.cost(
      *(self.model, mesh, layout, stream, self.slice_.generation),
      held=held,
      longest=longest,
    )

  # ---- with other dials -----------------------------------------------------

  def with_step(self, step: Step) -> 'CompiledRun':
    """Another way to train."""
    return dataclasses.replace(
      self,
      model=dataclasses.replace(self.model, remat=step.remat),
      config=dataclasses.replace(self.config, microbatches=step.microbatches),
      mesh=step.mesh,
    )

  def step(self) -> Step:
    """The way that is set."""
    sizes = dict(self.training_mesh.shape)
    return Step(
      partitioning.MeshConfig(**sizes),
      self.model.remat,
      self.config.microbatches,
    )

  def with_decoding(self, decoding: Decoding) -> 'CompiledRun':
    """Another way to sample."""
    return dataclasses.replace(
      self,
      engine=dataclasses.replace(
        self.engine, groups=decoding.groups, lanes=decoding.lanes
      ),
      sample_mesh=dataclasses.replace(
        self.sample_mesh, data=-1, tensor=decoding.tensor
      ),
    )

  def decoding(self) -> Decoding:
    """The way that is set."""
    return Decoding(
      self.worker_mesh.shape['tensor'], self.engine.groups, self.engine.lanes
    )

  def divides(self, mesh: partitioning.MeshConfig) -> bool:
    """Whether a mesh of training fits the network, the rows and the torus."""
    try:
      made = partitioning.make_mesh(mesh, self.devices)
    except ValueError:
      return False
    return fitting.indivisible(self.model, self.config.batch_rows, made) is None
