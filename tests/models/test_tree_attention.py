"""The kernel of rows that share prompts, interpreted on the CPU."""

import contextlib
import dataclasses
import functools
import re

import jax
import jax.numpy as jnp
import meshes
import numpy as np
import pytest
import small_networks
import tiny_run
import tpu_step
import tree_rows
from tree_rows import ROWS, Case

from rest_jax.distributed import partitioning
from rest_jax.models import (
  network,
  row_attention,
  segments,
  splash,
  tree_attention,
  tree_blocks,
)

LENGTHS = [13, 150]  # of two prefixes


@pytest.fixture(autouse=True)
def blocks_of_128(monkeypatch):
  """A row of 300 tokens is three blocks, a prefix of 160 places is two."""
  monkeypatch.setattr(splash, '_BLOCKS', {128: 1})


@functools.partial(jax.jit, static_argnums=(0, 1, 2))
def outputs(c, kind, fused, rows, *given):
  """(output, gradients) of `tree_rows.outputs`, by the kernel or by einsum."""

  def attend(rows, prefix, q, k, v):
    if fused:
      return tree_attention.attend(
        rows, prefix, c, kind, q, k, v, interpret=True
      )
    return row_attention.attend(rows, None, prefix, c, kind, q, k, v)

  return tree_rows.outputs(attend, rows, *given)


CASES = {
  'two prefixes and a row without': Case(
    small_networks.grouped(), 'global', 160, [1, -1, 0]
  ),
  'no prefix': Case(
    small_networks.grouped(num_kv_heads=1), 'global', 0, [-1, -1, -1]
  ),
  'a prefix of no row, a window, a cap': Case(
    small_networks.windowed(75, attention_soft_cap=2.0, num_kv_heads=4),
    'local',
    160,
    [1, 1, -1],
  ),
}


@pytest.mark.parametrize('name', CASES)
def test_outputs_are_brute_forces_and_gradients_those_of_einsum(name):
  case = CASES[name]
  rows, given = case.given(ROWS, LENGTHS)
  got = outputs(case.config, case.kind, True, rows, *given)
  expected = tree_rows.brute_force(case.config, case.kind, rows, *given[:-1])
  real = np.asarray(rows.ids_BL) > 0
  np.testing.assert_allclose(got[0][real], expected[real], atol=1e-5)
  assert np.isfinite(got[0]).all()
  by_einsum = outputs(case.config, case.kind, False, rows, *given)
  for a, b in zip(got[1:], by_einsum[1:], strict=True):
    assert float(jnp.abs(b).max()) > 0.1
    np.testing.assert_allclose(a, b, atol=1e-5)


def test_in_bfloat16_results_stay_within_the_rounding_of_what_is_given():
  """Against the same numbers in float32: scores and sums are not rounded."""
  case = CASES['two prefixes and a row without']
  c, kind = case.config, case.kind
  rows, (q, *others) = case.given(ROWS, LENGTHS)
  # Scores of 30 and more: rounded, they would be off by 0.1.
  rounded = [x.astype(jnp.bfloat16) for x in (8 * q, *others)]
  got = outputs(
    dataclasses.replace(c, dtype='bfloat16'), kind, True, rows, *rounded
  )
  exact = outputs(
    c, kind, False, rows, *(x.astype(jnp.float32) for x in rounded)
  )
  real = np.asarray(rows.ids_BL) > 0
  pairs = [
    (got[0][real], exact[0][real]),
    *zip(got[1:], exact[1:], strict=True),
  ]
  for a, b in pairs:
    assert a.dtype == jnp.bfloat16
    a, b = np.asarray(a, np.float32), np.asarray(b)
    # Queries are rounded once more, and so are weights and what is written.
    assert np.abs(a - b).max() < 0.02 * np.abs(b).max()
    assert np.abs(a - b).mean() < 0.015 * np.abs(b).mean()


def test_rows_without_parents_behind_a_prefix():
  c = small_networks.grouped(num_heads=2, num_kv_heads=1)
  rows = tree_rows.segments(
    [[(1, -1, 100), (2, -1, 60)], [(1, -1, 150), (0, -1, 10)]], [130, 9], [0, 0]
  )._replace(parents_BL=None)
  given = tree_rows.numbers(c, rows, 140)
  fused, einsum = (
    outputs(c, 'global', fused, rows, *given) for fused in (True, False)
  )
  real = np.asarray(rows.ids_BL) > 0
  np.testing.assert_allclose(fused[0][real], einsum[0][real], atol=1e-5)
  for a, b in zip(fused[1:], einsum[1:], strict=True):
    np.testing.assert_allclose(a, b, atol=1e-5)


