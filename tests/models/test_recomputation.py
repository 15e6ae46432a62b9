"""What each choice of `remat` keeps, counted in the gradient's program."""

import collections
import dataclasses

import jax
import jax.extend
import jax.numpy as jnp
import numpy as np
import pytest
import small_networks
import tiny_run
import xla_flags

from rest_jax.distributed import partitioning
from rest_jax.models import network, recomputation

LENGTH = 128  # the shortest row of a fused kernel
# Of one layer: 7 matrices, scores and the sum of values; each has two products
# in the backward pass.
PRODUCTS = 3 * 9
MODEL = small_networks.network(num_layers=2, max_length=LENGTH)
REMATS = ('none', 'dots', 'attention', 'full')


def loss(params, model, parents):
  tokens = jnp.arange(8 * LENGTH).reshape(8, LENGTH) % model.vocab_size
  places = jnp.tile(jnp.arange(LENGTH)[None], (8, 1))
  segments = places * 0 + 1
  hidden, _ = network.Decoder(model).apply(
    *(params, tokens, places, segments),
    parents_BL=segments * 0 - 1 if parents else None,
  )
  return jnp.sum(jnp.square(hidden)) / 2**13


def operations(model, parents=False, mesh=None):
  """How often each operation stands in the program of the gradient."""
  params = tiny_run.fresh(model, seed=0)

  def gradient(params):
    return jax.grad(loss)(params, model, parents)

  if mesh is None:
    jaxpr = jax.make_jaxpr(gradient)(params)
  else:
    with partitioning.use(mesh):
      jaxpr = jax.make_jaxpr(gradient)(params)
  found = collections.Counter()

  def visit(jaxpr):
    asked_for = {id(var) for var in jaxpr.outvars}
    for equation in reversed(jaxpr.eqns):
      if equation.primitive.name == 'pallas_call':
        # jax leaves kernels whose results nothing asks for to the compiler.
        if not any(id(var) in asked_for for var in equation.outvars):
          continue
      else:
        for inner in jax.extend.core.jaxprs_in_params(equation.params):
          visit(inner)
      found[equation.primitive.name] += 1
      asked_for |= {id(var) for var in equation.invars}

  visit(jaxpr.jaxpr)
  return found


@pytest.mark.parametrize(
  ('remat', 'again'),
  [
    ('none', 0),
    ('dots', 2),  # both of attention by einsum
    ('attention', 4),  # these, gate, up
    ('full', 8),  # all but 'down', whose product nothing asks for
  ],
)
def test_products_that_are_computed_again(remat, again):
  model = dataclasses.replace(MODEL, remat=remat)
  assert operations(model)['dot_general'] == PRODUCTS + again


@pytest.mark.parametrize('split', [False, True])
@pytest.mark.parametrize(('parents', 'kernels'), [(False, 3), (True, 2)])
@pytest.mark.parametrize('remat', REMATS)
def test_kernels_run_again_only_where_nothing_is_kept(
  remat, parents, kernels, split, monkeypatch
):
  """splash.py's has one forward and two backward; tree_attention.py's one."""
  monkeypatch.setattr(partitioning, 'platform', lambda mesh=None: 'tpu')
  mesh = None
  if split:
    sizes = partitioning.MeshConfig(data=2, fsdp=2, tensor=2)
    mesh = partitioning.make_mesh(sizes)
  found = operations(dataclasses.replace(MODEL, remat=remat), parents, mesh)
  assert found['pallas_call'] == kernels + (remat == 'full')


@pytest.mark.parametrize('remat', REMATS[1:])
def test_loss_and_gradients_are_exactly_those_of_keeping_all(remat):
  params = tiny_run.fresh(MODEL, seed=0)

  def of(model):
    given = jax.jit(
      jax.value_and_grad(loss),
      static_argnums=(1, 2),
      compiler_options=xla_flags.USUAL_LOOPS,
    )
    return jax.tree.leaves(given(params, model, False))

  expected = of(MODEL)
  assert max(np.abs(leaf).max() for leaf in expected) > 1e-2
  for a, b in zip(
    of(dataclasses.replace(MODEL, remat=remat)), expected, strict=True
  ):
    np.testing.assert_array_equal(a, b)


@pytest.mark.parametrize('post_norms', [False, True])
@pytest.mark.parametrize('remat', REMATS[1:])
def test_numbers_kept_are_those_that_the_loop_over_layers_gives(
  remat, post_norms, monkeypatch
):
  monkeypatch.setattr(partitioning, 'platform', lambda mesh=None: 'tpu')
  model = dataclasses.replace(MODEL, remat=remat, post_norms=post_norms)
  jaxpr = jax.make_jaxpr(jax.grad(loss), static_argnums=(1, 2))(
    tiny_run.fresh(model, seed=0), model, False
  )
  forward, backward = (
    equation for equation in jaxpr.eqns if equation.primitive.name == 'scan'
  )
  assert not forward.params['reverse'] and backward.params['reverse']
  # What the loop stacks has one axis more outside of its body; a carry has not.
  sizes = [
    np.prod(var.aval.shape)
    for of_layer, var in zip(
      forward.params['jaxpr'].out_avals, forward.outvars, strict=True
    )
    if of_layer.ndim < var.aval.ndim
  ]
  per_token = sum(sizes) / (model.num_layers * 8 * LENGTH)
  assert per_token == recomputation.kept_numbers(model, remat)
