"""Stage: M-step. Fine-tunes the base model on the selected examples.

    examples ─▶ rows ─▶ steps ─▶ checkpoints
                          └─ every few steps: sample D_val, grade, go on?

One training per learning rate of the grid; D_val's reward chooses the policy
among all of them. Without D_val (pretraining) the last step is taken. Starts
from `init_path`, always with a fresh optimiser, or resumes exactly. With LoRA
the weights of `init_path` stay as they are, and adapters beside them are
trained and saved.
"""

import contextlib
import dataclasses
from collections.abc import Mapping, Sequence
from typing import Any

import jax

from rest_jax.artifacts import (
  goodput,
  manifests,
  run_paths,
  stage_work,
  storage,
  weight_digests,
)
from rest_jax.config import configuration
from rest_jax.distributed import multihost, partitioning, preemption
from rest_jax.models import architecture, lora
from rest_jax.models.architecture import DecoderConfig
from rest_jax.models.checkpoints import policies, trained
from rest_jax.sampling import requests
from rest_jax.sampling.streams import EngineConfig, Stream
from rest_jax.tokenizers import vocabulary_checks
from rest_jax.training import loop, wall_clock
from rest_jax.training.checkpointing import OPTIMIZER
from rest_jax.training.dval import Validator
from rest_jax.training.grid import Grid
from rest_jax.training.hyperparameters import (
  OptimizerConfig,
  TrainConfig,
  ValidationConfig,
)

VERSION = 5  # 5: problems are split in halves where that takes fewer rows


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
  dval_mesh: partitioning.MeshConfig | None = None,
) -> None:
  """Trains, chooses, and writes the manifest that names the chosen step.

  Args:
    examples_dir: finished folder of Example records.
    checkpoints_dir: output.
    init_path: the base policy (models/checkpoints/policies.py); None: fresh
      weights.
    iteration: of the loop; part of the D_val samples' identity.
    model: the network.
    optimizer: its learning_rate is replaced by each of learning_rates.
    learning_rates: the grid.
    config: steps, batches, loss, LoRA.
    mesh: of the devices.
    dval_dirs: finished folders of D_val problems; none: no validation.
    validation: when to validate and to stop.
    dval_stream: how D_val is sampled.
    engine: the sampling engine's layout.
    dval_mesh: of the same devices, while D_val is sampled; None: `mesh`.
  """
  clock = wall_clock.Clock()
  multihost.initialize()
  preemption.watch()  # after it: jax has a handler of its own
  _check(learning_rates, dval_dirs, dval_stream)
  _check_lora(model, config.lora, init_path)
  examples = manifests.load(examples_dir, stage=None)
  dvals = [manifests.load(folder, stage='prepare') for folder in dval_dirs]
  if dvals:  # of one run, and so of one vocabulary
    vocabulary = requests.vocabulary_of(dvals[0])
    vocabulary_checks.require_fits(vocabulary, model.vocab_size)
    if init_path:
      vocabulary_checks.require_of_checkpoint(
        vocabulary, init_path, model.vocab_size
      )
  semantic = {
    'model': model,
    'optimizer': dataclasses.replace(optimizer, learning_rate=1.0),
    'learning_rates': learning_rates,
    'config': config,
    'iteration': iteration,
  }
  if dvals:
    semantic |= dict(
      validation=validation, dval_stream=dval_stream, engine=engine
    )
  inputs = {
    'examples': examples,
    'init': policies.digest(init_path) if init_path else 'scratch',
  } | {f'dval_{i}': manifest for i, manifest in enumerate(dvals)}
  with multihost.work_on(
    checkpoints_dir,
    stage='train',
    kind=None,
    semantic=semantic,
    inputs=inputs,
    version=VERSION,
    on_new_inputs='set_aside',
    holds_work=has_trained,
  ) as work:
    if work.done is None:
      clock.resume(work.folder)
      grid = Grid(
        *(work.folder, examples, init_path, model, config, mesh),
        trainings=len(learning_rates),
        clock=clock,
      )
      with contextlib.ExitStack() as stack:
        stack.callback(clock.note, now=True)
        validator = None
        if dvals:
          validator = Validator(
            *(dvals, model, engine, grid.mesh),
            *(partitioning.make_mesh(dval_mesh or mesh), dval_stream),
            *(validation, iteration, work.folder),
          )
          stack.enter_context(validator)
        rates = [
          dataclasses.replace(optimizer, learning_rate=rate)
          for rate in learning_rates
        ]
        with clock.within('other'):
          results = [loop.train(grid, one, validator) for one in rates]
          _finish(work, grid, results, init_path if dvals else None)
      multihost.say(f'train: {goodput.words(clock.seconds())}')
    _remove_optimizers(work.folder)
    _say_what_was_chosen(checkpoints_dir, work.done, validated=bool(dvals))
    _say_where_untrained(checkpoints_dir, work.done)


