"""What the trainings of an M-step share, one per learning rate of its grid.

The examples as rows, the mesh, the weights to start from, and the settings.
loop.py trains.
"""

from typing import Any

import jax
import numpy as np
import optax
import pyarrow as pa
import pyarrow.compute as pc

from rest_jax.artifacts import manifests, storage
from rest_jax.config import configuration
from rest_jax.distributed import multihost, partitioning
from rest_jax.models import adapters, architecture
from rest_jax.models.architecture import DecoderConfig
from rest_jax.models.checkpoints import policies
from rest_jax.training import batches, train_step, wall_clock
from rest_jax.training.grid_progress import GridProgress
from rest_jax.training.hyperparameters import TrainConfig
from rest_jax.training.packing import Packer
from rest_jax.training.shared_rows import SharedPacker


def _require_ids(
  table: pa.Table, model: DecoderConfig, folder: storage.Path
) -> None:
  """Raises where examples hold ids that the network does not embed."""
  largest = pc.max(pc.list_flatten(table['token_ids'])).as_py()
  if largest is not None and largest >= model.vocab_size:
    raise configuration.ConfigurationError(
      f'{folder}: the examples hold the token id {largest}, but MODEL embeds '
      f'{model.vocab_size}: they do not belong together. Set VOCABULARY to the '
      "model's own, or MODEL to the network of the vocabulary."
    )


class Grid:
  """What the trainings of a grid share: examples, mesh, settings.

  Attributes:
    mesh: of the devices.
    packer: the examples as rows.
    plan: of these rows.
    total: optimiser steps of each training, at most.
    base: the weights that adapters are trained beside, once they are loaded;
      None without adapters.
  """

  def __init__(
    self,
    folder: storage.Path,
    examples: manifests.Manifest,
    init_path: str | None,
    model: DecoderConfig,
    config: TrainConfig,
    mesh: partitioning.MeshConfig,
    trainings: int = 1,
    clock: wall_clock.Clock | None = None,
  ):
    """Args:
    folder: of the stage; each training has a folder below it.
    examples: finished folder of Example records.
    init_path: the policy that trainings start from; None: fresh weights.
    model: the network.
    config: steps, batches, loss.
    mesh: of the devices.
    trainings: how many there will be.
    clock: counts where the time goes.
    """
    self.clock = clock or wall_clock.Clock()
    self.folder, self.init_path = folder, init_path
    self.model, self.config = model, config
    self.base: Any = None
    self.mesh = partitioning.make_mesh(mesh)
    # Refused here, and not after the weights are loaded.
    architecture.attention_on(partitioning.platform(self.mesh), model)
    table = examples.table(
      columns=['problem_id', 'token_ids', 'weight', 'segment_types']
    )
    _require_ids(table, model, examples.folder)
    self.packer = (SharedPacker if config.share_prompt else Packer)(
      table,
      row_length=config.row_length or model.max_length,
      seed=config.seed,
      loss_normalizer=config.loss_normalizer,
    )
    if self.packer.num_too_long:
      multihost.say(
        f'warning: {self.packer.num_too_long} of '
        f'{self.packer.num_too_long + self.packer.num_examples} examples are '
        f'longer than a row of {self.packer.row_length} tokens and are left '
        'out'
      )
    self.plan = batches.Plan.of(self.packer)
    self._where = batches.batch_shardings(
      self.mesh, config.batch_rows, self.plan
    )
    self.total = config.max_steps
    if config.max_epochs:
      rows = config.max_epochs * self.packer.rows_per_epoch
      self.total = min(self.total, int(np.ceil(rows / config.batch_rows)))
    self.progress = GridProgress(self.total, trainings)

  def batch(self, done: int) -> batches.Batch:
    """The rows of the step that follows so many steps."""
    rows = self.config.batch_rows
    return batches.put_batch(self.packer, done * rows, rows, self._where)

  def tokens(self, done: int) -> int:
    """Tokens that the last of so many steps trained on."""
    rows = self.config.batch_rows
    return self.packer.tokens_in(done * rows - rows, rows)

  def padding(self, done: int) -> float:
    """The share of padding since the last line of metrics.

    A function of the step alone, so that a resumed training logs the same.
    """
    every, rows = self.config.log_every, self.config.batch_rows
    before = (done - 1) // every * every
    count = (done - before) * rows
    tokens = self.packer.tokens_in(before * rows, count)
    return 1 - tokens / (count * self.packer.row_length)

  def load_base(self) -> None:
    """Loads what adapters are trained beside, once for the whole grid."""
    if self.config.lora.is_on and self.base is None:
      self.progress.phase('loading the weights')
      self.base = policies.load(
        self.init_path, self.model, self.mesh, dtype=self.model.dtype
      )

  def policy(self, trained: Any) -> Any:
    """The parameters of the policy in training: adapters are merged."""
    lora = self.config.lora
    if not lora.is_on:
      return trained
    return adapters.merge(self.base, trained, self.model, lora)

  def first_state(
    self,
    transform: optax.GradientTransformation,
    shardings: train_step.TrainState,
  ) -> train_step.TrainState:
    """The parameters, or adapters, to start from, with a fresh optimiser."""
    key = jax.random.key(self.config.seed, impl='threefry2x32')
    lora = self.config.lora
    if lora.is_on:
      params = jax.jit(
        lambda key: adapters.fresh(self.model, lora, key),
        out_shardings=shardings.params,
      )(key)
    elif self.init_path:
      self.progress.phase('loading the weights')
      params = policies.load(self.init_path, self.model, self.mesh)
    else:
      params = jax.jit(
        lambda key: policies.unboxed(self.model, key),
        out_shardings=shardings.params,
      )(key)
    opt_state = jax.jit(transform.init, out_shardings=shardings.opt_state)(
      params
    )
    zero = jax.device_put(np.int32(0), shardings.step)
    return train_step.TrainState(zero, params, opt_state)
