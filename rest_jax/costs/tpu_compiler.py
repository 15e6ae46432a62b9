"""The compiler of TPUs on a machine that has none.

libtpu holds all of it; given a topology's name it compiles ahead of time (needs
the extra 'tpu' and x86-64 Linux). A process that imports this module computes
on the CPU: jax must not look for a TPU.
"""

import os
import re
from collections.abc import Sequence
from typing import Any

import jax
import numpy as np

from rest_jax.config import configuration

jax.config.update('jax_platforms', 'cpu')

# For libtpu, which else asks a machine of Google Cloud's what it is.
_ENVIRONMENT = {
  'TPU_SKIP_MDS_QUERY': '1',
  'ALLOW_MULTIPLE_LIBTPU_LOAD': '1',  # no TPU is locked
  'TPU_WORKER_HOSTNAMES': 'localhost',
  'TPU_ACCELERATOR_TYPE': 'v5litepod-8',
}


def devices(topology: str, slices: int = 1) -> Sequence[Any]:
  """The devices of a topology that is not here.

  Raises:
    ConfigurationError: libtpu is missing, or does not know the topology.
  """
  from jax.experimental import topologies

  for name, value in _ENVIRONMENT.items():
    os.environ.setdefault(name, value)
  try:
    description = topologies.get_topology_desc(
      topology, platform='tpu', **({'num_slices': slices} if slices > 1 else {})
    )
  except Exception as error:
    text = ' '.join(str(error).split())[:300]
    raise configuration.ConfigurationError(
      f'PREFLIGHT_TOPOLOGY: cannot compile for {topology!r} ({text}). '
      "It needs libtpu (pip install 'rest_jax[tpu]'); names look like "
      'v5e:16x16, v5p:4x4x4, v6e:16x16, v4:4x4x8.'
    ) from error
  return description.devices


def memory_bytes(compiled: Any) -> dict[str, int]:
  """What one chip holds: arguments, outputs that alias none, temporaries."""
  analysis = compiled.memory_analysis()
  parts = {
    'arguments': analysis.argument_size_in_bytes,
    'outputs': analysis.output_size_in_bytes - analysis.alias_size_in_bytes,
    'temporary': analysis.temp_size_in_bytes,
    'code': analysis.generated_code_size_in_bytes,
  }
  return parts | {'total': sum(parts.values())}


def needed(text: str) -> str:
  """What XLA says of the memory that a program needs, in one clause."""
  size = r'([\d.]+)([KMGT])'
  for what, pattern in (
    ('', f'Used {size} of {size}'),
    (
      ' for temporaries',
      rf'temporaries \({size}\) exceeds available HBM \({size}\)',
    ),
  ):
    if found := re.search(pattern, text):
      used, unit, limit, of = found.groups()
      return f'needs {used} {unit}iB per chip{what}, a chip has {limit} {of}iB'
  words = ' '.join(text.split())[:160].rstrip('.')
  return f'the compiler says: {words}'


def chip_bytes(tree: Any) -> int:
  """Of the arrays of a tree on one chip; they are there as shapes alone."""
  total = 0
  for leaf in jax.tree.leaves(tree):
    if isinstance(leaf, jax.ShapeDtypeStruct):
      shape = (
        leaf.sharding.shard_shape(leaf.shape) if leaf.sharding else leaf.shape
      )
      total += int(np.prod(shape)) * leaf.dtype.itemsize
  return total
