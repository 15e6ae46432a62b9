"""Stage: M-step. Fine-tunes the base model on the selected examples.

    examples ─▶ rows ─▶ steps ─▶ checkpoints
                          └─ every few steps: sample D_val, grade, go on?

One training per learning rate of the grid; D_val's reward chooses the policy
among all of them. Without D_val (pretraining) the last step is taken. Starts
from `init_path`, always with a fresh optimiser, or resumes exactly.
"""

import contextlib
import dataclasses
import time
from typing import Any

import jax
import numpy as np

from rest_jax import (
  configuration,
  manifests,
  partitioning,
  preemption,
  processes,
  storage,
)
from rest_jax.models import checkpoints as policies
from rest_jax.models.configurations import DecoderConfig
from rest_jax.sampling.streams import EngineConfig, Stream
from rest_jax.training import optimizer as optimizers
from rest_jax.training import step as steps
from rest_jax.training import validation as stopping
from rest_jax.training.checkpoints import OPTIMIZER, Saver
from rest_jax.training.configurations import (
  OptimizerConfig,
  TrainConfig,
  ValidationConfig,
)
from rest_jax.training.dval import Validator
from rest_jax.training.metrics import MetricsLog, StepMeter
from rest_jax.training.packing import Packer

VERSION = 1
RESULT = 'result.json'  # of a finished training of the grid


@configuration.checked
def train(
  *,
  examples_dir: str,
  checkpoints_dir: str,
  init_path: str | None,
  iteration: int,
  model: DecoderConfig,
  optimizer: OptimizerConfig,
  learning_rates: tuple[float, ...],
  config: TrainConfig,
  mesh: partitioning.MeshConfig,
  dval_dirs: tuple[str, ...],
  validation: ValidationConfig,
  dval_stream: Stream,
  engine: EngineConfig,
) -> None:
  """Trains, chooses, and writes the manifest that names the chosen step.

  Args:
    examples_dir: finished folder of Example records.
    checkpoints_dir: output.
    init_path: the base policy (models/checkpoints.py); None: fresh weights.
    iteration: of the loop; part of the D_val samples' identity.
    model: the network.
    optimizer: its learning_rate is replaced by each of learning_rates.
    learning_rates: the grid.
    config: steps, batches, loss.
    mesh: of the devices.
    dval_dirs: finished folders of D_val problems; none: no validation.
    validation: when to validate and to stop.
    dval_stream: how D_val is sampled.
    engine: the sampling engine's layout.
  """
  processes.initialize()
  preemption.watch()  # after it: jax has a handler of its own
  _check(learning_rates, dval_dirs, dval_stream)
  examples = manifests.load(examples_dir, stage=None)
  dvals = [manifests.load(folder, stage='prepare') for folder in dval_dirs]
  semantic = {
    'model': model,
    'optimizer': dataclasses.replace(optimizer, learning_rate=1.0),
    'learning_rates': learning_rates,
    'config': config,
    'iteration': iteration,
  }
  if dvals:
    semantic |= {
      'validation': validation,
      'dval_stream': dval_stream,
      'engine': engine,
    }
  inputs = {
    'examples': examples,
    'init': policies.digest(init_path) if init_path else 'scratch',
  } | {f'dval_{i}': manifest for i, manifest in enumerate(dvals)}
  with processes.work_on(
    checkpoints_dir,
    stage='train',
    kind=None,
    semantic=semantic,
    inputs=inputs,
    version=VERSION,
    on_new_inputs='set_aside',
  ) as work:
    if work.done is None:
      run = _Training(
        work.folder, examples, init_path, iteration, model, config, mesh
      )
      validator = None
      if dvals:
        validator = Validator(
          dvals, model, engine, run.mesh, dval_stream, validation, iteration
        )
      results = [
        run.train(dataclasses.replace(optimizer, learning_rate=rate), validator)
        for rate in learning_rates
      ]
      _finish(work, run, results)
    if processes.is_writer():
      for folder in work.folder.glob('lr_*/*/' + OPTIMIZER):
        folder.rmtree()  # only needed to resume
    chosen = work.done.statistics
    processes.say(
      f'train: {checkpoints_dir}: step {chosen["chosen_step"]} of learning '
      f'rate {chosen["learning_rate"]:g}'
      + (f', D_val reward {chosen["reward"]:.4f}' if dvals else '')
    )


