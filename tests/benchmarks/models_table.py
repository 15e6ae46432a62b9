"""The tables of docs/models.md: published models, and the memory they need.

    python tests/benchmarks/models_table.py

Prints them in Markdown. Nothing is measured: the memory is what the package
itself counts with (rest_jax/pipeline/sizes.py), which LOG.md compares with the
compiler's figures. Every chip holds

    sampling   its share of the weights in bfloat16; 4 problems x 8 samples of
               each, with prompts of 1024 tokens and completions of 512
    training   its share of weights, gradients and AdamW's two moments, in
               float32 or in bfloat16; one row of 2048 tokens at a time, with
               remat = 'full'

The weights are split over fsdp, the largest number of chips that divides both
the slice and embed_dim. A size is left out where it exceeds USABLE of a chip's
memory.
"""

import dataclasses
import math
import os
import re
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT))

from rest_jax.commands import models  # noqa: E402
from rest_jax.config import packaged_gin  # noqa: E402
from rest_jax.executors import machine, topologies  # noqa: E402
from rest_jax.models.architecture import DecoderConfig  # noqa: E402
from rest_jax.pipeline import sampling_memory, sizes  # noqa: E402

GROUPS, LANES, PROMPT, COMPLETION = 4, 8, 1024, 512
ROW = 2048
SAMPLING = ('v5e:1x1', 'v5e:2x2', 'v5e:4x4', 'v5e:8x8', 'v5p:2x2x2')
TRAINING = ('v5e:4x4', 'v5e:16x16', 'v5p:2x2x2', 'v5p:4x4x4')
MISSING = '–'


def published() -> list[tuple[str, str, DecoderConfig]]:
  """(gin file, name of the checkpoint, network), by family and by size.

  The checkpoint's name is the first word of the gin file's comment.
  """
  purposes = packaged_gin.described('models')
  return [
    (os.path.basename(file), re.split('[ ,]', purposes[file])[0], network)
    for file, network in models.networks()
    if file != 'models/tiny.gin'
  ]


def sampling_gib(model: DecoderConfig, slice_: topologies.Topology) -> str:
  """Memory of one chip while it decodes."""
  model = dataclasses.replace(model, dtype='bfloat16')
  fsdp = math.gcd(slice_.chips, model.embed_dim)
  needed = 2 * model.num_parameters / fsdp
  sample = sampling_memory.sample_bytes(model, LANES, PROMPT, COMPLETION)
  needed += GROUPS * LANES * sample
  return written(needed, slice_)


def training_gib(model: DecoderConfig, slice_: topologies.Topology) -> str:
  """Memory of one chip in a training step, in float32 and in bfloat16."""
  found = []
  for stored in ('float32', 'bfloat16'):
    model = dataclasses.replace(model, dtype='bfloat16', param_dtype=stored)
    fsdp = math.gcd(slice_.chips, model.embed_dim)
    chips = dataclasses.replace(machine.of_slices(slice_), devices=fsdp)
    needed = sizes.training_bytes(model, chips, ROW, ROW, 'full')
    found.append(written(needed, slice_))
  return MISSING if set(found) == {MISSING} else ' / '.join(found)


def written(needed: float, slice_: topologies.Topology) -> str:
  """GiB with one decimal; MISSING where a chip has less."""
  if needed > sizes.USABLE * slice_.generation.hbm_bytes:
    return MISSING
  return f'{needed / sizes.GIB:.1f}'


def table(columns: dict[str, str], rows: list[list[str]]) -> str:
  """Markdown.

  Args:
    columns: of each title, the line that aligns it: '---' or '--:'.
    rows: cells.
  """
  lines = [list(columns), list(columns.values()), *rows]
  return '\n'.join(f'| {" | ".join(line)} |' for line in lines)


def tables() -> list[str]:
  """The table of the models and that of their memory."""
  found = published()
  listed = [
    [
      f'`{file}`',
      f'{model.num_parameters:,}',
      str(model.num_layers),
      f'`rest-jax import --from={name} --to={file.removesuffix(".gin")}`',
    ]
    for file, name, model in found
  ]
  sampled, trained = (
    [topologies.parse(name, 'slice') for name in names]
    for names in (SAMPLING, TRAINING)
  )
  memory = [
    [
      f'`{file}`',
      *(sampling_gib(model, one) for one in sampled),
      *(training_gib(model, one) for one in trained),
    ]
    for file, _, model in found
  ]
  titles = {
    'gin/models/': '---',
    'parameters': '--:',
    'layers': '--:',
    'import': '---',
  }
  sizes_of = {'GiB of a chip': '---'}
  sizes_of |= {f'sampling, {name}': '--:' for name in SAMPLING}
  sizes_of |= {f'training, {name}': '--:' for name in TRAINING}
  return [table(titles, listed), table(sizes_of, memory)]


if __name__ == '__main__':
  print('\n\n'.join(tables()))
