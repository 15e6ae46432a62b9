"""Speed of the training step on a network of random weights.

    python tests/benchmarks/training.py [--problems=8] [--solutions=10]
        [--prefix=896] [--question=64] [--solution=192] [--rows=8]
        [--row_length=2048] [--peak_tflops=…] [--layers=4 … --dtype=float32]

The examples are random ids, packed into rows as the M-step packs them: a few
shots that all share, a question, and a solution, which alone is learned. The
optimiser is AdamW. The first step compiles and is left out. The last line is
JSON: examples, tokens and learned tokens a second, step_ms, model FLOP/s (six
per parameter and token, and the attention's products), and mfu where
--peak_tflops names the device's peak.
"""

import argparse
import json
import statistics
import time

import random_networks  # isort: skip  # it finds rest_jax
import jax
import numpy as np

from rest_jax.artifacts import records
from rest_jax.models.architecture import DecoderConfig
from rest_jax.training import optimizers, packing, train_step
from rest_jax.training.hyperparameters import OptimizerConfig


def arguments() -> argparse.Namespace:
  parser = argparse.ArgumentParser(description=__doc__)
  random_networks.add_flags(parser)
  for flag, default in {
    'prefix': 896,
    'question': 64,
    'solution': 192,
    'problems': 8,
    'solutions': 10,
    'rows': 8,
    'row_length': 2048,
    'microbatches': 1,
    'steps': 8,
  }.items():
    parser.add_argument(f'--{flag}', type=int, default=default)
  parser.add_argument('--remat', default='none')
  parser.add_argument('--peak_tflops', type=float)
  return parser.parse_args()


def examples(args: argparse.Namespace) -> list[records.Example]:
  draw = np.random.default_rng(0)
  ids = lambda length: draw.integers(3, args.vocab, length).tolist()  # noqa: E731
  prefix = ids(args.prefix)
  found = []
  for problem in range(args.problems):
    question = ids(args.question)
    for sample in range(args.solutions):
      prompt = prefix + question
      found.append(
        records.Example(
          problem_id=f'p{problem}',
          sample_index=sample,
          token_ids=prompt + ids(args.solution),
          weight=1.0,
          segment_types=[records.PROMPT] * len(prompt)
          + [records.TARGET] * args.solution,
        )
      )
  return found


def flops(model: DecoderConfig, rows: packing.Rows) -> float:
  """Of the products of one forward and backward pass, padding left out."""
  tokens = int((rows.segment_ids > 0).sum())
  matrices = model.num_parameters
  if not model.tie_embeddings:
    matrices -= model.vocab_size * model.embed_dim
  pairs = int((rows.positions + 1)[rows.segment_ids > 0].sum())
  width = model.num_layers * model.num_heads * model.head_dim
  return 6 * matrices * tokens + 12 * width * pairs


def main() -> None:
  args = arguments()
  model = random_networks.config(
    args, args.row_length, remat=args.remat, param_dtype='float32'
  )
  mesh = random_networks.mesh()
  table = records.to_table(records.Example, examples(args))
  packer = packing.Packer(table, row_length=args.row_length, seed=0)
  transform = optimizers.make(OptimizerConfig(learning_rate=1e-4), 1000)
  _, where = train_step.shardings(model, transform, mesh)
  params = random_networks.parameters(model, mesh)
  state = train_step.TrainState(
    jax.device_put(np.int32(0), where.step),
    params,
    jax.jit(transform.init, out_shardings=where.opt_state)(params),
  )
  del params
  step = jax.jit(
    train_step.make_step(
      model, transform, mesh, microbatches=args.microbatches
    ),
    donate_argnums=(0,),
    out_shardings=(where, None),
  )
  seconds = []
  for number in range(args.steps + 1):
    place = train_step.batch_shardings(mesh, args.rows)
    batch = train_step.put_batch(packer, number * args.rows, args.rows, place)
    start = time.perf_counter()
    state, metrics = step(state, batch)
    loss = float(metrics['loss'])
    seconds.append(time.perf_counter() - start)
  rows = packer.batch(range(args.rows))
  median = statistics.median(seconds[1:])
  work = flops(model, rows)
  memory = jax.devices()[0].memory_stats() or {}
  figures = {
    'examples_per_s': round(int(rows.segment_ids.max(-1).sum()) / median, 2),
    'tokens_per_s': round(int((rows.segment_ids > 0).sum()) / median, 1),
    'learned_tokens_per_s': round(float(rows.loss_weights.sum()) / median, 1),
    'step_ms': round(1e3 * median, 2),
    'first_step_s': round(seconds[0], 2),
    'model_tflops': round(work / median / 1e12, 3),
    'parameters': model.num_parameters,
    'fill': round(packer.fill, 3),
    'device_peak_gb': round(memory.get('peak_bytes_in_use', 0) / 1e9, 2),
    'loss': round(loss, 4),
    'device': jax.devices()[0].device_kind,
  }
  if args.peak_tflops:
    figures['mfu'] = round(work / median / 1e12 / args.peak_tflops, 4)
  print(json.dumps(figures))


if __name__ == '__main__':
  main()
