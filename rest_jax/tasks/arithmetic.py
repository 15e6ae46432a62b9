"""Embedded task: grade-school arithmetic in words, from a seeded generator.

Every chain of calculations (stories.Chain) belongs to one split, by a digest
of the chain: no split ever has the numbers and events of another, whatever
the words and however large the splits. The pretraining corpus is what a web
crawl would have: pages by different authors, many of them flawed. `train` has
human solutions, which are right.
"""

import dataclasses
from collections.abc import Collection, Sequence

from rest_jax import configuration
from rest_jax.tasks import draws, problem_sets, solutions, stories
from rest_jax.tasks.problem_sets import DVAL, TEST, TRAIN

NAME, HARD = 'arithmetic', 'arithmetic_hard'
CORPUS = 'corpus'
# Shares of all chains. A chain's split depends on nothing but the chain.
_POOLS = ((TRAIN, 0.15), (DVAL, 0.1), (TEST, 0.15), (CORPUS, 0.6))
_PATIENCE = 20_000  # draws without a new chain before giving up


@dataclasses.dataclass(frozen=True, kw_only=True)
class Corpus(configuration.Configuration):
  """The pretraining corpus.

  Attributes:
    num_documents: pages.
    problems_per_document: fewest and most problems on a page.
    human_share: share of solutions in the terse human style; the others are
      worked step by step.
    author_consistency: probability that a solution has its author's style and
      flaw rather than its own; 0: a page's solutions are independent.
    flaws: how many solutions are flawed, and how.
  """

  num_documents: int = 8000
  problems_per_document: tuple[int, int] = (3, 5)
  human_share: float = 0.2
  author_consistency: float = 0.25
  flaws: solutions.Flaws = solutions.Flaws()

  def check(self):
    self.require(self.num_documents > 0, 'num_documents', 'at least 1')
    low, high = self.problems_per_document
    ok = 1 <= low <= high
    self.require(ok, 'problems_per_document', '1 <= fewest <= most')
    for name in ('human_share', 'author_consistency'):
      self.require(0 <= getattr(self, name) <= 1, name, 'from 0 to 1')


@dataclasses.dataclass(frozen=True, kw_only=True)
class ArithmeticConfig(problem_sets.TaskConfig):
  """Sizes and knobs of the task.

  Attributes:
    num_train: E-step problems, with human solutions.
    num_dval: problems of D_val.
    num_test: test problems.
    num_hard: problems of the transfer set arithmetic_hard/test.
    difficulty: of the corpus and of all splits but the transfer set.
    hard: difficulty of the transfer set.
    corpus: what the base model is pretrained on.
    human_style_weights: of solutions.HUMAN_STYLES, in `train` and the corpus.
    exemplar_style: of the few-shot prompt's solutions: 'human' or 'worked'.
    vocab_size: ids of the trained vocabulary, 260 of them bytes and the like.
  """

  num_train: int = 500
  num_dval: int = 300
  num_test: int = 500
  num_hard: int = 300
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
  exemplar_style: str = 'human'
  vocab_size: int = 640

  def check(self):
    super().check()
    for name in ('num_train', 'num_dval', 'num_test', 'num_hard'):
      self.require(getattr(self, name) > 0, name, 'at least 1')
    weights = self.human_style_weights
    ok = len(weights) == len(solutions.HUMAN_STYLES) and min(weights) >= 0
    allowed = f'a weight >= 0 for each of {solutions.HUMAN_STYLES}'
    self.require(ok and sum(weights) > 0, 'human_style_weights', allowed)
    ok = self.exemplar_style in ('human', 'worked')
    self.require(ok, 'exemplar_style', "'human' | 'worked'")
    self.require(self.vocab_size > 300, 'vocab_size', 'above 300')
    self.require(self.grader == 'number', 'grader', "'number'")

  def folders(self):
    return [(NAME, TRAIN), (NAME, DVAL), (NAME, TEST), (HARD, TEST)]

  def vocabulary_size(self):
    return None if self.vocabulary else self.vocab_size

  def num_documents(self):
    return self.corpus.num_documents

  def read(self, seed):
    seen = set()
    exemplars = _problems(self, seed, 'exemplars', TRAIN, self.num_shots, seen)
    sets = [
      problem_sets.ProblemSet(
        task=task, split=split, rows=_problems(self, seed, *key, number, seen)
      )
      for task, split, key, number in (
        (NAME, TRAIN, (TRAIN, TRAIN), self.num_train),
        (NAME, DVAL, (DVAL, DVAL), self.num_dval),
        (NAME, TEST, (TEST, TEST), self.num_test),
        (HARD, TEST, (HARD, TEST), self.num_hard),
      )
    ]
    return problem_sets.TaskTexts(sets=sets, exemplars=exemplars)

  def documents(self, seed, start, stop):
    for index in range(start, stop):
      page = document(self, seed, index)
      yield [(item.story.question, item.solution) for item in page]


