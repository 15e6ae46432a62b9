"""What the embedded (synthetic) tasks share: splits and a pretraining corpus.

An embedded task makes its problems itself, from a seed. A problem is a *chain*
(the calculation, without words) and its *statement* (the chain in words). A
digest of the chain decides which split it belongs to, so that no two splits
share a chain, in whatever words and however large they are.

The pretraining corpus imitates a web crawl: pages by different authors, with
several solved problems each, many of them flawed (flaw_rates.py). Solutions are
written in the style WORKED, every step written out, or in one of the terse
styles that imitate people. `train` has such human solutions, which are right.
"""

import abc
import dataclasses
from collections.abc import Collection, Iterator, Sequence
from typing import ClassVar

from rest_jax.config import configuration
from rest_jax.tasks import problem_sets, seeded_random
from rest_jax.tasks.problem_sets import DVAL, TEST, TRAIN
from rest_jax.tasks.synthetic import flaw_rates
from rest_jax.tasks.synthetic.chains import (
  Chain,
  Reference,
  SolvedProblem,
  Statement,
)

CORPUS = 'corpus'
WORKED = 'worked'  # the style in which every step is written out
EXEMPLARS = (
  'exemplars'  # what the problems of the few-shot prompt are drawn for
)
# The share of all chains that each split gets. Pools do not depend on the seed.
_POOLS = ((TRAIN, 0.15), (DVAL, 0.1), (TEST, 0.15), (CORPUS, 0.6))
_MAX_DRAWS = 20_000  # chains that are tried for one problem


@dataclasses.dataclass(frozen=True, kw_only=True)
class Corpus(configuration.Configuration):
  """The pretraining corpus; a task's own class adds its `flaws`.

  Attributes:
    num_documents: number of pages.
    problems_per_document: fewest and most problems on a page.
    human_share: share of solutions in a terse human style; the others are in
      the style WORKED.
    author_consistency: probability that a solution has the style and flaw that
      were drawn for its page's author, rather than its own. 0: the solutions
      of a page are independent.
    solutions_only: whether the base model is pretrained on the solutions alone,
      given their questions. A question's names and numbers are random, and to
      predict them teaches a small model nothing.
  """

  num_documents: int = 8000
  problems_per_document: tuple[int, int] = (3, 5)
  human_share: float = 0.2
  author_consistency: float = 0.25
  solutions_only: bool = False

  def check(self):
    self.require(self.num_documents > 0, 'num_documents', 'at least 1')
    low, high = self.problems_per_document
    ok = 1 <= low <= high
    self.require(ok, 'problems_per_document', '1 <= fewest <= most')
    for name in ('human_share', 'author_consistency'):
      self.require(0 <= getattr(self, name) <= 1, name, 'from 0 to 1')


