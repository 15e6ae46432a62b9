"""Problems over a list of integers: what the program does, and its statement.

A *clause* is one instruction, such as "Keep the even ones.", which makes a new
list of the old one. A `Chain` is a sequence of clauses and what is printed in
the end. A `Statement` is a chain in words, with the layout of the input. Two
statements of one chain differ only in wording and layout.

The repr() of a chain seeds its test inputs, and that of its clauses decides its
split (distinguishing_tests.py, embedded.py): renaming `Chain`, `Clause` or
their fields would change the problems of every run.
"""

import dataclasses
from collections.abc import Callable, Sequence
from typing import Literal

from rest_jax.config import configuration
from rest_jax.tasks.seeded_random import SeededRandom

Values = list[int]


@dataclasses.dataclass(frozen=True)
class Kind:
  """A kind of clause.

  Attributes:
    form: what it does to the list: keep the x that meet a condition ('filter'),
      replace each x ('map'), or something else ('list').
    code: Python for the condition, the new x or the new list; {k} stands for
      the clause's number, {a} for the list.
    meaning: function of the list and the number that gives the new list. It is
      written in another way than `code`, so that each checks the other.
    words: ways to ask for it.
    near: the kind that a flawed solution mistakes it for.
    number: which of Difficulty.max_... bounds the clause's number; '' for a
      kind without a number.
  """

  form: Literal['filter', 'map', 'list']
  code: str
  meaning: Callable[[Values, int], Values]
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
    code: the Python statement; {a} stands for the list.
    meaning: function of the list that gives the printed text.
    words: ways to ask for it.
    near: what a flawed solution prints instead; None if nothing is close.
  """

  code: str
  meaning: Callable[[Values], str]
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

# How the numbers are arranged in the input, and ways to say it.
LAYOUTS = {
  'line': ('Read integers on one line.', 'One line holds integers.'),
  'counted': ('Read n, then n integers on a line.',
              'Line 1 holds n, line 2 holds n integers.'),
}  # fmt: skip


@dataclasses.dataclass(frozen=True, kw_only=True)
class Difficulty(configuration.Configuration):
  """How long the chains are, and what they are made of.

  Attributes:
    clauses: the lengths of chains that occur, such as (2, 3, 4).
    clause_weights: their relative frequencies.
    max_constant: largest number that is compared with, added or subtracted.
    max_factor: largest factor.
    max_count: largest number of elements that are kept or dropped.
    kind_weights: relative frequencies of KINDS, in their order.
    ask_weights: relative frequencies of ASKS, in their order.
    counted_share: share of problems whose input begins with the number of
      integers.
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
    allowed = 'more kinds above 0 than clauses, as no chain has a kind twice'
    self.require(ok, 'kind_weights', allowed)
    for name in ('max_constant', 'max_factor', 'max_count'):
      self.require(getattr(self, name) >= 2, name, 'at least 2')
    self.require(0 <= self.counted_share <= 1, 'counted_share', 'from 0 to 1')


@dataclasses.dataclass(frozen=True)
class Clause:
  """One step from a list to a list; its number is 0 where it has none."""

  kind: str
  number: int

  def __call__(self, values: Values) -> Values:
    return KINDS[self.kind].meaning(values, self.number)

  def code(self, values: str = 'a') -> str:
    """Its Python: a condition, a new x, or a new list (see Kind.form)."""
    return KINDS[self.kind].code.format(a=values, k=self.number)

  def misread(self) -> 'Clause':
    """The clause that a flawed solution mistakes it for."""
    near = KINDS[self.kind].near
    return Clause(near, self.number if KINDS[near].number else 0)


@dataclasses.dataclass(frozen=True)
class Chain:
  """What a program does, without words: its clauses and what it prints."""

  clauses: tuple[Clause, ...]
  ask: str

  def steps(self) -> tuple[Clause, ...]:
    """Its clauses; their number is the problem's level."""
    return self.clauses

  def output(self, values: Values) -> str:
    """The text that is printed for a list."""
    for clause in self.clauses:
      values = clause(values)
    return ASKS[self.ask].meaning(values)


@dataclasses.dataclass(frozen=True)
class Statement:
  """A chain in words.

  Attributes:
    chain: what the program has to do.
    layout: one of LAYOUTS.
    sentences: one for the layout, one for each clause, one for what is printed.
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

  def input_text(self, values: Values) -> str:
    """A list as the program's standard input."""
    line = ' '.join(map(str, values)) + '\n'
    return f'{len(values)}\n{line}' if self.layout == 'counted' else line


def draw_chain(rng: SeededRandom, difficulty: Difficulty) -> Chain:
  """Draws a chain within the bounds of `difficulty`.

  No kind occurs twice. The list is sorted or reversed only if the order matters
  later: because the first elements are kept or dropped, or because the list
  itself is printed.
  """
  while True:
    count = rng.weighted(difficulty.clauses, difficulty.clause_weights)
    weights = dict(zip(KINDS, difficulty.kind_weights, strict=True))
    clauses = []
    for _ in range(count):
      kind = rng.weighted(list(weights), list(weights.values()))
      del weights[kind]
      bound = KINDS[kind].number
      low = 2 if bound == 'factor' else 1
      number = 0
      if bound:
        number = rng.integer(low, getattr(difficulty, f'max_{bound}'))
      clauses.append(Clause(kind, number))
    ask = rng.weighted(list(ASKS), difficulty.ask_weights)
    if _order_matters([clause.kind for clause in clauses], ask):
      return Chain(tuple(clauses), ask)


def _order_matters(kinds: Sequence[str], ask: str) -> bool:
  """Whether each change of the order can change what is printed."""
  matters = ask == 'list'  # whether the order matters behind the clause
  for kind in reversed(kinds):
    if kind in ('reverse', 'sort') and not matters:
      return False
    matters = kind in ('first', 'rest') or (matters and kind != 'sort')
  return True


def write_statement(
  rng: SeededRandom, chain: Chain, difficulty: Difficulty
) -> Statement:
  """Puts a chain into words: the input's layout, a wording for each clause."""
  counted = rng.uniform() < difficulty.counted_share
  layout = 'counted' if counted else 'line'
  sentences = [rng.choice(LAYOUTS[layout])]
  for clause in chain.clauses:
    words = rng.choice(KINDS[clause.kind].words)
    sentences.append(words.format(k=clause.number))
  sentences.append(rng.choice(ASKS[chain.ask].words))
  return Statement(chain, layout, tuple(sentences))
