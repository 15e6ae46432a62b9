"""Memory and time of loading a published checkpoint on several hosts.

    python tests/benchmarks/loading.py [--gigabytes=20] [--processes=1,2,4]
        [--devices=2] [--columns]

Writes a checkpoint of Llama's shapes with weights of zero, in bfloat16 and
several files that take no room on the disk, and loads it in 1, 2 and 4
processes of a CPU, each with --devices devices, as the hosts of a pod would:
the weights split over all devices of the job. A line of JSON for each number of
processes: the most that a process holds (peak_gb, and base_gb before loading),
the weights that belong on its devices (own_gb), what it reads (read_gb), and
seconds. `gathers` counts collectives in the programs that write the arrays.

With --columns the model axis is fsdp, which cuts the columns of most matrices;
without it, tensor, which cuts rows.
"""

import argparse
import json
import os
import pathlib
import re
import socket
import subprocess
import sys
import tempfile
import time

ROOT = pathlib.Path(__file__).resolve().parents[2]
# Of a layer: 0.44 GB in bfloat16.
SIZES = dict(
  vocab_size=128256,
  embed_dim=4096,
  num_heads=32,
  num_kv_heads=8,
  head_dim=128,
  mlp_dim=14336,
  max_length=128,
  tie_embeddings=False,
  dtype='bfloat16',
  param_dtype='bfloat16',
)
_LAYER_BYTES = 436_224_000
_OUTSIDE_BYTES = 2 * 128256 * 4096 * 2


def write(folder: pathlib.Path, layers: int) -> None:
  """A folder of safetensors whose weights are holes in the files."""
  sys.path.insert(0, str(ROOT))
  from rest_jax.models.architecture import DecoderConfig
  from rest_jax.models.checkpoints import families, weights

  config = DecoderConfig(num_layers=layers, **SIZES)
  files: list[dict] = [{}]
  for tensor in weights.tensors(config):
    size = 2
    for length in tensor.shape:
      size *= length
    name = families.hf_name(config, tensor.name, tensor.layer)
    end = max((e['data_offsets'][1] for e in files[-1].values()), default=0)
    if end > 4e9:
      files.append({})
      end = 0
    files[-1][name] = {
      'dtype': 'BF16',
      'shape': list(tensor.shape),
      'data_offsets': [end, end + size],
    }
  index = {}
  for number, header in enumerate(files):
    name = f'model-{number + 1:05d}-of-{len(files):05d}.safetensors'
    index |= dict.fromkeys(header, name)
    text = json.dumps(header).encode()
    end = max(entry['data_offsets'][1] for entry in header.values())
    with open(folder / name, 'wb') as stream:
      stream.write(len(text).to_bytes(8, 'little') + text)
      stream.truncate(8 + len(text) + end)
  (folder / 'model.safetensors.index.json').write_text(
    json.dumps({'weight_map': index})
  )


def load(folder: str, layers: int, columns: bool) -> None:
  """What one process does; prints its line."""
  sys.path.insert(0, str(ROOT))
  import jax

  from rest_jax.distributed import joining, partitioning
  from rest_jax.models.architecture import DecoderConfig
  from rest_jax.models.checkpoints import policies

  joining.join()
  axis = 'fsdp' if columns else 'tensor'
  shape = {'data': 1, 'fsdp': 1, 'tensor': 1} | {axis: -1}
  mesh = partitioning.make_mesh(partitioning.MeshConfig(**shape))
  config = DecoderConfig(num_layers=layers, **SIZES)
  before, start = _status('VmHWM'), time.time()
  read = _read_bytes()
  params = jax.block_until_ready(policies.load(folder, config, mesh))
  own = sum(
    shard.data.nbytes
    for leaf in jax.tree.leaves(params)
    for shard in leaf.addressable_shards
  )
  print(
    json.dumps(
      {
        'peak_gb': _status('VmHWM'),
        'base_gb': before,
        'own_gb': round(own / 1e9, 2),
        'read_gb': round((_read_bytes() - read) / 1e9, 2),
        'seconds': round(time.time() - start, 1),
      }
    ),
    flush=True,
  )


def _status(name: str) -> float:
  text = pathlib.Path('/proc/self/status').read_text()
  return round(int(re.search(rf'{name}:\s+(\d+)', text)[1]) * 1024 / 1e9, 2)


def _read_bytes() -> int:
  return int(
    re.search(r'rchar: (\d+)', pathlib.Path('/proc/self/io').read_text())[1]
  )


def start(args: argparse.Namespace, folder: str, layers: int, count: int):
  """Starts the processes of one job, and prints what they said."""
  with socket.socket() as probe:
    probe.bind(('localhost', 0))
    port = probe.getsockname()[1]
  dump = tempfile.mkdtemp()
  processes = [
    subprocess.Popen(
      [
        *(sys.executable, __file__, '--load', folder, '--layers', str(layers)),
        *(['--columns'] if args.columns else []),
      ],
      env=os.environ
      | {
        'JAX_PLATFORMS': 'cpu',
        'XLA_FLAGS': f'--xla_force_host_platform_device_count={args.devices}'
        f' --xla_dump_to={dump} --xla_dump_hlo_as_text',
        'JAX_COORDINATOR_ADDRESS': f'localhost:{port}',
        'JAX_NUM_PROCESSES': str(count),
        'JAX_PROCESS_ID': str(index),
      },
      stdout=subprocess.PIPE,
      text=True,
    )
    for index in range(count)
  ]
  said = [process.communicate()[0].splitlines()[-1] for process in processes]
  programs = [
    file.read_text()
    for file in pathlib.Path(dump).glob('*dynamic_update*after_opt*.txt')
  ]
  gathers = sum(
    len(re.findall(r'(all-gather|all-reduce|all-to-all)\(', text))
    for text in programs
  )
  worst = max((json.loads(line) for line in said), key=lambda x: x['peak_gb'])
  return {
    'processes': count,
    **worst,
    'programs': len(programs),
    'gathers': gathers,
  }


def main() -> None:
  parser = argparse.ArgumentParser(description=__doc__)
  parser.add_argument('--gigabytes', type=float, default=20)
  parser.add_argument('--processes', default='1,2,4')
  parser.add_argument('--devices', type=int, default=2)
  parser.add_argument('--columns', action='store_true')
  parser.add_argument('--load', help=argparse.SUPPRESS)
  parser.add_argument('--layers', type=int, help=argparse.SUPPRESS)
  args = parser.parse_args()
  if args.load:
    load(args.load, args.layers, args.columns)
    return
  layers = max(1, round((args.gigabytes * 1e9 - _OUTSIDE_BYTES) / _LAYER_BYTES))
  with tempfile.TemporaryDirectory() as folder:
    write(pathlib.Path(folder), layers)
    for count in map(int, args.processes.split(',')):
      print(json.dumps(start(args, folder, layers, count)), flush=True)


if __name__ == '__main__':
  main()
