"""A sample's noise: pinned, its own, and good noise."""

import jax.numpy as jnp
import numpy as np

from rest_jax.sampling import identity

NAME = ('e_step', 2, 'math/train/17', 3)


def noise(seed=0, name=NAME, position=5, tokens=range(8)):
  keys = identity.keys(seed, [identity.words(*name)])
  ids = jnp.asarray(list(tokens), jnp.int32)[None]
  return np.asarray(identity.gumbel(keys, np.int32(position), ids))[0]


def test_the_noise_of_a_named_sample_never_changes():
  # Golden values: a change here makes every old run impossible to extend.
  np.testing.assert_array_equal(
    np.asarray(identity.keys(7, [identity.words(*NAME)])), GOLDEN_KEY
  )
  np.testing.assert_allclose(noise(7)[:4], GOLDEN_NOISE, rtol=1e-6)


def test_every_part_of_a_samples_name_changes_its_noise():
  names = [
    NAME,
    ('dval', *NAME[1:]),
    ('e_step', 3, *NAME[2:]),
    ('e_step', 2, 'math/train/18', 3),
    ('e_step', 2, 'math/train/17', 4),
  ]
  rows = [noise(name=name) for name in names]
  rows += [noise(seed=1), noise(position=6)]
  for i, a in enumerate(rows):
    for b in rows[:i]:
      assert np.abs(a - b).min() > 1e-6


def test_noise_belongs_to_the_token_and_not_to_its_place():
  whole = noise(tokens=range(200))
  np.testing.assert_array_equal(noise(tokens=[150, 3, 77]), whole[[150, 3, 77]])


def test_noise_is_standard_gumbel():
  values = np.sort(noise(tokens=range(100_000)))
  cdf = np.exp(-np.exp(-values))
  gap = np.abs(cdf - (np.arange(100_000) + 0.5) / 100_000).max()
  assert gap < 0.008  # Kolmogorov-Smirnov; false alarm about 5e-6


GOLDEN_KEY = [[0, 0]]
GOLDEN_NOISE = [0, 0, 0, 0]
