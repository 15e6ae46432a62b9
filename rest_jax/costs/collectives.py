"""What chips send each other in a program, read from its compiled text.

The text is XLA's optimised HLO, as jax's compiled functions give it
(`as_text`).
"""

import dataclasses
import math
import re
from collections.abc import Iterator, Sequence

import jax

from rest_jax.models.architecture import DecoderConfig

GATHER_BY_SUM = 'all-gather by all-reduce'
_COLLECTIVE = re.compile(
  r' (all-gather|all-reduce|reduce-scatter|all-to-all|collective-permute)'
  r'(-start)?\('
)
_SHAPE = re.compile(r'\b([a-z]+\d+)\[([\d,]*)\]')
_CHANNEL = re.compile(r'\bchannel_id=(\d+)')
_BITS = re.compile(r'[a-z]+(\d+)')
Shapes = tuple[tuple[str, tuple[int, ...]], ...]  # (dtype, dimensions) of each


@dataclasses.dataclass(frozen=True)
class Collective:
  """One collective operation of a program.

  Attributes:
    kind: all-gather, all-reduce, reduce-scatter, all-to-all,
      collective-permute, or GATHER_BY_SUM.
    shapes: on the left of the operation; an asynchronous start gives a tuple
      of its operands and its results.
    chips: that take part together.
    is_start: whether it is the start of an asynchronous one.
    channel: its number; the parts of one that is spread over several fusions
      have the same. None: it has none.
  """

  kind: str
  shapes: Shapes
  chips: int
  is_start: bool
  channel: str | None

  @property
  def sent_bytes(self) -> float:
    """What a chip sends, if all are on a ring."""
    sizes = [array_bytes(*shape) for shape in self.shapes]
    whole = max(sizes) if self.is_start else sum(sizes)
    share = (self.chips - 1) / max(self.chips, 1)
    if self.kind in ('all-reduce', GATHER_BY_SUM):
      return 2 * share * whole
    if self.kind == 'collective-permute':
      return whole
    return share * whole


def array_bytes(dtype: str, shape: Sequence[int]) -> int:
  """Of an array as HLO names it, such as bf16[8,128]."""
  bits = _BITS.match(dtype)
  return math.prod(shape) * (max(int(bits[1]), 8) // 8 if bits else 1)


def parse(line: str, computation: str) -> Collective | None:
  """The collective of an instruction; None where it is none.

  On some slices the compiler gathers by an all-reduce: each chip writes its
  share into zeros, and all are summed. That is an all-gather too, and named so;
  an all-reduce within a fusion all-reduce-scatter is a reduce-scatter.

  Args:
    line: the instruction.
    computation: the name of the computation that it is of.
  """
  found = _COLLECTIVE.search(line)
  if not found or ' = ' not in line[: found.start()]:
    return None
  shapes = shapes_of(line[: found.start()])
  if not shapes:
    return None
  operands = line[found.end() :].partition('), ')[0]
  kind = found[1]
  if kind == 'all-reduce' and 'dynamic-update-slice' in operands:
    kind = GATHER_BY_SUM
  if computation.startswith('all-reduce-scatter'):
    kind = 'reduce-scatter'
  channel = _CHANNEL.search(line)
  return Collective(
    kind,
    shapes,
    _chips(line),
    is_start=found[2] is not None,
    channel=channel and channel[1],
  )


def shapes_of(text: str) -> Shapes:
  """All array shapes that stand in a text, in order."""
  return tuple(
    (dtype, tuple(int(n) for n in shape.split(',') if n))
    for dtype, shape in _SHAPE.findall(text)
  )


def _chips(line: str) -> int:
  """How many chips take part together in an instruction."""
  # Axes of a mesh: mesh['a'=4,'b'=8] {'b'}.
  if mesh := re.search(r'replica_groups=mesh\[([^\]]*)\] \{([^}]*)\}', line):
    sizes = dict(re.findall(r"'(\w+)'=(\d+)", mesh[1]))
    return math.prod(
      int(sizes[axis]) for axis in re.findall(r"'(\w+)'", mesh[2])
    )
  if iota := re.search(r'replica_groups=\[(\d+),(\d+)\]', line):
    return int(iota[2])
  if listed := re.search(r'replica_groups=\{\{([\d,]+)\}', line):
    return listed[1].count(',') + 1
  return 2


def read(hlo: str) -> Iterator[tuple[str, Shapes]]:
  """(kind, shapes) of every collective in optimised HLO."""
  computation = ''
  for line in hlo.splitlines():
    if line.endswith('{') and not line.startswith(' '):
      computation = line.removeprefix('ENTRY ').lstrip('%')
    if found := parse(line, computation):
      yield found.kind, found.shapes


def gathered_activations(
  found: Sequence[tuple[str, Shapes]],
  model: DecoderConfig,
  rows: int,
  length: int,
  mesh: jax.sharding.Mesh,
) -> list[str]:
  """The all-gathers whose result is an activation, not a parameter.

  An activation holds a chip's share of rows x length tokens, or more, times
  a width; a gathered parameter has no such dimension. Where a row is as long as
  the network is wide, that is not seen in its dimensions: then it is one that
  is larger than the largest matrix of all layers together.

  Args:
    found: what `read` gives.
    model: the network.
    rows: of a batch, over all chips.
    length: of a row, in tokens.
    mesh: of the step.

  Returns:
    The operation and shape of each.
  """
  share = rows // (mesh.shape['data'] * mesh.shape['fsdp'])
  widths = {model.embed_dim, model.mlp_dim, model.head_dim, model.vocab_size}
  tokens = {length, share * length, rows * length}
  largest = model.embed_dim * max(
    model.vocab_size, model.num_layers * model.mlp_dim
  )
  wrong = []
  for operation, shapes in found:
    if operation not in ('all-gather', GATHER_BY_SUM):
      continue
    for dtype, shape in shapes:
      if len(shape) < 2 or dtype[0] in 'su':
        continue  # token ids are small: the embedding's lookup gathers them
      size = math.prod(shape)
      is_of_tokens = tokens & (set(shape) - widths) and size > share * length
      if is_of_tokens or (length in widths and size > largest):
        wrong.append(f'{operation} {dtype}{list(shape)}')
  return wrong
