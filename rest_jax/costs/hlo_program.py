"""What a compiled program costs a chip, added up from its text.

The text is XLA's optimised HLO for TPUs. The compiler notes at most
instructions how many cycles it expects them to take (`estimated_cycles`), but
counts the body of a loop once. Here

* a loop's body counts as often as the loop goes round;
* a kernel (a custom call) counts at the larger of its bytes at the memory's
  bandwidth and its operations at the chip's peak: the compiler has no estimate
  for it;
* copies from the memory to the chip that go on beside the products
  (prefetches) are summed as bytes, apart;
* collectives are listed, apart (collectives.py).

All of it is the compiler's estimate, never a measurement.
"""

import collections
import dataclasses
import re
from collections.abc import Callable, Iterable

from rest_jax.costs import kernels
from rest_jax.costs.collectives import (
  Collective,
  array_bytes,
  parse,
  shapes_of,
)
from rest_jax.executors.topologies import Generation

_HEAD = re.compile(r'(?:ENTRY )?%?([\w.\-]+) .*\{$')
_INSTRUCTION = re.compile(r'\s+(?:ROOT )?%?[\w.\-]+ = ')
_CYCLES = re.compile(r'"estimated_cycles":"(\d+)"')
_TRIPS = re.compile(r'"known_trip_count":\{"n":"(\d+)"')
_NAME = re.compile(r'op_name="([^"]*)"')
_PREFETCH = re.compile(
  # (to, from, …) of a copy; ((from), to, …) of a slice.
  r'= \((?:\(.*?\), )?(\w+\[[\d,]*\])[^ ]*S\(1\)\S* .* (?:copy|slice)-start\('
)
Pick = Callable[[Iterable[float]], float]


@dataclasses.dataclass
class Cost:
  """What some instructions cost a chip.

  Attributes:
    cycles: of the instructions, kernels among them.
    kernel_cycles: of the kernels alone.
    prefetched_bytes: copied to the chip beside the products.
    names: cycles by the operation that they are of, as jax names it.
    sent: the collectives, each with how often it runs.
  """

  cycles: float = 0.0
  kernel_cycles: float = 0.0
  prefetched_bytes: float = 0.0
  names: collections.Counter[str] = dataclasses.field(
    default_factory=collections.Counter
  )
  sent: list['Sent'] = dataclasses.field(default_factory=list)

  def add(self, other: 'Cost', times: float = 1) -> None:
    """Adds another cost, so many times."""
    self.cycles += times * other.cycles
    self.kernel_cycles += times * other.kernel_cycles
    self.prefetched_bytes += times * other.prefetched_bytes
    for name, cycles in other.names.items():
      self.names[name] += times * cycles
    # A collective that is spread over several fusions is one.
    here = {sent.collective.channel for sent in self.sent} - {None}
    for sent in other.sent:
      if sent.collective.channel not in here:
        self.sent.append(dataclasses.replace(sent, times=times * sent.times))


@dataclasses.dataclass(frozen=True)
class Sent:
  """A collective of a program.

  Attributes:
    collective: the operation.
    is_beside: whether products go on beside it.
    times: how often it runs.
  """

  collective: Collective
  is_beside: bool
  times: float = 1.0

  @property
  def sent_bytes(self) -> float:
    """What a chip sends, all times together."""
    return self.times * self.collective.sent_bytes


