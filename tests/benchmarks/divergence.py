"""How often samples differ between layouts and meshes.

    python tests/benchmarks/divergence.py [--model=FILE.gguf] [--problems=8]
        [--samples=8] [--new=64] [--temperature=0.7] [--top_k=40] [--top_p=1]

Within one layout and mesh samples are the same bit for bit (sampling.md). Where
G, n or the mesh change, products are summed in another order, and a choice
between two tokens that are almost equal may fall otherwise; from there on the
sample is another one. Each layout is compared with the first, in float32 and in
bfloat16, and prints

    apart        samples with another token somewhere, of all
    per token    tokens that were chosen otherwise, of those chosen behind the
                 same tokens
    log-prob     largest difference of a token's log-probability up to there

Without --model the network has random weights (sizes as in sampling.py), and
problems are random ids. The last line is JSON. Runs on 8 simulated devices.
"""

import argparse
import dataclasses
import json
import os
from typing import NamedTuple

os.environ['JAX_PLATFORMS'] = 'cpu'
os.environ.setdefault('XLA_FLAGS', '--xla_force_host_platform_device_count=8')

import random_networks  # isort: skip  # it finds rest_jax
import llama_cpp  # isort: skip
import sampling  # isort: skip

import jax
import numpy as np

from rest_jax.distributed import partitioning
from rest_jax.models.checkpoints import described, policies
from rest_jax.sampling import sampling_engine, streams
from rest_jax.sampling.requests import Request, Text
from rest_jax.tokenizers import vocabulary_files


class Layout(NamedTuple):
  """Groups, lanes, and the mesh's sizes."""

  groups: int
  lanes: int
  data: int = 1
  fsdp: int = 1
  tensor: int = 1

  def __str__(self) -> str:
    return f'{self.groups} x {self.lanes}, mesh {self[2:]}'


_LAYOUTS = (
  Layout(4, 4),
  Layout(8, 8),
  Layout(8, 2),
  Layout(1, 8),
  Layout(1, 1),
  Layout(4, 4, data=4),
  Layout(4, 4, fsdp=2),
  Layout(4, 4, tensor=2),
  Layout(4, 4, tensor=3),
  Layout(8, 4, data=2, tensor=2),
)


def layouts(args: argparse.Namespace) -> list[Layout]:
  """Those whose mesh divides the network's key heads."""
  heads = args.kv_heads
  if args.model:
    heads = described.network(args.model).num_kv_heads
  return [layout for layout in _LAYOUTS if heads % layout.tensor == 0]


def arguments() -> argparse.Namespace:
  parser = argparse.ArgumentParser(description=__doc__)
  random_networks.add_flags(parser)
  parser.add_argument('--model', help='a GGUF file, instead of random weights')
  parser.add_argument('--dtypes', default='float32,bfloat16')
  for flag, default in {
    'prefix': 64,
    'question': 32,
    'problems': 8,
    'samples': 8,
    'new': 64,
    'top_k': 40,
  }.items():
    parser.add_argument(f'--{flag}', type=int, default=default)
  parser.add_argument('--temperature', type=float, default=0.7)
  parser.add_argument('--top_p', type=float, default=1.0)
  return parser.parse_args()


def requests(args: argparse.Namespace) -> list[Request]:
  samples = range(args.samples)
  if args.model:
    vocabulary = vocabulary_files.load(args.model)
    prompts = llama_cpp.prompts(vocabulary, args.problems, 60)
    return [Request(f'p{i}', ids, samples) for i, ids in enumerate(prompts)]
  return sampling.requests(args)


def drawn(args: argparse.Namespace, layout: Layout, dtype: str) -> dict:
  """(tokens, log-probabilities) of each sample in this layout."""
  devices = jax.devices()[: layout.data * layout.fsdp * layout.tensor]
  split = partitioning.MeshConfig(
    data=layout.data, fsdp=layout.fsdp, tensor=layout.tensor
  )
  mesh = partitioning.make_mesh(split, devices)
  if args.model:
    model = dataclasses.replace(
      described.network(args.model),
      dtype=dtype,
      param_dtype=dtype,
      decode_loop='scan',
    )
    params = policies.load(args.model, model, mesh)
  else:
    # Drawn in float32 and then rounded: one network in both dtypes.
    args.dtype = 'float32'
    length = args.prefix + args.question + args.new
    model = random_networks.config(args, length, decode_loop='scan')
    params = random_networks.parameters(model, mesh)
    params = jax.tree.map(lambda leaf: leaf.astype(dtype), params)
    model = dataclasses.replace(model, dtype=dtype, param_dtype=dtype)
  config = streams.EngineConfig(
    groups=layout.groups,
    lanes=layout.lanes,
    greedy_groups=layout.groups,
    max_decode_length=args.new,
    prompt_bucket=32,
    chunk=16,
    questions=min(4, layout.groups),
    seed=0,
  )
  engine = sampling_engine.Engine(
    model,
    sampling_engine.variables_on(mesh, params, model, config),
    config,
    mesh,
    Text(
      decode=lambda ids: '', vocab_size=model.vocab_size, eos_ids=(), stop=()
    ),
  )
  stream = streams.Stream(
    name='e_step',
    num_samples=args.samples,
    temperature=args.temperature,
    top_k=args.top_k,
    top_p=args.top_p,
  )
  return {
    (sample.problem_id, sample.sample_index): (
      np.asarray(sample.token_ids),
      np.asarray(sample.logprobs),
    )
    for sample in engine.generate(requests(args), stream=stream, iteration=1)
  }


def compared(first: dict, other: dict) -> dict[str, float]:
  """What differs between two layouts' samples."""
  apart = behind_the_same = 0
  largest = 0.0
  for key, (tokens, logprobs) in first.items():
    theirs, their_logprobs = other[key]
    differs = np.flatnonzero(tokens != theirs)
    same = differs[0] if differs.size else len(tokens)
    apart += bool(differs.size)
    behind_the_same += same + bool(differs.size)
    gaps = np.abs(logprobs[:same] - their_logprobs[:same])
    largest = max(largest, float(gaps.max(initial=0)))
  return {
    'apart': apart / len(first),
    'per_token': apart / behind_the_same,
    'logprob': largest,
  }


def main() -> None:
  args = arguments()
  figures = {}
  for dtype in args.dtypes.split(','):
    first = drawn(args, _LAYOUTS[0], dtype)
    again = compared(first, drawn(args, _LAYOUTS[0], dtype))
    assert again['apart'] == again['logprob'] == 0, 'not reproducible'
    for layout in layouts(args)[1:]:
      found = compared(first, drawn(args, layout, dtype))
      figures[f'{dtype}, {layout}'] = found
      print(
        f'{dtype:9} {_LAYOUTS[0]} and {layout}: apart {found["apart"]:.3f}, '
        f'per token {found["per_token"]:.2e}, log-prob {found["logprob"]:.1e}',
        flush=True,
      )
  print(json.dumps(figures))


if __name__ == '__main__':
  main()
