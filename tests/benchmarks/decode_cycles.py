"""Decode steps compiled for TPUs that are not here, by the compiler's model.

    python tests/benchmarks/decode_cycles.py --topology=v5e:2x4 [--tensor=8]
        [--model=llama3_8b] [--layers=4] [--groups=32] [--lanes=8]
        [--prefix=1024] [--question=256] [--new=512] [--top_k=40] [--top_p=1]

Needs the extra 'tpu' (libtpu), and no TPU. Compiles the program that decodes a
chunk, and adds up what the compiler estimates for one step of its loop: cycles
of fusions and products, loops inside by their trip counts. The minimum is the
time to read the chip's weights and caches once at the bandwidth of its memory.
The last line is JSON:

    cycles, minimum   of one decode step, on one chip
    prefetched_mib    copied to the chip beside the products
    ratio_beside      cycles to the minimum, as if such copies cost nothing
    ratio             the same, as if nothing went on beside them
    hbm_gib           arguments, results and temporaries of a chip
    compile_cpu_s     of this program
    collectives       by kind: number in a step
    copies_mib        by the largest copy instructions of the loop

Every figure is the compiler's estimate, never a measurement. It has none for
kernels (custom calls), which are counted at the larger of their bytes at the
memory's bandwidth and their operations at the chip's peak; and none for copies
to the chip that go on beside the products, whose bytes count in `ratio` at the
memory's bandwidth. The truth lies between the two ratios.
"""

import argparse
import collections
import dataclasses
import functools
import json
import os
import re
import time

os.environ['JAX_PLATFORMS'] = 'cpu'
os.environ.setdefault('TPU_SKIP_MDS_QUERY', '1')
os.environ.setdefault('ALLOW_MULTIPLE_LIBTPU_LOAD', '1')
os.environ.setdefault('TPU_WORKER_HOSTNAMES', 'localhost')
os.environ.setdefault('TPU_ACCELERATOR_TYPE', 'v5litepod-8')


import jax
import jax.numpy as jnp
import numpy as np

from rest_jax import preflight
from rest_jax.config import gin_parser
from rest_jax.distributed import partitioning
from rest_jax.models import caches, decoding, layered
from rest_jax.models.architecture import DecoderConfig
from rest_jax.models.checkpoints import policies
from rest_jax.sampling import decode_programs, streams, token_choice

# Hertz, bytes and bfloat16 operations a second of a chip (public figures).
CHIPS = {
  'v5e': (1.5e9, 819e9, 197e12),
  'v5p': (1.75e9, 2765e9, 459e12),
  'v6e': (1.75e9, 1640e9, 918e12),
}


def arguments() -> argparse.Namespace:
  parser = argparse.ArgumentParser(description=__doc__)
  parser.add_argument('--topology', default='v5e:2x4')
  parser.add_argument('--model', default='llama3_8b', help='of gin/models')
  parser.add_argument('--loop', default='unroll')
  parser.add_argument('--attention', default='splash', help='or einsum')
  parser.add_argument('--cache', default='as_computed', help='or int8')
  parser.add_argument('--tensor', type=int, help='default: all chips')
  parser.add_argument('--layers', type=int, help="default: the model's own")
  for flag, default in {
    'groups': 32,
    'lanes': 8,
    'prefix': 1024,
    'question': 256,
    'new': 512,
    'chunk': 16,
    'top_k': 40,
  }.items():
    parser.add_argument(f'--{flag}', type=int, default=default)
  parser.add_argument('--top_p', type=float, default=1.0)
  parser.add_argument('--hlo', help='a file for the compiled text')
  return parser.parse_args()


def placed(tree, mesh, names):
  """Shapes with shardings, for arrays whose logical axes are given."""

  def one(leaf):
    where = partitioning.sharding(mesh, names, leaf.shape)
    return jax.ShapeDtypeStruct(leaf.shape, leaf.dtype, sharding=where)

  return jax.tree.map(one, tree)


