"""What the embedded tasks share: pools of chains, and pages with flaws.

An embedded task makes its problems itself. A problem is a *chain* (what is to
be calculated, without words) that is told as a *story*. Every chain belongs
to one split, by a digest of the chain: no split ever has a chain of another,
whatever the words and however large the splits. The pretraining corpus is
what a web crawl would have: pages by different authors, many of them flawed.
`train` has human solutions, which are right.
"""

import abc
import dataclasses
from collections.abc import Collection, Sequence
from typing import Any, ClassVar

from rest_jax.config import configuration
from rest_jax.tasks import problem_sets, seeded_random
from rest_jax.tasks.problem_sets import DVAL, TEST, TRAIN

CORPUS = 'corpus'
WORKED = 'worked'  # the style in which every step is written out
Rate = float | tuple[float, ...]
# Shares of all chains. A chain's split depends on nothing but the chain.
_POOLS = ((TRAIN, 0.15), (DVAL, 0.1), (TEST, 0.15), (CORPUS, 0.6))
_PATIENCE = 20_000  # draws without a new chain before giving up


@dataclasses.dataclass(frozen=True, kw_only=True)
class Flaws(configuration.Configuration):
  """How often the solutions of the pretraining corpus are flawed.

  A task's own class adds the fields named in KINDS, one rate for each kind of
  flaw. A rate is one number, or one for each number of steps from 1 on (the
  last one holds for all longer problems).

  Attributes:
    scale: multiplies the rates.
  """

  KINDS: ClassVar[tuple[str, ...]] = ()

  scale: float = 1.0

  def check(self):
    self.require(self.scale >= 0, 'scale', '>= 0')
    for name in self.KINDS:
      value = getattr(self, name)
      values = value if isinstance(value, tuple) else (value,)
      ok = bool(values) and all(0 <= rate <= 1 for rate in values)
      self.require(ok, name, 'rates from 0 to 1')
    for steps in range(1, 20):
      total = sum(self.rates(steps).values())
      if total > 1:
        raise configuration.ConfigurationError(
          f'Flaws: the rates for {steps} steps sum to {total:.3f}; they may '
          f'sum to at most 1: {self.rates(steps)}.'
        )

  def rates(self, steps: int) -> dict[str, float]:
    """The share of each flaw among solutions of so many steps."""
    result = {}
    for name in self.KINDS:
      value = getattr(self, name)
      if isinstance(value, tuple):
        value = value[min(steps, len(value)) - 1]
      result[name] = value * self.scale
    return result

  def at(self, steps: int, quantile: float) -> str | None:
    """The flaw at this quantile (0 <= quantile < 1) of the distribution."""
    for name, rate in self.rates(steps).items():
      quantile -= rate
      if quantile < 0:
        return name
    return None


@dataclasses.dataclass(frozen=True, kw_only=True)
class Corpus(configuration.Configuration):
  """The pretraining corpus; a task's own class adds its `flaws`.

  Attributes:
    num_documents: pages.
    problems_per_document: fewest and most problems on a page.
    human_share: share of solutions in a terse human style; the others are
      worked step by step.
    author_consistency: probability that a solution has its author's style and
      flaw rather than its own; 0: a page's solutions are independent.
  """

  num_documents: int = 8000
  problems_per_document: tuple[int, int] = (3, 5)
  human_share: float = 0.2
  author_consistency: float = 0.25

  def check(self):
    self.require(self.num_documents > 0, 'num_documents', 'at least 1')
    low, high = self.problems_per_document
    ok = 1 <= low <= high
    self.require(ok, 'problems_per_document', '1 <= fewest <= most')
    for name in ('human_share', 'author_consistency'):
      self.require(0 <= getattr(self, name) <= 1, name, 'from 0 to 1')


@dataclasses.dataclass(frozen=True)
class Written:
  """A problem of the corpus and what its author made of it."""

  story: Any  # has `question`
  solution: str
  style: str  # WORKED, or one of the task's HUMAN_STYLES
  flaw: str | None


