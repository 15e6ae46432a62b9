"""What an M-step is told: optimiser, loss, batches, when to stop."""

import dataclasses
import importlib.util
from collections.abc import Mapping
from typing import Any, Literal

from rest_jax.config import configuration
from rest_jax.config.configuration import operational
from rest_jax.models.lora import LoraConfig


@dataclasses.dataclass(frozen=True, kw_only=True)
class OptimizerConfig(configuration.Configuration):
  """An optax optimiser and its learning-rate schedule.

  Attributes:
    name: of an optax optimiser with a learning rate, such as 'adamw',
      'adafactor' or 'lion'.
    options: further arguments of that optimiser, such as {'b1': 0.9}. What is
      not named has optax's default, but for adamw's b2 (0.95) and adafactor's
      multiply_by_parameter_scale (False).
    learning_rate: at the top of the schedule.
    schedule: what follows the warm-up: 'constant', or 'cosine' or 'linear'
      down to final_fraction at the last step.
    warmup_steps: steps until learning_rate, linearly; the first is 1/nth.
    final_fraction: of learning_rate, where the schedule ends.
    weight_decay: decoupled; matrices only, never norms.
    clip_norm: global gradient norm; 0 for none.
  """

  name: str = 'adamw'
  options: Mapping[str, Any] = dataclasses.field(default_factory=dict)
  learning_rate: float
  schedule: Literal['constant', 'cosine', 'linear'] = 'cosine'
  warmup_steps: int = 0
  final_fraction: float = 0.1
  weight_decay: float = 0.0
  clip_norm: float = 1.0

  def check(self):
    self.require(self.learning_rate > 0, 'learning_rate', '> 0')
    self.require(self.warmup_steps >= 0, 'warmup_steps', '>= 0')
    self.require(0 <= self.final_fraction <= 1, 'final_fraction', '0 to 1')
    self.require(self.weight_decay >= 0, 'weight_decay', '>= 0')
    self.require(self.clip_norm >= 0, 'clip_norm', '>= 0 (0: none)')


@dataclasses.dataclass(frozen=True, kw_only=True)
class TrainConfig(configuration.Configuration):
  """Steps, batches and the loss.

  Attributes:
    max_steps: optimiser steps at most.
    max_epochs: passes over the examples at most; 0 for no limit.
    batch_rows: packed rows per step, over all devices.
    row_length: tokens in a row; None packs to the model's max_length.
    microbatches: a step's rows are split into this many; the gradient is the
      same.
    loss_normalizer: what a step's weighted loss is divided by: 'token', the
      weight of all target tokens; 'sequence_sum', the weight of all sequences
      (the paper's Eq. 1); 'sequence_mean', the same after each sequence's
      loss was divided by its length.
    share_prompt: whether the examples of a problem lie in one row behind one
      copy of their question, and what many prompts begin with is read once a
      step (shared_rows.py); else each example has its whole prompt. Loss and
      gradient of the same examples are the same; which of them make a row, and
      so a step, is not.
    lora: whether adapters are trained beside frozen weights, and which.
    seed: of the order of the examples, and of new weights or adapters.
    log_every: steps between two lines of metrics.
    save_every: steps between two resumable checkpoints.
    tune_compiler: whether the compiler of TPUs is told what
      compiler_options.py lists; False where another libtpu refuses it.
    trackers: where the metrics are shown beside metrics.jsonl: 'tensorboard',
      'wandb' (Weights & Biases, an extra), both or none.
  """

  max_steps: int
  max_epochs: float = 0.0
  batch_rows: int
  row_length: int | None = None
  microbatches: int = operational(1)
  loss_normalizer: Literal['token', 'sequence_sum', 'sequence_mean'] = 'token'
  share_prompt: bool = True
  lora: LoraConfig = LoraConfig()
  seed: int = 0
  log_every: int = operational(10)
  save_every: int = operational(100)
  tune_compiler: bool = operational(True)
  trackers: tuple[Literal['tensorboard', 'wandb'], ...] = operational(
    ('tensorboard',)
  )

  def check(self):
    if 'wandb' in self.trackers and importlib.util.find_spec('wandb') is None:
      raise configuration.ConfigurationError(
        "TRACKERS: got 'wandb', which is not installed. Run pip install "
        "'rest_jax[wandb]', or set TRACKERS=['tensorboard']."
      )
    for name in ('max_steps', 'batch_rows', 'microbatches', 'log_every'):
      self.require(getattr(self, name) > 0, name, 'at least 1')
    self.require(self.save_every > 0, 'save_every', 'at least 1')
    self.require(self.max_epochs >= 0, 'max_epochs', '>= 0 (0: no limit)')
    self.require(
      self.batch_rows % self.microbatches == 0,
      'microbatches',
      f'a divisor of batch_rows = {self.batch_rows}',
    )


@dataclasses.dataclass(frozen=True, kw_only=True)
class ValidationConfig(configuration.Configuration):
  """When the M-step stops: the reward on D_val.

  Attributes:
    every: steps between two validations; step 0 is always one.
    rule: 'first_non_increase' stops at the first validation whose reward is
      not above the one before and takes that one; 'best' stops after
      `patience` validations without a new best, and takes the best.
    patience: for 'best'.
    num_problems: of D_val that are used; 0 for all.
    grading: 'here', in processes of the training's own host; or 'beside', by
      the stage grade_dval. 'auto' is 'here' where no launcher has resolved it.
  """

  every: int
  rule: Literal['first_non_increase', 'best'] = 'best'
  patience: int = 2
  num_problems: int = 0
  grading: Literal['auto', 'here', 'beside'] = operational('auto')

  def check(self):
    self.require(self.every > 0, 'every', 'at least 1')
    self.require(self.patience > 0, 'patience', 'at least 1')
    self.require(self.num_problems >= 0, 'num_problems', '>= 0 (0: all)')
