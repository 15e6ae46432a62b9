"""The loss of the target tokens, without the scores of a whole batch.

Scores of V tokens for every place of a batch are its largest array: 4096 places
of 128,256 tokens are 2 GB in float32, and their gradient as much again. Here
the places without weight (prompts, padding) get no scores at all, and the
others get theirs a chunk at a time: the chunk's loss, its gradient by the
hidden states, and its share of the gradient by the unembedding, before the next
one begins. So the backward pass has nothing left to compute.

On a mesh each device does so for its own rows. The unembedding is gathered over
'fsdp' once, before the first chunk, and its gradient scattered once, after the
last.

Dimensions: B rows, L places of a row, C places of a chunk, D model,
V vocabulary.
"""

import functools
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax.sharding import PartitionSpec

from rest_jax.distributed import chips, partitioning
from rest_jax.models import attention
from rest_jax.models.architecture import DecoderConfig
from rest_jax.training import loss_chunks


class _Axes(NamedTuple):
  """The mesh axes that each dimension is split over."""

  rows: tuple[str, ...] = ()
  vocabulary: tuple[str, ...] = ()
  embed: tuple[str, ...] = ()


def nll_sum(
  config: DecoderConfig,
  w_VD: jax.Array,
  h_BLD: jax.Array,
  targets_BL: jax.Array,
  weights_BL: jax.Array,
  *,
  frozen: bool = False,
) -> jax.Array:
  """The sum of weight x negative log-likelihood over all targets, float32.

  It has gradients by w_VD and h_BLD alone.

  Args:
    config: of the network.
    w_VD: the unembedding.
    h_BLD: hidden states behind the last norm.
    targets_BL: the token that each place is to predict.
    weights_BL: float32, at least 0; places of weight 0 are not computed.
    frozen: whether the unembedding is not trained: its gradient is then 0.
  """
  return _nll_sum(config, frozen, w_VD, h_BLD, targets_BL, weights_BL)


@functools.partial(jax.custom_vjp, nondiff_argnums=(0, 1))
def _nll_sum(config, frozen, w_VD, h_BLD, targets_BL, weights_BL):
  return _forward(config, frozen, w_VD, h_BLD, targets_BL, weights_BL)[0]


def _forward(config, frozen, w_VD, h_BLD, targets_BL, weights_BL):
  """(the sum, its gradients by w_VD and h_BLD)."""
  if not partitioning.is_split():
    return _on_one_device(
      config, frozen, _Axes(), w_VD, h_BLD, targets_BL, weights_BL
    )
  mesh = partitioning.in_use()
  rows = partitioning.spec(('batch',), h_BLD.shape[:1], mesh, 'rows')
  where = partitioning.spec(('vocab', 'embed'), w_VD.shape, mesh, 'unembedding')
  axes = _Axes(*(_names(entry) for entry in (*rows, *where)))
  return jax.shard_map(
    functools.partial(_on_one_device, config, frozen, axes),
    mesh=mesh,
    in_specs=(where, rows, rows, rows),
    out_specs=(PartitionSpec(), (where, rows)),
    check_vma=False,
  )(w_VD, h_BLD, targets_BL, weights_BL)


def _backward(config, frozen, grads, cotangent):
  dw_VD, dh_BLD = (
    (grad.astype(jnp.float32) * cotangent).astype(grad.dtype) for grad in grads
  )
  return dw_VD, dh_BLD, None, None


_nll_sum.defvjp(_forward, _backward)


def _names(entry: Any) -> tuple[str, ...]:
  """An entry of a PartitionSpec as a tuple."""
  return entry if isinstance(entry, tuple) else (entry,) if entry else ()


