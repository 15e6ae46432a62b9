"""Word problems of arithmetic: the calculation, and its statement.

A `Chain` is the arithmetic: a start and events, each of which takes one or two
steps of calculation. A `Statement` is a chain in words: a person, things and a
wording. Two statements of one chain differ only in their words.

    start   (n,)      has n                    (k, m)   k boxes of m: 1 step
    events  add k     1 step                   packs k m   + k packs of m: 2
            take k    1 step                   each k m    - m to each of k: 2
            times k   1 step (another person)  share k     / k: 1 step, last
"""

import dataclasses
from collections.abc import Sequence

from rest_jax.config import configuration
from rest_jax.tasks.seeded_random import SeededRandom
from rest_jax.tasks.synthetic import story_words

KINDS = ('things', 'money', 'bus', 'garden')
STEPS_OF = {'add': 1, 'take': 1, 'times': 1, 'share': 1, 'packs': 2, 'each': 2}


@dataclasses.dataclass(frozen=True, kw_only=True)
class Difficulty(configuration.Configuration):
  """How long the calculations are, and how large their numbers.

  Attributes:
    steps: the numbers of steps that occur, such as (2, 3, 4).
    step_weights: their relative frequencies.
    max_start: largest number that a problem starts with.
    max_operand: largest number that is added or subtracted.
    max_factor: largest factor of a product, and largest divisor.
    max_value: largest intermediate result; the smallest is 1.
    kinds: what the problems are about; some of KINDS.
    event_weights: relative frequencies of the events, in the order of
      OPERATION_OF: add, packs, take, each, times, share.
  """

  steps: tuple[int, ...] = (2, 3, 4)
  step_weights: tuple[float, ...] = (1.0, 1.0, 1.0)
  max_start: int = 20
  max_operand: int = 12
  max_factor: int = 6
  max_value: int = 99
  kinds: tuple[str, ...] = KINDS
  event_weights: tuple[float, ...] = (3.0, 2.0, 3.0, 2.0, 2.0, 1.0)

  def check(self):
    self.require(bool(self.steps), 'steps', 'at least one number')
    self.require(min(self.steps) >= 1, 'steps', 'numbers from 1 on')
    same = len(self.step_weights) == len(self.steps)
    self.require(same, 'step_weights', 'one for each of steps')
    good = min(self.step_weights) >= 0 and sum(self.step_weights) > 0
    self.require(good, 'step_weights', '>= 0, not all 0')
    same = len(self.event_weights) == len(OPERATION_OF)
    allowed = f'a weight >= 0 for each of {", ".join(OPERATION_OF)}'
    weights = self.event_weights
    self.require(
      same and min(weights) >= 0 and max(weights) > 0, 'event_weights', allowed
    )
    known = bool(self.kinds) and set(self.kinds) <= set(KINDS)
    self.require(known, 'kinds', f'some of {", ".join(KINDS)}')
    for name in ('max_start', 'max_operand', 'max_factor'):
      self.require(getattr(self, name) >= 2, name, 'at least 2')
    low = max(self.max_start, self.max_factor**2)
    self.require(self.max_value >= low, 'max_value', f'at least {low}')


@dataclasses.dataclass(frozen=True)
class Step:
  """One calculation: left operation right = result."""

  left: int
  operation: str  # + - * /
  right: int
  result: int

  def __str__(self):
    return f'{self.left}{self.operation}{self.right}={self.result}'


@dataclasses.dataclass(frozen=True)
class Chain:
  """The arithmetic of a problem, without words.

  Attributes:
    start: (n,), or (k, m) for the product k * m.
    events: (name, number) or (name, number, number) each; the names are those
      of OPERATION_OF.
  """

  start: tuple[int, ...]
  events: tuple[tuple[str | int, ...], ...]

  def steps(self) -> list[Step]:
    """The calculations, in order; the last one's result is the answer."""
    steps = []

    def calculate(left: int, operation: str, right: int) -> int:
      result = {
        '+': left + right,
        '-': left - right,
        '*': left * right,
        '/': left // right,
      }[operation]
      steps.append(Step(left, operation, right, result))
      return result

    value = self.start[0]
    if len(self.start) == 2:
      value = calculate(self.start[0], '*', self.start[1])
    for event, *numbers in self.events:
      if event in ('packs', 'each'):
        amount = calculate(numbers[0], '*', numbers[1])
      else:
        amount = numbers[0]
      value = calculate(value, OPERATION_OF[event], amount)
    return steps

  def steps_told(self) -> list[int]:
    """How many steps the start and each event take."""
    start = len(self.start) - 1  # a product takes one step, a number none
    return [start, *(STEPS_OF[str(event[0])] for event in self.events)]

  def unordered(self) -> 'Chain':
    """The chain with the smaller factor first in each event of two numbers.

    "gives 2 to each of 6 friends" and "in 2 weeks 6 die each week" are one
    calculation.
    """
    events = ((name, *sorted(numbers)) for name, *numbers in self.events)
    return dataclasses.replace(self, events=tuple(events))

  def expression(self) -> str:
    """The whole calculation as one expression, with the usual precedence."""
    text = '*'.join(str(number) for number in self.start)
    plain = False  # whether `text` ends in a sum, which * and / must bracket
    for event, *numbers in self.events:
      operation = OPERATION_OF[event]
      if operation in '*/' and plain:
        text, plain = f'({text})', False
      text += operation + '*'.join(str(number) for number in numbers)
      plain = plain or operation in '+-'
    return text


