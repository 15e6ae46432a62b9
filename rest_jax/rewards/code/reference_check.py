"""Tries a problem's tests on its own reference solutions, before they teach.

Tests that a right program fails, and problems whose solutions disagree, give
rewards that are noise. What is found here is what to drop.
"""

import dataclasses
from collections.abc import Sequence

from rest_jax.rewards import verdicts
from rest_jax.rewards.code.program_tests import Tests
from rest_jax.rewards.code.programs import Grader
from rest_jax.rewards.code.sandbox.supervisor import Limits
from rest_jax.rewards.verdicts import Verdict


@dataclasses.dataclass(frozen=True, slots=True)
class Examination:
  """What a problem's reference solutions say about its tests.

  Attributes:
    tests: with `wrapped` decided, where a solution passes.
    verdicts: one per solution.
    fault: why the problem should be dropped, in one line; empty if all
      solutions pass.
  """

  tests: Tests
  verdicts: tuple[Verdict, ...]
  fault: str


def examine(
  tests: Tests,
  solutions: Sequence[str],
  limits: Limits | None = None,
  *,
  grader: Grader,
) -> Examination:
  """Tries a problem's tests on its reference solutions.

  Calls whose outputs may or may not be wrapped in a list are decided here,
  for the problem: as more solutions pass. Where as many pass either way the
  fault says that it cannot be decided.

  Args:
    tests: of the problem.
    solutions: source of each.
    limits: for each test.
    grader: runs them.
  """
  limits = limits or Limits()
  options = [tests]
  if tests.ambiguous():
    options = [
      dataclasses.replace(tests, wrapped=wrapped) for wrapped in (True, False)
    ]
  results = [
    tuple(grader.grade(one, option, limits) for one in solutions)
    for option in options
  ]
  passed = [
    sum(verdict.outcome == verdicts.CORRECT for verdict in found)
    for found in results
  ]
  best = passed.index(max(passed))
  if not solutions:
    return Examination(tests, (), tests.fault() or 'no reference solution')
  if passed[best] == len(solutions):
    fault = ''
  else:
    first = next(v for v in results[best] if v.outcome != verdicts.CORRECT)
    fault = (
      f'{len(solutions) - passed[best]} of {len(solutions)} reference '
      f'solutions fail; the first: {first.outcome}, {first.detail}'
    )
  if len(options) == 2 and passed[0] == passed[1] and passed[0]:
    fault = 'the references disagree whether the outputs are wrapped in a list'
  chosen = options[best] if passed[best] else tests
  return Examination(chosen, results[best], fault)
