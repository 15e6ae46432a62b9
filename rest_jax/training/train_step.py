"""One optimiser step: pure, sharded, the same for 1 or K micro-batches.

    loss = sum(weight * nll) / normaliser

The normaliser is summed over the whole global batch before it divides, so that
neither packing nor the number of devices or micro-batches changes the gradient,
beyond the order of floating-point sums.

Dimensions: B rows, L tokens of a row, D model, V vocabulary.
"""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax
from jax.sharding import Mesh

from rest_jax.distributed import partitioning
from rest_jax.models import adapters, network
from rest_jax.models.architecture import DecoderConfig
from rest_jax.models.checkpoints import policies
from rest_jax.models.lora import LoraConfig
from rest_jax.training import stochastic_rounding
from rest_jax.training.packing import Packer, Rows

Batch = dict[str, jax.Array]


class TrainState(NamedTuple):
  """What a step reads and replaces."""

  step: jax.Array  # optimiser steps done
  params: Any  # what is trained: the network's parameters, or its adapters
  opt_state: Any


_OFF = LoraConfig()


def trained(model: DecoderConfig, mesh: Mesh, lora: LoraConfig = _OFF) -> Any:
  """Shapes, dtypes and shardings of what is trained, without its values."""
  if lora.is_on:
    return adapters.abstract(model, lora, mesh)
  return policies.abstract(model, mesh)


def frozen(model: DecoderConfig, mesh: Mesh, lora: LoraConfig = _OFF) -> Any:
  """The same of what a step reads and never changes; None: nothing.

  Frozen weights have the dtype of the arithmetic: nothing is added to them, so
  that no more bits are needed, and D_val is sampled from just these weights.
  """
  return policies.abstract(model, mesh, model.dtype) if lora.is_on else None


def shardings(
  model: DecoderConfig,
  optimizer: optax.GradientTransformation,
  mesh: Mesh,
  lora: LoraConfig = _OFF,
) -> tuple[TrainState, TrainState]:
  """(abstract state, its shardings) without computing anything."""
  abstract = trained(model, mesh, lora)
  params = jax.tree.map(lambda leaf: leaf.sharding, abstract)
  replicated = partitioning.replicated(mesh)
  opt_state = jax.eval_shape(optimizer.init, abstract)
  # Adam's moments are split as their parameters; what is no copy of the
  # parameters (counts, Adafactor's factors) is replicated.
  opt_shardings = optax.tree_utils.tree_map_params(
    optimizer,
    lambda leaf, where: where if leaf.shape == where[1] else replicated,
    opt_state,
    jax.tree.map(lambda s, a: _Placed((s, a.shape)), params, abstract),
    transform_non_params=lambda _: replicated,
  )
  opt_shardings = jax.tree.map(
    lambda leaf: leaf[0] if isinstance(leaf, _Placed) else leaf,
    opt_shardings,
    is_leaf=lambda leaf: isinstance(leaf, _Placed),
  )
  step = jax.ShapeDtypeStruct((), jnp.int32)
  return (
    TrainState(step, abstract, opt_state),
    TrainState(replicated, params, opt_shardings),
  )


class _Placed(tuple):
  """(sharding, shape) as one leaf; jax does not look into tuple subclasses."""


def batch_shardings(mesh: Mesh, rows: int) -> dict[str, Any]:
  """Where the arrays of a batch lie."""
  names = ('tokens', 'targets', 'positions', 'segment_ids', 'loss_weights')
  place = partitioning.sharding
  return {
    name: place(mesh, ('batch', None), (rows, 1), 'batch') for name in names
  } | {'normalizers': place(mesh, ('batch',), (rows,), 'batch')}


def put_batch(packer: Packer, first: int, rows: int, where: dict) -> Batch:
  """Rows first … first+rows-1 on the mesh; a host builds only its own."""
  built: dict[tuple[int, int], Rows] = {}

  def array(name: str) -> jax.Array:
    kind = np.float32 if name in ('loss_weights', 'normalizers') else np.int32
    shape = (rows,) if name == 'normalizers' else (rows, packer.row_length)

    def piece(index):
      low, high, _ = index[0].indices(rows)
      if (low, high) not in built:
        built[low, high] = packer.batch(range(first + low, first + high))
      return getattr(built[low, high], name)

    return jax.make_array_from_callback(shape, where[name], piece, dtype=kind)

  return {name: array(name) for name in where}


