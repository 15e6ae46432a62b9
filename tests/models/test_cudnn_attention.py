"""The attention of GPUs: by jax's other implementation here, and on a GPU."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import small_networks
import tree_rows

from rest_jax.config import configuration
from rest_jax.models import (
  architecture,
  cudnn_attention,
  row_attention,
  segments,
)

# (segment, its parent, places): rows of 301 places, which no kernel takes.
ROWS = [
  [(1, -1, 70), (2, 1, 150), (3, 1, 30), (4, -1, 20), (0, -1, 31)],
  [(1, -1, 3), (2, 1, 130), (3, -1, 40), (4, 3, 41), (5, 3, 87)],
]
LENGTHS = [13, 83]  # of two prefixes
ON_GPU = jax.default_backend() == 'gpu'


def config(**changes):
  sizes = {'num_heads': 4, 'num_kv_heads': 2, 'dtype': 'bfloat16'}
  return small_networks.network(**sizes | changes)


def outputs(c, kind, rows, q, k, v, *rest):
  """(output, gradients of q, k, v and the prefixes' keys and values)."""
  *shared, do = rest

  def attend(q, k, v, *shared):
    prefix = segments.SharedPrefix(rows.of_rows, *shared) if shared else None
    return row_attention.attend(rows, None, prefix, c, kind, q, k, v)

  out, pullback = jax.vjp(attend, q, k, v, *shared)
  return out, *pullback(do)


def relative(a, b):
  a, b = (np.asarray(x, np.float32) for x in (a, b))
  return np.abs(a - b).max() / np.abs(b).max()


WINDOW = {'num_layers': 2, 'layer_pattern': ('global', 'local'), 'window': 75}
CASES = {
  'two prefixes': (config(), 'global', 83, [1, 0]),
  'a row without a prefix': (config(), 'global', 83, [1, -1]),
  'no prefix': (config(num_kv_heads=1), 'global', 0, [-1, -1]),
  'a window': (config(**WINDOW), 'local', 83, [0, 1]),
}


@pytest.mark.parametrize('name', CASES)
def test_results_are_brute_forces_and_gradients_those_of_einsum(
  name, monkeypatch
):
  c, kind, places, of_row = CASES[name]
  dtype = 'bfloat16' if ON_GPU else 'float32'
  if not ON_GPU:
    monkeypatch.setattr(cudnn_attention, 'IMPLEMENTATION', 'xla')
  rows = tree_rows.segments(ROWS, LENGTHS, of_row)
  if not places:
    rows = rows._replace(of_rows=None)
  given = tree_rows.numbers(c, rows, places, dtype)

  def by(how):
    monkeypatch.setattr(architecture, 'attention_on', lambda *_: how)
    run = jax.jit(functools.partial(outputs, c, kind))
    assert ('attention_fwd' in str(jax.make_jaxpr(run)(rows, *given))) == (
      ON_GPU and how == 'cudnn'
    )
    return run(rows, *given)

  got, by_einsum = by('cudnn'), by('einsum')
  prefix = None
  if places:
    prefix = segments.SharedPrefix(rows.of_rows, *given[3:5])
  expected = tree_rows.brute_force(rows, prefix, c, kind, *given[:3])
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
