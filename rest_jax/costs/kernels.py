"""What kernels (custom calls of compiled programs) compute and move.

A Pallas kernel may state it (`cost_estimate`). jax's splash attention does
not: its operations are counted here from the shapes of its operands.
"""

import json
import math
import re
from typing import NamedTuple

from rest_jax.costs.collectives import array_bytes, shapes_of

TARGET = 'custom_call_target="tpu_custom_call"'
# Products of a block of scores: forward the scores and the sum of values;
# backward the scores again, the gradients of the weights, and of what is asked.
_PRODUCTS = {'splash_mha_fwd': 2, 'splash_mha_dq': 3, 'splash_mha_dkv': 4}


class Kernel(NamedTuple):
  """What a kernel does on a chip.

  Attributes:
    flops: multiplications and additions.
    bytes: read and written.
  """

  flops: float
  bytes: float


def of(line: str) -> Kernel:
  """What the kernel of an instruction does.

  Args:
    line: the instruction, whole.

  Raises:
    ValueError: it does not say, and is none that is known here.
  """
  if stated := re.search(r'"cost_estimate":(\{[^}]*\})', line):
    cost = json.loads(stated[1])
    return Kernel(
      float(cost.get('flops', 0)), float(cost.get('bytes_accessed', 0))
    )
  name = line.split(' = ')[0].strip().removeprefix('ROOT ').lstrip('%')
  for known, products in _PRODUCTS.items():
    if name.startswith(known):
      return _splash(line, products)
  raise ValueError(f'a kernel that states no cost: {line[:200]}')


def _splash(line: str, products: int) -> Kernel:
  """Of one of splash attention's kernels; of causal masks.

  The blocks that a mask leaves empty are not computed. A block on the diagonal
  is computed whole.
  """
  written = shapes_of(line.partition('custom-call(')[0])
  operands = re.search(r'operand_layout_constraints=\{(.*?)\}, \w+=', line)
  read = shapes_of(operands[1])
  # Which block of keys follows: (heads, blocks of queries, blocks of keys).
  blocks = next(shape for dtype, shape in read if len(shape) == 3)
  arrays = [shape for dtype, shape in read if dtype[0] in 'bf']
  *rows, length, width = arrays[0]  # queries (…, heads, length, width)
  number, seen = blocks[-2], min(blocks[-1], blocks[-2])
  # A window's kernel has as many steps as a row of blocks sees.
  visited = sum(min(seen, index + 1) for index in range(number))
  scores = math.prod(rows) * visited * (length / number) ** 2
  moved = sum(array_bytes(*shape) for shape in (*read, *written))
  return Kernel(2 * products * scores * width, moved)
