"""One training of an M-step: it validates, saves and steps in a loop.

It is resumed exactly where it was: batches are a function of the step, and the
state of early stopping is saved with the parameters.
"""

import contextlib
import dataclasses
import time
from collections.abc import Callable
from typing import Any

import jax

from rest_jax.artifacts import storage
from rest_jax.config import configuration
from rest_jax.distributed import multihost, preemption
from rest_jax.rewards import dval_requests
from rest_jax.training import (
  compiler_options,
  early_stopping,
  optimizers,
  train_step,
)
from rest_jax.training.checkpointing import Saver
from rest_jax.training.dval import Validator
from rest_jax.training.early_stopping import Progress
from rest_jax.training.grid import Grid
from rest_jax.training.hyperparameters import OptimizerConfig
from rest_jax.training.metric_writer import MetricsLog, StepMeter

RESULT = 'result.json'  # of a finished training of the grid


def train(
  grid: Grid, optimizer: OptimizerConfig, validator: Validator | None
) -> dict[str, Any]:
  """One training of the grid, from its start or from where it was.

  Args:
    grid: what its trainings share.
    optimizer: with this training's learning rate.
    validator: samples D_val; None: all steps are done, the last one counts.

  Returns:
    JSON-ready: folder, learning_rate, best_step, best_reward, validations.
  """
  folder = grid.folder / f'lr_{optimizer.learning_rate!r}'
  saved = train_step.trained(grid.model, grid.mesh, grid.config.lora)
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
      grid.progress.begin_training(optimizer.learning_rate)
      result = _Training(grid, folder, optimizer, saver, validator).run()
      multihost.from_writer(lambda: storage.write_json(folder / RESULT, result))
    saver.prune(result['best_step'])
  grid.progress.end_training()
  return result


