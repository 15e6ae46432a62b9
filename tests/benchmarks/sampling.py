"""Speed of the sampling engine on a network of random weights.

    python tests/benchmarks/sampling.py [--problems=8] [--samples=16]
        [--prefix=448] [--question=64] [--new=96] [--lengths=full|geometric]
        [--groups=8] [--lanes=16] [--layers=4 … --dtype=float32]

The prompts are random ids: a prefix that all of them share, and a question of
each problem. Without --lengths no sample ends before --new tokens; with
`geometric` so many ids end a sample that a third of them is its mean length.
The workload is sampled twice; the first time compiles. The last line is JSON:

    sampled_tokens_per_s   up to the end of each sample
    seconds, first_call_s  of the second and of the first time
    peak_rss_mb            of this process
    device_peak_gb         where the device counts it
    step_ms                time of a decode step, prefill spread over them
    least_gb_per_s         weights and caches read once a step, by that time

Runs where jax runs: JAX_PLATFORMS=cpu for the CPU beside an accelerator.
"""

import argparse
import json
import resource
import time
from collections.abc import Sequence

import random_networks  # isort: skip  # it finds rest_jax

import jax
import numpy as np

from rest_jax.models.architecture import DecoderConfig
from rest_jax.sampling import sampling_engine, streams
from rest_jax.sampling.requests import Request, Text


def arguments() -> argparse.Namespace:
  parser = argparse.ArgumentParser(description=__doc__)
  random_networks.add_flags(parser)
  for flag, default in {
    'prefix': 448,
    'question': 64,
    'problems': 8,
    'samples': 16,
    'new': 96,
    'chunk': 16,
    'questions': 4,
  }.items():
    parser.add_argument(f'--{flag}', type=int, default=default)
  parser.add_argument('--groups', type=int, help='default: --problems, up to 8')
  parser.add_argument('--lanes', type=int, help='default: --samples, up to 16')
  parser.add_argument('--loop', default='unroll', help='over layers, or scan')
  parser.add_argument('--temperature', type=float, default=0.7)
  parser.add_argument('--top_k', type=int, default=40)
  parser.add_argument('--lengths', default='full')
  args = parser.parse_args()
  args.groups = args.groups or min(args.problems, 8)
  args.lanes = args.lanes or min(args.samples, 16)
  return args


def requests(args: argparse.Namespace) -> list[Request]:
  draw = np.random.default_rng(0)
  prefix = draw.integers(3, args.vocab, args.prefix).tolist()
  return [
    Request(
      f'p{problem}',
      prefix + draw.integers(3, args.vocab, args.question).tolist(),
      range(args.samples),
      prefix=args.prefix,
    )
    for problem in range(args.problems)
  ]


def ends(args: argparse.Namespace) -> Sequence[int]:
  """The ids that end a sample: as good as equally likely, all of them."""
  if args.lengths == 'full':
    return ()
  return range(args.vocab - args.vocab * 3 // args.new, args.vocab)


def least_bytes(args: argparse.Namespace, model: DecoderConfig) -> int:
  """Bytes that a decode step reads at least: weights and caches, once."""
  size = np.dtype(jax.numpy.dtype(model.dtype)).itemsize
  looked_up = 0 if model.tie_embeddings else model.vocab_size * model.embed_dim
  prompt = args.prefix + args.question
  places = args.groups * (prompt + args.lanes * args.new // 2)
  token = 2 * model.num_layers * model.num_kv_heads * model.head_dim
  return size * (model.num_parameters - looked_up + places * token)


def main() -> None:
  args = arguments()
  prompt = args.prefix + args.question
  model = random_networks.config(args, prompt + args.new, decode_loop=args.loop)
  mesh = random_networks.mesh()
  layout = streams.EngineConfig(
    groups=args.groups,
    lanes=args.lanes,
    greedy_groups=args.groups,
    max_decode_length=args.new,
    prompt_bucket=64,
    chunk=args.chunk,
    questions=args.questions,
    seed=0,
  )
  params = random_networks.parameters(model, mesh)
  engine = sampling_engine.Engine(
    model,
    sampling_engine.variables_on(mesh, params, model, layout),
    layout,
    mesh,
    Text(
      decode=lambda ids: '', vocab_size=args.vocab, eos_ids=ends(args), stop=()
    ),
  )
  stream = streams.Stream(
    name='e_step',
    num_samples=args.samples,
    temperature=args.temperature,
    # Ends at a known rate: the softmax of random weights is nearly even.
    top_k=args.top_k if args.lengths == 'full' else 0,
  )
  seconds = []
  for _ in range(2):
    start = time.perf_counter()
    tokens = sum(
      len(sample.token_ids)
      for sample in engine.generate(requests(args), stream=stream, iteration=1)
    )
    seconds.append(time.perf_counter() - start)
  batches = -(-args.problems // args.groups) * -(-args.samples // args.lanes)
  step = seconds[1] / batches / args.new
  memory = jax.devices()[0].memory_stats() or {}
  figures = {
    'sampled_tokens_per_s': round(tokens / seconds[1], 1),
    'seconds': round(seconds[1], 3),
    'first_call_s': round(seconds[0], 3),
    'peak_rss_mb': resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024,
    'device_peak_gb': round(memory.get('peak_bytes_in_use', 0) / 1e9, 2),
    'tokens': tokens,
    'parameters': model.num_parameters,
    'step_ms': round(1e3 * step, 3),
    'least_gb_per_s': round(least_bytes(args, model) / step / 1e9, 1),
    'device': jax.devices()[0].device_kind,
    'layout': f'{args.groups} x {args.lanes}',
    'dtype': args.dtype,
    'lengths': args.lengths,
  }
  print(json.dumps(figures))


if __name__ == '__main__':
  main()
