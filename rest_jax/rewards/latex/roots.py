"""Integers under a root, in small primes."""

from math import isqrt

from rest_jax.rewards.latex import Undecided

_PRIMES = [
  p for p in range(2, 1000) if all(p % q for q in range(2, isqrt(p) + 1))
]


def factors(number: int) -> dict[int, int]:
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
