"""Tests for the program of a chain that fail the likely wrong programs.

A *near miss* is a program with a likely mistake: it leaves out a clause, or all
clauses from some point on, mistakes one clause for another, prints something
else, or echoes its input. Of a fixed number of candidate inputs a few are
chosen, such that every near miss that gives another output on any candidate
fails on a chosen one. So does every program that prints a constant.
"""

import dataclasses
import functools
from collections.abc import Iterable

from rest_jax.tasks.seeded_random import SeededRandom
from rest_jax.tasks.synthetic.clauses import ASKS, Chain

MIN_TESTS = 3
_CANDIDATES = 24  # inputs to choose from
_LOW, _HIGH = -9, 20  # bounds of the numbers in an input
_LONGEST = 8  # numbers in an input


@functools.lru_cache(maxsize=4096)
def tests_of(chain: Chain) -> tuple[tuple[tuple[int, ...], str], ...] | None:
  """Chooses the tests of a chain; they depend on nothing but the chain.

  Returns:
    (input, output) pairs, those that fail the most near misses first. None if
    the chain makes no good problem: some clause never changes the output, or
    the output is the same for all inputs.
  """
  inputs = _candidates(chain)
  outputs = [chain.output(list(values)) for values in inputs]
  if len(set(outputs)) < 2:
    return None
  failing = []  # for each near miss, the candidates that it fails on
  for other, needed in _near_misses(chain):
    fails = {
      i
      for i, values in enumerate(inputs)
      if other.output(list(values)) != outputs[i]
    }
    if needed and not fails:
      return None
    if fails:
      failing.append(fails)
  # A program that prints a constant fails on all outputs that differ from it.
  failing += [
    {i for i, output in enumerate(outputs) if output != constant}
    for constant in dict.fromkeys(outputs)
  ]
  chosen = _cover(failing, len(inputs))
  return tuple((inputs[i], outputs[i]) for i in chosen)


def _candidates(chain: Chain) -> list[tuple[int, ...]]:
  """Draws candidate inputs. The first one is empty; others hold edge cases."""
  rng = SeededRandom('programs tests', chain)
  special = [clause.number for clause in chain.clauses if clause.number]
  inputs = [()]
  while len(inputs) < _CANDIDATES:
    values = []
    for _ in range(rng.integer(3, _LONGEST)):
      if special and rng.uniform() < 0.3:
        values.append(rng.choice(special) + rng.integer(-1, 1))
      else:
        values.append(rng.integer(_LOW, _HIGH))
    inputs.append(tuple(values))
  return inputs


def _near_misses(chain: Chain) -> Iterable[tuple[Chain, bool]]:
  """Likely mistakes.

  Yields:
    (a chain that does something else, whether the chain is refused if no
    candidate input tells the two apart).
  """
  clauses = chain.clauses
  kept = {clauses[:i] for i in range(len(clauses))}
  kept |= {clauses[:i] + clauses[i + 1 :] for i in range(len(clauses))}
  for some in sorted(kept, key=repr):
    yield dataclasses.replace(chain, clauses=some), True
  yield Chain((), 'list'), True
  for i, clause in enumerate(clauses):
    other = (*clauses[:i], clause.misread(), *clauses[i + 1 :])
    yield dataclasses.replace(chain, clauses=other), False
  if near := ASKS[chain.ask].near:
    yield dataclasses.replace(chain, ask=near), True


def _cover(sets: list[set[int]], size: int) -> list[int]:
  """Greedy set cover: few of range(size) that hit every set, best first."""
  chosen, left = [], list(sets)
  while left:
    best = max(range(size), key=lambda i: sum(i in one for one in left))
    chosen.append(best)
    left = [one for one in left if best not in one]
  others = (i for i in range(size) if i not in chosen)
  while len(chosen) < MIN_TESTS:
    chosen.append(next(others))
  return chosen