def _check(learning_rates, dval_dirs, dval_stream) -> None:
  if not learning_rates or len(set(learning_rates)) < len(learning_rates):
    raise configuration.ConfigurationError(
      f'LEARNING_RATES: got {list(learning_rates)}; name at least one, and '
      'none twice.'
    )
  if len(learning_rates) > 1 and not dval_dirs:
    raise configuration.ConfigurationError(
      f'LEARNING_RATES: got {list(learning_rates)}, but DVAL_DIRS names no '
      'problems that could choose among them. Name one learning rate, or D_val.'
    )
  if dval_dirs and not dval_stream.num_samples:
    raise configuration.ConfigurationError(
      'DVAL_SAMPLES: got 0, which validates nothing; allowed: at least 1.'
    )


def _finish(work: manifests.Work, run: '_Training', results: list) -> None:
  best = max(
    range(len(results)), key=lambda i: (results[i]['best_reward'] or 0, -i)
  )
  chosen = results[best]
  work.finish(
    statistics={
      'chosen': f'{chosen["folder"]}/{chosen["best_step"]}',
      'chosen_step': chosen['best_step'],
      'learning_rate': chosen['learning_rate'],
      'reward': chosen['best_reward'],
      'validations': chosen['validations'],
      'trainings': results,
      'examples': run.packer.num_examples,
      'examples_too_long': run.packer.num_too_long,
      'rows_per_epoch': run.packer.rows_per_epoch,
      'fill': round(run.packer.fill, 4),
      'parameters': run.model.num_parameters,
    },
    recorded={
      'jax': jax.__version__,
      'device': str(run.mesh.devices.flat[0].device_kind),
      'mesh': {axis: int(size) for axis, size in run.mesh.shape.items()},
    },
    content=[chosen['folder'], chosen['best_step']],
  )


class _Training:
  """What the trainings of a grid share: examples, mesh, compiled step."""

  def __init__(
    self, folder, examples, init_path, iteration, model, config, mesh
  ):
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
      processes.say(
        f'train: {self.packer.num_too_long} of '
        f'{self.packer.num_too_long + self.packer.num_examples} examples are '
        f'longer than a row of {self.packer.row_length} tokens and are left '
        'out'
      )
    self.where = steps.batch_shardings(self.mesh, config.batch_rows)
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
      result = processes.from_writer(
        lambda: (
          storage.read_json(folder / RESULT)
          if (folder / RESULT).exists()
          else None
        )
      )
      if result is None:
        result = self._run(name, optimizer, saver, validator)
        processes.from_writer(
          lambda: storage.write_json(folder / RESULT, result)
        )
      saver.prune(result['best_step'])
    return result

  def _run(self, name, optimizer, saver, validator) -> dict[str, Any]:
    transform = optimizers.make(optimizer, self.total)
    abstract, shardings = steps.shardings(self.model, transform, self.mesh)
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
        steps.make_step(
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
    vote = processes.Vote()
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
        reward = validator.reward(state.params, place / f'step_{done}')
        progress['validations'].append([done, reward])
        log.write(done, {'dval_reward': reward})
        processes.say(
          f'train: {folder.name} step {done}: D_val reward {reward:.4f}'
        )
        progress['stopped'] = stopping.decide(
          validator.config, progress['validations']
        ).stop
      progress['stopped'] |= done == self.total
      stop = progress['stopped'] or vote.asked()
      if due or stop or (done and done % self.config.save_every == 0):
        meter.settle()
        log.flush()  # first: lines beyond a save are dropped, none is missed
        saver.save(state, progress, best=self._best_step(progress, validator))
      if progress['stopped']:
        return
      if stop:
        saver.wait()
        raise preemption.Preempted(
          f'train: step {done}: stopped by SIGTERM, state saved; start it again'
        )
      began = time.monotonic()
      batch = steps.put_batch(self.packer, done * rows, rows, self.where)
      state, metrics = step(state, batch)
      meter.clock(time.monotonic() - began)
      done += 1
      tokens = self.packer.tokens_in(done * rows - rows, rows)
      meter.add(done, metrics, tokens=tokens)
      if done % self.config.log_every == 0 or done == self.total:
        values = meter.report() | {'padding': self._padding(done)}
        log.write(done, values)
        processes.say(
          f'@progress {done}/{self.total} {folder.name} '
          f'loss {values["token_loss"]:.4f} '
          f'{values["tokens_per_second"]:,.0f} tokens/s'
        )

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
    return stopping.decide(validator.config, pairs).best_step

  def _first_state(self, transform, shardings) -> steps.TrainState:
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
    return steps.TrainState(zero, params, opt_state)
