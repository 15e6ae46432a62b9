"""Speed of the sampling engine on a network of random weights.

    python tests/benchmarks/sampling.py [--problems=8] [--samples=16]
        [--prefix=448] [--question=64] [--new=96] [--lengths=full|geometric]
        [--groups=8] [--lanes=16] [--chunk=32] [--layers=4 … --dtype=float32]

The prompts are random ids: a prefix that all of them share, and a question of
each problem. Without --lengths no sample ends before --new tokens; with
`geometric` so many ids end a sample that a third of them is its mean length.
The workload is sampled twice; the first time compiles. With `geometric` it is
sampled again in batches, each as large as the lanes and begun when the one
before has ended: as without lanes that take the next sample. The last line is
JSON:

    sampled_tokens_per_s   up to the end of each sample
    seconds, first_call_s  of the second and of the first time
    peak_rss_mb            of this process
    device_peak_gb         where the device counts it
    step_ms                time of a decode step, prefill spread over them
    least_gb_per_s         weights and caches read once a step, by that time
    batches_seconds, refilling   of the batches; how often as long they take

Runs where jax runs: JAX_PLATFORMS=cpu for the CPU beside an accelerator.
"""

import argparse
import dataclasses
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
    'questions': 4,
  }.items():
    parser.add_argument(f'--{flag}', type=int, default=default)
  parser.add_argument(
    '--lanes',
    type=int,
    help='default: --samples, up to 16; a quarter where samples end early',
  )
  parser.add_argument(
    '--groups', type=int, help='default: --problems, as 128 rows allow'
  )
  parser.add_argument(
    '--chunk', type=int, help='default: 32, or 8 where samples end early'
  )
  parser.add_argument('--loop', default='unroll', help='over layers, or scan')
  parser.add_argument('--temperature', type=float, default=0.7)
  parser.add_argument('--top_k', type=int, default=40)
  parser.add_argument('--lengths', default='full')
  args = parser.parse_args()
  full = args.lengths == 'full'
  most = args.samples if full else max(1, args.samples // 4)
  args.lanes = args.lanes or min(most, 16)
  args.groups = args.groups or min(args.problems, max(1, 128 // args.lanes))
  args.chunk = args.chunk or (32 if full else 8)
  return args


def requests(args: argparse.Namespace) -> list[Request]:
  """All samples of all problems."""
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


def batches(args: argparse.Namespace) -> list[list[Request]]:
  """The same, as many at once as there are groups and lanes."""
  every = requests(args)
  return [
    [
      dataclasses.replace(
        request,
        sample_indices=range(first, min(first + args.lanes, args.samples)),
      )
      for request in every[problem : problem + args.groups]
    ]
    for problem in range(0, args.problems, args.groups)
    for first in range(0, args.samples, args.lanes)
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

  def sampled(work: list[list[Request]]) -> tuple[float, int]:
    """Seconds and tokens of requests, one list after the other."""
    start = time.perf_counter()
    tokens = sum(
      len(sample.token_ids)
      for of_batch in work
      for sample in engine.generate(of_batch, stream=stream, iteration=1)
    )
    return time.perf_counter() - start, tokens

  first_call, _ = sampled([requests(args)])
  seconds, tokens = sampled([requests(args)])
  step = seconds / len(batches(args)) / args.new
  memory = jax.devices()[0].memory_stats() or {}
  figures = {
    'sampled_tokens_per_s': round(tokens / seconds, 1),
    'seconds': round(seconds, 3),
    'first_call_s': round(first_call, 3),
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
  if args.lengths != 'full':
    apart, _ = sampled(batches(args))
    figures |= {
      'batches_seconds': round(apart, 3),
      'refilling': round(apart / seconds, 2),
    }
  print(json.dumps(figures))


if __name__ == '__main__':
  main()