def pool_of(chain: stories.Chain) -> str:
  """The split that a chain belongs to: train, dval, test or corpus."""
  left = draws.fraction('arithmetic pool', chain.start, chain.events)
  for name, share in _POOLS:
    left -= share
    if left < 0:
      return name
  return CORPUS


@dataclasses.dataclass(frozen=True)
class Written:
  """A problem of the corpus and what its author made of it."""

  story: stories.Story
  solution: str
  style: str  # 'worked', or one of solutions.HUMAN_STYLES
  flaw: solutions.Flaw | None


def document(config: ArithmeticConfig, seed: int, index: int) -> list[Written]:
  """One page of the corpus, the same whatever else is made."""
  corpus = config.corpus
  page = draws.Draws(seed, CORPUS, index)
  author = page.uniform(), page.uniform()
  written = []
  for _ in range(page.integer(*corpus.problems_per_document)):
    chain = _draw_chain(page, config.difficulty, CORPUS)
    story = stories.tell(page, chain, config.difficulty.kinds)
    taste, care = page.uniform(), page.uniform()
    if page.uniform() < corpus.author_consistency:
      taste, care = author
    flaw = corpus.flaws.at(len(chain.steps()), care)
    if taste >= corpus.human_share or flaw == 'skipped_step':
      style = 'worked'
      text = solutions.worked(page, story, flaw, corpus.flaws)
    else:
      style = _human_style(page, config)
      text = solutions.human(page, story, style, flaw)
    written.append(Written(story, text, style, flaw))
  return written


def _problems(
  config: ArithmeticConfig,
  seed: int,
  key: str,
  pool: str,
  number: int,
  seen: set[stories.Chain],
) -> Sequence[problem_sets.Row]:
  """`number` problems with chains of the pool that are not in `seen` yet."""
  difficulty = config.hard if key == HARD else config.difficulty
  rows = []
  for index in range(number):
    source = draws.Draws(seed, key, index)
    chain = _draw_chain(source, difficulty, pool, seen)
    seen.add(chain)
    story = stories.tell(source, chain, difficulty.kinds)
    rows.append(_row(config, source, story, f'{index:06d}', key))
  return rows


def _row(
  config: ArithmeticConfig,
  source: draws.Draws,
  story: stories.Story,
  key: str,
  purpose: str,
) -> problem_sets.Row:
  steps = story.chain.steps()
  solution = None
  if purpose == 'exemplars' and config.exemplar_style == 'worked':
    solution = solutions.worked(source, story, None, config.corpus.flaws)
  elif purpose in ('exemplars', TRAIN):
    style = _human_style(source, config)
    solution = solutions.human(source, story, style)
  return problem_sets.Row(
    key=key,
    question=story.question,
    answer=str(steps[-1].result),
    level=str(len(steps)),
    type=story.kind,
    solution=solution,
  )


def _human_style(source: draws.Draws, config: ArithmeticConfig) -> str:
  return source.weighted(solutions.HUMAN_STYLES, config.human_style_weights)


def _draw_chain(
  source: draws.Draws,
  difficulty: stories.Difficulty,
  pool: str,
  seen: Collection[stories.Chain] = (),
) -> stories.Chain:
  """A chain of the pool that is not in `seen`."""
  for _ in range(_PATIENCE):
    chain = stories.draw_chain(source, difficulty)
    if chain not in seen and pool_of(chain) == pool:
      return chain
  raise configuration.ConfigurationError(
    f'arithmetic: no new problem for {pool} in {_PATIENCE} draws with '
    f'{difficulty}. Ask for fewer problems, or raise max_start, max_operand '
    'or steps.'
  )
