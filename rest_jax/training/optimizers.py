"""The optimiser of an M-step: any of optax, by its name there."""

import contextlib
import difflib
import inspect
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import optax

from rest_jax.config import configuration
from rest_jax.training.hyperparameters import OptimizerConfig

# Where we depart from optax. A second moment with a memory of 20 steps follows
# fine-tunings of some hundred steps better than optax's 0.999; adafactor's
# learning rate is then that of the update, as it is for the others.
_DEFAULT_OPTIONS = {
  'adamw': {'b2': 0.95},
  'adafactor': {'multiply_by_parameter_scale': False},
}


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
  """Clipping, then the optimiser with decoupled weight decay.

  Its state and arithmetic are float32, whatever the parameters are; adamw's
  option mu_dtype = 'bfloat16' halves the first moment.

  Args:
    config: `name` is any optimiser of optax that has a learning rate and needs
      no more than gradients and parameters.
    max_steps: of the training, where the schedule ends.

  Raises:
    ConfigurationError: optax has no such optimiser, or it has no such option.
  """
  rate = schedule(config, max_steps)
  factory, options = _factory(config)
  if {'weight_decay', 'mask'} <= {*inspect.signature(factory).parameters}:
    optimizer = factory(
      rate, weight_decay=config.weight_decay, mask=is_matrix, **options
    )
  else:
    # The decay is added to the update before both are scaled by the rate: the
    # weight decay of some optimisers (adafactor) is not scaled by it.
    optimizer = optax.chain(
      factory(1.0, **options),
      optax.add_decayed_weights(-config.weight_decay, is_matrix),
      optax.scale_by_learning_rate(rate, flip_sign=False),
    )
  _require_plain_update(config, optimizer)
  clip = (
    optax.clip_by_global_norm(config.clip_norm)
    if config.clip_norm
    else optax.identity()
  )
  return _in_float32(optax.chain(clip, optimizer))


def _in_float32(
  optimizer: optax.GradientTransformation,
) -> optax.GradientTransformation:
  """The optimiser, handed gradients and parameters in float32.

  optax keeps the moments in the parameters' dtype. A second moment in bfloat16
  whose memory is 200 steps or more stands still: each step adds less than
  1/256 of it. float32 parameters pass unchanged.
  """

  def cast(tree):
    return jax.tree.map(lambda x: x.astype(jnp.float32), tree)

  def init(params):
    return optimizer.init(cast(params))

  def update(updates, state, params=None):
    return optimizer.update(cast(updates), state, cast(params))

  return optax.GradientTransformation(init, update)


def _factory(
  config: OptimizerConfig,
) -> tuple[Callable[..., Any], dict[str, Any]]:
  """The function of optax, and the options that it is called with."""
  known = [name for name in dir(optax) if _is_optimizer(name)]
  if config.name not in known:
    near = difflib.get_close_matches(config.name, known, n=1)
    raise configuration.ConfigurationError(
      f'OPTIMIZER: got {config.name!r}; allowed: an optimiser of optax with a '
      f'learning rate: {", ".join(known)}.'
      + (f' Nearest: {near[0]}.' if near else '')
    )
  factory = getattr(optax, config.name)
  allowed = {*inspect.signature(factory).parameters}
  allowed -= {'learning_rate', 'weight_decay', 'mask'}
  for option in config.options:
    if option not in allowed:
      raise configuration.ConfigurationError(
        f'OPTIMIZER_OPTIONS: got {option!r}; allowed for {config.name}: '
        f'{", ".join(sorted(allowed))}.'
      )
  return factory, _DEFAULT_OPTIONS.get(config.name, {}) | dict(config.options)


def _is_optimizer(name: str) -> bool:
  """Whether optax has a function of this name that takes a learning rate."""
  value = getattr(optax, name)
  if name.startswith(('_', 'scale_by_')) or not callable(value):
    return False
  with contextlib.suppress(ValueError, TypeError):  # it has no signature
    parameters = inspect.signature(value).parameters
    return next(iter(parameters), '') == 'learning_rate'
  return False


def _require_plain_update(
  config: OptimizerConfig, optimizer: optax.GradientTransformation
) -> None:
  """Raises where an update needs the loss too, as a line search does."""
  params = {'weight': jax.ShapeDtypeStruct((2, 2), jnp.float32)}
  try:
    jax.eval_shape(lambda p: optimizer.update(p, optimizer.init(p), p), params)
  except TypeError as error:
    raise configuration.ConfigurationError(
      f'OPTIMIZER: {config.name} cannot be used here: its update needs more '
      f'than gradients and parameters ({error}).'
    ) from error


def is_matrix(params: Any) -> Any:
  """Which parameters decay: everything but the norms' scales."""
  return jax.tree_util.tree_map_with_path(
    lambda path, _: jax.tree_util.keystr(path[-1:], simple=True) != 'scale',
    params,
  )
