"""The trainings of an M-step, one per learning rate of its grid.

A training validates, saves and steps in a loop, and is resumed exactly where it
was: batches are a function of the step, and the state of early stopping is
saved with the parameters.
"""

import contextlib
import dataclasses
import time
from collections.abc import Callable
from typing import Any

import jax
import numpy as np
import optax
import pyarrow as pa
import pyarrow.compute as pc

from rest_jax.artifacts import manifests, storage
from rest_jax.config import configuration
from rest_jax.distributed import multihost, partitioning, preemption
from rest_jax.models import adapters, architecture
from rest_jax.models.architecture import DecoderConfig
from rest_jax.models.checkpoints import policies
from rest_jax.rewards import dval_requests
from rest_jax.training import (
  batches,
  compiler_options,
  early_stopping,
  optimizers,
  train_step,
  wall_clock,
)
from rest_jax.training.checkpointing import Saver
from rest_jax.training.dval import Validator
from rest_jax.training.early_stopping import Progress
from rest_jax.training.grid_progress import GridProgress
from rest_jax.training.hyperparameters import OptimizerConfig, TrainConfig
from rest_jax.training.metric_writer import MetricsLog, StepMeter
from rest_jax.training.packing import Packer
from rest_jax.training.shared_rows import SharedPacker

