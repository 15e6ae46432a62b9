"""What the TPU compiler expects of a training step with shared prompts.

    PYTHONPATH=. python tests/benchmarks/training_cycles.py \\
      [--topology=v5e:4x4] [--model=llama3_8b] [--layers=4] \\
      [--attention=splash|einsum] [--remat=full] [--rows=16] [--length=4096] \\
      [--prefix=1024] [--tensor=1] [--hlo=FILE]

Needs the extra 'tpu' (libtpu), and no TPU. Compiles the step of the train stage
for rows that share prompts behind one prefix, and adds up what the compiler
estimates of one chip, as decode_cycles.py does: without collectives, and a
kernel at the larger of its bytes and its operations at full speed. The last
line is JSON:

    cycles            of one step, kernels included
    kernel_cycles     of these, as if every place up to itself were seen
    temporary_gib     beside parameters, optimiser and batch
    hbm_gib           all of it
    compile_cpu_s     of this program

Every figure is the compiler's estimate, never a measurement.
"""

import argparse
import dataclasses
import json
import time

import decode_cycles  # sets what libtpu asks of its environment
import jax

from rest_jax import preflight
from rest_jax.config import gin_parser
from rest_jax.distributed import partitioning
from rest_jax.models import segments
from rest_jax.training import batches, optimizers, packing, train_step
from rest_jax.training.hyperparameters import OptimizerConfig


def arguments() -> argparse.Namespace:
  parser = argparse.ArgumentParser(description=__doc__)
  parser.add_argument('--topology', default='v5e:4x4')
  parser.add_argument('--model', default='llama3_8b', help='of gin/models')
  parser.add_argument('--attention', default='splash', help='or einsum')
  parser.add_argument('--remat', default='full')
  parser.add_argument('--hlo', help='a file for the compiled text')
  for flag, default in {
    'layers': 4,
    'rows': 16,
    'length': 4096,
    'prefix': 1024,
    'tensor': 1,
    # The longest segment, and places of parents that BLOCK places see.
    'segment': 512,
    'parents': 512,
  }.items():
    parser.add_argument(f'--{flag}', type=int, default=default)
  return parser.parse_args()


def lowered(args: argparse.Namespace, model, mesh):
  """The step for rows behind one prefix; without one where it has 0 places."""
  transform = optimizers.make(OptimizerConfig(learning_rate=1e-5), 1)
  shared = ('parents', *(['prefixes'] if args.prefix else []))
  plan = batches.Plan(
    (*packing.PLAIN_FIELDS, *shared),
    args.length,
    segments.Spans(args.segment, args.parents),
    (1, args.prefix) if args.prefix else None,
  )
  abstract, shardings = train_step.shardings(model, transform, mesh)

  def placed(leaf, where):
    return jax.ShapeDtypeStruct(leaf.shape, leaf.dtype, sharding=where)

  places = batches.batch_shardings(mesh, args.rows, plan)
  batch = {
    name: placed(leaf, places[name])
    for name, leaf in plan.shapes(args.rows).items()
  }
  step = train_step.make_step(model, transform, mesh, plan)
  return jax.jit(
    step, donate_argnums=(0,), out_shardings=(shardings, None)
  ).lower(jax.tree.map(placed, abstract, shardings), batch)


def entry(text: str) -> str:
  """The name of the computation that a program begins with."""
  line = next(line for line in text.splitlines() if line.startswith('ENTRY'))
  return line.split()[1].lstrip('%')


def main() -> None:
  args = arguments()
  _, bound = gin_parser.parse(
    'preflight', gin_files=[f'models/{args.model}.gin']
  )
  model = dataclasses.replace(
    bound['model'],
    num_layers=args.layers,
    max_length=args.length + args.prefix,
    dtype='bfloat16',
    param_dtype='float32',
    remat=args.remat,
    attention=args.attention,
  )
  mesh = partitioning.make_mesh(
    partitioning.MeshConfig(data=1, fsdp=-1, tensor=args.tensor),
    preflight.topology_devices(args.topology, 1),
  )
  start = time.process_time()
  compiled = lowered(args, model, mesh).compile()
  seconds = time.process_time() - start
  text = compiled.as_text()
  if args.hlo:
    with open(args.hlo, 'w') as file:
      file.write(text)
  chip = decode_cycles.CHIPS[args.topology.partition(':')[0]]
  name = entry(text)
  cycles = decode_cycles.Program.read(text, chip).cycles(name, max)
  endless = (chip[0], float('inf'), float('inf'))
  without = decode_cycles.Program.read(text, endless).cycles(name, max)
  needed = preflight.memory_bytes(compiled)
  print(
    json.dumps(
      vars(args)
      | {
        'cycles': round(cycles),
        'kernel_cycles': round(cycles - without),
        'temporary_gib': round(needed['temporary'] / 2**30, 2),
        'hbm_gib': round(needed['total'] / 2**30, 2),
        'compile_cpu_s': round(seconds, 1),
      }
    )
  )


if __name__ == '__main__':
  main()
