"""The workload of sampling.py by tunix' sampler, for comparison.

    PYTHON tests/benchmarks/tunix_sampler.py [the flags of sampling.py]

PYTHON is an environment of its own with google-tunix (Python 3.12 or newer).
All samples of all problems are one batch, each with its whole prompt, which is
how tunix samples several completions of one prompt. The last line is JSON:
sampled_tokens_per_s, seconds, first_call_s, peak_rss_mb.
"""

import argparse
import json
import resource
import time

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx
from tunix.generate import sampler
from tunix.models.llama3 import model as llama


class Ids:
  """A tokenizer whose texts are lists of ids in decimal."""

  def encode(self, text: str, **_) -> list[int]:
    return [int(word) for word in text.split()]

  def decode(self, ids, **_) -> str:
    return ' '.join(str(int(number)) for number in ids)

  def bos_id(self) -> int:
    return 1

  def eos_id(self) -> int:
    return 2

  def pad_id(self) -> int:
    return 0


def arguments() -> argparse.Namespace:
  parser = argparse.ArgumentParser(description=__doc__)
  for flag, default in {
    'layers': 4,
    'embed': 512,
    'mlp': 1536,
    'heads': 8,
    'kv_heads': 4,
    'head_dim': 64,
    'vocab': 8192,
    'prefix': 448,
    'question': 64,
    'problems': 8,
    'samples': 16,
    'new': 96,
  }.items():
    parser.add_argument(f'--{flag}', type=int, default=default)
  return parser.parse_args()


def main() -> None:
  args = arguments()
  network = llama.Llama3(
    llama.ModelConfig(
      num_layers=args.layers,
      vocab_size=args.vocab,
      embed_dim=args.embed,
      hidden_dim=args.mlp,
      num_heads=args.heads,
      head_dim=args.head_dim,
      num_kv_heads=args.kv_heads,
      rope_theta=10_000,
      norm_eps=1e-5,
      weight_tying=True,
    ),
    rngs=nnx.Rngs(0),
  )
  dtypes = {leaf.dtype for leaf in jax.tree.leaves(nnx.state(network))}
  assert dtypes == {jnp.dtype('float32')}, dtypes
  length = args.prefix + args.question
  draw = np.random.default_rng(0)
  prefix = draw.integers(3, args.vocab, args.prefix).tolist()
  prompts = []
  for _ in range(args.problems):
    ids = prefix + draw.integers(3, args.vocab, args.question).tolist()
    prompts += [' '.join(map(str, ids))] * args.samples
  # One token more than the prompt: tunix may add BOS.
  room = length + 1
  engine = sampler.Sampler(
    network,
    Ids(),
    sampler.CacheConfig(
      cache_size=room + args.new,
      num_layers=args.layers,
      num_kv_heads=args.kv_heads,
      head_dim=args.head_dim,
    ),
  )
  seconds = []
  for _ in range(2):
    start = time.perf_counter()
    output = engine(
      prompts,
      max_generation_steps=args.new,
      max_prompt_length=room,
      temperature=0.7,
      top_p=1.0,
      top_k=40,
      seed=0,
      eos_tokens=[args.vocab + 1],  # no sample ends early
    )
    jax.block_until_ready(output.tokens)
    seconds.append(time.perf_counter() - start)
  tokens = sum(len(ids) for ids in output.tokens)
  assert tokens == args.problems * args.samples * args.new, tokens
  peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024
  print(
    json.dumps(
      {
        'sampled_tokens_per_s': round(tokens / seconds[1], 1),
        'seconds': round(seconds[1], 3),
        'first_call_s': round(seconds[0], 3),
        'peak_rss_mb': peak,
        'jax': jax.__version__,
      }
    )
  )


if __name__ == '__main__':
  main()
