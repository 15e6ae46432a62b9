"""Chains of clauses over a list of integers, in words and in meaning.

A `Chain` says what a program does: clauses, each of which makes a new list of
the old one, and what is printed in the end. A `Story` is a chain told in
words, with the layout of the input. Two stories of one chain differ in words
and layout only, and the splits of the task are disjoint in chains.
"""

import dataclasses
from collections.abc import Callable, Sequence
from typing import Literal

from rest_jax.config import configuration
from rest_jax.tasks.seeded_random import Draws

List = list[int]


@dataclasses.dataclass(frozen=True)
class Kind:
  """A kind of clause.

  Attributes:
    form: how it is written: a condition on x, a new x, or the list's own.
    code: that condition, x or list; {k} the number, {a} the list.
    meaning: the new list.
    words: ways to ask for it.
    near: the kind that it is mistaken for.
    number: what bounds its number: a constant, a factor or a count.
  """

  form: Literal['filter', 'map', 'list']
  code: str
  meaning: Callable[[List, int], List]
  words: Sequence[str]
  near: str
  number: Literal['', 'constant', 'factor', 'count'] = 'constant'


KINDS = {
  'even': Kind(
    'filter', 'x % 2 == 0', lambda a, k: [x for x in a if not x & 1],
    ('Keep the even ones.', 'Keep only even numbers.'), 'odd', ''),
  'odd': Kind(
    'filter', 'x % 2 == 1', lambda a, k: [x for x in a if x & 1],
    ('Keep the odd ones.', 'Keep only odd numbers.'), 'even', ''),
  'above': Kind(
    'filter', 'x > {k}', lambda a, k: [x for x in a if not x <= k],
    ('Keep those above {k}.', 'Keep those greater than {k}.'), 'from'),
  'from': Kind(
    'filter', 'x >= {k}', lambda a, k: [x for x in a if not x < k],
    ('Keep those of at least {k}.', 'Drop those below {k}.'), 'above'),
  'below': Kind(
    'filter', 'x < {k}', lambda a, k: [x for x in a if not x >= k],
    ('Keep those below {k}.', 'Keep those less than {k}.'), 'to'),
  'to': Kind(
    'filter', 'x <= {k}', lambda a, k: [x for x in a if not x > k],
    ('Keep those of at most {k}.', 'Drop those above {k}.'), 'below'),
  'add': Kind(
    'map', 'x + {k}', lambda a, k: [sum((x, k)) for x in a],
    ('Add {k} to each.', 'Raise each by {k}.'), 'take'),
  'take': Kind(
    'map', 'x - {k}', lambda a, k: [sum((x, -k)) for x in a],
    ('Take {k} from each.', 'Lower each by {k}.'), 'add'),
  'times': Kind(
    'map', 'x * {k}', lambda a, k: [sum([x] * k) for x in a],
    ('Multiply each by {k}.', 'Make each {k} times as large.'), 'add',
    'factor'),
  'reverse': Kind(
    'list', '{a}[::-1]', lambda a, k: list(reversed(a)),
    ('Reverse the order.', 'Turn the order around.'), 'sort', ''),
  'sort': Kind(
    'list', 'sorted({a})', lambda a, k: sorted(a),
    ('Sort them.', 'Put them in rising order.'), 'reverse', ''),
  'first': Kind(
    'list', '{a}[:{k}]', lambda a, k: [x for i, x in enumerate(a) if i < k],
    ('Keep the first {k}.', 'Take the first {k}.'), 'rest', 'count'),
  'rest': Kind(
    'list', '{a}[{k}:]', lambda a, k: [x for i, x in enumerate(a) if i >= k],
    ('Drop the first {k}.', 'Leave out the first {k}.'), 'first', 'count'),
}  # fmt: skip


@dataclasses.dataclass(frozen=True)
class Ask:
  """What is printed in the end.

  Attributes:
    code: the statement; {a} is the list.
    meaning: the text.
    words: ways to ask for it.
    near: the ask that it is mistaken for, if any.
  """

  code: str
  meaning: Callable[[List], str]
  words: Sequence[str]
  near: str | None


ASKS = {
  'list': Ask(
    'print(*{a})', lambda a: ' '.join(map(str, a)),
    ('Print them.', 'Print what is left.'), None),
  'sum': Ask(
    'print(sum({a}))', lambda a: str(sum(a)),
    ('Print the sum.', 'Print their total.'), 'count'),
  'count': Ask(
    'print(len({a}))', lambda a: str(len(a)),
    ('Print how many there are.', 'Print their number.'), 'sum'),
  'largest': Ask(
    'print(max({a}, default=0))', lambda a: str((sorted(a) or [0])[-1]),
    ('Print the largest, or 0.', 'Print the largest (0 if none).'),
    'smallest'),
  'smallest': Ask(
    'print(min({a}, default=0))', lambda a: str((sorted(a) or [0])[0]),
    ('Print the smallest, or 0.', 'Print the smallest (0 if none).'),
    'largest'),
}  # fmt: skip

# How the numbers stand in the input, and what that is called.
LAYOUTS = {
  'line': ('Read integers on one line.', 'One line holds integers.'),
  'counted': ('Read n, then n integers on a line.',
              'Line 1 holds n, line 2 holds n integers.'),
}  # fmt: skip


