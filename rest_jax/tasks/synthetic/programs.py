"""Embedded task: introductory programs that read numbers and print a result.

clauses.py makes the problems, distinguishing_tests.py their tests,
program_solutions.py their solutions; embedded.py makes splits and a pretraining
corpus of them. Programs are graded by running them in the sandbox.
"""

import dataclasses
from typing import Literal

from rest_jax.rewards.code.program_tests import Tests
from rest_jax.tasks.synthetic import (
  clauses,
  distinguishing_tests,
  embedded,
  program_solutions,
)
from rest_jax.tasks.synthetic.chains import Reference


@dataclasses.dataclass(frozen=True, kw_only=True)
class Corpus(embedded.Corpus):
  """The pretraining corpus.

  Attributes:
    flaws: how many programs are flawed, and how.
  """

  flaws: program_solutions.Flaws = program_solutions.Flaws()


@dataclasses.dataclass(frozen=True, kw_only=True)
class ProgramsConfig(embedded.EmbeddedConfig):
  """The task `programs`; see EmbeddedConfig for the other fields.

  Attributes:
    difficulty: of the corpus and of all splits but the transfer set.
    hard: difficulty of the transfer set, programs_hard/test.
    corpus: what the base model is pretrained on.
  """

  NAME = 'programs'
  HUMAN_STYLES = program_solutions.HUMAN_STYLES
  WORKED_FLAWS = ('skipped_clause',)
  MORE_CHAINS = 'raise max_constant, max_factor or clauses'

  grader: Literal['program'] = 'program'
  difficulty: clauses.Difficulty = clauses.Difficulty()
  hard: clauses.Difficulty = clauses.Difficulty(
    clauses=(5, 6), clause_weights=(1.0, 1.0)
  )
  corpus: Corpus = Corpus()
  human_style_weights: tuple[float, ...] = (1.0, 1.0, 1.0, 1.0)

  draw_chain = staticmethod(clauses.draw_chain)
  write_statement = staticmethod(clauses.write_statement)
  write_solution = staticmethod(program_solutions.write)

  def is_usable(self, chain: clauses.Chain) -> bool:
    """Whether tests can tell the chain's program from wrong ones."""
    return distinguishing_tests.tests_of(chain) is not None

  def reference(self, statement: clauses.Statement) -> Reference:
    """The tests of the chain, as standard input and output."""
    tests = distinguishing_tests.tests_of(statement.chain)
    inputs = [statement.input_text(list(values)) for values, _ in tests]
    outputs = [output + '\n' for _, output in tests]
    return Reference(tests=Tests.stdin(inputs, outputs).to_json())
