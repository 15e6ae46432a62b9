"""The attention of GPUs: by jax's other implementation here, and on a GPU."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import small_networks
import tree_rows
from tree_rows import Case

from rest_jax.config import configuration
from rest_jax.models import (
  architecture,
  cudnn_attention,
  row_attention,
)

# Of 301 places, which no kernel takes.
ROWS = [
  [*pieces, (segment, parent, places + 1)]
  for *pieces, (segment, parent, places) in tree_rows.ROWS[:2]
]
LENGTHS = [13, 83]  # of two prefixes
ON_GPU = jax.default_backend() == 'gpu'


config = functools.partial(small_networks.grouped, dtype='bfloat16')


def outputs(c, kind, rows, *given):
  """(output, gradients) of `tree_rows.outputs`."""

  def attend(rows, prefix, q, k, v):
    return row_attention.attend(rows, None, prefix, c, kind, q, k, v)

  return tree_rows.outputs(attend, rows, *given)


def relative(a, b):
  a, b = (np.asarray(x, np.float32) for x in (a, b))
  return np.abs(a - b).max() / np.abs(b).max()


CASES = {
  'two prefixes': Case(config(), 'global', 83, [1, 0]),
  'a row without a prefix': Case(config(), 'global', 83, [1, -1]),
  'no prefix': Case(config(num_kv_heads=1), 'global', 0, [-1, -1]),
  'a window': Case(
    small_networks.windowed(75, dtype='bfloat16'), 'local', 83, [0, 1]
  ),
}


@pytest.mark.parametrize('name', CASES)
def test_results_are_brute_forces_and_gradients_those_of_einsum(
  name, monkeypatch
):
  case = CASES[name]
  dtype = 'bfloat16' if ON_GPU else 'float32'
  if not ON_GPU:
    monkeypatch.setattr(cudnn_attention, 'IMPLEMENTATION', 'xla')
  rows, given = case.given(ROWS, LENGTHS, dtype)

  def by(how):
    monkeypatch.setattr(architecture, 'attention_on', lambda *_: how)
    run = jax.jit(functools.partial(outputs, case.config, case.kind))
    assert ('attention_fwd' in str(jax.make_jaxpr(run)(rows, *given))) == (
      ON_GPU and how == 'cudnn'
    )
    return run(rows, *given)

  got, by_einsum = by('cudnn'), by('einsum')
  expected = tree_rows.brute_force(case.config, case.kind, rows, *given[:-1])
  real = np.asarray(rows.ids_BL) > 0
  near = 0.02 if ON_GPU else 1e-5
  assert relative(got[0][real], expected[real]) < near
  for a, b in zip(got[1:], by_einsum[1:], strict=True):
    assert float(jnp.abs(b).max()) > 0.1
    assert relative(a, b) < near


@pytest.mark.parametrize(
  ('changes', 'expected'),
  [
    ({}, 'cudnn'),
    ({'head_dim': 128}, 'cudnn'),
    ({'head_dim': 256}, 'einsum'),
    ({'head_dim': 20}, 'einsum'),
    ({'dtype': 'float32'}, 'einsum'),
    ({'attention_soft_cap': 30.0}, 'einsum'),
  ],
)
def test_gpus_take_the_kernel_where_it_runs(changes, expected):
  assert architecture.attention_on('gpu', config(**changes)) == expected
  assert architecture.attention_on('cpu', config(**changes)) == 'einsum'


def test_the_kernel_is_refused_where_it_does_not_run():
  for platform, changes, message in (
    ('cpu', {}, "NVIDIA's GPUs, and the devices here are of the kind 'cpu'"),
    ('tpu', {}, "of the kind 'tpu'"),
    ('gpu', {'dtype': 'float32'}, "dtype = 'float32'; it takes bfloat16"),
    ('gpu', {'attention_soft_cap': 5.0}, 'attention_soft_cap = 5.0'),
    ('gpu', {'head_dim': 20}, 'head_dim = 20; it takes multiples of 8'),
  ):
    asked = config(attention='cudnn', **changes)
    with pytest.raises(configuration.ConfigurationError) as error:
      architecture.attention_on(platform, asked)
    assert message in str(error.value)
    assert '--gin.ATTENTION=auto' in str(error.value)
  wide = config(attention='cudnn', head_dim=256)
  assert architecture.attention_on('gpu', wide) == 'cudnn'
