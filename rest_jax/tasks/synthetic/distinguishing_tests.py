"""Tests for the programs of a chain that tell it from its near misses.

A *near miss* is what a careless program does: it leaves out a clause, or all
from some clause on, takes one for another, prints something else, or does
nothing but echo. Inputs are drawn until every near miss that differs on some
candidate input fails on a chosen one. So a wrong program of that sort earns
no reward, and neither does one that prints a constant.
"""

import dataclasses
import functools
from collections.abc import Iterable

from rest_jax.tasks.seeded_random import Draws
from rest_jax.tasks.synthetic.clauses import ASKS, Chain

FEWEST = 3  # tests
_CANDIDATES = 24  # inputs to choose from
_LOW, _HIGH = -9, 20  # of the numbers
_LONGEST = 8


@functools.lru_cache(maxsize=4096)
def tests_of(chain: Chain) -> tuple[tuple[tuple[int, ...], str], ...] | None:
  """(input, output) pairs for a chain; the same wherever it occurs.

  Returns:
    The most telling first; None where the chain makes no good problem: a
    clause of it changes nothing, or its output is always the same.
  """
  inputs = _candidates(chain)
  outputs = [chain.output(list(values)) for values in inputs]
  if len(set(outputs)) < 2:
    return None
  missed = []  # for each near miss the candidates that it fails on
  for other, needed in _near_misses(chain):
    fails = {
      i
      for i, values in enumerate(inputs)
      if other.output(list(values)) != outputs[i]
    }
    if needed and not fails:
      return None
    if fails:
      missed.append(fails)
  # A program that prints a constant fails on all that differ from it.
  missed += [
    {i for i, output in enumerate(outputs) if output != constant}
    for constant in dict.fromkeys(outputs)
  ]
  chosen = _cover(missed, len(inputs))
  return tuple((inputs[i], outputs[i]) for i in chosen)


def _candidates(chain: Chain) -> list[tuple[int, ...]]:
  """Inputs; the first one is empty."""
  draws = Draws('programs tests', chain)
  special = [clause.number for clause in chain.clauses if clause.number]
  inputs = [()]
  while len(inputs) < _CANDIDATES:
    values = []
    for _ in range(draws.integer(3, _LONGEST)):
      if special and draws.uniform() < 0.3:
        values.append(draws.choice(special) + draws.integer(-1, 1))
      else:
        values.append(draws.integer(_LOW, _HIGH))
    inputs.append(tuple(values))
  return inputs


def _near_misses(chain: Chain) -> Iterable[tuple[Chain, bool]]:
  """(what is done in place of the chain, whether it must be told apart)."""
  clauses = chain.clauses
  kept = {clauses[:i] for i in range(len(clauses))}
  kept |= {clauses[:i] + clauses[i + 1 :] for i in range(len(clauses))}
  for some in sorted(kept, key=repr):
    yield dataclasses.replace(chain, clauses=some), True
  yield Chain((), 'list'), True
  for i, clause in enumerate(clauses):
    other = (*clauses[:i], clause.mistaken(), *clauses[i + 1 :])
    yield dataclasses.replace(chain, clauses=other), False
  if near := ASKS[chain.ask].near:
    yield dataclasses.replace(chain, ask=near), True


def _cover(sets: list[set[int]], size: int) -> list[int]:
  """Few of range(size) that meet every set, the most telling first."""
  chosen, left = [], list(sets)
  while left:
    best = max(range(size), key=lambda i: sum(i in one for one in left))
    chosen.append(best)
    left = [one for one in left if best not in one]
  others = (i for i in range(size) if i not in chosen)
  while len(chosen) < FEWEST:
    chosen.append(next(others))
  return chosen
