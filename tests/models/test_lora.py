"""Adapters beside the network, and merged, against W + s A B written out."""

import dataclasses
import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import small_networks
import tiny_run
from meshes import mesh

from rest_jax.config import configuration
from rest_jax.models import adapters, lora, network
from rest_jax.models.lora import LoraConfig
from rest_jax.training import train_step

PLAIN = small_networks.network(num_layers=2, num_heads=4)
# Two layers a pattern, and one left over behind it.
MIXED = dataclasses.replace(
  PLAIN, num_layers=5, layer_pattern=('local', 'global'), window=3
)
LORA = LoraConfig(rank=3, alpha=12.0)
# How an einsum of numpy reads A and B of each matrix, by hand.
LETTERS = {
  'query': 'ldz,lzkre->ldkre',
  'key': 'ldz,lzke->ldke',
  'value': 'ldz,lzke->ldke',
  'output': 'lkrez,lzd->lkred',
  'gate': 'ldz,lzf->ldf',
  'up': 'ldz,lzf->ldf',
  'down': 'lfz,lzd->lfd',
}
both = pytest.mark.parametrize('model', [PLAIN, MIXED], ids=['plain', 'mixed'])


@functools.cache
def base(model):
  return jax.tree.map(lambda w: w * 1.5, tiny_run.fresh(model, seed=1))


@functools.cache
def drawn(model, config=LORA):
  """Adapters with a B that is not zero."""
  made = adapters.fresh(model, config, jax.random.key(3))
  rng = np.random.default_rng(0)
  return jax.tree.map(
    lambda w: jnp.asarray(rng.normal(size=w.shape) * 0.12, jnp.float32), made
  )


def flat(tree):
  return {
    jax.tree_util.keystr(path, simple=True, separator='/'): leaf
    for path, leaf in jax.tree_util.tree_leaves_with_path(tree)
  }


def written_out(params, found, scale):
  """The merged parameters; jax.numpy so that it can be differentiated."""
  pairs = flat(found)

  def add(path, w):
    path = jax.tree_util.keystr(path, simple=True, separator='/')
    path = path.replace('params/', 'adapters/')
    if f'{path}/a' not in pairs:
      return w
    letters = LETTERS[path.rpartition('/')[2]]
    a, b = pairs[f'{path}/a'], pairs[f'{path}/b']
    return w + scale * jnp.einsum(letters, a, b, precision='highest')

  return jax.tree_util.tree_map_with_path(add, params)


def rows():
  rng = np.random.default_rng(5)
  shape = (3, 10)
  return {
    'tokens': rng.integers(3, 32, shape).astype(np.int32),
    'targets': rng.integers(3, 32, shape).astype(np.int32),
    'positions': np.broadcast_to(np.arange(10, dtype=np.int32), shape),
    'segment_ids': np.ones(shape, np.int32),
    'loss_weights': rng.random(shape).astype(np.float32),
  }


@functools.partial(jax.jit, static_argnums=0)
def logits(model, variables):
  batch = rows()
  net = network.Decoder(model)
  hidden, _ = net.apply(
    variables, batch['tokens'], batch['positions'], batch['segment_ids']
  )
  return net.apply(variables, hidden, method='logits')


@both
def test_fresh_adapters_leave_the_logits_as_they_are_bit_for_bit(model):
  made = adapters.fresh(model, LORA, jax.random.key(0))
  for path, leaf in flat(made).items():
    assert bool(jnp.any(leaf)) == path.endswith('/a')
  alone = logits(model, base(model))
  for variables in (
    adapters.beside(base(model), made, LORA),
    adapters.merge(base(model), made, model, LORA),
  ):
    assert np.array_equal(logits(model, variables), alone)


@both
def test_adapters_beside_the_weights_and_merged_give_the_same_logits(model):
  found = drawn(model)
  alone = np.asarray(logits(model, base(model)))
  expected = np.asarray(
    logits(model, written_out(base(model), found, 12.0 / 3))
  )
  assert np.abs(expected - alone).max() > 0.5
  beside = logits(model, adapters.beside(base(model), found, LORA))
  merged = adapters.merge(base(model), found, model, LORA)
  np.testing.assert_allclose(beside, expected, rtol=0, atol=5e-5)
  np.testing.assert_allclose(logits(model, merged), expected, rtol=0, atol=5e-5)


@both
def test_the_gradient_is_that_through_the_merged_weights(model):
  batch = rows()
  found = drawn(model)

  def loss(variables):
    return train_step.loss_sums(model, variables, batch)[0]

  ours = jax.jit(
    jax.grad(lambda it: loss(adapters.beside(base(model), it, LORA)))
  )(found)
  theirs = jax.jit(
    jax.grad(lambda it: loss(written_out(base(model), it, 12.0 / 3)))
  )(found)
  expected = flat(theirs)
  for path, leaf in flat(ours).items():
    top = np.abs(expected[path]).max()
    assert top > 1e-3, path
    np.testing.assert_allclose(leaf, expected[path], rtol=0, atol=2e-5 * top)


