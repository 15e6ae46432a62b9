"""Greedy continuations of a GGUF file: ours beside llama.cpp's.

    python tests/benchmarks/llama_cpp.py model.gguf [--prompts=20] [--new=24]
        [--long=600]

llama.cpp is the wheel xllamacpp. It rounds activations to 8 bits for most
matrices, so that both go apart where two tokens are nearly as likely. For each
prompt where they do: the place, both tokens, and how far our logit of its token
is below our best. Every fifth prompt has --long tokens, longer than the window
of a Gemma. The last line is JSON.
"""

import argparse
import dataclasses
import json
import random
import sys
import urllib.request
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
sys.path[:0] = [str(ROOT), str(ROOT / 'tests')]

import cached_decoding  # noqa: E402
import jax  # noqa: E402

from rest_jax.distributed import partitioning  # noqa: E402
from rest_jax.models.checkpoints import described, policies  # noqa: E402
from rest_jax.tokenizers import vocabulary_files  # noqa: E402

OPENINGS = (
  'The capital of France is',
  'Water boils at a temperature of',
  'def fibonacci(n):\n',
  'Once upon a time there was a',
  'The three primary colours are',
  'Q: What is 17 + 25?\nA:',
  'In 1969 the first people',
  'Dear Sir or Madam,\n\n',
  'The opposite of hot is',
  'Photosynthesis is the process by which',
)
SENTENCES = (
  'The baker opened her shop before the sun was up.',
  'A train from the coast arrives every forty minutes.',
  'Nobody had counted the apples in the last basket.',
  'He wrote the number seven on the door with chalk.',
  'Rain fell on the roof of the old library all night.',
  'She divides the rope into three equal parts.',
)


def prompts(vocabulary, number: int, long: int) -> list[list[int]]:
  """Ids of the prompts, each with the model's BOS if it has one."""
  draw = random.Random(0)
  found = []
  for index in range(number):
    text = OPENINGS[index % len(OPENINGS)]
    if index >= len(OPENINGS):
      text = f'{draw.choice(SENTENCES)} {text}'
    first = [] if vocabulary.bos_id is None else [vocabulary.bos_id]
    ids = list(vocabulary.encode(text))
    while index % 5 == 4 and len(ids) < long:
      ids = [*vocabulary.encode(draw.choice(SENTENCES) + ' '), *ids]
    found.append([*first, *ids])
  return found


def ours(path: str, asked: list[list[int]], new: int):
  """For each prompt: the tokens chosen, and the logits they were chosen by."""
  bucket = max(map(len, asked))
  config = described.network(path)
  config = dataclasses.replace(
    config, max_length=bucket + new, decode_loop='scan'
  )
  mesh = partitioning.make_mesh(partitioning.MeshConfig(), jax.devices()[:1])
  params = policies.load(path, config, mesh)
  for ids in asked:
    # Two programs for all prompts: short ones and long ones.
    places = bucket if len(ids) > 128 else 128
    fed = cached_decoding.Fed(
      config,
      params,
      [ids],
      new=new,
      chunk=16,
      padding=places + 1 - len(ids),
      mesh=mesh,
    )
    rows, token = [], ids[-1]
    for _ in range(new):
      rows.append(fed.feed([[token]]).reshape(-1))
      token = int(rows[-1].argmax())
    yield [int(row.argmax()) for row in rows], rows


def theirs(
  path: str, asked: list[list[int]], new: int, *, float32: bool = False
):
  """llama.cpp's greedy tokens for each prompt, without the one that ends it.

  Args:
    path: of the GGUF file.
    asked: ids of the prompts.
    new: tokens at most.
    float32: whether the cache is float32, and flash attention, which computes
      in float16, is off.
  """
  import xllamacpp

  options = xllamacpp.CommonParams()
  options.model.path = path
  options.n_ctx = max(map(len, asked)) + new + 64
  options.n_parallel, options.port = 1, 0
  options.verbosity, options.warmup = -1, False
  if float32:
    kind = xllamacpp.ggml_type.GGML_TYPE_F32
    options.cache_type_k = options.cache_type_v = kind
    options.flash_attn_type = (
      xllamacpp.llama_flash_attn_type.LLAMA_FLASH_ATTN_TYPE_DISABLED
    )
  server = xllamacpp.Server(options)
  for ids in asked:
    body = {
      'prompt': ids,
      'n_predict': new,
      'temperature': 0,
      'return_tokens': True,
      'cache_prompt': False,
    }
    request = urllib.request.Request(
      f'{server.listening_address}/completion',
      data=json.dumps(body).encode(),
      headers={'Content-Type': 'application/json'},
    )
    yield json.loads(urllib.request.urlopen(request).read())['tokens']


def main() -> None:
  parser = argparse.ArgumentParser(description=__doc__)
  parser.add_argument('path')
  for flag, default in {'prompts': 20, 'new': 24, 'long': 600}.items():
    parser.add_argument(f'--{flag}', type=int, default=default)
  args = parser.parse_args()
  vocabulary = vocabulary_files.load(args.path)
  asked = prompts(vocabulary, args.prompts, args.long)
  same, tokens, gaps = 0, 0, []
  pairs = zip(
    ours(args.path, asked, args.new),
    theirs(args.path, asked, args.new),
    strict=True,
  )
  for number, ((mine, rows), other) in enumerate(pairs):
    ends = [i for i, token in enumerate(mine) if token in vocabulary.eos_ids]
    if ends:  # llama.cpp leaves the token that ends a text out
      mine = mine[: ends[0]]
    other = list(other)[: max(len(mine), 1)]
    apart = next(
      (i for i, (a, b) in enumerate(zip(mine, other, strict=False)) if a != b),
      None,
    )
    tokens += len(other) if apart is None else apart
    if apart is None:
      same += 1
      continue
    row = rows[apart]
    gap = float(row[mine[apart]] - row[other[apart]])
    gaps.append(round(gap, 3))
    print(
      f'prompt {number} ({len(asked[number])} tokens): apart at {apart}: '
      f'{mine[apart]} and {other[apart]}, logits {gap:.3f} apart'
    )
  print(
    json.dumps(
      {
        'prompts': len(asked),
        'same': same,
        'tokens_agreed': tokens,
        'tokens_of': len(asked) * args.new,
        'gaps': sorted(gaps),
        'longest_prompt': max(map(len, asked)),
      }
    )
  )


if __name__ == '__main__':
  main()
