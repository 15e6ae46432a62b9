"""A sample's noise: pinned, its own, and good noise."""

import hashlib

import jax.numpy as jnp
import numpy as np

from rest_jax.sampling import identity

NAME = ('e_step', 2, 'math/train/17', 3)


def noise(seed=0, name=NAME, position=5, tokens=range(8)):
  keys = identity.keys(seed, [identity.words(*name)])
  ids = jnp.asarray(list(tokens), jnp.int32)[None]
  return np.asarray(identity.gumbel(keys, np.int32(position), ids))[0]


def threefry(key, count):
  """Threefry-2x32, 20 rounds (Salmon et al. 2011), in Python integers."""
  mask = 0xFFFFFFFF
  keys = [*key, key[0] ^ key[1] ^ 0x1BD11BDA]
  x, y = (count[0] + keys[0]) & mask, (count[1] + keys[1]) & mask
  for block in range(5):
    for turn in ((13, 15, 26, 6), (17, 29, 16, 24))[block % 2]:
      x = (x + y) & mask
      y = ((y << turn | y >> (32 - turn)) & mask) ^ x
    x = (x + keys[(block + 1) % 3]) & mask
    y = (y + keys[(block + 2) % 3] + block + 1) & mask
  return x, y


def test_the_noise_of_a_named_sample_is_this_function_of_its_name():
  words = []
  for text in (NAME[0], NAME[2]):
    digest = hashlib.sha256(text.encode()).digest()
    words.append([int.from_bytes(digest[i : i + 4], 'little') for i in (0, 4)])
  key = (0, 7)  # the seed
  for word in (*words[0], NAME[1], *words[1], NAME[3]):
    key = threefry(key, (0, word))
  made = identity.keys(7, [identity.words(*NAME)])
  assert np.asarray(made)[0].tolist() == list(key)
  at = threefry(key, (0, 5))  # the position
  bits = [threefry(at, (0, token))[0] for token in range(8)]
  uniform = [((b >> 8) + 0.5) / 2**24 for b in bits]
  np.testing.assert_allclose(noise(7), -np.log(-np.log(uniform)), rtol=1e-5)


def test_the_noise_never_changes_from_version_to_version():
  # Golden: a change here makes every old run impossible to extend.
  made = identity.keys(7, [identity.words(*NAME)])
  assert np.asarray(made)[0].tolist() == GOLDEN_KEY
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


GOLDEN_KEY = [1130384438, 2876520726]
GOLDEN_NOISE = [0.32586256, -0.33926293, -0.44231585, -0.3665528]