@dataclasses.dataclass(frozen=True, kw_only=True)
class EmbeddedConfig(problem_sets.TaskConfig, abc.ABC):
  """The sizes and the difficulty of an embedded task.

  A task's own class adds the fields `difficulty`, `hard` and `corpus`, and the
  functions that are abstract here.

  Attributes:
    num_train: E-step problems, with human solutions.
    num_dval: problems of D_val.
    num_test: test problems.
    num_hard: problems of the transfer set, NAME_hard/test.
    human_style_weights: relative frequencies of HUMAN_STYLES, in `train` and in
      the corpus.
    exemplar_style: style of the few-shot prompt's solutions: 'human' or
      'worked'.
    vocab_size: ids of the vocabulary that is trained on the corpus; 260 of
      them are bytes and special tokens.
    whole_numbers: numbers of two digits up to this one are a single piece of
      that vocabulary; below 10, every digit is a piece.
  """

  NAME: ClassVar[str]
  HUMAN_STYLES: ClassVar[tuple[str, ...]]
  # Flaws that only WORKED solutions have: a terse one has no step to leave out.
  WORKED_FLAWS: ClassVar[tuple[str, ...]]
  MORE_CHAINS: ClassVar[str]  # how to allow more chains, for the error message

  num_train: int = 500
  num_dval: int = 300
  num_test: int = 500
  num_hard: int = 300
  human_style_weights: tuple[float, ...]
  exemplar_style: str = 'human'
  vocab_size: int = 640
  whole_numbers: int = 0

  @staticmethod
  @abc.abstractmethod
  def draw_chain(
    rng: seeded_random.SeededRandom, difficulty: configuration.Configuration
  ) -> Chain:
    """Draws a chain within the bounds of `difficulty`."""

  @staticmethod
  @abc.abstractmethod
  def write_statement(
    rng: seeded_random.SeededRandom,
    chain: Chain,
    difficulty: configuration.Configuration,
  ) -> Statement:
    """Puts a chain into words."""

  @staticmethod
  @abc.abstractmethod
  def write_solution(
    rng: seeded_random.SeededRandom,
    statement: Statement,
    style: str,
    flaw: str | None,
    flaws: flaw_rates.FlawRates,
  ) -> str:
    """Writes a solution.

    Args:
      rng: decides what style and flaw leave open.
      statement: of the problem.
      style: WORKED or one of HUMAN_STYLES.
      flaw: one of flaws.KINDS; None for a right solution.
      flaws: the details of the flaws, such as how many steps are left out.
    """

  @abc.abstractmethod
  def reference(self, statement: Statement) -> Reference:
    """What the grader compares solutions of this problem with."""

  def is_usable(self, chain: Chain) -> bool:
    """Whether a chain can be graded. The corpus takes every chain."""
    del chain
    return True

  def check(self):
    super().check()
    for name in ('num_train', 'num_dval', 'num_test', 'num_hard'):
      self.require(getattr(self, name) > 0, name, 'at least 1')
    weights = self.human_style_weights
    ok = len(weights) == len(self.HUMAN_STYLES) and min(weights) >= 0
    allowed = f'a weight >= 0 for each of {self.HUMAN_STYLES}'
    self.require(ok and sum(weights) > 0, 'human_style_weights', allowed)
    ok = self.exemplar_style in ('human', WORKED)
    self.require(ok, 'exemplar_style', f"'human' | {WORKED!r}")
    self.require(self.vocab_size > 300, 'vocab_size', 'above 300')
    ok = 0 <= self.whole_numbers <= 99
    self.require(ok, 'whole_numbers', 'from 0 to 99')

  def folders(self) -> list[tuple[str, str]]:
    name = self.NAME
    return [(name, TRAIN), (name, DVAL), (name, TEST), (f'{name}_hard', TEST)]

  def vocabulary_size(self) -> int | None:
    return None if self.vocabulary else self.vocab_size

  def vocabulary_pieces(self) -> Sequence[str]:
    return [str(number) for number in range(10, self.whole_numbers + 1)]

  def learns_solutions_only(self) -> bool:
    return self.corpus.solutions_only

  def num_documents(self) -> int:
    return self.corpus.num_documents

  def read(self, seed: int) -> problem_sets.TaskTexts:
    seen = set()
    exemplars = self._problems(seed, EXEMPLARS, TRAIN, self.num_shots, seen)
    numbers = (self.num_train, self.num_dval, self.num_test, self.num_hard)
    sets = []
    for (task, split), number in zip(self.folders(), numbers, strict=True):
      purpose = split if task == self.NAME else task
      rows = self._problems(seed, purpose, split, number, seen)
      sets.append(problem_sets.ProblemSet(task=task, split=split, rows=rows))
    return problem_sets.TaskTexts(sets=sets, exemplars=exemplars)

  def documents(
    self, seed: int, start: int, stop: int
  ) -> Iterator[Sequence[tuple[str, str]]]:
    for index in range(start, stop):
      page = self.document(seed, index)
      yield [(item.statement.question, item.solution) for item in page]

  def document(self, seed: int, index: int) -> list[SolvedProblem]:
    """One page of the corpus; it does not depend on the other pages."""
    corpus = self.corpus
    rng = seeded_random.SeededRandom(seed, CORPUS, index)
    author = rng.uniform(), rng.uniform()
    solved = []
    for _ in range(rng.integer(*corpus.problems_per_document)):
      chain = self._new_chain(rng, self.difficulty, CORPUS)
      statement = self.write_statement(rng, chain, self.difficulty)
      # Quantiles of the distributions over styles and over flaws.
      taste, care = rng.uniform(), rng.uniform()
      if rng.uniform() < corpus.author_consistency:
        taste, care = author
      flaw = corpus.flaws.at(len(chain.steps()), care)
      style = WORKED
      if taste < corpus.human_share and flaw not in self.WORKED_FLAWS:
        style = self._human_style(rng)
      text = self.write_solution(rng, statement, style, flaw, corpus.flaws)
      solved.append(SolvedProblem(statement, text, style, flaw))
    return solved

  def pool_of(self, chain: Chain) -> str:
    """The split that a chain belongs to: train, dval, test or corpus."""
    parts = [getattr(chain, f.name) for f in dataclasses.fields(chain)]
    left = seeded_random.fraction(f'{self.NAME} pool', *parts)
    for name, share in _POOLS:
      left -= share
      if left < 0:
        return name
    return CORPUS

  def _problems(
    self,
    seed: int,
    purpose: str,
    pool: str,
    number: int,
    seen: set[Chain],
  ) -> Sequence[problem_sets.Row]:
    """Draws problems.

    Args:
      seed: of the task.
      purpose: what they are for; independent problems for each purpose.
      pool: the split that their chains belong to.
      number: how many.
      seen: chains that may not be used; those of the problems are added.
    """
    hard = purpose == self.folders()[-1][0]
    difficulty = self.hard if hard else self.difficulty
    rows = []
    for index in range(number):
      rng = seeded_random.SeededRandom(seed, purpose, index)
      chain = self._new_chain(rng, difficulty, pool, seen)
      seen.add(chain)
      statement = self.write_statement(rng, chain, difficulty)
      rows.append(self._row(rng, statement, f'{index:06d}', purpose))
    return rows

  def _row(
    self,
    rng: seeded_random.SeededRandom,
    statement: Statement,
    key: str,
    purpose: str,
  ) -> problem_sets.Row:
    solution = None
    if purpose in (EXEMPLARS, TRAIN):
      worked = purpose == EXEMPLARS and self.exemplar_style == WORKED
      style = WORKED if worked else self._human_style(rng)
      solution = self.write_solution(
        rng, statement, style, None, self.corpus.flaws
      )
    reference = self.reference(statement)
    return problem_sets.Row(
      key=key,
      question=statement.question,
      level=str(len(statement.chain.steps())),
      type=statement.kind,
      solution=solution,
      answer=reference.answer,
      tests=reference.tests,
    )

  def _human_style(self, rng: seeded_random.SeededRandom) -> str:
    return rng.weighted(self.HUMAN_STYLES, self.human_style_weights)

  def _new_chain(
    self,
    rng: seeded_random.SeededRandom,
    difficulty: configuration.Configuration,
    pool: str,
    seen: Collection[Chain] = (),
  ) -> Chain:
    """Draws chains until one is of the pool, usable and not in `seen`."""
    for _ in range(_MAX_DRAWS):
      chain = self.draw_chain(rng, difficulty)
      if chain in seen or self.pool_of(chain) != pool:
        continue
      if pool == CORPUS or self.is_usable(chain):
        return chain
    raise configuration.ConfigurationError(
      f'{self.NAME}: no new problem for {pool} in {_MAX_DRAWS} draws with '
      f'{difficulty}. Ask for fewer problems, or {self.MORE_CHAINS}.'
    )