@both
def test_only_what_the_targets_match_is_adapted(model):
  config = LoraConfig(rank=2, targets='blocks/.*(query|down)$|^rest.*key')
  found = flat(adapters.fresh(model, config, jax.random.key(0)))
  paths = {path.removeprefix('adapters/').rpartition('/')[0] for path in found}
  if model is PLAIN:
    assert paths == {'blocks/query', 'blocks/down'}
  else:
    assert paths == {
      *('blocks/layers_0/query', 'blocks/layers_0/down'),
      *('blocks/layers_1/query', 'blocks/layers_1/down'),
      'rest/layers_0/key',
    }
  held = sum(leaf.size for leaf in found.values())
  assert lora.num_parameters(model, config) == held
  whole = sum(leaf.size for leaf in jax.tree.leaves(drawn(model)))
  assert lora.num_parameters(model, LORA) == whole > held
  # A matrix's A does not depend on which others have one.
  every = LoraConfig(rank=2)
  more = flat(adapters.fresh(model, every, jax.random.key(0)))
  assert all(np.array_equal(more[path], leaf) for path, leaf in found.items())


def test_a_is_drawn_as_peft_does():
  model = small_networks.network(embed_dim=64, mlp_dim=256)
  made = flat(adapters.fresh(model, LoraConfig(rank=64), jax.random.key(0)))
  for name, inputs in (('query', 64), ('down', 256)):
    values = np.asarray(made[f'adapters/blocks/{name}/a'])
    bound = inputs**-0.5
    assert np.abs(values).max() < bound
    assert values.std() == pytest.approx(bound / 3**0.5, rel=0.05)
    assert abs(values.mean()) < 0.05 * bound


def test_merging_rounds_once_and_keeps_dtypes_and_shardings():
  model = dataclasses.replace(PLAIN, dtype='bfloat16')
  on = mesh(data=2, fsdp=2, tensor=2)
  target = train_step.frozen(model, on, LORA)
  params = jax.tree.map(
    lambda w, t: jax.device_put(w.astype(t.dtype), t.sharding),
    base(PLAIN),
    target,
  )
  found = jax.tree.map(
    lambda w, t: jax.device_put(w, t.sharding),
    drawn(PLAIN),
    adapters.abstract(model, LORA, on),
  )
  wide = jax.tree.map(lambda w: np.asarray(w, np.float32), params)
  expected = flat(written_out(wide, drawn(PLAIN), 4.0))
  merged = adapters.merge(params, found, model, LORA)
  targets = flat(target)
  for path, leaf in flat(merged).items():
    assert leaf.dtype == jnp.bfloat16
    assert leaf.sharding.is_equivalent_to(targets[path].sharding, leaf.ndim)
    # Half a unit in the last of 8 bits, and float32's order of sums.
    np.testing.assert_allclose(
      np.asarray(leaf, np.float32), expected[path], rtol=2**-8, atol=1e-6
    )
  assert merged['params']['embedding'] is params['params']['embedding']
  donated = adapters.merge(params, found, model, LORA, donate=True)
  for a, b in zip(
    jax.tree.leaves(donated), jax.tree.leaves(merged), strict=True
  ):
    assert np.array_equal(a, b)


def test_adapters_are_split_as_their_matrices():
  on = mesh(data=2, fsdp=2, tensor=2)
  found = flat(adapters.abstract(PLAIN, LORA, on))
  spec = {
    path.removeprefix('adapters/blocks/'): tuple(leaf.sharding.spec)
    for path, leaf in found.items()
  }
  assert spec['query/a'] == (None, 'fsdp', None)
  assert spec['query/b'] == (None, None, 'tensor', None, None)
  assert spec['down/a'] == (None, 'tensor', None)
  assert spec['down/b'] == (None, None, 'fsdp')


@pytest.mark.parametrize(
  'fields, message',
  [
    ({'rank': -1}, 'rank: got -1'),
    ({'rank': 2, 'alpha': 0.0}, 'alpha: got 0.0'),
    ({'rank': 2, 'targets': '(query'}, 'no regular expression'),
  ],
)
def test_what_is_no_configuration_is_refused(fields, message):
  with pytest.raises(configuration.ConfigurationError, match=message):
    LoraConfig(**fields)


def test_targets_that_match_nothing_list_what_there_is():
  config = LoraConfig(rank=2, targets='q_proj')
  with pytest.raises(configuration.ConfigurationError) as error:
    lora.adapted(MIXED, config)
  assert "LORA_TARGETS: got 'q_proj'" in str(error.value)
  assert 'blocks/layers_1/down' in str(error.value)
  assert 'rest/layers_0/query' in str(error.value)


def test_off_is_one_value_whatever_the_other_dials_say():
  assert LoraConfig(alpha=3.0, targets='query') == LoraConfig()
  assert LoraConfig(rank=1, alpha=3.0) != LoraConfig(rank=1)