@dataclasses.dataclass(frozen=True, kw_only=True)
class Difficulty(configuration.Configuration):
  """How long the chains are, and what they are made of.

  Attributes:
    clauses: numbers of clauses that occur, such as (2, 3, 4).
    clause_weights: their relative frequencies.
    max_constant: largest number that is compared with, added or taken.
    max_factor: largest factor.
    max_count: largest number of elements that are kept or dropped.
    kind_weights: relative frequencies of KINDS, in their order.
    ask_weights: relative frequencies of ASKS, in their order.
    counted_share: share of problems whose input begins with its length.
  """

  clauses: tuple[int, ...] = (2, 3, 4)
  clause_weights: tuple[float, ...] = (1.0, 1.0, 1.0)
  max_constant: int = 9
  max_factor: int = 5
  max_count: int = 4
  kind_weights: tuple[float, ...] = (1.0,) * len(KINDS)
  ask_weights: tuple[float, ...] = (1.0,) * len(ASKS)
  counted_share: float = 0.5

  def check(self):
    ok = bool(self.clauses) and min(self.clauses) >= 1
    ok = ok and max(self.clauses) <= 8
    self.require(ok, 'clauses', 'numbers from 1 to 8')
    for name, owners in (
      ('clause_weights', self.clauses),
      ('kind_weights', KINDS),
      ('ask_weights', ASKS),
    ):
      weights = getattr(self, name)
      ok = len(weights) == len(owners) and min(weights) >= 0
      allowed = f'a weight >= 0 for each of {", ".join(map(str, owners))}'
      self.require(ok and sum(weights) > 0, name, allowed)
    ok = sum(weight > 0 for weight in self.kind_weights) > max(self.clauses)
    allowed = 'more kinds above 0 than clauses, for no chain has a kind twice'
    self.require(ok, 'kind_weights', allowed)
    for name in ('max_constant', 'max_factor', 'max_count'):
      self.require(getattr(self, name) >= 2, name, 'at least 2')
    self.require(0 <= self.counted_share <= 1, 'counted_share', 'from 0 to 1')


@dataclasses.dataclass(frozen=True)
class Clause:
  """One step from a list to a list; its number is 0 where it has none."""

  kind: str
  number: int

  def __call__(self, values: List) -> List:
    return KINDS[self.kind].meaning(values, self.number)

  def code(self, values: str = 'a') -> str:
    """The condition, the new x, or the new list, as Python."""
    return KINDS[self.kind].code.format(a=values, k=self.number)

  def mistaken(self) -> 'Clause':
    """What a careless reader takes it for."""
    near = KINDS[self.kind].near
    return Clause(near, self.number if KINDS[near].number else 0)


@dataclasses.dataclass(frozen=True)
class Chain:
  """What a program does, without words."""

  clauses: tuple[Clause, ...]
  ask: str

  def steps(self) -> tuple[Clause, ...]:
    """What its length is counted in."""
    return self.clauses

  def output(self, values: List) -> str:
    """What is printed for a list."""
    for clause in self.clauses:
      values = clause(values)
    return ASKS[self.ask].meaning(values)


@dataclasses.dataclass(frozen=True)
class Story:
  """A chain in words.

  Attributes:
    chain: what is asked for.
    layout: one of LAYOUTS.
    sentences: the layout, each clause, what is to be printed.
  """

  chain: Chain
  layout: str
  sentences: tuple[str, ...]

  @property
  def question(self) -> str:
    """The problem's text."""
    return ' '.join(self.sentences)

  @property
  def kind(self) -> str:
    """What is printed: one of ASKS."""
    return self.chain.ask

  def input_text(self, values: List) -> str:
    """A list as the program's standard input."""
    line = ' '.join(map(str, values)) + '\n'
    return f'{len(values)}\n{line}' if self.layout == 'counted' else line


def draw_chain(draws: Draws, difficulty: Difficulty) -> Chain:
  """A chain within the bounds of `difficulty`.

  No kind occurs twice, and an order is never made for nothing at all: a part
  of the list is taken later, or the list itself is printed.
  """
  while True:
    count = draws.weighted(difficulty.clauses, difficulty.clause_weights)
    weights = dict(zip(KINDS, difficulty.kind_weights, strict=True))
    clauses = []
    for _ in range(count):
      kind = draws.weighted(list(weights), list(weights.values()))
      del weights[kind]
      bound = KINDS[kind].number
      low = 2 if bound == 'factor' else 1
      number = 0
      if bound:
        number = draws.integer(low, getattr(difficulty, f'max_{bound}'))
      clauses.append(Clause(kind, number))
    ask = draws.weighted(list(ASKS), difficulty.ask_weights)
    if _order_counts([clause.kind for clause in clauses], ask):
      return Chain(tuple(clauses), ask)


def _order_counts(kinds: Sequence[str], ask: str) -> bool:
  counts = ask == 'list'
  for kind in reversed(kinds):
    if kind in ('reverse', 'sort') and not counts:
      return False
    counts = kind in ('first', 'rest') or (counts and kind != 'sort')
  return True


def tell(draws: Draws, chain: Chain, difficulty: Difficulty) -> Story:
  """Tells a chain: a layout of the input, and one wording of each clause."""
  counted = draws.uniform() < difficulty.counted_share
  layout = 'counted' if counted else 'line'
  sentences = [draws.choice(LAYOUTS[layout])]
  for clause in chain.clauses:
    words = draws.choice(KINDS[clause.kind].words)
    sentences.append(words.format(k=clause.number))
  sentences.append(draws.choice(ASKS[chain.ask].words))
  return Story(chain, layout, tuple(sentences))
