"""Embedded task: grade-school arithmetic in words, from a seeded generator.

word_problems.py makes the problems, arithmetic_solutions.py their solutions;
embedded.py makes splits and a pretraining corpus of them.
"""

import dataclasses
from typing import Literal

from rest_jax.tasks.synthetic import (
  arithmetic_solutions,
  embedded,
  word_problems,
)
from rest_jax.tasks.synthetic.chains import Reference


@dataclasses.dataclass(frozen=True, kw_only=True)
class Corpus(embedded.Corpus):
  """The pretraining corpus.

  Attributes:
    flaws: how many solutions are flawed, and how.
  """

  flaws: arithmetic_solutions.Flaws = arithmetic_solutions.Flaws()


@dataclasses.dataclass(frozen=True, kw_only=True)
class ArithmeticConfig(embedded.EmbeddedConfig):
  """The task `arithmetic`; see EmbeddedConfig for the other fields.

  Attributes:
    difficulty: of the corpus and of all splits but the transfer set.
    hard: difficulty of the transfer set, arithmetic_hard/test.
    corpus: what the base model is pretrained on.
  """

  NAME = 'arithmetic'
  HUMAN_STYLES = arithmetic_solutions.HUMAN_STYLES
  WORKED_FLAWS = ('skipped_step',)
  MORE_CHAINS = 'raise max_start, max_operand or steps'

  grader: Literal['number'] = 'number'
  difficulty: word_problems.Difficulty = word_problems.Difficulty()
  hard: word_problems.Difficulty = word_problems.Difficulty(
    steps=(5, 6),
    step_weights=(1.0, 1.0),
    max_start=30,
    max_operand=20,
    max_factor=8,
    max_value=150,
  )
  corpus: Corpus = Corpus()
  human_style_weights: tuple[float, ...] = (2.0, 2.0, 1.0, 1.0, 1.0, 1.0)

  draw_chain = staticmethod(word_problems.draw_chain)
  write_statement = staticmethod(word_problems.write_statement)
  write_solution = staticmethod(arithmetic_solutions.write)

  def pool_of(self, chain: word_problems.Chain) -> str:
    """The split of a chain: two orders of the same factors share theirs."""
    return super().pool_of(chain.unordered())

  def reference(self, statement: word_problems.Statement) -> Reference:
    """The answer: the result of the last step."""
    return Reference(answer=str(statement.chain.steps()[-1].result))
