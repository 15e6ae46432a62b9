"""Solutions to the word problems: worked, human, and flawed.

The *worked* style writes every step as an equation: a small network can do
each one. The *human* style is right as well, but terse and varied: one long
expression, two steps at once, results without their calculations, the answer
before its reason. A *flawed* solution is what the web is full of.
"""

import dataclasses
from typing import Literal

from rest_jax.tasks.seeded_random import Draws
from rest_jax.tasks.synthetic import embedded
from rest_jax.tasks.synthetic.stories import Step, Story

Flaw = Literal['wrong_last_step', 'missing_answer', 'skipped_step']
HUMAN_STYLES = (
  'expression',
  'pairs',
  'results',
  'answer_first',
  'prose',
  'steps',
)


@dataclasses.dataclass(frozen=True, kw_only=True)
class Flaws(embedded.Flaws):
  """How often the solutions of the pretraining corpus are flawed, and how.

  Attributes:
    wrong_last_step: share whose last result is wrong (a slip, or the wrong
      operation).
    missing_answer: share that ends without stating the answer.
    skipped_step: share that jumps over the last `skipped` steps to a result.
    skipped: how many steps are jumped over; None for all of them.
    skipped_wrong: share of those jumps whose result is wrong.
  """

  KINDS = ('wrong_last_step', 'missing_answer', 'skipped_step')

  wrong_last_step: embedded.Rate = 0.2
  missing_answer: embedded.Rate = 0.1
  skipped_step: embedded.Rate = 0.25
  skipped: int | None = 2
  skipped_wrong: float = 0.5

  def check(self):
    super().check()
    ok = 0 <= self.skipped_wrong <= 1
    self.require(ok, 'skipped_wrong', '0 <= skipped_wrong <= 1')
    ok = self.skipped is None or self.skipped >= 2
    self.require(ok, 'skipped', 'None, or at least 2')


# First step, middle steps, last step.
_CONNECTORS = (
  ('First', ('Then',), 'So'),
  ('First', ('Next',), 'Now'),
  ('We have', ('Then',), 'Finally'),
)


def worked(draws: Draws, story: Story, flaw: Flaw | None, flaws: Flaws) -> str:
  """The solution step by step, every one an equation; maybe flawed."""
  steps = story.chain.steps()
  first, middle, last = draws.choice(_CONNECTORS)
  answer = steps[-1].result
  jump = 0
  if flaw == 'skipped_step':
    jump = min(flaws.skipped or len(steps), len(steps))
    if draws.uniform() < flaws.skipped_wrong:
      answer = _slip(draws, answer)
  shown = [str(step) for step in steps[: len(steps) - jump]]
  if jump:
    shown.append(str(answer))
  elif flaw == 'wrong_last_step':
    wrong = wrong_step(draws, steps[-1])
    shown[-1], answer = str(wrong), wrong.result
  words = [first, *(draws.choice(middle) for _ in steps)][: len(shown)]
  if len(shown) > 1 or jump:
    words[-1] = last
  sentences = [
    f'{word} {text} {story.unit}.'
    for word, text in zip(words, shown, strict=True)
  ]
  if flaw != 'missing_answer':
    sentences.append(_answer(answer))
  return ' '.join(sentences)


def human(
  draws: Draws,
  story: Story,
  style: str,
  flaw: Flaw | None = None,
) -> str:
  """A terse solution in one of HUMAN_STYLES; right unless `flaw` says else."""
  steps = story.chain.steps()
  unit = story.unit
  if flaw == 'wrong_last_step':
    steps = [*steps[:-1], wrong_step(draws, steps[-1])]
  result = steps[-1].result
  expression = f'{story.chain.expression()}={result}'
  if style == 'expression':
    opening = draws.choice(('', 'It is ', 'We get ', 'That makes '))
    text = f'{opening}{expression} {unit}.'
  elif style == 'pairs':
    text = f'{_in_pairs(steps)} {unit}.'
  elif style == 'results':
    results = [str(step.result) for step in steps]
    text = f'{", then ".join(results)} {unit}.'
  elif style == 'answer_first':
    text = f'{result} {unit}, as {expression}.'
  elif style == 'prose':
    text = f'{_in_prose(steps)} {unit}.'
  elif style == 'steps':
    text = f'{", ".join(str(step) for step in steps)} {unit}.'
  else:
    raise ValueError(f'style: got {style!r}; allowed: {HUMAN_STYLES}.')
  text = text[0].upper() + text[1:]
  return text if flaw == 'missing_answer' else f'{text} {_answer(result)}'


def wrong_step(draws: Draws, step: Step) -> Step:
  """The step with a wrong result: a slip, or another operation's result."""
  if draws.uniform() < 0.5:
    other = {'+': '-', '-': '+', '*': '+', '/': '-'}[step.operation]
    result = step.left + step.right * (1 if other == '+' else -1)
    if result > 0 and result != step.result:
      return Step(step.left, other, step.right, result)
  return dataclasses.replace(step, result=_slip(draws, step.result))


def _slip(draws: Draws, value: int) -> int:
  """A number near `value`, at least 1 and never `value` itself."""
  offsets = [d for d in (-10, -2, -1, 1, 2, 10) if value + d >= 1]
  return value + draws.choice(offsets)


def _answer(value: int) -> str:
  return f'The answer is {value}.'


def _in_pairs(steps: list[Step]) -> str:
  """Two steps to an equation where one continues the other's result."""
  texts = []
  index = 0
  while index < len(steps):
    step = steps[index]
    following = steps[index + 1] if index + 1 < len(steps) else None
    if following and following.left == step.result:
      left = f'{step.left}{step.operation}{step.right}'
      if step.operation in '+-' and following.operation in '*/':
        left = f'({left})'
      texts.append(
        f'{left}{following.operation}{following.right}={following.result}'
      )
      index += 2
    else:
      texts.append(str(step))
      index += 1
  return ', and '.join(texts)


def _in_prose(steps: list[Step]) -> str:
  words = {'+': 'plus', '-': 'less', '*': 'times', '/': 'over'}
  return ', '.join(
    f'{step.left} {words[step.operation]} {step.right} is {step.result}'
    for step in steps
  )