def _on_one_device(
  config: DecoderConfig,
  frozen: bool,
  axes: _Axes,
  w_VD: jax.Array,
  h_BLD: jax.Array,
  targets_BL: jax.Array,
  weights_BL: jax.Array,
) -> tuple[jax.Array, tuple[jax.Array, jax.Array]]:
  """(the sum over all devices, the gradients of this device's pieces)."""
  B, L, D = h_BLD.shape
  whole_VD = w_VD.astype(config.dtype)
  if axes.embed:
    whole_VD = jax.lax.all_gather(whole_VD, axes.embed, axis=1, tiled=True)
  V = whole_VD.shape[0]
  memory = chips.HBM_BYTES.get(partitioning.device_kind())
  C = loss_chunks.chunk_places(B, L, V, memory)
  # Stable, so that the places of weight come first in their own order.
  order_BL = jnp.argsort(weights_BL <= 0, axis=1, stable=True)
  # As many chunks as the row with the most targets needs.
  most = jnp.max(jnp.sum(weights_BL > 0, axis=1))
  chunks = -(-most // C)

  def sorted_(array):
    index = jnp.expand_dims(order_BL, range(2, array.ndim))
    array = jnp.take_along_axis(array, index, axis=1)
    pad = [(0, 0), (0, -L % C)] + [(0, 0)] * (array.ndim - 2)
    return jnp.pad(array, pad)

  rows = sorted_(h_BLD), sorted_(targets_BL), sorted_(weights_BL)

  def body(index, carry):
    total, dw_VD, dh_BLD = carry
    h_BCD, targets_BC, weights_BC = (
      jax.lax.dynamic_slice_in_dim(array, index * C, C, axis=1)
      for array in rows
    )
    nll_BC, ds_BCV = _scored(
      config, axes, whole_VD, h_BCD, targets_BC, weights_BC
    )
    ds_BCV = ds_BCV.astype(config.dtype)
    product = functools.partial(jnp.einsum, preferred_element_type=jnp.float32)
    with jax.default_matmul_precision(config.matmul_precision):
      dh_BCD = product('BCV,VD->BCD', ds_BCV, whole_VD)
      if not frozen:
        # One dimension of places: see block.py's products.
        ds_TV, h_TD = ds_BCV.reshape(B * C, V), h_BCD.reshape(B * C, D)
        dw_VD = dw_VD + product('TV,TD->VD', ds_TV, h_TD)
    if axes.vocabulary:
      dh_BCD = jax.lax.psum(dh_BCD, axes.vocabulary)
    dh_BLD = jax.lax.dynamic_update_slice_in_dim(
      dh_BLD, dh_BCD.astype(dh_BLD.dtype), index * C, axis=1
    )
    return total + jnp.sum(weights_BC * nll_BC), dw_VD, dh_BLD

  zeros_VD = jnp.zeros((0 if frozen else V, whole_VD.shape[1]), jnp.float32)
  total, dw_VD, dh_BLD = jax.lax.fori_loop(
    0, chunks, body, (jnp.float32(0), zeros_VD, jnp.zeros_like(rows[0]))
  )
  back_BL1 = jnp.argsort(order_BL, axis=1)[..., None]
  dh_BLD = jnp.take_along_axis(dh_BLD[:, :L], back_BL1, axis=1)
  if frozen:
    dw_VD = jnp.zeros(w_VD.shape, w_VD.dtype)
  else:
    others = [axis for axis in axes.rows if axis not in axes.embed]
    if axes.embed:
      dw_VD = jax.lax.psum_scatter(
        dw_VD, axes.embed, scatter_dimension=1, tiled=True
      )
    if others:
      dw_VD = jax.lax.psum(dw_VD, others)
  if axes.rows:
    total = jax.lax.psum(total, axes.rows)
  return total, (dw_VD.astype(w_VD.dtype), dh_BLD)


def _scored(
  config: DecoderConfig,
  axes: _Axes,
  w_VD: jax.Array,
  h_BCD: jax.Array,
  targets_BC: jax.Array,
  weights_BC: jax.Array,
) -> tuple[jax.Array, jax.Array]:
  """(nll_BC, the gradient of sum(weight x nll) by the scores, (B, C, V)).

  The scores are those of network.Decoder.logits; V is this device's piece.
  """
  # Accumulated and kept in float32: log-probabilities are differences of
  # scores, and bfloat16 is 0.1 apart near 20.
  with jax.default_matmul_precision(config.matmul_precision):
    raw_BCV = jnp.einsum(
      'BCD,VD->BCV', h_BCD, w_VD, preferred_element_type=jnp.float32
    )
  scores_BCV = attention.capped(raw_BCV, config.logit_soft_cap)
  top_BC = jnp.max(scores_BCV, axis=-1)
  if axes.vocabulary:
    top_BC = jax.lax.pmax(top_BC, axes.vocabulary)
  mass_BCV = jnp.exp(scores_BCV - top_BC[..., None])
  mass_BC = jnp.sum(mass_BCV, axis=-1)
  V = w_VD.shape[0]
  first = 0
  if axes.vocabulary:
    first = jax.lax.axis_index(axes.vocabulary) * V
  is_target_BCV = targets_BC[..., None] == first + jnp.arange(V)[None, None]
  target_BC = jnp.sum(jnp.where(is_target_BCV, scores_BCV, 0), axis=-1)
  if axes.vocabulary:
    mass_BC, target_BC = jax.lax.psum((mass_BC, target_BC), axes.vocabulary)
  nll_BC = top_BC + jnp.log(mass_BC) - target_BC
  share_BCV = mass_BCV * (weights_BC / mass_BC)[..., None]
  ds_BCV = share_BCV - jnp.where(is_target_BCV, weights_BC[..., None], 0)
  if config.logit_soft_cap is not None:
    ds_BCV = ds_BCV * (1 - jnp.square(scores_BCV / config.logit_soft_cap))
  return nll_BC, ds_BCV
