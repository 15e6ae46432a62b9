"""The optax optimiser of an M-step."""

from typing import Any

import jax
import optax

from rest_jax.training.hyperparameters import OptimizerConfig


def schedule(config: OptimizerConfig, max_steps: int) -> optax.Schedule:
  """The learning rate at each step."""
  top, warm = config.learning_rate, config.warmup_steps
  rest = max(max_steps - warm, 1)
  after = {
    'constant': lambda: optax.constant_schedule(top),
    'cosine': lambda: optax.cosine_decay_schedule(
      top, rest, config.final_fraction
    ),
    'linear': lambda: optax.linear_schedule(
      top, top * config.final_fraction, rest
    ),
  }[config.schedule]()
  if not warm:
    return after
  ramp = optax.linear_schedule(top / warm, top, warm - 1)
  return optax.join_schedules([ramp, after], [warm])


def make(
  config: OptimizerConfig, max_steps: int
) -> optax.GradientTransformation:
  """Clipping, then AdamW or Adafactor with decoupled weight decay."""
  rate = schedule(config, max_steps)
  clip = (
    optax.clip_by_global_norm(config.clip_norm)
    if config.clip_norm
    else optax.identity()
  )
  if config.name == 'adafactor':
    # optax.adafactor's own weight decay is not scaled by the learning rate.
    return optax.chain(
      clip,
      optax.adafactor(None, multiply_by_parameter_scale=False),
      optax.add_decayed_weights(-config.weight_decay, is_matrix),
      optax.scale_by_learning_rate(rate, flip_sign=False),
    )
  return optax.chain(
    clip,
    optax.adamw(
      rate,
      b1=config.beta1,
      b2=config.beta2,
      eps=config.epsilon,
      weight_decay=config.weight_decay,
      mask=is_matrix,
    ),
  )


def is_matrix(params: Any) -> Any:
  """Which parameters decay: everything but the norms' scales."""
  return jax.tree_util.tree_map_with_path(
    lambda path, _: jax.tree_util.keystr(path[-1:], simple=True) != 'scale',
    params,
  )
