"""Integers under a root."""

from math import isqrt

from rest_jax.rewards.math import Undecided

_PRIMES = [
  p for p in range(2, 1000) if all(p % q for q in range(2, isqrt(p) + 1))
]


def factors(number: int) -> dict[int, int]:
  """The primes of a number and their powers; Undecided for large ones."""
  found: dict[int, int] = {}
  for prime in _PRIMES:
    while number % prime == 0:
      number //= prime
      found[prime] = found.get(prime, 0) + 1
    if prime * prime > number:
      break
  if number > 1:
    if number >= _PRIMES[-1] ** 2:
      root = isqrt(number)
      if root * root == number and root < _PRIMES[-1] ** 2:
        found[root] = found.get(root, 0) + 2
        return found
      raise Undecided('a root of a number that is not factored')
    found[number] = found.get(number, 0) + 1
  return found


def is_power(number: int, degree: int) -> bool:
  """Whether a natural number is the degree-th power of another."""
  if number < 2 or degree == 1:
    return True
  low = 1 << (number.bit_length() - 1) // degree
  high = 2 * low
  while high - low > 1:  # low^degree <= number < high^degree
    middle = (low + high) // 2
    if middle**degree <= number:
      low = middle
    else:
      high = middle
  return low**degree == number
