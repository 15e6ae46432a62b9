"""Embedded task: introductory programs that read numbers and print a result.

clauses.py has the chains of clauses and their telling, program_solutions.py how
they are programmed, distinguishing_tests.py their tests; what the splits and
the corpus are is said in embedded.py. Programs are graded by running them in
the sandbox.
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


@dataclasses.dataclass(frozen=True, kw_only=True)
class Corpus(embedded.Corpus):
  """The pretraining corpus.

  Attributes:
    flaws: how many programs are flawed, and how.
  """

  flaws: program_solutions.Flaws = program_solutions.Flaws()


@dataclasses.dataclass(frozen=True, kw_only=True)
class ProgramsConfig(embedded.EmbeddedConfig):
  """Sizes and knobs of the task.

  Attributes:
    difficulty: of the corpus and of all splits but the transfer set.
    hard: difficulty of the transfer set, programs_hard/test.
    corpus: what the base model is pretrained on.
  """

  NAME = 'programs'
  HUMAN_STYLES = program_solutions.HUMAN_STYLES
  WORKED_FLAWS = ('skipped_clause',)
  SCARCE = 'raise max_constant, max_factor or clauses'

  grader: Literal['program'] = 'program'
  difficulty: clauses.Difficulty = clauses.Difficulty()
  hard: clauses.Difficulty = clauses.Difficulty(
    clauses=(5, 6), clause_weights=(1.0, 1.0)
  )
  corpus: Corpus = Corpus()
  human_style_weights: tuple[float, ...] = (1.0, 1.0, 1.0, 1.0)

  def draw(self, source, difficulty):
    return clauses.draw_chain(source, difficulty)

  def tell(self, source, chain, difficulty):
    return clauses.tell(source, chain, difficulty)

  def solve(self, source, story, style, flaw):
    return program_solutions.write(
      source, story, style, flaw, self.corpus.flaws
    )

  def usable(self, chain):
    return distinguishing_tests.tests_of(chain) is not None

  def check_of(self, story):
    trial = distinguishing_tests.tests_of(story.chain)
    inputs = [story.input_text(list(values)) for values, _ in trial]
    outputs = [output + '\n' for _, output in trial]
    return {'tests': Tests.stdin(inputs, outputs).to_json()}