def lowered(args: argparse.Namespace, model: DecoderConfig, mesh):
  """(the chunk's program, its arguments' bytes on a chip)."""
  programs = decode_programs.DecodePrograms(
    model=model,
    mesh=mesh,
    network=decoding,
    max_decode_length=args.new,
    chunk=args.chunk,
    vocab_size=model.vocab_size,
    eos_ids=(1,),
    cache=args.cache,
  )
  stream = streams.Stream(
    name='e_step',
    num_samples=32,
    temperature=0.7,
    top_k=args.top_k,
    top_p=args.top_p,
  )
  params = policies.abstract(model, mesh)
  weights = jax.eval_shape(lambda p: layered.arrange(model, p), params)
  # All layers of a network are split alike.
  named = {_parameter(path): leaf for path, leaf in _flat(params)}

  def with_sharding(path, leaf):
    array = named[_parameter(path)]
    spec = array.sharding.spec
    if path[0] == 'layers' and model.decode_loop == 'unroll':
      spec = jax.sharding.PartitionSpec(*spec[1:])
    where = jax.sharding.NamedSharding(mesh, spec)
    return jax.ShapeDtypeStruct(leaf.shape, leaf.dtype, sharding=where)

  weights = jax.tree_util.tree_map_with_path(
    lambda path, leaf: with_sharding(_names(path), leaf), weights
  )
  first = ('layers',) if model.decode_loop == 'scan' else ()
  shared = (*first, 'kv_heads', None, None)
  of_group = (*first, 'group', 'kv_heads', None, None)
  of_lane = (*first, 'group', None, 'kv_heads', None, None)
  make = functools.partial(caches.empty, model, kind=args.cache)
  empty = jax.eval_shape(
    lambda: (
      make(1, length=args.prefix),
      make(args.groups, length=args.question),
      make(args.groups, args.lanes, length=args.new),
    )
  )
  cut = (lambda s: s[:1] + s[2:]) if first else (lambda s: s[1:])
  prefix = jax.tree.map(
    lambda a: jax.ShapeDtypeStruct(cut(a.shape), a.dtype), empty[0]
  )
  small = partitioning.sharding(
    mesh, ('group', None), (args.groups, args.lanes)
  )
  lanes = jax.eval_shape(lambda: programs._empty(args.groups, args.lanes, 64))[
    2
  ]
  lanes = jax.tree.map(
    lambda a: jax.ShapeDtypeStruct(
      a.shape,
      a.dtype,
      sharding=partitioning.sharding(
        mesh, ('group', None)[: len(a.shape)], a.shape
      ),
    ),
    lanes,
  )
  inputs = (
    weights,
    caches.Prefix(placed(prefix, mesh, shared), np.int32(args.prefix)),
    placed(empty[1], mesh, of_group),
    [placed(empty[2], mesh, of_lane)],
    lanes,
    decode_programs.Groups.empty(args.groups, stream),
    jax.ShapeDtypeStruct((args.groups, args.lanes), jnp.int32, sharding=small),
    token_choice.road(stream),
  )
  return programs.decode.lower(*inputs), inputs


def _names(path) -> list[str]:
  return [
    getattr(entry, 'name', getattr(entry, 'key', getattr(entry, 'idx', None)))
    for entry in path
  ]


def _parameter(path) -> tuple[bool, tuple[str, ...]]:
  """(whether it is of a layer, its name there)."""
  plain = [str(name) for name in path]
  own = [
    name
    for name in plain
    if name not in ('params', 'outer')
    and not re.fullmatch(r'blocks|rest|layers(_\d+)?|\d+', name)
  ]
  return bool({'blocks', 'rest', 'layers'} & set(plain)), tuple(own)


def _flat(params):
  flat, _ = jax.tree_util.tree_flatten_with_path(params)
  return [(tuple(_names(path)), leaf) for path, leaf in flat]


def chip_bytes(tree) -> int:
  """Of the arrays on one chip."""
  total = 0
  for leaf in jax.tree.leaves(tree):
    if isinstance(leaf, jax.ShapeDtypeStruct):
      shape = (
        leaf.sharding.shard_shape(leaf.shape) if leaf.sharding else leaf.shape
      )
      total += int(np.prod(shape)) * leaf.dtype.itemsize
  return total


KERNEL = 'custom_call_target="tpu_custom_call"'
_BYTES = {'pred': 1, 's8': 1, 'bf16': 2, 's32': 4, 'u32': 4, 'f32': 4}


