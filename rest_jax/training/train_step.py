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
import optax
from jax.sharding import Mesh

from rest_jax.distributed import partitioning
from rest_jax.models import adapters, network, segments
from rest_jax.models.architecture import DecoderConfig
from rest_jax.models.checkpoints import policies
from rest_jax.models.lora import LoraConfig
from rest_jax.training import stochastic_rounding, target_loss
from rest_jax.training.batches import PLAIN, Batch, Plan


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


def loss_sums(
  model: DecoderConfig,
  params: Any,
  batch: Batch,
  keys_values: Any = None,
  *,
  spans: segments.Spans | None = None,
  frozen_outer: bool = False,
) -> tuple[jax.Array, jax.Array]:
  """(sum of weight * nll, sum of weight) of some rows, in float32.

  Args:
    model: the network.
    params: its variables.
    batch: the rows.
    keys_values: of their prefixes, as `read_prefixes` gives them; None: they
      have none.
    spans: how far tokens look within a row.
    frozen_outer: whether the unembedding is not trained.
  """
  net = network.Decoder(model)
  prefixes = None
  if keys_values is not None:
    of_rows = segments.OfRows(batch['prefix_lengths'], batch['prefixes'])
    prefixes = segments.Prefixes(of_rows, keys_values)
  x_BLD, _ = net.apply(
    params,
    batch['tokens'],
    batch['positions'],
    batch['segment_ids'],
    parents_BL=batch.get('parents'),
    prefixes=prefixes,
    spans=spans,
  )
  h_BLD, w_VD = net.apply(params, x_BLD, method='before_logits')
  # Sums, not means: rows, devices and micro-batches hold different numbers of
  # target tokens, and a mean of their means would weigh tokens unequally.
  weights_BL = batch['loss_weights']
  total = target_loss.nll_sum(
    model, w_VD, h_BLD, batch['targets'], weights_BL, frozen=frozen_outer
  )
  return total, jnp.sum(weights_BL)


def read_prefixes(model: DecoderConfig, params: Any, batch: Batch) -> Any:
  """The keys and values of the prefixes of some rows; see segments.Prefixes.

  Their tokens are split over the devices that otherwise have rows: each device
  would else compute all of them.
  """
  tokens_FP = batch['prefix_tokens']
  places_FP = jnp.broadcast_to(
    jnp.arange(tokens_FP.shape[1])[None], tokens_FP.shape
  )
  # Padding stands behind the tokens, which do not attend to it.
  with partitioning.split_length(tokens_FP.shape[1]):
    _, keys_values = network.Decoder(model).apply(
      params, tokens_FP, places_FP, jnp.ones_like(tokens_FP), keep_kv=True
    )
  return keys_values


def make_step(
  model: DecoderConfig,
  optimizer: optax.GradientTransformation,
  mesh: Mesh,
  plan: Plan = PLAIN,
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
    plan: of the rows.
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

  places = jax.tree.map(lambda x: x.sharding, trained(model, mesh, lora))

  def whole(params, base):
    return adapters.beside(base, params, lora) if lora.is_on else params

  def sums(params, keys_values, batch, base):
    with partitioning.use(mesh):
      return loss_sums(
        model,
        whole(params, base),
        batch,
        keys_values,
        spans=plan.spans,
        frozen_outer=lora.is_on,
      )

  def prefixes(params, batch, base):
    if plan.prefixes is None:
      return None
    with partitioning.use(mesh):
      return read_prefixes(model, whole(params, base), batch)

  gradient = jax.value_and_grad(sums, argnums=(0, 1), has_aux=True)

  def accumulate(params, batch, base):
    """((total, weight), gradients), of all micro-batches."""
    # Read once for all of them: their gradients by the keys and values are
    # summed, and go back through the prefixes' tokens once.
    keys_values, pull = jax.vjp(
      lambda params: prefixes(params, batch, base), params
    )
    if microbatches == 1:
      sums_here, (grads, grads_kv) = gradient(params, keys_values, batch, base)
    else:
      sums_here, grads, grads_kv = by_pieces(params, keys_values, batch, base)
    if plan.prefixes is None:
      return sums_here, grads
    [more] = pull(
      jax.tree.map(lambda g, kv: g.astype(kv.dtype), grads_kv, keys_values)
    )
    return sums_here, jax.tree.map(jnp.add, grads, more)

  def by_pieces(params, keys_values, batch, base):
    of_all = {n: x for n, x in batch.items() if n.startswith('prefix_')}
    pieces = jax.tree.map(
      # Interleaved, so that each piece keeps the batch's split over devices.
      lambda x: jnp.swapaxes(x.reshape((-1, microbatches) + x.shape[1:]), 0, 1),
      {n: x for n, x in batch.items() if n not in of_all},
    )

    # In float32 whatever the parameters are: a bfloat16 sum of many gradients
    # loses each that is less than 1/256 of the sum so far.
    def body(total, piece):
      here = gradient(params, keys_values, piece | of_all, base)
      return jax.tree.map(jnp.add, total, here), None

    zero = jnp.float32(0)
    zeros = jax.tree.map(
      lambda p: jnp.zeros_like(p, jnp.float32), (params, keys_values)
    )
    (sums_here, grads), _ = jax.lax.scan(body, ((zero, zero), zeros), pieces)
    return sums_here, *grads

  def step(state: TrainState, batch: Batch, base: Any = None):
    (total, weight), grads = accumulate(state.params, batch, base)
    # The bound only matters for a batch without any target: its sums are zero,
    # and so is its update.
    normalizer = jnp.maximum(jnp.sum(batch['normalizers']), 1e-9)
    # Split as their parameters are: else the compiler sums the gradients whole
    # on every device, which moves twice the bytes.
    grads = jax.tree.map(
      lambda g, where: jax.lax.with_sharding_constraint(g / normalizer, where),
      grads,
      places,
    )
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
