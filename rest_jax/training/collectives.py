"""What chips send each other in a training step, read from its compiled text.

The text is XLA's optimised HLO, as jax's compiled functions give it
(`as_text`).
"""

import re
from collections.abc import Iterator, Sequence

import jax
import numpy as np

from rest_jax.models.architecture import DecoderConfig

GATHER_BY_SUM = 'all-gather by all-reduce'
_COLLECTIVE = re.compile(
  r' (all-gather|all-reduce|reduce-scatter|all-to-all|collective-permute)'
  r'(?:-start)?\('
)
_SHAPE = re.compile(r'\b([a-z]+\d+)\[([\d,]*)\]')
Shapes = tuple[tuple[str, tuple[int, ...]], ...]  # (dtype, dimensions) of each


def read(hlo: str) -> Iterator[tuple[str, Shapes]]:
  """(operation, shapes) of every collective in optimised HLO.

  The shapes are those on the left of the operation; an asynchronous start
  gives a tuple of its operands and its results. On some slices the compiler
  gathers by an all-reduce: each chip writes its share into zeros, and all are
  summed. That is an all-gather too, and named so; an all-reduce within a
  fusion all-reduce-scatter is a reduce-scatter.
  """
  computation = ''
  for line in hlo.splitlines():
    if line.endswith('{') and not line.startswith(' '):
      computation = line.removeprefix('ENTRY ').lstrip('%')
    found = _COLLECTIVE.search(line)
    if not found or ' = ' not in line[: found.start()]:
      continue
    shapes = tuple(
      (dtype, tuple(int(n) for n in shape.split(',') if n))
      for dtype, shape in _SHAPE.findall(line[: found.start()])
    )
    operands = line[found.end() :].partition('), ')[0]
    operation = found.group(1)
    if operation == 'all-reduce' and 'dynamic-update-slice' in operands:
      operation = GATHER_BY_SUM
    if computation.startswith('all-reduce-scatter'):
      operation = 'reduce-scatter'
    if shapes:
      yield operation, shapes


def summary(found: Sequence[tuple[str, Shapes]]) -> list[str]:
  """One line per kind of collective: how often, and the largest array."""
  lines = []
  for operation in sorted({name for name, _ in found}):
    entries = [shapes for name, shapes in found if name == operation]
    dtype, largest = max(
      (array for shapes in entries for array in shapes),
      key=lambda array: np.prod(array[1]),
    )
    lines.append(
      f'{operation}: {len(entries)} in the program, the largest array is '
      f'{dtype}{list(largest)} (a loop body is counted once)'
    )
  return lines


def gathered_activations(
  found: Sequence[tuple[str, Shapes]],
  model: DecoderConfig,
  rows: int,
  length: int,
  mesh: jax.sharding.Mesh,
) -> list[str]:
  """The all-gathers whose result is an activation, not a parameter.

  An activation holds a chip's share of rows x length tokens, or more, times
  a width; a gathered parameter has no such dimension.

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
  wrong = []
  for operation, shapes in found:
    if operation not in ('all-gather', GATHER_BY_SUM):
      continue
    for dtype, shape in shapes:
      if len(shape) < 2 or dtype[0] in 'su':
        continue  # token ids are small: the embedding's lookup gathers them
      if tokens & (set(shape) - widths) and np.prod(shape) > share * length:
        wrong.append(f'{operation} {dtype}{list(shape)}')
  return wrong