def loss_sums(
  model: DecoderConfig, params: Any, batch: Batch
) -> tuple[jax.Array, jax.Array]:
  """(sum of weight * nll, sum of weight) of some rows, in float32."""
  net = network.Decoder(model)
  x_BLD, _ = net.apply(
    params, batch['tokens'], batch['positions'], batch['segment_ids']
  )
  logits_BLV = net.apply(params, x_BLD, method='logits')
  # logsumexp minus the target's score, instead of log_softmax: no second array
  # of the size of the logits is made.
  norms_BL = jax.nn.logsumexp(logits_BLV, axis=-1)
  scores_BL = jnp.take_along_axis(
    logits_BLV, batch['targets'][..., None], axis=-1
  )[..., 0]
  # Sums, not means: rows, devices and micro-batches hold different numbers of
  # target tokens, and a mean of their means would weigh tokens unequally.
  weights_BL = batch['loss_weights']
  return jnp.sum(weights_BL * (norms_BL - scores_BL)), jnp.sum(weights_BL)


def make_step(
  model: DecoderConfig,
  optimizer: optax.GradientTransformation,
  mesh: Mesh,
  *,
  microbatches: int = 1,
  seed: int = 0,
  lora: LoraConfig = _OFF,
) -> Callable[..., tuple[TrainState, dict[str, jax.Array]]]:
  """The step, not yet compiled.

  Args:
    model: the network.
    optimizer: of optimizers.make.
    mesh: of the devices.
    microbatches: that the batch is split into.
    lora: whether adapters are trained beside frozen weights.
    seed: of the rounding of bfloat16 parameters; nothing else is random.

  Returns:
    step(state, batch, base) -> (state, metrics): loss (by the chosen
    normaliser), token_loss (per weight of target tokens), grad_norm, param_norm
    (of the parameters after the step), update_norm. With LoRA the state and
    the norms are of the adapters, and `base` holds the parameters beside them
    (see `frozen`); without, there is none.
  """

  def sums(params, batch, base):
    if lora.is_on:
      params = adapters.beside(base, params, lora)
    with partitioning.use(mesh):
      return loss_sums(model, params, batch)

  gradient = jax.value_and_grad(sums, has_aux=True)

  def accumulate(params, batch, base):
    if microbatches == 1:
      return gradient(params, batch, base)
    pieces = jax.tree.map(
      # Interleaved, so that each piece keeps the batch's split over devices.
      lambda x: jnp.swapaxes(x.reshape((-1, microbatches) + x.shape[1:]), 0, 1),
      batch,
    )

    # In float32 whatever the parameters are: a bfloat16 sum of many gradients
    # loses each that is less than 1/256 of the sum so far.
    def body(total, piece):
      return jax.tree.map(jnp.add, total, gradient(params, piece, base)), None

    zero = jnp.float32(0)
    zeros = jax.tree.map(lambda p: jnp.zeros_like(p, jnp.float32), params)
    return jax.lax.scan(body, ((zero, zero), zeros), pieces)[0]

  def step(state: TrainState, batch: Batch, base: Any = None):
    (total, weight), grads = accumulate(state.params, batch, base)
    # The bound only matters for a batch without any target: its sums are zero,
    # and so is its update.
    normalizer = jnp.maximum(jnp.sum(batch['normalizers']), 1e-9)
    grads = jax.tree.map(lambda g: g / normalizer, grads)
    updates, opt_state = optimizer.update(grads, state.opt_state, state.params)
    params = stochastic_rounding.apply_updates(
      state.params, updates, stochastic_rounding.key(seed, state.step)
    )
    metrics = {
      'loss': total / normalizer,
      'token_loss': total / jnp.maximum(weight, 1e-9),
      'grad_norm': optax.global_norm(grads),
      'param_norm': optax.global_norm(params),
      'update_norm': optax.global_norm(updates),
    }
    return TrainState(state.step + 1, params, opt_state), metrics

  return step
