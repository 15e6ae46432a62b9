"""The parts of a program that its costs are named by.

A compiled instruction keeps the name of the operation that it was traced from:
the modules of the network and the letters of its products (models/block.py).
"""

import collections
import re

from rest_jax.costs.hlo_program import Cost

AGAIN = 'computed again (remat)'
_PARTS = (
  ('attention kernel', r'pallas_call'),
  ('MLP products', r'[A-Z]D,DF->|[A-Z]F,FD->'),
  ('attention projections', r'[A-Z]D,DK[RE]*->|KRE,KRED->'),
  ('embedding', r'Decoder\.embed'),
  (
    'logits and loss',
    r'V,VD->|D,VD->|TV,TD->|logits|final_norm|jvp\(\)',
  ),
  ('choice of a token', r'_decode\)/while/body/closed_call/shard_map'),
  (
    'attention scores',
    r'->K[A-Z]*MS|K[A-Z]*MS,|MS->|(blocks|Block)/(exp|select_n|reduce_max|max'
    r'|sub|div|eq|lt|ge|and|or|iota|concatenate|jit\(_where\))',
  ),
  ('norms', r'_norm/'),
  ('rotation, activation, residuals', r'blocks|Block'),
  ('optimiser', r'^jit\(step\)/[^/]*$'),
)
_KNOWN = tuple((name, re.compile(pattern)) for name, pattern in _PARTS)


def of(cost: Cost) -> collections.Counter[str]:
  """Cycles by part."""
  found: collections.Counter[str] = collections.Counter()
  for name, cycles in cost.names.items():
    found[_part(name)] += cycles
  return found


def _part(operation: str) -> str:
  if 'rematted_computation' in operation:
    return AGAIN
  for name, pattern in _KNOWN:
    if pattern.search(operation):
      return name
  return 'everything else'
