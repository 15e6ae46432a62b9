"""The figures of a program on a chip, by arithmetic alone.

Seconds of a step are those of computing, those of collectives that nothing goes
on beside, and what collectives beside the products take longer than these.
"""

import collections
import dataclasses

from rest_jax.costs import parts
from rest_jax.costs.hlo_program import Cost
from rest_jax.executors.topologies import Generation


@dataclasses.dataclass(frozen=True)
class Figures:
  """What a program needs, on one chip.

  Attributes:
    chip: that it is compiled for.
    memory: bytes: arguments, outputs, temporary, code, total.
    cycles: of computing.
    prefetched_bytes: read from memory beside the products.
    parts: cycles by part.
    waiting, beside: bytes that a chip sends while it waits for them, and beside
      the products, by kind of collective.
  """

  chip: Generation
  memory: dict[str, float]
  cycles: float
  prefetched_bytes: float
  parts: dict[str, float]
  waiting: dict[str, float]
  beside: dict[str, float]

  @classmethod
  def of(
    cls, chip: Generation, memory: dict[str, float], cost: Cost
  ) -> 'Figures':
    """The figures of a cost."""
    waiting, beside = collections.Counter(), collections.Counter()
    for sent in cost.sent:
      kinds = beside if sent.is_beside else waiting
      kinds[sent.collective.kind] += sent.sent_bytes
    return cls(
      *(chip, memory, cost.cycles, cost.prefetched_bytes),
      *(dict(parts.of(cost)), dict(waiting), dict(beside)),
    )

  @property
  def computing(self) -> float:
    """Seconds without any collective."""
    return self.cycles / self.chip.clock_hertz

  @property
  def reading(self) -> float:
    """Seconds that prefetches take at the memory's bandwidth."""
    return self.prefetched_bytes / self.chip.hbm_bandwidth

  @property
  def sent(self) -> float:
    """Seconds of waiting for collectives, all links in use."""
    return sum(self.waiting.values()) / self.chip.link_bandwidth

  @property
  def sent_beside(self) -> float:
    """Seconds of the collectives beside the products, all links in use."""
    return sum(self.beside.values()) / self.chip.link_bandwidth

  @property
  def seconds(self) -> float:
    """Of the program; prefetches cost nothing."""
    hidden = min(self.computing, self.sent_beside)
    return self.computing + self.sent + self.sent_beside - hidden

  @property
  def fits(self) -> bool:
    """Whether a chip has the memory."""
    return self.memory['total'] <= self.chip.hbm_bytes

  def largest(self, number: int = 3) -> list[tuple[str, float]]:
    """(part, share of the seconds) of what costs most.

    Collectives that are waited for are a part too.
    """
    hertz = self.chip.clock_hertz
    costs = {name: cycles / hertz for name, cycles in self.parts.items()}
    if self.seconds > self.computing:
      costs['collectives'] = self.seconds - self.computing
    ordered = sorted(costs.items(), key=lambda item: -item[1])
    return [(name, cost / self.seconds) for name, cost in ordered[:number]]


def line(
  small: Figures, large: Figures, layers: tuple[float, float, float]
) -> Figures:
  """The figures of a network of another depth: a line through two.

  Memory is not: arguments are known exactly, see sampling_costs.py.

  Args:
    small, large: of the same program with fewer and with more layers.
    layers: of small, of large, and of what is wanted.
  """
  first, second, wanted = layers
  share = (wanted - first) / (second - first)

  def of(a: float, b: float) -> float:
    return max(0.0, a + share * (b - a))

  def each(a: dict[str, float], b: dict[str, float]) -> dict[str, float]:
    return {name: of(a.get(name, 0.0), b.get(name, 0.0)) for name in {**a, **b}}

  return Figures(
    chip=small.chip,
    memory=each(small.memory, large.memory),
    cycles=of(small.cycles, large.cycles),
    prefetched_bytes=of(small.prefetched_bytes, large.prefetched_bytes),
    parts=each(small.parts, large.parts),
    waiting=each(small.waiting, large.waiting),
    beside=each(small.beside, large.beside),
  )


@dataclasses.dataclass(frozen=True)
class Training:
  """Of the M-step.

  Attributes:
    step: of one optimiser step.
    flops: that a step needs, over all chips.
    chips: of the slices.
    tokens, examples: of a step, over all chips.
    fill: share of the rows' places that are not padding.
    state: bytes on a chip: parameters, gradients, optimiser.
  """

  step: Figures
  flops: float
  chips: int
  tokens: float
  examples: float
  fill: float
  state: dict[str, float] = dataclasses.field(default_factory=dict)

  @property
  def memory(self) -> dict[str, float]:
    """Bytes on a chip, by what they are for."""
    total = self.step.memory['total']
    return self.state | {
      'activations and the rest': total - sum(self.state.values()),
      'total': total,
    }

  @property
  def mfu(self) -> float:
    """Model FLOPs utilisation."""
    return self._of_peak(self.step.seconds)

  @property
  def mfu_alone(self) -> float:
    """As if no collective took any time."""
    return self._of_peak(self.step.computing)

  def _of_peak(self, seconds: float) -> float:
    return self.flops / (self.chips * self.step.chip.peak_flops * seconds)

  @property
  def tokens_per_second(self) -> float:
    """Of a chip."""
    return self.tokens / self.chips / self.step.seconds

  @property
  def examples_per_chip_hour(self) -> float:
    return 3600 * self.examples / self.chips / self.step.seconds


@dataclasses.dataclass(frozen=True)
class Sampling:
  """Of the E-step, or of D_val.

  Attributes:
    step: of one decode step, caches full.
    prefill: of the prompts that are read at once.
    prompts: that are.
    chips: of one worker.
    rows: samples that are decoded at once by a worker.
    least_bytes: that a step must read: weights and full caches.
    suffix_bytes: of the suffix caches on a chip, written once a chunk.
    chunk: decode steps.
  """

  step: Figures
  prefill: Figures
  prompts: int
  chips: int
  rows: int
  least_bytes: float
  suffix_bytes: float
  chunk: int

  @property
  def memory(self) -> dict[str, float]:
    """Of the larger of both programs; both hold the weights and caches."""
    return max(
      (self.step.memory, self.prefill.memory), key=lambda of: of['total']
    )

  @property
  def seconds(self) -> float:
    """Of a decode step: as if nothing went on beside prefetches.

    With a step's share of writing the chunk behind the suffixes.
    """
    write = 2 * self.suffix_bytes / self.step.chip.hbm_bandwidth / self.chunk
    return self.step.seconds + self.step.reading + write

  @property
  def hbm_share(self) -> tuple[float, float]:
    """Of the memory's bandwidth: at least, and at most."""
    least = self.least_bytes / self.step.chip.hbm_bandwidth
    return least / self.seconds, least / self.step.seconds

  @property
  def tokens_per_second(self) -> float:
    """Of a chip, all lanes busy."""
    return self.rows / self.seconds / self.chips

  def hours(self, samples: float, prompts: float, completion: float) -> float:
    """Of a worker that draws so many samples of so many prompts.

    A sample that has ended holds its lane for one and a half chunks.

    Args:
      samples: in all.
      prompts: that are read.
      completion: tokens of a sample, on average.
    """
    steps = samples / self.rows * (completion + 1.5 * self.chunk)
    reading = prompts / self.prompts * self.prefill.seconds
    return (steps * self.seconds + reading) / 3600
