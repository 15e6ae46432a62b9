"""How often the solutions of an embedded task's corpus are flawed."""

import dataclasses
from typing import ClassVar

from rest_jax.config import configuration

Rate = float | tuple[float, ...]


@dataclasses.dataclass(frozen=True, kw_only=True)
class FlawRates(configuration.Configuration):
  """How often the solutions of the pretraining corpus are flawed.

  A task's own class adds the fields that KINDS names, one rate for each kind of
  flaw. A rate is one share for all solutions, or a tuple: entry i is for
  problems of i + 1 steps, and the last one for all longer problems.

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
          f'{type(self).__name__}: the rates for {steps} steps sum to '
          f'{total:.3f}; they may sum to at most 1: {self.rates(steps)}.'
        )

  def rates(self, steps: int) -> dict[str, float]:
    """Kind of flaw to its share of the solutions with `steps` steps."""
    result = {}
    for name in self.KINDS:
      value = getattr(self, name)
      if isinstance(value, tuple):
        value = value[min(steps, len(value)) - 1]
      result[name] = value * self.scale
    return result

  def at(self, steps: int, quantile: float) -> str | None:
    """The kind of flaw at a quantile of the distribution over kinds.

    Args:
      steps: of the solution.
      quantile: in [0, 1); a uniform one gives each kind at its rate.

    Returns:
      One of KINDS; None for a solution without a flaw.
    """
    for name, rate in self.rates(steps).items():
      quantile -= rate
      if quantile < 0:
        return name
    return None
