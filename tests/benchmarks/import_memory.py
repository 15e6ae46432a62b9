"""Memory of rest-jax import and export: a folder of several files, bfloat16.

    python tests/benchmarks/import_memory.py [--layers=16] [--embed=2048]

Writes a checkpoint of random weights with Hugging Face's names, imports it and
exports the base, each in a process of its own, and prints the largest resident
memory of each beside what the arrays take. Takes three times the checkpoint's
size on the disk below --folder.

Aim: an import holds the arrays of its devices and at most twice the largest
tensor + 1 GB beside them; an export never the model, but one stacked array.
Measured: see LOG.md.
"""

import argparse
import json
import os
import pathlib
import subprocess
import sys
import tempfile

os.environ.setdefault('JAX_PLATFORMS', 'cpu')
ROOT = pathlib.Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT))

import ml_dtypes  # noqa: E402
import numpy as np  # noqa: E402
import random_networks  # noqa: E402

from rest_jax.models.checkpoints import (  # noqa: E402
  hf_config_writer,
  safetensors_writer,
  weights,
)

_RUN = """
import json, resource, sys, time
from rest_jax import main
began = time.time()
main.run(sys.argv[1:])
peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
print(json.dumps({'seconds': time.time() - began, 'peak': peak}))
"""


class Random:
  """A weights.Source of random values, the same block again and again."""

  def __init__(self):
    rng = np.random.default_rng(0)
    block = rng.standard_normal(1 << 24, dtype=np.float32) * 0.02
    self._block = block.astype(ml_dtypes.bfloat16)

  def dtype(self, tensor: weights.Tensor) -> np.dtype:
    """See weights.Source."""
    return self._block.dtype

  def read(
    self, tensor: weights.Tensor, rows: slice, columns: slice
  ) -> np.ndarray:
    """See weights.Source."""
    width = columns.stop if tensor.inputs else 1
    number = rows.stop - rows.start
    values = np.resize(self._block, number * width)
    return values.reshape(number, width) if tensor.inputs else values


def measured(*arguments: str) -> dict[str, float]:
  """Runs rest-jax in a process; its seconds and its peak memory in bytes."""
  text = subprocess.check_output(
    [sys.executable, '-c', _RUN, *arguments], text=True, cwd=ROOT
  )
  return json.loads(text.splitlines()[-1])


def main() -> None:
  parser = argparse.ArgumentParser()
  random_networks.add_flags(parser)
  parser.add_argument('--folder', default=tempfile.gettempdir())
  parser.add_argument('--shard_gb', type=float, default=1.0)
  args = parser.parse_args()
  model = random_networks.config(args, 4096)
  sizes = {t.path: 2 * int(np.prod(t.shape)) for t in weights.tensors(model)}
  largest = max(sizes.values())
  stacked = max(
    2 * int(np.prod(shape)) for shape in weights.shapes(model).values()
  )
  total = 2 * model.num_parameters
  print(
    f'{model.num_parameters / 1e9:.2f} G parameters, {total / 1e9:.2f} GB in '
    f'bfloat16; largest tensor {largest / 1e9:.3f} GB, largest stacked array '
    f'{stacked / 1e9:.3f} GB',
    flush=True,
  )
  with tempfile.TemporaryDirectory(dir=args.folder) as folder:
    published, base, out = (
      os.path.join(folder, name) for name in ('published', 'base', 'out')
    )
    os.mkdir(published)
    safetensors_writer.write(
      published,
      Random(),
      model,
      dtype='bfloat16',
      config=hf_config_writer.content(model, 'bfloat16'),
      shard_bytes=int(args.shard_gb * 1e9),
    )
    began = measured('models', published)
    print(f'nothing but the description: {began["peak"] / 1e9:.2f} GB')
    found = measured('import', f'--from={published}', f'--to={base}')
    beside = found['peak'] - total
    print(
      f'import: {found["seconds"]:.0f} s, peak {found["peak"] / 1e9:.2f} GB, '
      f'{beside / 1e9:.2f} GB beside the arrays; aim at most '
      f'{(2 * largest + 1e9) / 1e9:.2f}',
      flush=True,
    )
    found = measured(
      'export', f'--from={base}', f'--to={out}', '--tokenizer=none'
    )
    print(
      f'export: {found["seconds"]:.0f} s, peak {found["peak"] / 1e9:.2f} GB, '
      f'the model has {total / 1e9:.2f}'
    )


if __name__ == '__main__':
  main()
