"""The trainings of an M-step's grid: validate, save, step; resumed exactly."""

import contextlib
import time
from typing import Any

import jax
import numpy as np

from rest_jax.artifacts import storage
from rest_jax.distributed import multihost, partitioning, preemption
from rest_jax.models.checkpoints import policies
from rest_jax.training import early_stopping, optimizers, train_step
from rest_jax.training.checkpointing import Saver
from rest_jax.training.hyperparameters import OptimizerConfig
from rest_jax.training.metric_writer import MetricsLog, StepMeter
from rest_jax.training.packing import Packer

RESULT = 'result.json'  # of a finished training of the grid


class Grid:
  """What the trainings of a grid share: examples, mesh, compiled step."""

  def __init__(self, folder, examples, init_path, model, config, mesh):
    self.started = time.monotonic()
    self.folder, self.init_path = folder, init_path
    self.model, self.config = model, config
    self.mesh = partitioning.make_mesh(mesh)
    self.packer = Packer(
      examples.table(columns=['token_ids', 'weight', 'segment_types']),
      row_length=config.row_length or model.max_length,
      seed=config.seed,
      loss_normalizer=config.loss_normalizer,
    )
    if self.packer.num_too_long:
      multihost.say(
        f'train: {self.packer.num_too_long} of '
        f'{self.packer.num_too_long + self.packer.num_examples} examples are '
        f'longer than a row of {self.packer.row_length} tokens and are left '
        'out'
      )
    self.where = train_step.batch_shardings(self.mesh, config.batch_rows)
    self.total = config.max_steps
    if config.max_epochs:
      rows = config.max_epochs * self.packer.rows_per_epoch
      self.total = min(self.total, int(np.ceil(rows / config.batch_rows)))

  def train(self, optimizer: OptimizerConfig, validator) -> dict[str, Any]:
    """One training of the grid, from its start or from where it was."""
    name = f'lr_{optimizer.learning_rate!r}'
    folder = self.folder / name
    with contextlib.closing(Saver(folder)) as saver:
      # There already where the grid was stopped in a later training.
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
    return result

  def _run(self, name, optimizer, saver, validator) -> dict[str, Any]:
    transform = optimizers.make(optimizer, self.total)
    abstract, shardings = train_step.shardings(self.model, transform, self.mesh)
    restored = saver.restore(abstract, shardings)
    if restored is None:
      state = self._first_state(transform, shardings)
      progress = {'validations': [], 'stopped': False}
      log = MetricsLog(self.folder / name, first_step=0)
    else:
      state, progress = restored
      log = MetricsLog(self.folder / name, first_step=int(state.step) + 1)
    if not progress['stopped']:
      step = jax.jit(
        train_step.make_step(
          self.model,
          transform,
          self.mesh,
          microbatches=self.config.microbatches,
        ),
        donate_argnums=(0,),
        out_shardings=(shardings, None),
      )
      self._loop(state, progress, step, saver, log, validator)
    saver.wait()
    best = self._best_step(progress, validator)
    validations = progress['validations']
    return {
      'folder': name,
      'learning_rate': optimizer.learning_rate,
      'best_step': best,
      'best_reward': dict(map(tuple, validations)).get(best),
      'validations': validations,
    }

  def _loop(self, state, progress, step, saver, log, validator) -> None:
    """Validate, save, step; every line of it safe to be killed in."""
    done, folder = int(state.step), log.folder
    meter = StepMeter(self.started)
    rows = self.config.batch_rows
    vote = multihost.Vote()
    while True:
      seen = [at for at, _ in progress['validations']]
      due = (
        validator is not None
        and done not in seen
        and (done % validator.config.every == 0 or done == self.total)
      )
      if due:
        meter.settle()
        place = self.folder.parent / 'validation' / folder.name
        try:
          reward = validator.reward(state.params, place / f'step_{done}')
        except preemption.Preempted:
          if done:  # this step is validated again then
            self._save(state, progress, saver, log, validator)
            saver.wait()
          raise
        progress['validations'].append([done, reward])
        log.write(done, {'dval_reward': reward})
        multihost.say(
          f'train: {folder.name} step {done}: D_val reward {reward:.4f}'
        )
        progress['stopped'] = early_stopping.decide(
          validator.config, progress['validations']
        ).stop
      progress['stopped'] |= done == self.total
      stop = progress['stopped'] or vote.asked()
      if due or stop or (done and done % self.config.save_every == 0):
        meter.settle()
        self._save(state, progress, saver, log, validator)
      if progress['stopped']:
        return
      if stop:
        saver.wait()
        raise preemption.Preempted(
          f'train: step {done}: stopped by SIGTERM, state saved; start it again'
        )
      began = time.monotonic()
      batch = train_step.put_batch(self.packer, done * rows, rows, self.where)
      state, metrics = step(state, batch)
      meter.clock(time.monotonic() - began)
      done += 1
      tokens = self.packer.tokens_in(done * rows - rows, rows)
      meter.add(done, metrics, tokens=tokens)
      if done % self.config.log_every == 0 or done == self.total:
        values = meter.report() | {'padding': self._padding(done)}
        log.write(done, values)
        multihost.say(
          f'@progress {done}/{self.total} {folder.name} '
          f'loss {values["token_loss"]:.4f} '
          f'{values["tokens_per_second"]:,.0f} tokens/s'
        )

  def _save(self, state, progress, saver, log, validator) -> None:
    log.flush()  # first: lines beyond a save are dropped, none is missed
    saver.save(state, progress, best=self._best_step(progress, validator))

  def _padding(self, done: int) -> float:
    """The share of padding since the line before, whatever was resumed."""
    every, rows = self.config.log_every, self.config.batch_rows
    before = (done - 1) // every * every
    count = (done - before) * rows
    tokens = self.packer.tokens_in(before * rows, count)
    return 1 - tokens / (count * self.packer.row_length)

  def _best_step(self, progress: dict, validator) -> int:
    if validator is None:
      return self.total
    pairs = [tuple(pair) for pair in progress['validations']]
    return early_stopping.decide(validator.config, pairs).best_step

  def _first_state(self, transform, shardings) -> train_step.TrainState:
    if self.init_path:
      params = policies.load(self.init_path, self.model, self.mesh)
    else:
      key = jax.random.key(self.config.seed, impl='threefry2x32')
      params = jax.jit(
        lambda key: policies.unboxed(self.model, key),
        out_shardings=shardings.params,
      )(key)
    opt_state = jax.jit(transform.init, out_shardings=shardings.opt_state)(
      params
    )
    zero = jax.device_put(np.int32(0), shardings.step)
    return train_step.TrainState(zero, params, opt_state)
