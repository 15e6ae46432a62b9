"""Whether an exported policy answers as it did in its run.

    rest-jax export --from=RUN_DIR --to=FOLDER --dtype=float32
    rest-jax export --from=RUN_DIR --to=FILE.gguf --dtype=f32
    python tests/benchmarks/exported_answers.py RUN_DIR FOLDER FILE.gguf \
        [--task=own] [--problems=16]

Greedy completions of the first test problems, as the run's last evaluation
sampled them, beside those of transformers (extra parity) and of llama.cpp (the
wheel xllamacpp). The last line is JSON: how many are the same token for token,
and how many end in the same answer.
"""

import argparse
import json
import re
from pathlib import Path

import llama_cpp  # isort: skip  # it finds rest_jax

from rest_jax.artifacts import manifests, run_paths
from rest_jax.sampling import requests


def transformers_answers(folder: str, prompts, longest: int, eos: int):
  """Greedy ids by transformers, on one prompt at a time."""
  import torch
  import transformers

  model = transformers.AutoModelForCausalLM.from_pretrained(folder).eval()
  for ids in prompts:
    with torch.no_grad():
      out = model.generate(
        torch.tensor([ids]),
        max_new_tokens=longest,
        do_sample=False,
        eos_token_id=eos,
        pad_token_id=eos,
      )
    yield out[0, len(ids) :].tolist()


def llama_cpp_answers(file: str, prompts, longest: int, eos: int):
  """Greedy ids by llama.cpp, the one that ends a text put back."""
  for ids in llama_cpp.theirs(file, prompts, longest, float32=True):
    ended = ids[-1:] != [eos] and len(ids) < longest
    yield [*ids, eos] if ended else ids


def _last_number(text: str) -> str | None:
  return next(iter(re.findall(r'-?\d[\d,]*\.?\d*', text)[::-1]), None)


def main() -> None:
  parser = argparse.ArgumentParser(description=__doc__)
  for name in ('run_dir', 'folder', 'file'):
    parser.add_argument(name)
  parser.add_argument('--task', default='own')
  parser.add_argument('--problems', type=int, default=16)
  args = parser.parse_args()
  run = Path(args.run_dir)
  problems = manifests.load(run / 'problems' / args.task / 'test')
  last = max(
    path
    for path in run.iterdir()
    if run_paths.iteration_number(path.name) is not None
  )
  folder = last / 'evaluation' / args.task / 'greedy' / 'samples'
  if not folder.exists():  # step 0 was chosen: the base's samples are its own
    folder = run / 'base' / 'evaluation' / args.task / 'greedy' / 'samples'
  samples = {s.problem_id: s for s in manifests.load(folder).records()}
  asked = [p for p in problems.records() if p.id in samples][: args.problems]
  prompts = [requests.prompt_of(problem, True) for problem in asked]
  ours = [list(samples[problem.id].token_ids) for problem in asked]
  eos = problems.statistics['task']['eos_id']
  longest = max(map(len, ours))
  decode = requests.vocabulary_of(problems).decode
  result = {'problems': len(asked), 'samples': str(folder)}
  for name, function, path in (
    ('transformers', transformers_answers, args.folder),
    ('llama.cpp', llama_cpp_answers, args.file),
  ):
    same, answers = 0, 0
    theirs = function(path, prompts, longest, eos)
    for mine, other in zip(ours, theirs, strict=True):
      same += mine == other[: len(mine)]
      answers += _last_number(decode(mine)) == _last_number(decode(other))
    result[name] = {'same_tokens': same, 'same_answer': answers}
    print(name, result[name], flush=True)
  print(json.dumps(result))


if __name__ == '__main__':
  main()
