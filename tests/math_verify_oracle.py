"""Math-Verify in a process of its own, which may hang, grow or die.

    python tests/math_verify_oracle.py < pairs.jsonl > verdicts.jsonl

reads [reference, answer] rows, compares both as the contents of boxes (a row
[reference, completion, "text"] has a whole completion in place of an answer),
and writes {"equal": bool, "cpu": seconds} rows. Math-Verify is a second opinion
for the tests and the benchmark, never a reward: see docs/rewards.md.
"""

import json
import logging
import os
import pathlib
import queue
import subprocess
import sys
import threading
import time

PAIR_SECONDS = 20.0  # wall clock; its own limits are 5 s for each of 3 steps


def python() -> str | None:
  """An interpreter that has Math-Verify, or None.

  This one, or that of REST_JAX_MATH_VERIFY_PYTHON.
  """
  other = os.environ.get('REST_JAX_MATH_VERIFY_PYTHON')
  for candidate in (other, sys.executable):
    if candidate:
      probe = [candidate, '-c', 'import math_verify']
      if not subprocess.run(probe, capture_output=True).returncode:
        return candidate
  return None


def compare(pairs) -> list[dict]:
  """Math-Verify's verdict on each pair; equal is None where it hung or died."""
  results: list[dict] = []
  while len(results) < len(pairs):
    rest = pairs[len(results) :]
    results += _run(rest)
    if len(results) < len(pairs):
      results.append({'equal': None, 'cpu': 0.0})
  return results


def _run(pairs) -> list[dict]:
  process = subprocess.Popen(
    [python() or sys.executable, str(pathlib.Path(__file__).resolve())],
    stdin=subprocess.PIPE,
    stdout=subprocess.PIPE,
    stderr=subprocess.DEVNULL,
    text=True,
  )
  lines: queue.Queue = queue.Queue()

  def feed():
    try:
      for pair in pairs:
        process.stdin.write(json.dumps(pair) + '\n')
      process.stdin.close()
    except BrokenPipeError:
      pass

  def drain():
    for line in process.stdout:
      lines.put(line)
    lines.put(None)

  for target in (feed, drain):
    threading.Thread(target=target, daemon=True).start()
  results = []
  try:
    while len(results) < len(pairs):
      line = lines.get(timeout=PAIR_SECONDS + (30 if not results else 0))
      if line is None:
        break
      results.append(json.loads(line))
  except queue.Empty:
    pass
  finally:
    process.kill()
    process.wait()
  return results


def main() -> None:
  import resource

  resource.setrlimit(resource.RLIMIT_AS, (2 << 30, 2 << 30))
  import math_verify

  logging.disable(logging.CRITICAL)
  for line in sys.stdin:
    reference, answer, *text = json.loads(line)
    answer = answer if text else f'\\boxed{{{answer}}}'
    start = time.process_time()
    try:
      equal = math_verify.verify(
        math_verify.parse(f'\\boxed{{{reference}}}'),
        math_verify.parse(answer),
      )
    except Exception:  # a grader's bug counts as its verdict: not equal
      equal = False
    cpu = time.process_time() - start
    print(json.dumps({'equal': bool(equal), 'cpu': cpu}), flush=True)


if __name__ == '__main__':
  main()
