"""The loss of targets against all scores at once, in value and gradient."""

import functools

import jax
import jax.numpy as jnp
import meshes
import numpy as np
import pytest
import small_networks

from rest_jax.distributed import partitioning
from rest_jax.training import loss_chunks, target_loss

B, L, D, V = 4, 21, 16, 32


def inputs(weighted=0.4, seed=0):
  rng = np.random.default_rng(seed)
  weights = rng.uniform(0.1, 2, (B, L)) * (rng.random((B, L)) < weighted)
  return (
    np.float32(rng.standard_normal((V, D))),
    np.float32(rng.standard_normal((B, L, D)) * 3),
    rng.integers(0, V, (B, L)).astype(np.int32),
    np.float32(weights),
  )


def reference(c, w_VD, h_BLD, targets_BL, weights_BL):
  """All scores, by jax's own functions."""
  scores = jnp.einsum('BLD,VD->BLV', h_BLD, w_VD)
  if c.logit_soft_cap:
    scores = c.logit_soft_cap * jnp.tanh(scores / c.logit_soft_cap)
  logprobs = jax.nn.log_softmax(scores)
  at = jnp.take_along_axis(logprobs, targets_BL[..., None], -1)[..., 0]
  return -jnp.sum(weights_BL * at)


def both(c, given, of=target_loss.nll_sum):
  """(value, gradients by w and h), of twice the loss."""

  def twice(w, h):
    return 2 * of(c, w, h, *given[2:])

  return jax.jit(jax.value_and_grad(twice, (0, 1)))(*given[:2])


def assert_alike(a, b):
  for x, y in zip(jax.tree.leaves(a), jax.tree.leaves(b), strict=True):
    np.testing.assert_allclose(x, y, rtol=2e-5, atol=2e-5)


@pytest.mark.parametrize('cap', [None, 5.0])
@pytest.mark.parametrize('places', [1024, 12, 1])
def test_value_and_gradients_are_those_of_all_scores(monkeypatch, places, cap):
  monkeypatch.setattr(loss_chunks, '_PLACES', places)
  c = small_networks.network(embed_dim=D, vocab_size=V, logit_soft_cap=cap)
  given = inputs()
  assert_alike(both(c, given), both(c, given, reference))


def test_chunks_of_a_tpus_size_change_neither_value_nor_gradients(monkeypatch):
  monkeypatch.setattr(partitioning, 'device_kind', lambda: 'TPU v6 lite')
  asked = []
  real = loss_chunks.chunk_places

  def places(*arguments):
    asked.append((*arguments, real(*arguments)))
    return asked[-1][-1]

  monkeypatch.setattr(loss_chunks, 'chunk_places', places)
  monkeypatch.setattr(loss_chunks, '_TPU_PLACES', 20)
  c = small_networks.network(embed_dim=D, vocab_size=V)
  given = inputs()
  assert_alike(both(c, given), both(c, given, reference))
  # Of several chunks, the last of them padded, as a chip of 32 GiB has them.
  assert asked == [(B, L, V, 32 * 2**30, 5)]


@pytest.mark.parametrize('weighted', [0.0, 1.0])
def test_rows_without_targets_and_rows_of_nothing_else(weighted):
  c = small_networks.network(embed_dim=D, vocab_size=V)
  given = inputs(weighted)
  assert_alike(both(c, given), both(c, given, reference))


@pytest.mark.parametrize(
  'axes', [(2, 1, 1), (1, 4, 1), (1, 1, 8), (2, 2, 2)], ids=str
)
def test_a_mesh_changes_neither_value_nor_gradients(axes, monkeypatch):
  monkeypatch.setattr(loss_chunks, '_PLACES', 8)
  mesh = meshes.mesh(*axes)
  c = small_networks.network(embed_dim=D, vocab_size=V)
  given = inputs()
  with partitioning.use(mesh):
    assert_alike(both(c, given), both(c, given, reference))


def test_a_frozen_unembedding_has_no_gradient():
  c = small_networks.network(embed_dim=D, vocab_size=V)
  given = inputs()
  frozen = both(c, given, functools.partial(target_loss.nll_sum, frozen=True))
  free = both(c, given)
  assert_alike((frozen[0], frozen[1][1]), (free[0], free[1][1]))
  assert not np.any(frozen[1][0]) and np.any(free[1][0])


def test_the_scores_of_all_places_never_exist_at_once():
  """8,192 places of 32,768 tokens are 1 GB in float32."""
  c = small_networks.network(embed_dim=16, vocab_size=2**15)
  shapes = [(2**15, 16), (4, 2048, 16), (4, 2048), (4, 2048)]
  kinds = [jnp.float32, jnp.float32, jnp.int32, jnp.float32]
  given = [
    jax.ShapeDtypeStruct(*both) for both in zip(shapes, kinds, strict=True)
  ]

  def bytes_of(of):
    grad = jax.grad(lambda *a: of(c, *a), (0, 1))
    made = jax.jit(grad).lower(*given).compile()
    return made.memory_analysis().temp_size_in_bytes

  assert bytes_of(target_loss.nll_sum) < bytes_of(reference) / 3