def has_trained(folder: storage.Path) -> bool:
  """Whether an unfinished folder holds a step that was trained and saved."""
  for training in folder.glob('lr_*'):
    if (training / loop.RESULT).exists():
      return True
    steps = (p.name for p in training.iterdir() if p.name.isdigit())
    if any(int(step) > 0 for step in steps):
      return True
  return False


def _remove_optimizers(folder: storage.Path) -> None:
  """Deletes the optimisers' states: they are needed only to resume."""
  if multihost.is_writer():
    for state in folder.glob('lr_*/*/' + OPTIMIZER):
      state.rmtree()


def _say_what_was_chosen(
  checkpoints_dir: str, done: manifests.Manifest, *, validated: bool
) -> None:
  chosen = done.statistics
  multihost.say(
    f'train: {checkpoints_dir}: step {chosen["chosen_step"]} of learning '
    f'rate {chosen["learning_rate"]:g}'
    + (f', D_val reward {chosen["reward"]:.4f}' if validated else '')
  )


def _say_where_untrained(
  checkpoints_dir: str, done: manifests.Manifest
) -> None:
  """Warns where the M-step gave back the policy that it had started from."""
  statistics = done.statistics
  if weight_digests.SAME_AS not in statistics:
    return
  name = storage.path(checkpoints_dir).parent.name
  number = run_paths.iteration_number(name)
  name = name if number is None else f'iteration {number}'
  start = statistics[weight_digests.SAME_AS]['iteration']
  start = f'iteration {start}' if start else 'the base'
  steps = sum(one['validations'][-1][0] for one in statistics['trainings'])
  multihost.say(
    f'warning: {name} is {start}: no step of {steps} raised the reward on '
    f'D_val, {statistics["reward"]:.2f}. Lower LEARNING_RATES, raise '
    'MAX_STEPS, or sample more.'
  )


def _check(
  learning_rates: Sequence[float],
  dval_dirs: Sequence[str],
  dval_stream: Stream,
) -> None:
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


def _check_lora(
  model: DecoderConfig, config: lora.LoraConfig, init_path: str | None
) -> None:
  if not config.is_on:
    return
  lora.adapted(model, config)  # raises where it is nothing
  if init_path is None:
    raise configuration.ConfigurationError(
      f'LORA_RANK: got {config.rank}, but INIT_PATH names no model that '
      'adapters could be added to. Name one, or set LORA_RANK=0.'
    )


def _finish(
  work: stage_work.Work,
  grid: Grid,
  results: Sequence[Mapping[str, Any]],
  start: str | None,
) -> None:
  """Writes the manifest, which names the step that D_val chose.

  Args:
    work: the stage's folder.
    grid: what was trained.
    results: of each learning rate.
    start: the policy that step 0 is; None where there is none to name.
  """
  best = max(
    range(len(results)), key=lambda i: (results[i]['best_reward'] or 0, -i)
  )
  chosen = results[best]
  same_as = {}
  if start and chosen['best_step'] == 0:
    same_as[weight_digests.SAME_AS] = {
      'digest': policies.digest(start),
      'iteration': policies.iteration(start),
    }
  adapted, belongs_to = {}, {}
  if grid.config.lora.is_on:
    adapted['trained_parameters'] = lora.num_parameters(
      grid.model, grid.config.lora
    )
    # A path is recorded and not compared: a run gives the same elsewhere.
    belongs_to[trained.BASE] = trained.base_to_record(
      work.folder, grid.init_path
    )
  work.finish(
    statistics={
      'chosen': f'{chosen["folder"]}/{chosen["best_step"]}',
      'chosen_step': chosen['best_step'],
      'learning_rate': chosen['learning_rate'],
      'reward': chosen['best_reward'],
      'validations': chosen['validations'],
      'trainings': results,
      'examples': grid.packer.num_examples,
      'examples_too_long': grid.packer.num_too_long,
      'rows_per_epoch': grid.packer.rows_per_epoch,
      'fill': round(grid.packer.fill, 4),
      'parameters': grid.model.num_parameters,
    }
    | adapted
    | same_as,
    recorded={
      'jax': jax.__version__,
      'device': str(grid.mesh.devices.flat[0].device_kind),
      'attention': architecture.attention_on(
        partitioning.platform(grid.mesh), grid.model
      ),
      'mesh': {axis: int(size) for axis, size in grid.mesh.shape.items()},
      'seconds': {k: round(v, 3) for k, v in grid.clock.seconds().items()},
    }
    | belongs_to,
    content=[chosen['folder'], chosen['best_step']],
  )
