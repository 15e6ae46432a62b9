"""What the report knows of an M-step: its trainings, and what it chose.

m_step_reader.py reads these values from disk.
"""

import dataclasses
from collections.abc import Mapping, Sequence

from rest_jax.artifacts import goodput


@dataclasses.dataclass(frozen=True, kw_only=True)
class Training:
  """One training of an M-step's grid of learning rates.

  Attributes:
    name: of its folder, such as lr_0.001.
    losses: (step, loss) pairs; the loss per target token where it was logged.
    rewards: (step, mean reward on D_val) pairs.
    rates: target and prompt tokens per second, wherever they were logged.
  """

  name: str
  losses: Sequence[tuple[int, float]]
  rewards: Sequence[tuple[int, float]]
  rates: Sequence[float] = ()


@dataclasses.dataclass(frozen=True, kw_only=True)
class MStep:
  """An M-step: its trainings, and which checkpoint was chosen.

  Attributes:
    trainings: one per learning rate.
    chosen_step: 0 where no training step improved the reward on D_val; None
      while the M-step is under way.
    learning_rate: of the chosen training.
    reward: on D_val at the chosen step.
    init: name of the model that it started from; None for random weights.
    seconds: of its wall time, by part (artifacts/goodput.py); empty where it
      was not counted.
  """

  trainings: Sequence[Training]
  chosen_step: int | None = None
  learning_rate: float | None = None
  reward: float | None = None
  init: str | None = None
  seconds: Mapping[str, float] = dataclasses.field(default_factory=dict)

  @property
  def wall(self) -> float:
    """Its wall time in seconds, restarts included."""
    return sum(self.seconds.values())

  @property
  def goodput(self) -> float:
    """The share of useful steps in it."""
    return goodput.share(self.seconds)

  def shares_of(self, parts: Sequence[str]) -> list[float]:
    """The shares of these parts in it."""
    wall = max(self.wall, 1e-9)
    return [self.seconds.get(part, 0.0) / wall for part in parts]

  @property
  def last_step(self) -> int:
    """The last step that any of its trainings logged."""
    pairs = [p for t in self.trainings for p in (*t.losses, *t.rewards)]
    return max((step for step, _ in pairs), default=0)

  @property
  def chosen(self) -> Training | None:
    """The training of the chosen learning rate; else the first one."""
    name = f'lr_{self.learning_rate or 0:g}'
    named = [one for one in self.trainings if one.name == name]
    return next(iter([*named, *self.trainings]), None)