@pytest.mark.parametrize('window', [None, 1, 40, 200])
@pytest.mark.parametrize('of_row', [[1, -1, 0], [0, 1, 0], [-1, -1, -1]])
def test_intervals_say_what_each_token_sees(window, of_row):
  rows = tree_rows.segments(ROWS, LENGTHS, of_row)
  found = np.asarray(tree_blocks.intervals(rows, 256, window))
  expected = tree_rows.mask(rows, window, 256)
  places = np.arange(expected.shape[2])
  sees = np.zeros_like(expected)
  for first, end in (tree_blocks.PREFIX, tree_blocks.PARENT, tree_blocks.OWN):
    sees |= (places >= found[:, first, :, None]) & (
      places < found[:, end, :, None]
    )
  real = np.asarray(rows.ids_BL) > 0
  np.testing.assert_array_equal(sees[real], expected[real])
  assert (sees[~real].sum(axis=-1) == 1).all()  # itself


@pytest.mark.parametrize('of_row', [[1, -1, 0], [-1, -1, -1]])
def test_pairs_are_the_blocks_of_which_something_is_seen(of_row):
  block, B, P, L = 10, 3, 160, 300
  rows = tree_rows.segments(ROWS, LENGTHS, of_row)
  intervals = tree_blocks.intervals(rows, P, None)
  pairs = tree_blocks.pairs(intervals, rows.of_rows, P, block)
  n = int(pairs.number)
  row, query, key, own, edges = (np.asarray(x)[:n] for x in pairs[:5])
  sees = tree_rows.mask(rows, None, P)
  padding = np.asarray(rows.ids_BL) == 0
  sees[padding] = np.eye(P + L, dtype=bool)[P + np.nonzero(padding)[1]]
  blocks = sees.reshape(B, L // block, block, -1, block).any(axis=(2, 4))
  found = list(zip(row, query, key, strict=True))
  assert sorted(found) == sorted(zip(*np.nonzero(blocks), strict=True))
  # Rows of one prefix, and blocks of a row, follow each other.
  prefix = np.maximum(of_row, 0)[row]
  assert found == sorted(
    found, key=lambda p: (max(of_row[p[0]], 0), p[0], p[1], p[2])
  )
  for first, last, what in (
    (tree_blocks.FIRST_OF_ROW, tree_blocks.LAST_OF_ROW, row),
    (
      tree_blocks.FIRST_OF_QUERIES,
      tree_blocks.LAST_OF_QUERIES,
      row * 100 + query,
    ),
    (tree_blocks.FIRST_OF_PREFIX, None, prefix),
  ):
    changes = np.diff(what, prepend=-1) != 0
    np.testing.assert_array_equal(edges & first > 0, changes)
    if last:
      np.testing.assert_array_equal(edges & last > 0, np.roll(changes, -1))
  # Blocks of the prefix have that of the row which comes next.
  for t in range(n):
    later = next(k for k in key[t:] if k >= P // block)
    assert own[t] == later - P // block


@pytest.fixture
def on_tpu(monkeypatch):
  """The network believes that it runs on a TPU; lists the kernels' uses."""
  used = []
  monkeypatch.setattr(partitioning, 'platform', lambda: 'tpu')
  for module, name in ((splash, 'causal'), (tree_attention, 'attend')):
    run = functools.partial(getattr(module, name), interpret=True)

    def kernel(*args, run=run, name=name, **named):
      used.append(name)
      return run(*args, **named)

    monkeypatch.setattr(module, name, kernel)
  return used


NETWORK = small_networks.grouped(
  num_layers=2, max_length=300, embed_dim=32, attention='auto'
)


def gradients(c, mesh=None):
  """Of the squared hidden states of real tokens, prefixes read first."""
  rows = tree_rows.segments(ROWS[:2] * 2, LENGTHS, [1, 0, -1, 1])
  params = tiny_run.fresh(c, seed=0)
  tokens_FP = jnp.arange(320).reshape(2, 160) * 5 % c.vocab_size
  places_FP = jnp.broadcast_to(jnp.arange(160)[None], (2, 160))
  tokens_BL = jnp.arange(1200).reshape(4, 300) * 7 % c.vocab_size
  net = network.Decoder(c)

  @jax.jit
  @jax.grad
  def gradient(params):
    with contextlib.ExitStack() as stack:
      if mesh is not None:
        stack.enter_context(partitioning.use(mesh))
      with partitioning.split_length(160):
        _, keys_values = net.apply(
          *(params, tokens_FP, places_FP, jnp.ones_like(tokens_FP)),
          keep_kv=True,
        )
      hidden, _ = net.apply(
        *(params, tokens_BL, rows.positions_BL, rows.ids_BL),
        parents_BL=rows.parents_BL,
        prefixes=segments.Prefixes(rows.of_rows, keys_values),
      )
    return jnp.mean(jnp.where(rows.ids_BL[..., None] > 0, hidden, 0) ** 2)

  return gradient(params)


def test_a_networks_gradients_on_a_mesh_are_those_of_one_device(on_tpu):
  mesh = meshes.mesh(data=2, fsdp=2, tensor=2)
  expected = gradients(dataclasses.replace(NETWORK, attention='einsum'))
  assert not on_tpu
  got = gradients(NETWORK, mesh)
  # The places of a prefix are split: no device has the keys that a kernel
  # needs to read it.
  assert set(on_tpu) == {'attend'}
  leaves = jax.tree.leaves(expected)
  assert max(np.abs(leaf).max() for leaf in leaves) > 1e-2
  for a, b in zip(jax.tree.leaves(got), leaves, strict=True):
    np.testing.assert_allclose(a, b, atol=2e-5, rtol=2e-4)


def test_rows_that_a_chip_cannot_hold_take_einsum(monkeypatch):
  q = jax.ShapeDtypeStruct((1, 4096, 8, 4, 128), jnp.bfloat16)
  keys = jax.ShapeDtypeStruct((1, 1024, 8, 128), jnp.bfloat16)
  prefix = segments.SharedPrefix(None, keys, keys)
  monkeypatch.undo()  # blocks of 512
  for kind, shape, expected in (
    ('TPU v5', q.shape, True),
    ('TPU v5 lite', q.shape, True),
    ('TPU v6 lite', (1, 8192, 8, 8, 128), True),
    ('TPU v4', q.shape, False),
    ('TPU v5', (1, 32768, 8, 4, 128), False),
    ('TPU v5 lite', (1, 32768, 8, 4, 128), True),
  ):
    monkeypatch.setattr(partitioning, 'device_kind', lambda kind=kind: kind)
    q = jax.ShapeDtypeStruct(shape, jnp.bfloat16)
    assert tree_attention.fits(prefix, q) == expected


@pytest.mark.parametrize(
  ('dtype', 'asked', 'expected'),
  [
    ('float32', 'float32', 'HIGHEST'),
    ('float32', 'bfloat16', 'DEFAULT'),
    # The compiler refuses a kernel that multiplies bfloat16 in float32.
    ('bfloat16', 'float32', 'DEFAULT'),
  ],
)
def test_the_products_of_both_kernels_have_the_networks_precision(
  dtype, asked, expected
):
  c = small_networks.grouped(matmul_precision=asked)
  rows = tree_rows.segments(ROWS, LENGTHS, [1, -1, 0])
  given = [x.astype(dtype) for x in tree_rows.numbers(c, rows, 160)]
  text = str(
    jax.make_jaxpr(functools.partial(outputs, c, 'global', True))(rows, *given)
  )
  found = re.findall(r'precision=\(?(?:Precision\.)?(\w+)', text)
  # For each of two heads: 2 products forward and 5 backward; and one of the
  # output with its gradient, which is always exact.
  assert sorted(found) == sorted(['HIGHEST'] + [expected] * 14)


@tpu_step.needs_libtpu
def test_a_training_step_with_the_kernel_compiles_for_a_tpu_that_is_not_here():
  """With GQA, local layers, a soft cap, padded rows and recomputation."""
  found = tpu_step.kernels('full', shares=True)
  # Each of the pattern's two layers: forward, again for the backward pass,
  # and the gradients.
  assert found.count('tree_forward') == 4
  assert found.count('tree_backward') == 2
