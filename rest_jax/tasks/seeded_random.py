"""Random numbers that are the same on every machine and in every version.

Python promises only for `random.random()` that it stays the same across
versions, and numpy promises nothing. So every choice here is made from
`random()` of a generator that is seeded by a digest of what the choice is for.
"""

import hashlib
import random
from collections.abc import Sequence
from typing import Any, TypeVar

T = TypeVar('T')


class SeededRandom:
  """A random number generator that is seeded by a key.

  Generators of the same key give the same numbers. Those of different keys
  (another seed, another document) are independent, so that a choice does not
  depend on what was made before it.
  """

  def __init__(self, *key: Any):
    """Args:
    *key: any values; their repr() makes the seed.
    """
    digest = hashlib.sha256(repr(key).encode()).digest()
    self._generator = random.Random(int.from_bytes(digest[:16], 'big'))

  def uniform(self) -> float:
    """A number in [0, 1)."""
    return self._generator.random()

  def integer(self, low: int, high: int) -> int:
    """An integer from low to high, both included."""
    return low + int(self._generator.random() * (high - low + 1))

  def choice(self, options: Sequence[T]) -> T:
    """One of the options, all equally likely."""
    return options[int(self._generator.random() * len(options))]

  def weighted(self, options: Sequence[T], weights: Sequence[float]) -> T:
    """One of the options, with probabilities proportional to the weights."""
    left = self._generator.random() * sum(weights)
    for option, weight in zip(options, weights, strict=True):
      left -= weight
      if left < 0:
        return option
    return [o for o, w in zip(options, weights, strict=True) if w > 0][-1]


def fraction(*key: Any) -> float:
  """A number in [0, 1), uniform over keys, that depends on the key alone."""
  digest = hashlib.sha256(repr(key).encode()).digest()
  # A double holds 53 bits; 56 of them could round up to 1.
  return (int.from_bytes(digest[:7], 'big') >> 3) / 2**53
