"""When an M-step stops: the reward on D_val, step by step.

Algorithm 1's "while reward improves on D_val". Step 0, the untouched base,
counts: an M-step that never helps gives the base back.
"""

import dataclasses
from collections.abc import Mapping, Sequence
from typing import Any

from rest_jax.training.hyperparameters import ValidationConfig


@dataclasses.dataclass
class Progress:
  """What a training must know of its past to go on; saved with its state.

  Attributes:
    validations: (step, mean reward on D_val) in order of their steps.
    stopped: whether the training has ended, by the rule or by its steps.
  """

  validations: list[tuple[int, float]] = dataclasses.field(default_factory=list)
  stopped: bool = False

  @classmethod
  def from_json(cls, value: Mapping[str, Any]) -> 'Progress':
    """From what `dataclasses.asdict` gave, read from JSON."""
    pairs = [
      (int(step), float(reward)) for step, reward in value['validations']
    ]
    return cls(validations=pairs, stopped=bool(value['stopped']))

  def validated(self, step: int) -> bool:
    """Whether D_val was sampled at this step."""
    return any(at == step for at, _ in self.validations)


@dataclasses.dataclass(frozen=True)
class Decision:
  """What the validations so far say.

  Attributes:
    stop: whether to stop now.
    best_step: the step whose policy is taken.
  """

  stop: bool
  best_step: int


def decide(
  config: ValidationConfig, validations: Sequence[tuple[int, float]]
) -> Decision:
  """Applies the rule to (step, reward) pairs in order of their steps.

  'first_non_increase': stop at the first reward that is not above the one
  before it, and take the step before. 'best': stop once the last `patience`
  validations brought no new best; of equal rewards the earlier step wins.
  """
  best_step, best = validations[0]
  since = 0
  for (_, before), (step, reward) in zip(
    validations, validations[1:], strict=False
  ):
    if config.rule == 'first_non_increase' and reward <= before:
      return Decision(True, best_step)
    if reward > best:
      best_step, best, since = step, reward, 0
    else:
      since += 1
  stop = config.rule == 'best' and since >= config.patience
  return Decision(stop, best_step)
