"""Seeded choices that are the same on every machine and every version.

Of Python's generator only `random()` is promised to stay as it is, and numpy
promises nothing across versions; so every choice here is made from `random()`
of a generator that is seeded by a digest of what the choice is for.
"""

import hashlib
import random
from collections.abc import Sequence
from typing import Any, TypeVar

T = TypeVar('T')


class Draws:
  """A sequence of choices named by its key.

  Two Draws of the same key choose the same; those of different keys (another
  seed, another document) are independent, so nothing depends on the order in
  which things are made.
  """

  def __init__(self, *key: Any):
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
  """A number in [0, 1) that depends on the key alone."""
  digest = hashlib.sha256(repr(key).encode()).digest()
  # 53 bits: a double holds no more, and 56 of them could round up to 1.
  return (int.from_bytes(digest[:7], 'big') >> 3) / 2**53
