"""Which products the network asks for, and which GELU it computes.

What a program asks an accelerator for is in its lowered text; a CPU multiplies
float32 exactly whatever is asked. Attributes of StableHLO: DEFAULT may round
float32 operands to bfloat16 (TPU) or TF32 (GPU), HIGHEST may not.
"""

import functools
import math
import re

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import small_networks
import tiny_run

from rest_jax.models import caches, decoding, layered, network, quantization
from rest_jax.models.checkpoints import policies
from rest_jax.training import train_step

ASKED = {'float32': 'HIGHEST', 'tensorfloat32': 'HIGH', 'bfloat16': 'DEFAULT'}
PER_LAYER = 7 + 2  # the matrices of a block; scores and values of attention
TOKENS = jnp.ones((2, 8), jnp.int32)
PLACES = jnp.tile(jnp.arange(8)[None], (2, 1))


def abstract(model):
  return jax.eval_shape(lambda: policies.unboxed(model, jax.random.key(0)))


def training(model, params):
  """Forward and backward; the scan over layers has one body for each."""
  batch = {
    'tokens': TOKENS,
    'targets': TOKENS,
    'positions': PLACES,
    'segment_ids': TOKENS,
    'loss_weights': jnp.ones((2, 8)),
  }
  loss = functools.partial(train_step.loss_sums, model)
  return jax.jit(jax.grad(loss, has_aux=True)).lower(params, batch)


def prefill(model, params):
  function = functools.partial(decoding.read_questions, model)
  weights = arranged(model, params)
  return jax.jit(function).lower(weights, None, TOKENS)


def decode(model, params):
  function = functools.partial(decoding.step, model)
  context = caches.Context(
    prefix=caches.Prefix(prefix(model), jnp.int32(8)),
    question=caches.empty(model, 2, length=8),
    question_lengths_G=jnp.full(2, 8),
    suffix=[caches.empty(model, 2, 3, length=4)],
    suffix_lengths_GN=jnp.full((2, 3), 4),
  ).with_turns(model, 4)
  chunk = caches.empty(model, 2, 3, length=4)
  newest = jnp.ones((2, 3), jnp.int32)
  weights = arranged(model, params)
  return jax.jit(function).lower(weights, newest, jnp.int32(1), context, chunk)


def arranged(model, params):
  return jax.eval_shape(functools.partial(layered.arrange, model), params)


def prefix(model):
  scanned = model.decode_loop == 'scan'
  return jax.tree.map(
    lambda array: array[:, 0] if scanned else array[0],
    caches.empty(model, 1, length=8),
  )


def precisions(lowered):
  """Of each matrix product of a program: {'HIGHEST'} and so on."""
  lines = re.findall(
    r'.*(?:dot_general|dot|convolution)\b.*', lowered.as_text()
  )
  products = [line for line in lines if 'stablehlo.' in line]
  return [
    set(re.search(r'precision = \[(.*?)\]', line)[1].split(', '))
    if 'precision' in line
    else {'DEFAULT'}
    for line in products
  ]


@pytest.mark.parametrize('precision', ASKED)
@pytest.mark.parametrize(
  'program, products',
  [
    # Each forward product has two backward; attention of decoding has a pair
    # for the question, the suffix, the chunk, and each half of the queries of
    # the prefix.
    (training, 3 * (PER_LAYER + 1)),
    (prefill, PER_LAYER + 2),  # of the last layer, keys and values
    (decode, 2 * (PER_LAYER + 8) + 1),
  ],
)
def test_every_product_asks_for_the_networks_precision(
  program, products, precision
):
  model = small_networks.network(num_layers=2, matmul_precision=precision)
  found = precisions(program(model, abstract(model)))
  assert found == [{ASKED[precision]}] * products


@pytest.mark.parametrize('remat', ['full', 'dots'])
def test_what_the_backward_pass_recomputes_asks_for_it_too(remat):
  model = small_networks.network(num_layers=2, remat=remat)
  found = precisions(training(model, abstract(model)))
  assert len(found) >= 3 * (PER_LAYER + 1)
  assert all(one == {'HIGHEST'} for one in found)


def test_products_of_int8_weights_ask_for_it_too():
  model = small_networks.network(num_layers=2)
  variables = jax.eval_shape(quantization.quantize, abstract(model))
  for program in (prefill, decode):
    found = precisions(program(model, variables))
    assert found and all(one == {'HIGHEST'} for one in found)


def exact_gelu(x):
  return x * (1 + np.vectorize(math.erf)(x / math.sqrt(2))) / 2


def tanh_gelu(x):
  """Equation 2 of arXiv 1606.08415."""
  inner = math.sqrt(2 / math.pi) * (x + 0.044715 * x**3)
  return x * (1 + np.tanh(inner)) / 2


def numpy_logits(params, activation, tokens):
  """Of a network of one layer whose attention adds nothing, in float64."""
  p = jax.tree.map(lambda w: np.asarray(w, np.float64), params)['params']
  block = jax.tree.map(lambda w: w[0], p['blocks'])

  def norm(x):
    return x / np.sqrt((x**2).mean(-1, keepdims=True) + 1e-5)

  x = p['embedding'][tokens]
  h = norm(x)
  x = x + (activation(h @ block['gate']) * (h @ block['up'])) @ block['down']
  return norm(x) @ p['embedding'].T


@pytest.mark.parametrize(
  'name, activation, other',
  [('gelu', tanh_gelu, exact_gelu), ('gelu_exact', exact_gelu, tanh_gelu)],
)
def test_gelu_is_the_formula_that_the_name_says(name, activation, other):
  model = small_networks.network(activation=name)
  params = tiny_run.fresh(model, seed=0)
  # Large enough for the two to differ; attention is left out.
  params = jax.tree.map(lambda w: w * (1 if w.ndim < 3 else 4), params)
  block = params['params']['blocks']
  block['output'] = block['output'] * 0
  net = network.Decoder(model)
  hidden, _ = net.apply(params, TOKENS, PLACES, TOKENS)
  found = np.asarray(net.apply(params, hidden, method='logits'))[0, -1]
  expected, wrong = (
    numpy_logits(params, function, 1) for function in (activation, other)
  )
  assert np.abs(expected - wrong).max() > 2e-4
  np.testing.assert_allclose(found, expected, atol=2e-5)