class _Training:
  """One learning rate: its state on disk, its log, and its validations."""

  def __init__(
    self,
    grid: Grid,
    folder: storage.Path,
    optimizer: OptimizerConfig,
    saver: Saver,
    validator: Validator | None,
  ):
    """Reads where the training was.

    Args:
      grid: what its trainings share.
      folder: of this training.
      optimizer: with its learning rate.
      saver: of its checkpoints.
      validator: of D_val.
    """
    self._grid, self._folder = grid, folder
    self._saver, self._validator = saver, validator
    self._learning_rate = optimizer.learning_rate
    self._transform = optimizers.make(optimizer, grid.total)
    self._abstract, self._shardings = train_step.shardings(
      grid.model, self._transform, grid.mesh, grid.config.lora
    )
    self._saved_step: int | None = None
    self._progress, first_step = Progress(), 0
    standing = saver.progress()
    if standing is not None:
      self._saved_step, progress = standing
      self._progress = Progress.from_json(progress)
      first_step = self._saved_step + 1
    self._log = MetricsLog(
      folder, first_step=first_step, tracker_names=grid.config.trackers
    )

  def run(self) -> dict[str, Any]:
    """Trains to the end; returns what `train` returns."""
    grid = self._grid
    if not self._progress.stopped:
      with grid.clock.within('restore'):
        if self._saved_step is None:
          state = grid.first_state(self._transform, self._shardings)
        else:
          state = self._saver.restore(
            self._saved_step, self._abstract, self._shardings
          )
        grid.load_base()
        jax.block_until_ready(state)
      grid.clock.restored(self._folder.name, int(state.step))
      with grid.clock.within('steps'):
        self._loop(state, self._step())
    self._log.close()
    best = self._best_step()
    if not best and not self._saver.holds(0):
      # A training need not save its start.
      state = grid.first_state(self._transform, self._shardings)
      self._saver.save(
        state, dataclasses.asdict(self._progress), best=0, is_last=True
      )
    self._saver.wait()
    validations = self._progress.validations
    return {
      'folder': self._folder.name,
      'learning_rate': self._learning_rate,
      'best_step': best,
      'best_reward': dict(validations).get(best),
      'validations': [list(pair) for pair in validations],
    }

  def _step(self) -> Callable[..., Any]:
    """The training step; it is compiled when it is called first."""
    grid = self._grid
    return jax.jit(
      train_step.make_step(
        grid.model,
        self._transform,
        grid.mesh,
        grid.plan,
        microbatches=grid.config.microbatches,
        lora=grid.config.lora,
        seed=grid.config.seed,
      ),
      donate_argnums=(0,),
      out_shardings=(self._shardings, None),
      compiler_options=compiler_options.of(grid.mesh, grid.config),
    )

  def _loop(
    self, state: train_step.TrainState, step: Callable[..., Any]
  ) -> None:
    """Validates, saves and steps; the process may be killed at any line."""
    grid, progress = self._grid, self._progress
    done = int(state.step)
    meter = StepMeter()
    vote = multihost.Vote()
    grid.progress.begin_steps(done)
    if self._validator is not None:
      self._validator.tell = grid.progress.tell
    while True:
      due = self._validation_is_due(done)
      if due:
        meter.settle()
        self._validate(state, done)
      progress.stopped |= done == grid.total
      # Asked at every step by every process, in the same order: a vote that
      # some hosts skip would leave the others waiting.
      stop = progress.stopped or vote.asked()
      if done and (due or stop or done % grid.config.save_every == 0):
        meter.settle()
        self._save(state)
      if progress.stopped:
        return
      if stop:
        with grid.clock.within('saves'):
          self._saver.wait()
        saved = ', state saved' if done else ''
        raise preemption.Preempted(
          f'train: step {done}: stopped by SIGTERM{saved}; start it again'
        )
      # jax dispatches the step and returns: the host builds the next batch
      # while the device works. Metrics are read later, by the meter's report.
      began = time.monotonic()
      if not grid.progress.compiled:
        grid.progress.phase('compiling the training step')
      batch = grid.batch(done)
      if meter.is_idle():
        grid.clock.move(time.monotonic() - began, 'data')
      state, metrics = step(state, batch, grid.base)
      meter.clock(time.monotonic() - began)
      done += 1
      meter.add(done, metrics, tokens=grid.tokens(done))
      if done % grid.config.log_every == 0 or done == grid.total:
        values = meter.report() | {'padding': grid.padding(done)}
        values |= grid.clock.metrics()
        grid.clock.note()
        self._log.write(done, values)
        grid.progress.measured(values)
      grid.progress.stepped(done)

  def _validation_is_due(self, done: int) -> bool:
    if self._validator is None or self._progress.validated(done):
      return False
    every = self._validator.config.every
    return done % every == 0 or done == self._grid.total

  def _validate(self, state: train_step.TrainState, done: int) -> None:
    """Samples D_val, and decides whether the training goes on."""
    grid, progress = self._grid, self._progress
    place = dval_requests.Place(grid.folder).folder / self._folder.name
    try:
      with grid.clock.within('validation'):
        reward = self._validator.reward(
          grid.policy(state.params), place / f'step_{done}'
        )
    except (preemption.Preempted, configuration.ConfigurationError):
      # Saved without this validation: the restart does it again, and samples
      # the same completions. Step 0 is the base, which is at hand.
      if done:
        self._save(state)
        self._saver.wait()
      raise
    progress.validations.append((done, reward))
    self._log.write(done, {'dval_reward': reward})
    multihost.say(
      f'train: {self._folder.name} step {done}: D_val reward {reward:.4f}'
    )
    progress.stopped = early_stopping.decide(
      self._validator.config, progress.validations
    ).stop
    grid.progress.begin_steps(done)

  def _save(self, state: train_step.TrainState) -> None:
    # The log first: a restart drops lines beyond the saved step, and so no line
    # up to it may be missing.
    self._log.flush()
    best, step = self._best_step(), int(state.step)
    if self._progress.stopped and best != step:
      return  # not wanted: killed now, the training repeats its last steps
    with self._grid.clock.within('saves'):
      self._saver.save(
        state,
        dataclasses.asdict(self._progress),
        best=best,
        is_last=self._progress.stopped,
      )
    self._grid.clock.saved(self._folder.name, step)

  def _best_step(self) -> int:
    if self._validator is None:
      return self._grid.total
    decision = early_stopping.decide(
      self._validator.config, self._progress.validations
    )
    return decision.best_step
