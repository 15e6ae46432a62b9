"""The examples of the training benchmarks, and how their steps are timed."""

import argparse
import json
import resource
import sys
import time
from collections.abc import Callable

import numpy as np


def add_flags(parser: argparse.ArgumentParser) -> None:
  """The flags that say which examples a step has."""
  for flag, default in {
    'prefix': 896,
    'question': 64,
    'solution': 192,
    'problems': 8,
    'solutions': 10,
    'microbatch_tokens': 2048,
  }.items():
    parser.add_argument(f'--{flag}', type=int, default=default)


def examples(
  args: argparse.Namespace,
) -> list[tuple[int, list[int], list[int]]]:
  """(problem, prompt ids, solution ids) of all examples of a step."""
  draw = np.random.default_rng(0)

  def ids(length):
    return draw.integers(3, args.vocab, length).tolist()

  prefix = ids(args.prefix)
  found = []
  for problem in range(args.problems):
    prompt = prefix + ids(args.question)
    found += [
      (problem, prompt, ids(args.solution)) for _ in range(args.solutions)
    ]
  return found


def microbatch(args: argparse.Namespace) -> int:
  """Whole examples in a microbatch: a divisor of how many a step has."""
  length = args.prefix + args.question + args.solution - 1
  number = args.problems * args.solutions
  most = max(1, args.microbatch_tokens // length)
  return next(n for n in range(min(most, number), 0, -1) if number % n == 0)


def serve(step: Callable[[], float], tokens: int, **facts: float) -> None:
  """Takes a step for each line of stdin, and prints what it took as JSON.

  Args:
    step: to take; returns the loss before it.
    tokens: of a step, padding apart.
    **facts: printed with each step.
  """
  for _ in sys.stdin:
    start = time.perf_counter()
    loss = step()
    seconds = time.perf_counter() - start
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024
    print(
      json.dumps(
        {
          'seconds': seconds,
          'loss': loss,
          'tokens': tokens,
          'peak_rss_mb': peak,
        }
        | facts
      ),
      flush=True,
    )
