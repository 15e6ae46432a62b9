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
    product_ratio     of one product of a chip's rows with 1 GiB, alone: what
                      the compiler's model allows
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
import json
import math
import re
import time

import jax
import jax.numpy as jnp

from rest_jax.config import gin_parser
from rest_jax.costs import hlo_program, sampling_programs, tpu_compiler
from rest_jax.distributed import partitioning
from rest_jax.executors import topologies
from rest_jax.sampling import streams


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


def product_ratio(
  device: jax.Device, rows: int, chip: topologies.Generation
) -> float:
  """Cycles of a product, to the time to read its matrix at the bandwidth."""
  where = jax.sharding.SingleDeviceSharding(device)
  left, matrix = (
    jax.ShapeDtypeStruct(shape, jnp.bfloat16, sharding=where)
    for shape in ((rows, 4096), (4096, 2**17))
  )
  compiled = jax.jit(jnp.dot).lower(left, matrix).compile()
  cost = hlo_program.Program.read(compiled.as_text(), chip).cost()
  read = matrix.size * 2 / chip.hbm_bandwidth * chip.clock_hertz
  return round(cost.cycles / read, 2)


def main() -> None:
  args = arguments()
  _, bound = gin_parser.parse('sizes', gin_files=[f'models/{args.model}.gin'])
  model = dataclasses.replace(
    bound['model'],
    **({'num_layers': args.layers} if args.layers else {}),
    max_length=args.prefix + args.question + args.new,
    dtype='bfloat16',
    param_dtype='bfloat16',
    decode_loop=args.loop,
    attention=args.attention,
  )
  devices = tpu_compiler.devices(args.topology)
  tensor = args.tensor or len(devices)
  mesh = partitioning.make_mesh(
    partitioning.MeshConfig(data=-1, fsdp=1, tensor=tensor), devices
  )
  programs = sampling_programs.Programs(
    model,
    mesh,
    sampling_programs.Layout(
      groups=args.groups,
      lanes=args.lanes,
      prefix=args.prefix,
      question=args.question,
      new=args.new,
      chunk=args.chunk,
      cache=args.cache,
    ),
    streams.Stream(
      name='e_step',
      num_samples=32,
      temperature=0.7,
      top_k=args.top_k,
      top_p=args.top_p,
    ),
  )
  start = time.process_time()
  compiled = programs.decode()
  seconds = time.process_time() - start
  text = compiled.as_text()
  if args.hlo:
    with open(args.hlo, 'w') as file:
      file.write(text)
  chip = topologies.parse(args.topology, '--topology').generation
  # Limits that nobody asks for cost nothing.
  pick = min if args.top_p == 1 and args.top_k <= 64 else max
  read = hlo_program.Program.read(text, chip, pick=pick)
  body = read.loop()
  cost = read.cost(body)
  cycles, prefetched = cost.cycles, cost.prefetched_bytes
  moved = prefetched / chip.hbm_bandwidth * chip.clock_hertz
  least = sampling_programs.minimum_bytes(model, mesh, programs.inputs)
  minimum = least / chip.hbm_bandwidth * chip.clock_hertz
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
      math.prod(int(n) for n in match[1].split(',')) * 2 / 2**20
      for line in lines
      if (match := re.search(r'= \w+\[([\d,]+)\]\S* copy\(', line))
    ),
    reverse=True,
  )
  needed = tpu_compiler.memory_bytes(compiled)
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
        'product_ratio': product_ratio(
          devices[0],
          args.groups * args.lanes * tensor // len(devices),
          chip,
        ),
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