OPERATION_OF = {
  'add': '+',
  'packs': '+',
  'take': '-',
  'each': '-',
  'times': '*',
  'share': '/',
}


def draw_chain(rng: SeededRandom, difficulty: Difficulty) -> Chain:
  """Draws a chain within the bounds of `difficulty`."""
  count = rng.weighted(difficulty.steps, difficulty.step_weights)
  while True:
    chain = _try_chain(rng, difficulty, count)
    if chain is not None:
      return chain


def _try_chain(
  rng: SeededRandom, difficulty: Difficulty, count: int
) -> Chain | None:
  """Draws a chain of `count` steps; None if a bound is not kept."""
  factor = difficulty.max_factor
  weights = dict(zip(OPERATION_OF, difficulty.event_weights, strict=True))
  left = count
  if rng.uniform() < 0.4:
    start = (rng.integer(2, factor), rng.integer(2, factor))
    value, left = start[0] * start[1], left - 1
  else:
    start = (rng.integer(2, difficulty.max_start),)
    value = start[0]
  events = []
  while left:
    options = [
      event
      for event, steps in STEPS_OF.items()
      if steps <= left and weights[event] and (event != 'share' or left == 1)
    ]
    if not options:
      return None
    event = rng.weighted(options, [weights[option] for option in options])
    if event in ('add', 'take'):
      numbers = (rng.integer(2, difficulty.max_operand),)
    elif event in ('packs', 'each'):
      numbers = (rng.integer(2, factor), rng.integer(2, factor))
    else:
      numbers = (rng.integer(2, min(factor, 5 if event == 'times' else 9)),)
    if event == 'share' and value % numbers[0]:
      return None
    left -= STEPS_OF[event]
    events.append((event, *numbers))
    value = Chain((value,), (events[-1],)).steps()[-1].result
    if not 1 <= value <= difficulty.max_value:
      return None
  return Chain(start, tuple(events)) if events else None


@dataclasses.dataclass(frozen=True)
class Statement:
  """A chain in words.

  Attributes:
    chain: its arithmetic.
    kind: what it is about; one of KINDS.
    question: the text of the problem.
    unit: what the answer counts, such as 'pens'.
  """

  chain: Chain
  kind: str
  question: str
  unit: str

  def told(self) -> list[str]:
    """The sentences of the start and of each event, without full stops."""
    return self.question.split('. ')[:-1]


def write_statement(
  rng: SeededRandom, chain: Chain, difficulty: Difficulty
) -> Statement:
  """Puts a chain into words: a person, a thing, a wording for each event."""
  kind = rng.choice(difficulty.kinds)
  wording = story_words.WORDING[kind]
  unit = {
    'money': 'dollars',
    'bus': 'people',
    'garden': rng.choice(story_words.PLANTS),
  }
  unit = unit.get(kind) or rng.choice(story_words.THINGS)
  person = rng.choice(story_words.PEOPLE)

  def say(key: str | int, numbers: Sequence[int], other: str = '') -> str:
    n, m = (*numbers, 0, 0)[:2]
    return rng.choice(wording[key]).format(
      n=n, m=m, u=unit, N=person[0], P=person[1], O=person[2], W=other,
      h=rng.choice(story_words.CONTAINERS), t=rng.choice(story_words.THINGS),
    )  # fmt: skip

  sentences = [say(len(chain.start), chain.start)]
  for event, *numbers in chain.events:
    other = rng.choice([p for p in story_words.PEOPLE if p != person])
    sentences.append(say(event, numbers, other[0]))
    if event == 'times':
      person = other  # the rest of the problem is about them
  last = chain.events[-1][0]
  sentences.append(say('ask share' if last == 'share' else 'ask', ()))
  return Statement(chain, kind, ' '.join(sentences), unit)
