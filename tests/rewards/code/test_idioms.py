"""Honest programs are not punished for the ways they are written."""

import importlib.util

import pytest

from rest_jax.rewards.code import programs
from rest_jax.rewards.code.programs import Limits, Tests

# Each reads '3\n4\n' and prints 7.
IDIOMS = {
  'input': 'print(int(input()) + int(input()))',
  'stdin iterated': 'import sys\nprint(sum(int(x) for x in sys.stdin))',
  'stdin.read': 'import sys\nprint(sum(map(int, sys.stdin.read().split())))',
  'stdin.buffer': (
    'import sys\nread = sys.stdin.buffer.readline\n'
    'print(int(read()) + int(read()))'
  ),
  'os.read(0)': 'import os\nprint(sum(map(int, os.read(0, 1000).split())))',
  'os.fstat(0)': (
    'import os\nsize = os.fstat(0).st_size\n'
    'print(sum(map(int, os.read(0, size).split())))'
  ),
  'open(0)': 'print(sum(map(int, open(0))))',
  'open(0).read': 'print(sum(map(int, open(0).read().split())))',
  '/dev/stdin': 'print(sum(map(int, open("/dev/stdin").read().split())))',
  'BytesIO of os.read': (
    'import io, os, sys\n'
    'input = io.BytesIO(os.read(0, os.fstat(0).st_size)).readline\n'
    'print(int(input()) + int(input()))'
  ),
  'stdout.buffer': 'import sys\nsys.stdout.buffer.write(b"7\\n")',
  'stdout.write': 'import sys\nsys.stdout.write("7")',
  'a file that is never closed': 'out = open(1, "w")\nout.write("7")',
  'stdout replaced by a file': (
    'import os, sys\nsys.stdout = os.fdopen(os.dup(1), "w")\nprint(7)'
  ),
  'stdout closed': 'import sys\nprint(7)\nsys.stdout.close()',
  'os.write(1)': 'import os\nos.write(1, b"7\\n")',
  'StringIO as stdout': (
    'import io, sys\nout = sys.stdout\nsys.stdout = io.StringIO()\n'
    'print(7)\nout.write(sys.stdout.getvalue())'
  ),
  'exit()': 'print(7)\nexit()',
  'quit()': 'print(7)\nquit()',
  'sys.exit(0)': 'import sys\nprint(7)\nsys.exit(0)',
  'exit in a function': 'def main():\n  print(7)\n  exit(0)\nmain()',
  'raise SystemExit': 'print(7)\nraise SystemExit',
  'os._exit after flush': (
    'import os, sys\nprint(7)\nsys.stdout.flush()\nos._exit(0)'
  ),
  'atexit': 'import atexit\natexit.register(lambda: print(7))',
  'main guard': (
    'def main():\n  print(int(input()) + int(input()))\n'
    'if __name__ == "__main__":\n  main()'
  ),
  'global': (
    'n = 0\ndef add():\n  global n\n  n += int(input())\nadd()\nadd()\nprint(n)'
  ),
  'import star after code': (
    'a = int(input())\nfrom math import *\nprint(floor(a + int(input())))'
  ),
  'import of __main__': 'import __main__\nx = 7\nprint(__main__.x)',
  'thread with a big stack': (
    'import sys, threading\nsys.setrecursionlimit(10**6)\n'
    'threading.stack_size(128 * 1024 * 1024)\n'
    'def f(n): return 0 if n == 0 else 1 + f(n - 1)\n'
    'def main(): print(f(50000) - 49993)\n'
    't = threading.Thread(target=main)\nt.start()\nt.join()'
  ),
  'thread that is not joined': (
    'import threading, time\n'
    'threading.Thread(target=lambda: (time.sleep(0.05), print(7))).start()'
  ),
  'thread pool': (
    'from concurrent.futures import ThreadPoolExecutor\n'
    'with ThreadPoolExecutor(4) as p: print(sum(p.map(int, open(0))))'
  ),
  'deep recursion': (
    'import sys\nsys.setrecursionlimit(10**6)\n'
    'def f(n): return 0 if n == 0 else 1 + f(n - 1)\nprint(f(40000) - 39993)'
  ),
  # From 3.12 on the interpreter itself limits recursion that goes through C.
  'deep recursion through a cache': (
    'import sys\nfrom functools import lru_cache\n'
    'sys.setrecursionlimit(10**6)\n@lru_cache(None)\n'
    'def f(n): return 0 if n == 0 else 1 + f(n - 1)\n'
    'n = 9000 if sys.version_info < (3, 12) else 400\nprint(f(n) - n + 7)'
  ),
  'RLIMIT_STACK': (
    'import resource, sys\nbig = resource.RLIM_INFINITY\n'
    'resource.setrlimit(resource.RLIMIT_STACK, (big, big))\nprint(7)'
  ),
  'asyncio': (
    'import asyncio\nasync def add(a, b):\n  await asyncio.sleep(0)\n'
    '  return a + b\nprint(asyncio.run(add(3, 4)))'
  ),
  'a large integer': 'print(len(str(10**9999)) - 9993)',
  'no import': (
    'd = defaultdict(int)\nd[gcd(6, 4)] += 1\nh = []\nheappush(h, 7)\n'
    'print(heapq.heappop(h) + bisect_left([1], 0) + int(math.sqrt(0)))'
  ),
  'typing without import': (
    'class Solution:\n  def f(self, x: List[int], y: Optional[int]) -> int:\n'
    '    return sum(x)\nprint(Solution().f([3, 4], None))'
  ),
  'three arguments to pow': 'print(pow(2, 10, 13) - 3)',
  'imports of the standard library': (
    'import abc, argparse, ast, base64, calendar, cmath, collections.abc, '
    'contextlib, copy, csv, dataclasses, decimal, enum, fractions, hashlib, '
    'io, json, logging, numbers, operator, pprint, queue, random, re, secrets, '
    'statistics, string, struct, textwrap, time, timeit, types, typing, '
    'unicodedata, uuid, warnings, weakref, zlib\nprint(7)'
  ),
  'temporary names of judges': (
    'import os, sys\n'
    'if os.path.exists("input.txt"): sys.stdin = open("input.txt")\n'
    'print(int(input()) + int(input()))'
  ),
  'signal.alarm of its own': 'import signal\nsignal.alarm(10)\nprint(7)',
  'os.system is harmless': 'import os\nos.system("clear")\nprint(7)',
  'gc and weak references': 'import gc\ngc.disable()\ngc.collect()\nprint(7)',
  'a comment with an encoding': '# -*- coding: utf-8 -*-\nprint(7)',
  'a future import': 'from __future__ import annotations\nprint(7)',
  'walrus and match': (
    'match (n := int(input())):\n  case 3: print(n + int(input()))'
  ),
  'a stack of generators': 'print(sum(x for x in (y for y in [3, 4])))',
  'a dataclass': (
    'from dataclasses import dataclass\n@dataclass\nclass P:\n  x: int\n'
    'print(P(7).x)'
  ),
  'pickle of an own class': (
    'import pickle\nclass A:\n  x = 7\nprint(pickle.loads(pickle.dumps(A())).x)'
  ),
}


