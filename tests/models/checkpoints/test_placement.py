"""What a host reads of a checkpoint while it puts it onto a mesh."""

import itertools

import jax
import meshes
import numpy as np
import pytest
import small_networks

from rest_jax.models.checkpoints import placement, policies, weights

MODEL = small_networks.network(
  vocab_size=64,
  embed_dim=16,
  head_dim=8,
  mlp_dim=32,
  num_heads=8,
  num_kv_heads=8,
)


class Numbered:
  """A checkpoint of random matrices that counts how often a value is read."""

  def __init__(self):
    rng = np.random.default_rng(0)
    self.values = {
      (t.name, t.layer): rng.normal(size=t.shape).astype(np.float32)
      for t in weights.tensors(MODEL)
    }
    self.reads = {
      key: np.zeros(values.shape, int) for key, values in self.values.items()
    }

  def dtype(self, tensor):
    return np.dtype(np.float32)

  def read(self, tensor, rows, columns):
    key = tensor.name, tensor.layer
    where = (rows, columns) if tensor.inputs else rows
    self.reads[key][where] += 1
    return self.values[key][where]


@pytest.mark.parametrize(
  'shape', [(1, 1, 1), (1, 1, 8), (1, 8, 1), (2, 2, 2), (8, 1, 1), (1, 2, 4)]
)
def test_each_value_is_read_once_however_the_devices_split_it(shape):
  mesh = meshes.mesh(*shape)
  source = Numbered()
  placed = placement.place(source, MODEL, policies.abstract(MODEL, mesh))
  for key, counts in source.reads.items():
    assert (counts == 1).all(), key
  one = meshes.mesh()
  alone = placement.place(Numbered(), MODEL, policies.abstract(MODEL, one))
  for ours, expected in zip(
    jax.tree.leaves(placed), jax.tree.leaves(alone), strict=True
  ):
    np.testing.assert_array_equal(ours, expected)


def test_the_hull_is_what_blocks_make_up_without_gaps():
  rng = np.random.default_rng(0)
  for _ in range(200):
    cuts = [sorted({0, 6, *rng.integers(0, 7, 2)}) for _ in range(2)]
    grid = [list(itertools.pairwise(cut)) for cut in cuts]
    blocks = list(itertools.product(*grid))
    chosen = {b for b in blocks if rng.random() < 0.7} or {blocks[0]}
    covered = np.zeros((6, 6), bool)
    for (a, b), (c, d) in chosen:
      covered[a:b, c:d] = True
    rows, columns = np.nonzero(covered)
    top, left = rows.min(), columns.min()
    bottom, right = rows.max() + 1, columns.max() + 1
    whole = covered[top:bottom, left:right].all()
    expected = ((top, bottom), (left, right)) if whole else None
    assert placement._hull(chosen) == expected
