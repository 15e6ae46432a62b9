"""Solutions to the word problems: step by step, terse, and flawed.

The style WORKED repeats the sentences of the story and writes behind each what
it changes, as equations. A small network learns this much sooner than equations
alone, for which it has to find the number of the next event by itself. The
HUMAN_STYLES imitate people: one long expression, two steps at once, results
without their calculations, the answer before its reason. They are right as
well. A flawed solution ends in a wrong result, skips steps, or does not state
its answer.
"""

import dataclasses
import itertools
from typing import Literal

from rest_jax.tasks.seeded_random import SeededRandom
from rest_jax.tasks.synthetic import flaw_rates
from rest_jax.tasks.synthetic.embedded import WORKED
from rest_jax.tasks.synthetic.word_problems import Statement, Step

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
class Flaws(flaw_rates.FlawRates):
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

  wrong_last_step: flaw_rates.Rate = 0.2
  missing_answer: flaw_rates.Rate = 0.1
  skipped_step: flaw_rates.Rate = 0.25
  skipped: int | None = 2
  skipped_wrong: float = 0.5

  def check(self):
    super().check()
    ok = 0 <= self.skipped_wrong <= 1
    self.require(ok, 'skipped_wrong', '0 <= skipped_wrong <= 1')
    ok = self.skipped is None or self.skipped >= 2
    self.require(ok, 'skipped', 'None, or at least 2')


def write(
  rng: SeededRandom,
  statement: Statement,
  style: str,
  flaw: Flaw | None,
  flaws: Flaws,
) -> str:
  """Writes a solution; see embedded.EmbeddedConfig.write_solution."""
  if style == WORKED:
    return _worked(rng, statement, flaw, flaws)
  return _human(rng, statement, style, flaw)


def _worked(
  rng: SeededRandom, statement: Statement, flaw: Flaw | None, flaws: Flaws
) -> str:
  """The story's sentences, each with the equations of its steps."""
  chain = statement.chain
  steps = chain.steps()
  answer, jump = steps[-1].result, 0
  if flaw == 'skipped_step':
    jump = min(flaws.skipped or len(steps), len(steps))
    if rng.uniform() < flaws.skipped_wrong:
      answer = _slip(rng, answer)
  elif flaw == 'wrong_last_step':
    steps[-1] = _wrong_step(rng, steps[-1])
    answer = steps[-1].result
  shown = iter(steps[: len(steps) - jump])
  sentences = []
  for told, number in zip(statement.told(), chain.steps_told(), strict=True):
    here = [str(step) for step in itertools.islice(shown, number)]
    if number and not here:
      break  # the steps from here on are skipped
    sentences.append(': '.join([told, ', '.join(here)] if here else [told]))
  texts = [f'{sentence}.' for sentence in sentences]
  if jump:
    # Always the same word: greedy decoding chooses between it and the next
    # sentence, and shares of several words would each be too small to win.
    texts.append(f'So {answer} {statement.unit}.')
  if flaw != 'missing_answer':
    texts.append(_answer(answer))
  return ' '.join(texts)


def _human(
  rng: SeededRandom,
  statement: Statement,
  style: str,
  flaw: Flaw | None,
) -> str:
  """A terse solution in one of HUMAN_STYLES.

  Raises:
    ValueError: another style.
  """
  steps = statement.chain.steps()
  unit = statement.unit
  if flaw == 'wrong_last_step':
    steps = [*steps[:-1], _wrong_step(rng, steps[-1])]
  result = steps[-1].result
  expression = f'{statement.chain.expression()}={result}'
  if style == 'expression':
    opening = rng.choice(('', 'It is ', 'We get ', 'That makes '))
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


def _wrong_step(rng: SeededRandom, step: Step) -> Step:
  """The step with a wrong result: a slip, or that of another operation."""
  if rng.uniform() < 0.5:
    other = {'+': '-', '-': '+', '*': '+', '/': '-'}[step.operation]
    result = step.left + step.right * (1 if other == '+' else -1)
    if result > 0 and result != step.result:
      return Step(step.left, other, step.right, result)
  return dataclasses.replace(step, result=_slip(rng, step.result))


def _slip(rng: SeededRandom, value: int) -> int:
  """A number near `value`, at least 1 and never `value` itself."""
  offsets = [d for d in (-10, -2, -1, 1, 2, 10) if value + d >= 1]
  return value + rng.choice(offsets)


def _answer(value: int) -> str:
  return f'The answer is {value}.'


def _in_pairs(steps: list[Step]) -> str:
  """Equations of two steps each, where the second uses the first's result."""
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