@pytest.fixture(scope='module')
def grader():
  try:
    with programs.Grader() as one:
      assert one.tier
      yield one
  except programs.SandboxUnavailable as error:
    pytest.skip(str(error))


@pytest.mark.parametrize('name', IDIOMS)
def test_an_honest_idiom_works(grader, name):
  tests = Tests.stdin(['3\n4\n'], ['7\n'])
  verdict = grader.grade(IDIOMS[name], tests, Limits())
  assert verdict.outcome == 'correct', verdict.detail


@pytest.mark.parametrize(
  'program',
  [
    'import numpy as np\nprint(np.arange(8)[-1])',
    'print(int(np.array([3, 4]).sum()))',  # without an import
    'import numpy.linalg\nprint(round(numpy.linalg.det([[7.0]])))',
    'import numpy as np\nprint(int(np.fft.fft([3, 4])[0].real))',
    'from numpy.random import default_rng\ndefault_rng(0).random()\nprint(7)',
  ],
)
def test_numpy_is_there_where_it_is_installed(grader, program):
  if importlib.util.find_spec('numpy') is None:
    pytest.skip('numpy is not installed')
  if grader.tier == 'B' and programs.Sandbox(numpy=True).tier != 'A':
    pytest.skip('tier B here may run another interpreter, without numpy')
  verdict = grader.grade(program, Tests.stdin([''], ['7']), Limits())
  assert verdict.outcome == 'correct', verdict.detail


def test_numbers_of_numpy_count_as_the_numbers_they_are(grader):
  if importlib.util.find_spec('numpy') is None or grader.tier != 'A':
    pytest.skip('numpy is not installed, or tier A does not hold')
  program = 'import numpy as np\ndef f(x): return np.array(x).max()'
  tests = Tests.calls('f', [[[3, 7]]], [7])
  assert grader.grade(program, tests, Limits()).outcome == 'correct'


def test_output_without_a_final_flush_is_complete(grader):
  tests = Tests.stdin([''], ['\n'.join(map(str, range(100_000)))])
  program = 'for i in range(100000): print(i)'
  assert grader.grade(program, tests, Limits()).outcome == 'correct'


def test_a_long_input_is_read_to_its_end(grader):
  text = ' '.join(map(str, range(200_000)))
  tests = Tests.stdin([text], [str(sum(range(200_000)))])
  program = 'print(sum(map(int, input().split())))'
  assert grader.grade(program, tests, Limits()).outcome == 'correct'