@dataclasses.dataclass(frozen=True, kw_only=True)
class EmbeddedConfig(problem_sets.TaskConfig, abc.ABC):
  """Sizes and knobs of an embedded task.

  A task's own class adds the fields `difficulty`, `hard` and `corpus`, and
  says how to draw, tell and solve.

  Attributes:
    num_train: E-step problems, with human solutions.
    num_dval: problems of D_val.
    num_test: test problems.
    num_hard: problems of the transfer set, NAME_hard/test.
    human_style_weights: of HUMAN_STYLES, in `train` and the corpus.
    exemplar_style: of the few-shot prompt's solutions: 'human' or 'worked'.
    vocab_size: ids of the trained vocabulary, 260 of them bytes and the like.
  """

  NAME: ClassVar[str]
  HUMAN_STYLES: ClassVar[tuple[str, ...]]
  # Flaws of the worked style alone: a terse solution has no step to leave out.
  WORKED_FLAWS: ClassVar[tuple[str, ...]]
  SCARCE: ClassVar[str]  # what to do when there are no more chains

  num_train: int = 500
  num_dval: int = 300
  num_test: int = 500
  num_hard: int = 300
  human_style_weights: tuple[float, ...]
  exemplar_style: str = 'human'
  vocab_size: int = 640

  @abc.abstractmethod
  def draw(self, source: seeded_random.Draws, difficulty: Any) -> Any:
    """A chain: frozen, hashable, with steps()."""

  @abc.abstractmethod
  def tell(
    self, source: seeded_random.Draws, chain: Any, difficulty: Any
  ) -> Any:
    """A story: has `chain`, `question` and `kind`."""

  @abc.abstractmethod
  def solve(
    self, source: seeded_random.Draws, story: Any, style: str, flaw: str | None
  ) -> str:
    """A solution in this style, with this flaw."""

  @abc.abstractmethod
  def check_of(self, story: Any) -> dict[str, str]:
    """The fields of a problem_sets.Row that the grader reads."""

  def usable(self, chain: Any) -> bool:
    """Whether a problem can be made of a chain; pages take every chain."""
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

  def folders(self):
    name = self.NAME
    return [(name, TRAIN), (name, DVAL), (name, TEST), (f'{name}_hard', TEST)]

  def vocabulary_size(self):
    return None if self.vocabulary else self.vocab_size

  def num_documents(self):
    return self.corpus.num_documents

  def read(self, seed):
    seen = set()
    exemplars = self._problems(seed, 'exemplars', TRAIN, self.num_shots, seen)
    numbers = (self.num_train, self.num_dval, self.num_test, self.num_hard)
    sets = []
    for (task, split), number in zip(self.folders(), numbers, strict=True):
      purpose = split if task == self.NAME else task
      rows = self._problems(seed, purpose, split, number, seen)
      sets.append(problem_sets.ProblemSet(task=task, split=split, rows=rows))
    return problem_sets.TaskTexts(sets=sets, exemplars=exemplars)

  def documents(self, seed, start, stop):
    for index in range(start, stop):
      page = self.document(seed, index)
      yield [(item.story.question, item.solution) for item in page]

  def document(self, seed: int, index: int) -> list[Written]:
    """One page of the corpus, the same whatever else is made."""
    corpus = self.corpus
    page = seeded_random.Draws(seed, CORPUS, index)
    author = page.uniform(), page.uniform()
    written = []
    for _ in range(page.integer(*corpus.problems_per_document)):
      chain = self._new_chain(page, self.difficulty, CORPUS)
      story = self.tell(page, chain, self.difficulty)
      taste, care = page.uniform(), page.uniform()
      if page.uniform() < corpus.author_consistency:
        taste, care = author
      flaw = corpus.flaws.at(len(chain.steps()), care)
      style = WORKED
      if taste < corpus.human_share and flaw not in self.WORKED_FLAWS:
        style = self._human_style(page)
      text = self.solve(page, story, style, flaw)
      written.append(Written(story, text, style, flaw))
    return written

  def pool_of(self, chain: Any) -> str:
    """The split that a chain belongs to: train, dval, test or corpus."""
    parts = [getattr(chain, f.name) for f in dataclasses.fields(chain)]
    left = seeded_random.fraction(f'{self.NAME} pool', *parts)
    for name, share in _POOLS:
      left -= share
      if left < 0:
        return name
    return CORPUS

  def _problems(
    self, seed: int, purpose: str, pool: str, number: int, seen: set
  ) -> Sequence[problem_sets.Row]:
    """`number` problems with chains of the pool that are not in `seen` yet."""
    hard = purpose == self.folders()[-1][0]
    difficulty = self.hard if hard else self.difficulty
    rows = []
    for index in range(number):
      source = seeded_random.Draws(seed, purpose, index)
      chain = self._new_chain(source, difficulty, pool, seen)
      seen.add(chain)
      story = self.tell(source, chain, difficulty)
      rows.append(self._row(source, story, f'{index:06d}', purpose))
    return rows

  def _row(
    self, source: seeded_random.Draws, story: Any, key: str, purpose: str
  ) -> problem_sets.Row:
    solution = None
    if purpose in ('exemplars', TRAIN):
      worked = purpose == 'exemplars' and self.exemplar_style == WORKED
      style = WORKED if worked else self._human_style(source)
      solution = self.solve(source, story, style, None)
    return problem_sets.Row(
      key=key,
      question=story.question,
      level=str(len(story.chain.steps())),
      type=story.kind,
      solution=solution,
      **self.check_of(story),
    )

  def _human_style(self, source: seeded_random.Draws) -> str:
    return source.weighted(self.HUMAN_STYLES, self.human_style_weights)

  def _new_chain(
    self,
    source: seeded_random.Draws,
    difficulty: Any,
    pool: str,
    seen: Collection = (),
  ) -> Any:
    """A chain of the pool that is not in `seen`."""
    for _ in range(_PATIENCE):
      chain = self.draw(source, difficulty)
      if chain in seen or self.pool_of(chain) != pool:
        continue
      if pool == CORPUS or self.usable(chain):
        return chain
    raise configuration.ConfigurationError(
      f'{self.NAME}: no new problem for {pool} in {_PATIENCE} draws with '
      f'{difficulty}. Ask for fewer problems, or {self.SCARCE}.'
    )
