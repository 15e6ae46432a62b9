"""Embedded task: grade-school arithmetic in words, from a seeded generator.

stories.py has the chains of calculations and their telling,
arithmetic_solutions.py how they are solved; what the splits and the corpus are
is said in embedded.py.
"""

import dataclasses
from typing import Literal

from rest_jax.tasks.synthetic import arithmetic_solutions, embedded, stories


@dataclasses.dataclass(frozen=True, kw_only=True)
class Corpus(embedded.Corpus):
  """The pretraining corpus.

  Attributes:
    flaws: how many solutions are flawed, and how.
  """

  flaws: arithmetic_solutions.Flaws = arithmetic_solutions.Flaws()


@dataclasses.dataclass(frozen=True, kw_only=True)
class ArithmeticConfig(embedded.EmbeddedConfig):
  """Sizes and knobs of the task.

  Attributes:
    difficulty: of the corpus and of all splits but the transfer set.
    hard: difficulty of the transfer set, arithmetic_hard/test.
    corpus: what the base model is pretrained on.
  """

  NAME = 'arithmetic'
  HUMAN_STYLES = arithmetic_solutions.HUMAN_STYLES
  WORKED_FLAWS = ('skipped_step',)
  SCARCE = 'raise max_start, max_operand or steps'

  grader: Literal['number'] = 'number'
  difficulty: stories.Difficulty = stories.Difficulty()
  hard: stories.Difficulty = stories.Difficulty(
    steps=(5, 6),
    step_weights=(1.0, 1.0),
    max_start=30,
    max_operand=20,
    max_factor=8,
    max_value=150,
  )
  corpus: Corpus = Corpus()
  human_style_weights: tuple[float, ...] = (2.0, 2.0, 1.0, 1.0, 1.0, 1.0)

  def draw(self, source, difficulty):
    return stories.draw_chain(source, difficulty)

  def tell(self, source, chain, difficulty):
    return stories.tell(source, chain, difficulty.kinds)

  def solve(self, source, story, style, flaw):
    if style == embedded.WORKED:
      return arithmetic_solutions.worked(source, story, flaw, self.corpus.flaws)
    return arithmetic_solutions.human(source, story, style, flaw)

  def check_of(self, story):
    return {'answer': str(story.chain.steps()[-1].result)}
