"""Speed and verdicts of the math grader over the whole of MATH.

    python tests/benchmarks/math_grader.py [--oracle=400] [--problems=0]

Every solution of MATH, full text, seven times: as it is, with four rewritings
of its answer in its last box, and with two answers of the same type that belong
to other problems. One process, CPU time, caches cleared before each class. The
rates are over one pass without a clock in the loop, the percentiles over a
second one.

Where Math-Verify is installed (or REST_JAX_MATH_VERIFY_PYTHON names an
interpreter that has it), it grades a random subset of the same completions in
the same run.

Aim: 20,000 completions a second over the mix, p99 under 5 ms in each class.
Measured: see LOG.md.
"""

import argparse
import collections
import pathlib
import random
import sys
import time

sys.path[:0] = [
  str(pathlib.Path(__file__).resolve().parents[n]) for n in (1, 2)
]

import math_rewritings  # noqa: E402
import math_verify_oracle  # noqa: E402

from rest_jax.rewards import verdicts  # noqa: E402
from rest_jax.rewards.math import math_answer, reading  # noqa: E402

REWRITINGS = 4
WRONG = 2


def classes(count: int) -> dict[str, list[tuple[str, str]]]:
  """(completion, reference) by class."""
  draw = random.Random(0)
  problems = math_rewritings.problems()
  if count:
    problems = draw.sample(problems, count)
  by_kind = collections.defaultdict(list)
  for _, answer in problems:
    by_kind[math_rewritings.kind(answer)].append(answer)
  found = {'itself': problems}
  for index in range(REWRITINGS):
    found[f'rewritten {index + 1}'] = []
  for index in range(WRONG):
    found[f'wrong {index + 1}'] = []
  names = [name for name in math_rewritings.REWRITINGS if name != 'itself']
  for solution, answer in problems:
    draw.shuffle(names)
    changed = []
    for name in names:
      text = math_rewritings.REWRITINGS[name](answer)
      if text is not None and len(changed) < REWRITINGS:
        changed.append(text)
    for index, text in enumerate(changed):
      completion = _with_answer(solution, answer, text)
      found[f'rewritten {index + 1}'].append((completion, answer))
    others = [
      other
      for other in draw.choices(by_kind[math_rewritings.kind(answer)], k=20)
      if other != answer
    ]
    for index, text in enumerate(others[:WRONG]):
      completion = _with_answer(solution, answer, text)
      found[f'wrong {index + 1}'].append((completion, answer))
  return found


def _with_answer(solution: str, answer: str, text: str) -> str:
  """The solution with another text in its last box."""
  start = solution.rfind('\\boxed')
  position = solution.index(answer, start)
  end = position + len(answer)
  if solution[position - 1] != '{':
    return f'{solution[:start]}\\boxed{{{text}}}{solution[end:]}'
  return solution[:position] + text + solution[end:]


def measure(rows: list[tuple[str, str]]) -> tuple[float, list[float], dict]:
  """CPU seconds of a pass, of each completion, and the outcomes."""
  reading.read.cache_clear()
  start = time.process_time()
  for completion, reference in rows:
    math_answer.grade(completion, reference)
  total = time.process_time() - start
  reading.read.cache_clear()
  each, outcomes = [], collections.Counter()
  for completion, reference in rows:
    start = time.process_time()
    verdict = math_answer.grade(completion, reference)
    each.append(time.process_time() - start)
    outcomes[verdict.outcome] += 1
  return total, sorted(each), outcomes


def main() -> None:
  parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
  parser.add_argument('--problems', type=int, default=0, help='0: all')
  parser.add_argument(
    '--oracle', type=int, default=400, help='completions for Math-Verify'
  )
  args = parser.parse_args()
  found = classes(args.problems)
  print(
    f'{"class":12} {"completions":>11} {"per second":>10} {"p50 us":>7} '
    f'{"p99 ms":>7} {"max ms":>7}  outcomes'
  )
  spent = number = 0
  for name, rows in found.items():
    total, each, outcomes = measure(rows)
    spent, number = spent + total, number + len(rows)
    print(
      f'{name:12} {len(rows):11} {len(rows) / total:10.0f} '
      f'{each[len(each) // 2] * 1e6:7.0f} '
      f'{each[len(each) * 99 // 100] * 1e3:7.2f} {each[-1] * 1e3:7.1f}  '
      + ', '.join(
        f'{outcomes[o]} {o}' for o in verdicts.OUTCOMES if outcomes[o]
      )
    )
  rate = number / spent
  print(f'{"the mix":12} {number:11} {rate:10.0f}')
  if not args.oracle or math_verify_oracle.python() is None:
    print('Math-Verify: not installed, no ratio')
    return
  mixed = [row for rows in found.values() for row in rows]
  subset = random.Random(1).sample(mixed, min(args.oracle, len(mixed)))
  results = math_verify_oracle.compare(
    [(reference, text, 'text') for text, reference in subset]
  )
  seconds = sum(result['cpu'] for result in results)
  died = sum(result['equal'] is None for result in results)
  reading.read.cache_clear()
  start = time.process_time()
  for completion, reference in subset:
    math_answer.grade(completion, reference)
  own = time.process_time() - start
  print(
    f'Math-Verify, {len(subset)} of them: {len(subset) / seconds:.0f} per '
    f'second, {died} died; ours on the same: {len(subset) / own:.0f}, '
    f'{seconds / own:.0f} times as many'
  )


if __name__ == '__main__':
  main()