@dataclasses.dataclass
class Program:
  """A compiled program, by its computations.

  Attributes:
    computations: their instructions, by their names.
    entry: where it begins.
    chip: that it is compiled for.
    unknown_trips: how often a loop goes round that the text says nothing of.
    pick: of the branches of a conditional, min or max.
  """

  computations: dict[str, list[str]]
  entry: str
  chip: Generation
  unknown_trips: float = 1.0
  pick: Pick = max

  @classmethod
  def read(
    cls,
    text: str,
    chip: Generation,
    *,
    unknown_trips: float = 1.0,
    pick: Pick = max,
  ) -> 'Program':
    """Reads a program's text; the arguments are the attributes."""
    found: dict[str, list[str]] = {}
    entry, name = '', None
    for line in text.splitlines():
      head = _HEAD.match(line)
      if head and not line[0].isspace():
        name = head[1]
        found[name] = []
        entry = name if line.startswith('ENTRY') else entry
      elif line == '}':
        name = None
      elif name is None:
        continue
      elif _INSTRUCTION.match(line):
        found[name].append(line)
      elif found[name]:  # a kernel's attributes may go over several lines
        found[name][-1] += line
    return cls(found, entry, chip, unknown_trips, pick)

  def cost(self, name: str | None = None) -> Cost:
    """Of a computation, and all that it calls; None: of the program."""
    known: dict[str, Cost] = {}
    return self._cost(self.entry if name is None else name, known)

  def loop(self) -> str:
    """The body of the loop whose one round costs most."""
    bodies = {
      match[1]
      for lines in self.computations.values()
      for line in lines
      if ' while(' in line and (match := re.search(r'body=%?([\w.\-]+)', line))
    }
    known: dict[str, Cost] = {}
    return max(sorted(bodies), key=lambda body: self._cost(body, known).cycles)

  def _cost(self, name: str, known: dict[str, Cost]) -> Cost:
    if name in known:
      return known[name]
    total = Cost()
    for line in self.computations[name]:
      total.add(self._own(line, name))
      for called, times in self._called(line, known):
        total.add(called, times)
    known[name] = total
    return total

  def _own(self, line: str, computation: str) -> Cost:
    """What an instruction costs itself."""
    cost = Cost()
    if match := _CYCLES.search(line):
      cost.cycles += int(match[1])
    if kernels.TARGET in line:
      kernel = kernels.of(line)
      cost.kernel_cycles = self.chip.clock_hertz * max(
        kernel.bytes / self.chip.hbm_bandwidth,
        kernel.flops / self.chip.peak_flops,
      )
      cost.cycles += cost.kernel_cycles
    if match := _PREFETCH.search(line):
      [shape] = shapes_of(match[1]) or [('u8', (0,))]
      cost.prefetched_bytes += array_bytes(*shape)
    if cost.cycles:
      cost.names[self._name(line)] += cost.cycles
    if collective := parse(line, computation):
      beside = collective.is_start or self._is_chained(computation)
      cost.sent.append(Sent(collective, beside))
    return cost

  def _is_chained(self, computation: str) -> bool:
    """Whether a fusion has a collective that other fusions go on with."""
    return any(
      f'"AsyncCollective{end}"' in line
      for line in self.computations[computation]
      for end in ('Start', 'Done')
    ) or computation.startswith('async_collective_fusion')

  def _name(self, line: str) -> str:
    """The operation that an instruction is of, as jax names it."""
    if match := _NAME.search(line):
      return match[1]
    if called := re.search(r' calls=%?([\w.\-]+)', line):
      for inner in reversed(self.computations.get(called[1], [])):
        if match := _NAME.search(inner):
          return match[1]
    return ''

  def _called(
    self, line: str, known: dict[str, Cost]
  ) -> Iterable[tuple[Cost, float]]:
    """What an instruction calls, and how often."""
    if ' while(' in line:
      body = re.search(r'body=%?([\w.\-]+)', line)[1]
      yield self._cost(body, known), self._trips(line)
    elif ' conditional(' in line:
      if branches := re.search(r'branch_computations=\{([^}]*)\}', line):
        names = [n.strip().lstrip('%') for n in branches[1].split(',')]
      else:
        names = re.findall(r'(?:true|false)_computation=%?([\w.\-]+)', line)
      costs = [self._cost(name, known) for name in names]
      chosen = self.pick(cost.cycles for cost in costs)
      yield next(cost for cost in costs if cost.cycles == chosen), 1
    elif match := re.search(r' call\(.*to_apply=%?([\w.\-]+)', line):
      yield self._cost(match[1], known), 1
    elif match := re.search(r' fusion\(.* calls=%?([\w.\-]+)', line):
      # Its cycles stand at the fusion; what it sends stands within it.
      inner = Cost()
      for own in self.computations.get(match[1], []):
        if collective := parse(own, match[1]):
          beside = self._is_chained(match[1])
          inner.add(Cost(sent=[Sent(collective, beside)]))
      yield inner, 1

  def _trips(self, line: str) -> float:
    """How often a loop goes round: as noted, or as its condition compares."""
    if noted := _TRIPS.search(line):
      return int(noted[1])
    condition = re.search(r'condition=%?([\w.\-]+)', line)[1]
    found = [
      int(match[1])
      for line in self.computations[condition]
      if (match := re.search(r' constant\((\d+)\)', line))
    ]
    return max(found, default=self.unknown_trips)
