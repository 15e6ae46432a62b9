"""What an embedded task makes of a chain: a problem, its check, its solutions.

word_problems.py and clauses.py have the chains and statements of the two tasks.
"""

import dataclasses
from collections.abc import Sequence
from typing import Any, Protocol


class Chain(Protocol):
  """A calculation without words; a frozen dataclass."""

  def steps(self) -> Sequence[Any]:
    """Its steps; their number is the problem's level."""


class Statement(Protocol):
  """A chain in words."""

  chain: Chain

  @property
  def question(self) -> str:
    """The text of the problem."""

  @property
  def kind(self) -> str:
    """The problem's type, for tables."""


@dataclasses.dataclass(frozen=True)
class SolvedProblem:
  """A problem of the corpus with its solution, which may be flawed.

  Attributes:
    statement: of the problem.
    solution: its text.
    style: WORKED, or one of the task's HUMAN_STYLES.
    flaw: one of the task's FlawRates.KINDS; None for a right solution.
  """

  statement: Statement
  solution: str
  style: str
  flaw: str | None


@dataclasses.dataclass(frozen=True, kw_only=True)
class Reference:
  """What the grader compares a solution with: an answer, or tests.

  Attributes:
    answer: as problem_sets.Row.answer.
    tests: as problem_sets.Row.tests.
  """

  answer: str | None = None
  tests: str | None = None