@dataclasses.dataclass
class Program:
  """The compiled text, by computations."""

  computations: dict[str, list[str]]
  chip: tuple[float, float, float]  # of CHIPS

  @classmethod
  def read(cls, text: str, chip: tuple[float, float, float]) -> 'Program':
    found, name = {}, None
    for line in text.splitlines():
      if line and not line[0].isspace():
        head = re.match(r'(?:ENTRY )?%?([\w.\-]+) .*\{$', line)
        name = head and head[1]
        if name:
          found[name] = []
      elif name and ' = ' in line:
        found[name].append(line)
    return cls(found, chip)

  def cycles(self, name: str, pick) -> float:
    """Of a computation: its own instructions, and what they call.

    Args:
      name: of the computation.
      pick: of two branches, min or max.
    """
    total = 0.0
    for line in self.computations[name]:
      if match := re.search(r'"estimated_cycles":"(\d+)"', line):
        total += int(match[1])
      if KERNEL in line:
        total += self._of_kernel(line)
      total += self._called(line, pick)
    return total

  def _of_kernel(self, line: str) -> float:
    """A kernel at the larger of its bytes and its operations, at full speed."""
    hertz, bandwidth, peak = self.chip
    cost = re.search(r'"cost_estimate":\{[^}]*\}', line)
    if cost is None:
      raise SystemExit(f'a kernel without a cost: {line[:200]}')
    flops, moved = (
      float(re.search(rf'"{name}":"?(\d+)', cost[0])[1])
      for name in ('flops', 'bytes_accessed')
    )
    return hertz * max(moved / bandwidth, flops / peak)

  def prefetched(self, name: str) -> float:
    """Bytes that a computation has copied to the chip beside its products."""
    total = 0
    for line in self.computations[name]:
      # (to, from, …) of a copy; ((from), to, …) of a slice.
      match = re.search(
        r'= \((?:\(.*?\), )?(\w+)\[([\d,]*)\][^ ]*S\(1\)\S* .*'
        r' (?:copy|slice)-start\(',
        line,
      )
      if match:
        sizes = [int(n) for n in match[2].split(',') if n]
        total += int(np.prod(sizes)) * _BYTES[match[1]]
    return total

  def _called(self, line: str, pick) -> float:
    if ' while(' in line:
      body = re.search(r'body=%?([\w.\-]+)', line)[1]
      return self._trips(line) * self.cycles(body, pick)
    if ' conditional(' in line:
      if branches := re.search(r'branch_computations=\{([^}]*)\}', line):
        names = [n.strip().lstrip('%') for n in branches[1].split(',')]
        return pick(self.cycles(name, pick) for name in names)
      pair = re.search(
        r'true_computation=%?([\w.\-]+), false_computation=%?([\w.\-]+)', line
      )
      return pick(self.cycles(n, pick) for n in pair.groups())
    if match := re.search(r' call\(.*to_apply=%?([\w.\-]+)', line):
      return self.cycles(match[1], pick)
    return 0.0

  def _trips(self, line: str) -> int:
    """How often a loop goes round: as noted, or as its condition compares."""
    if noted := re.search(r'"known_trip_count":\{"n":"(\d+)"', line):
      return int(noted[1])
    condition = re.search(r'condition=%?([\w.\-]+)', line)[1]
    found = [
      int(match[1])
      for line in self.computations[condition]
      if (match := re.search(r' constant\((\d+)\)', line))
    ]
    return max(found, default=1)

  def loop(self) -> str:
    """The body of the loop over a chunk's steps: the one that costs most."""
    bodies = {
      match[1]
      for lines in self.computations.values()
      for line in lines
      if ' while(' in line and (match := re.search(r'body=%?([\w.\-]+)', line))
    }
    return max(bodies, key=lambda name: self.cycles(name, min))


def main() -> None:
  args = arguments()
  _, bound = gin_parser.parse(
    'preflight', gin_files=[f'models/{args.model}.gin']
  )
  model = dataclasses.replace(
    bound['model'],
    **({'num_layers': args.layers} if args.layers else {}),
    max_length=args.prefix + args.question + args.new,
    dtype='bfloat16',
    param_dtype='bfloat16',
    decode_loop=args.loop,
    attention=args.attention,
  )
  devices = preflight.topology_devices(args.topology, 1)
  tensor = args.tensor or len(devices)
  mesh = partitioning.make_mesh(
    partitioning.MeshConfig(data=-1, fsdp=1, tensor=tensor), devices
  )
  start = time.process_time()
  program, inputs = lowered(args, model, mesh)
  compiled = program.compile()
  seconds = time.process_time() - start
  text = compiled.as_text()
  if args.hlo:
    with open(args.hlo, 'w') as file:
      file.write(text)
  read = Program.read(text, CHIPS[args.topology.partition(':')[0]])
  body = read.loop()
  # Limits that nobody asks for cost nothing.
  pick = min if args.top_p == 1 and args.top_k <= 64 else max
  cycles = read.cycles(body, pick)
  hertz, bandwidth, _ = read.chip
  prefetched = read.prefetched(body)
  moved = prefetched / bandwidth * hertz
  looked_up = model.vocab_size * model.embed_dim * 2 // tensor
  least = chip_bytes(inputs[:4]) - (0 if model.tie_embeddings else looked_up)
  minimum = least / bandwidth * hertz
  lines = read.computations[body]
  kinds = collections.Counter(
    match[1]
    for line in lines
    if (
      match := re.search(
        r' (all-\w+|reduce-scatter|collective-permute)(?:-start)?\(', line
      )
    )
  )
  calls = collections.Counter(
    match[1]
    for line in lines
    if (match := re.search(r'custom_call_target="(\w+)"', line))
  )
  copies = sorted(
    (
      int(np.prod([int(n) for n in match[1].split(',')])) * 2 / 2**20
      for line in lines
      if (match := re.search(r'= \w+\[([\d,]+)\]\S* copy\(', line))
    ),
    reverse=True,
  )
  needed = preflight.memory_bytes(compiled)
  print(
    json.dumps(
      {
        'topology': args.topology,
        'model': args.model,
        'layers': model.num_layers,
        'mesh': dict(mesh.shape),
        'layout': f'{args.groups} x {args.lanes}',
        'cycles': round(cycles),
        'minimum': round(minimum),
        'prefetched_mib': round(prefetched / 2**20, 1),
        'ratio_beside': round(cycles / minimum, 2),
        'ratio': round((cycles + moved) / minimum, 2),
        'hbm_gib': round(needed['total'] / 2**30, 2),
        'temporary_gib': round(needed['temporary'] / 2**30, 2),
        'compile_cpu_s': round(seconds, 1),
        'collectives': dict(kinds),
        'custom_calls': dict(calls),
        'copies_mib': [round(size, 2) for size in copies[:4]],
      }
    )
  )


if __name__ == '__main__':
  main()
