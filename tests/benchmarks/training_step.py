"""Our training step, for training.py: a step for each line of stdin.

    python tests/benchmarks/training_step.py [--share] [training.py's flags]
        [--row_length=…] [--remat=none]

The rows of a step hold all examples: as many of --row_length places as they
need, in microbatches of about --microbatch_tokens.
"""

import argparse

import random_networks  # isort: skip  # it finds rest_jax

import jax
import numpy as np
import training_examples

from rest_jax.artifacts import records
from rest_jax.costs import training_rows
from rest_jax.training import (
  batches,
  optimizers,
  packing,
  shared_rows,
  train_step,
)
from rest_jax.training.hyperparameters import OptimizerConfig


def arguments() -> argparse.Namespace:
  parser = argparse.ArgumentParser(description=__doc__)
  random_networks.add_flags(parser)
  training_examples.add_flags(parser)
  parser.add_argument('--share', action='store_true')
  parser.add_argument('--row_length', type=int)
  parser.add_argument('--remat', default='none')
  args = parser.parse_args()
  if args.row_length is None:
    # What wastes least: a whole example, or one problem's.
    length = args.solution + args.question - 1
    if args.share:
      length = args.question - 1 + args.solutions * args.solution
    else:
      length += args.prefix
    args.row_length = -(-length // 64) * 64
  return args


def packer(args: argparse.Namespace) -> packing.Packer:
  rows = [
    records.Example(
      problem_id=f'p{problem}',
      sample_index=index,
      token_ids=prompt + solution,
      weight=1.0,
      segment_types=[records.PROMPT] * len(prompt)
      + [records.TARGET] * len(solution),
    )
    for index, (problem, prompt, solution) in enumerate(
      training_examples.examples(args)
    )
  ]
  table = records.to_table(records.Example, rows)
  make = shared_rows.SharedPacker if args.share else packing.Packer
  return make(table, row_length=args.row_length, seed=0)


def main() -> None:
  args = arguments()
  made = packer(args)
  rows = made.rows_per_epoch
  most = max(1, args.microbatch_tokens // args.row_length)
  here = next(n for n in range(min(most, rows), 0, -1) if rows % n == 0)
  model = random_networks.config(
    args, args.prefix + args.row_length, remat=args.remat, param_dtype='float32'
  )
  mesh = random_networks.mesh()
  transform = optimizers.make(OptimizerConfig(learning_rate=1e-4), 1000)
  _, where = train_step.shardings(model, transform, mesh)
  params = random_networks.parameters(model, mesh)
  state = train_step.TrainState(
    jax.device_put(np.int32(0), where.step),
    params,
    jax.jit(transform.init, out_shardings=where.opt_state)(params),
  )
  del params
  plan = batches.Plan.of(made)
  step = jax.jit(
    train_step.make_step(
      model, transform, mesh, plan, microbatches=rows // here
    ),
    donate_argnums=(0,),
    out_shardings=(where, None),
  )
  places = batches.batch_shardings(mesh, rows, plan)
  batch = batches.put_batch(made, 0, rows, places)

  def take() -> float:
    nonlocal state
    state, metrics = step(state, batch)
    return float(metrics['loss'])

  tokens = made.tokens_in(0, rows)
  if made.prefixes is not None:
    tokens += int(made.prefixes.lengths_F.sum())
  of_rows = training_rows.of_packer(model, made, range(rows))
  training_examples.serve(take, tokens, flops=of_rows.flops(model, rows))


if __name__ == '__main__':
  main()