RESULT = 'result.json'  # of a finished training of the grid


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
    total: optimiser steps of each training, at most.
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
    self._base: Any = None  # what adapters are trained beside, once loaded
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
    self.where = batches.batch_shardings(
      self.mesh, config.batch_rows, self.plan
    )
    self.total = config.max_steps
    if config.max_epochs:
      rows = config.max_epochs * self.packer.rows_per_epoch
      self.total = min(self.total, int(np.ceil(rows / config.batch_rows)))
    self.progress = GridProgress(self.total, trainings)

  def train(
    self, optimizer: OptimizerConfig, validator: Validator | None
  ) -> dict[str, Any]:
    """One training of the grid, from its start or from where it was.

    Args:
      optimizer: with this training's learning rate.
      validator: samples D_val; None: all steps are done, the last one counts.

    Returns:
      JSON-ready: folder, learning_rate, best_step, best_reward, validations.
    """
    name = f'lr_{optimizer.learning_rate!r}'
    folder = self.folder / name
    saved = train_step.trained(self.model, self.mesh, self.config.lora)
    largest = max(
      leaf.size * leaf.dtype.itemsize for leaf in jax.tree.leaves(saved)
    )
    with contextlib.closing(Saver(folder, largest)) as saver:
      # This training had already finished, where the stage was stopped in a
      # later one of the grid.
      result = multihost.from_writer(
        lambda: (
          storage.read_json(folder / RESULT)
          if (folder / RESULT).exists()
          else None
        )
      )
      if result is None:
        result = self._run(name, optimizer, saver, validator)
        multihost.from_writer(
          lambda: storage.write_json(folder / RESULT, result)
        )
      saver.prune(result['best_step'])
    self.progress.end_training()
    return result

  def _run(
    self,
    name: str,
    optimizer: OptimizerConfig,
    saver: Saver,
    validator: Validator | None,
  ) -> dict[str, Any]:
    self.progress.begin_training(optimizer.learning_rate)
    transform = optimizers.make(optimizer, self.total)
    abstract, shardings = train_step.shardings(
      self.model, transform, self.mesh, self.config.lora
    )
    standing = saver.progress()
    if standing is None:
      progress, first_step = Progress(), 0
    else:
      progress, first_step = Progress.from_json(standing[1]), standing[0] + 1
    log = MetricsLog(
      self.folder / name,
      first_step=first_step,
      tracker_names=self.config.trackers,
    )
    if not progress.stopped:
      with self.clock.within('restore'):
        if standing is None:
          state = self._first_state(transform, shardings)
        else:
          state = saver.restore(standing[0], abstract, shardings)
        self._load_base()
        jax.block_until_ready(state)
      self.clock.restored(name, int(state.step))
      step = jax.jit(
        train_step.make_step(
          self.model,
          transform,
          self.mesh,
          self.plan,
          microbatches=self.config.microbatches,
          lora=self.config.lora,
          seed=self.config.seed,
        ),
        donate_argnums=(0,),
        out_shardings=(shardings, None),
        compiler_options=compiler_options.of(self.mesh, self.config),
      )
      with self.clock.within('steps'):
        self._loop(state, progress, step, saver, log, validator)
    log.close()
    best = self._best_step(progress, validator)
    if not best and not saver.holds(0):  # a training need not save its start
      state = self._first_state(transform, shardings)
      saver.save(state, dataclasses.asdict(progress), best=0, is_last=True)
    saver.wait()
    return {
      'folder': name,
      'learning_rate': optimizer.learning_rate,
      'best_step': best,
      'best_reward': dict(progress.validations).get(best),
      'validations': [list(pair) for pair in progress.validations],
    }

  def _loop(
    self,
    state: train_step.TrainState,
    progress: Progress,
    step: Callable[..., Any],
    saver: Saver,
    log: MetricsLog,
    validator: Validator | None,
  ) -> None:
    """Validates, saves and steps; the process may be killed at any line."""
    done, folder = int(state.step), log.folder
    meter = StepMeter()
    rows = self.config.batch_rows
    vote = multihost.Vote()
    self.progress.begin_steps(done)
    if validator is not None:
      validator.tell = self.progress.tell
    while True:
      due = (
        validator is not None
        and not progress.validated(done)
        and (done % validator.config.every == 0 or done == self.total)
      )
      if due:
        meter.settle()
        place = dval_requests.Place(self.folder).folder / folder.name
        try:
          with self.clock.within('validation'):
            reward = validator.reward(
              self._policy(state.params), place / f'step_{done}'
            )
        except (preemption.Preempted, configuration.ConfigurationError):
          # Saved without this validation: the restart does it again, and
          # samples the same completions. Step 0 is the base, which is at hand.
          if done:
            self._save(state, progress, saver, log, validator)
            saver.wait()
          raise
        progress.validations.append((done, reward))
        log.write(done, {'dval_reward': reward})
        multihost.say(
          f'train: {folder.name} step {done}: D_val reward {reward:.4f}'
        )
        progress.stopped = early_stopping.decide(
          validator.config, progress.validations
        ).stop
        self.progress.begin_steps(done)
      progress.stopped |= done == self.total
      # Asked at every step by every process, in the same order: a vote that
      # some hosts skip would leave the others waiting.
      stop = progress.stopped or vote.asked()
      if done and (due or stop or done % self.config.save_every == 0):
        meter.settle()
        self._save(state, progress, saver, log, validator)
      if progress.stopped:
        return
      if stop:
        with self.clock.within('saves'):
          saver.wait()
        saved = ', state saved' if done else ''
        raise preemption.Preempted(
          f'train: step {done}: stopped by SIGTERM{saved}; start it again'
        )
      # jax dispatches the step and returns: the host builds the next batch
      # while the device works. Metrics are read later, by the meter's report.
      began = time.monotonic()
      if not self.progress.compiled:
        self.progress.phase('compiling the training step')
      batch = batches.put_batch(self.packer, done * rows, rows, self.where)
      if meter.is_idle():
        self.clock.move(time.monotonic() - began, 'data')
      state, metrics = step(state, batch, self._base)
      meter.clock(time.monotonic() - began)
      done += 1
      tokens = self.packer.tokens_in(done * rows - rows, rows)
      meter.add(done, metrics, tokens=tokens)
      if done % self.config.log_every == 0 or done == self.total:
        values = meter.report() | {'padding': self._padding(done)}
        values |= self.clock.metrics()
        self.clock.note()
        log.write(done, values)
        self.progress.measured(values)
      self.progress.stepped(done)

  def _save(
    self,
    state: train_step.TrainState,
    progress: Progress,
    saver: Saver,
    log: MetricsLog,
    validator: Validator | None,
  ) -> None:
    # The log first: a restart drops lines beyond the saved step, and so no line
    # up to it may be missing.
    log.flush()
    best = self._best_step(progress, validator)
    if progress.stopped and best != int(state.step):
      return  # not wanted: killed now, the training repeats its last steps
    with self.clock.within('saves'):
      saver.save(
        state,
        dataclasses.asdict(progress),
        best=best,
        is_last=progress.stopped,
      )
    self.clock.saved(log.folder.name, int(state.step))

  def _padding(self, done: int) -> float:
    """The share of padding since the last line of metrics.

    A function of the step alone, so that a resumed training logs the same.
    """
    every, rows = self.config.log_every, self.config.batch_rows
    before = (done - 1) // every * every
    count = (done - before) * rows
    tokens = self.packer.tokens_in(before * rows, count)
    return 1 - tokens / (count * self.packer.row_length)

  def _best_step(self, progress: Progress, validator: Validator | None) -> int:
    if validator is None:
      return self.total
    decision = early_stopping.decide(validator.config, progress.validations)
    return decision.best_step

  def _load_base(self) -> None:
    """Loads what adapters are trained beside, once for the whole grid."""
    if self.config.lora.is_on and self._base is None:
      self.progress.phase('loading the weights')
      self._base = policies.load(
        self.init_path, self.model, self.mesh, dtype=self.model.dtype
      )

  def _policy(self, trained: Any) -> Any:
    """The parameters of the policy in training: adapters are merged."""
    lora = self.config.lora
    if not lora.is_on:
      return trained
    return adapters.merge(self._base, trained, self.model, lora)

  def _first_state(
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
