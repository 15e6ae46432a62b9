"""A sample's noise: pinned, its own, and good noise."""

import decimal
import hashlib

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from rest_jax.sampling import identity

NAME = ('e_step', 2, 'math/train/17', 3)
HALF = decimal.Decimal('0.5')
# Bits at which a conversion to float32 rounds: the ends, the middle, and where
# 24 bits no longer hold the number.
EXTREMES = np.array(
  [
    *(0, 1, 127, 128, 2**24 - 1, 2**24, 2**24 + 1),
    *(2**31 - 129, 2**31 - 1, 2**31, 2**31 + 1, 2**31 + 129),
    *(2**32 - 2**24, 2**32 - 257, 2**32 - 129, 2**32 - 128, 2**32 - 1),
  ],
  np.uint32,
)


def noise(seed=0, name=NAME, position=5, tokens=range(8)):
  keys = identity.keys(seed, [identity.words(*name)])
  ids = jnp.asarray(list(tokens), jnp.int32)[None]
  return np.asarray(identity.gumbel(keys, np.full(len(keys), position), ids))[0]


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


def gumbel_in_60_digits(high, low):
  """The noise of 64 random bits, without any rounding that matters."""
  with decimal.localcontext(prec=60):
    v = (decimal.Decimal((int(high) << 32) + int(low)) + HALF) / 2**64
    return float(-(-(1 - v).ln()).ln())


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
  bits = [threefry(at, (0, token)) for token in range(8)]
  exact = [gumbel_in_60_digits(*words) for words in bits]
  np.testing.assert_allclose(noise(7), exact, rtol=0, atol=2e-6)


def test_the_noise_never_changes_from_version_to_version():
  # Golden: a change here makes every old run impossible to extend.
  made = identity.keys(7, [identity.words(*NAME)])
  assert np.asarray(made)[0].tolist() == GOLDEN_KEY
  np.testing.assert_allclose(noise(7)[:4], GOLDEN_NOISE, atol=2e-6)


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


def test_noise_is_right_at_every_extreme_of_its_bits():
  """In the float32 that runs: rounding to 1 gave infinite noise."""
  high, low = (axis.ravel() for axis in np.meshgrid(EXTREMES, EXTREMES))
  found = np.asarray(jax.jit(identity.gumbel_of_bits)(high, low))
  assert found.dtype == np.float32
  exact = [gumbel_in_60_digits(*pair) for pair in zip(high, low, strict=True)]
  np.testing.assert_allclose(found, exact, rtol=0, atol=5e-6)


@pytest.mark.parametrize('p', [0.3, 1e-3, 1e-5, 1e-7, 3e-8, 1e-8, 1e-12, 1e-16])
def test_a_token_of_probability_p_is_drawn_with_probability_p(p):
  """Counts the bits, of 2**64, by which a token of probability p wins.

  Against a token of probability 1 - p at 4,000 evenly spaced bits of its own.
  The noise falls as its bits rise, so the winning ones are found by bisection.
  """
  noise_of = jax.jit(identity.gumbel_of_bits)
  rivals = ((np.arange(4000) + 0.5) / 4000 * 2.0**64).astype(np.uint64)

  def words(bits):
    return (bits >> 32).astype(np.uint32), bits.astype(np.uint32)

  rival = np.asarray(noise_of(*words(rivals)))
  score = np.float32(np.log(p) - np.log1p(-p))
  wins = np.zeros(4000, np.uint64)
  for bit in 2 ** np.arange(63, -1, -1).astype(np.uint64):
    tried = wins | bit
    won = np.asarray(noise_of(*words(tried))) + score > rival
    wins = np.where(won, tried, wins)
  np.testing.assert_allclose((wins / 2.0**64).mean(), p, rtol=1e-3)


def test_noise_is_standard_gumbel():
  values = np.sort(noise(tokens=range(100_000)))
  cdf = np.exp(-np.exp(-values))
  gap = np.abs(cdf - (np.arange(100_000) + 0.5) / 100_000).max()
  assert gap < 0.008  # Kolmogorov-Smirnov; false alarm about 5e-6


GOLDEN_KEY = [1130384438, 2876520726]
GOLDEN_NOISE = [0.40767685, 1.2662822, 1.4402045, 1.3110034]
