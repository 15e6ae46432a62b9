"""A process that grades completions, seen from both of its ends.

    python -m rest_jax.rewards.grading_worker MODULE:FUNCTION

`Worker` starts it and talks to it; the same module is what it runs. It is a new
interpreter (never a fork: the parent may hold a TPU and threads) that imports
nothing but the grader. On its standard input come lists of items, a JSON line
each; it answers with a line per item.
"""

import collections
import contextlib
import dataclasses
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterable, Sequence

from rest_jax.rewards import registry, verdicts

_START_SECONDS = 120.0  # for a worker's imports, on a busy machine


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
class Item:
  """One completion to grade.

  Attributes:
    completion: the sampled text.
    reference: what it is compared with.
    finish_reason: of the sample.
    name: what an error calls it; items that differ in it alone are equal.
  """

  completion: str
  reference: str | None
  finish_reason: str | None = None
  name: str = dataclasses.field(default='', compare=False)


@dataclasses.dataclass(frozen=True, slots=True)
class Graded:
  """A verdict and the wall-clock seconds that it took."""

  verdict: verdicts.Verdict
  seconds: float


class Worker:
  """A process that reads a chunk per line and answers a line per item.

  Attributes:
    pending: places of the items that it has and has not answered, in order.
    deadline: by time.monotonic, when it is overdue.
    failure: 'timeout', 'died' or ''.
    started: whether its imports are done.
  """

  def __init__(self, path: str, item_seconds: float):
    """Starts the process.

    Args:
      path: the grader, 'module:function'.
      item_seconds: wall clock for one completion.
    """
    environment = dict(os.environ, PYTHONPATH=os.pathsep.join(sys.path))
    self._process = subprocess.Popen(
      [sys.executable, '-m', 'rest_jax.rewards.grading_worker', path],
      stdin=subprocess.PIPE,
      stdout=subprocess.PIPE,
      env=environment,
    )
    self._item_seconds = item_seconds
    self._buffer = b''
    self.pending: collections.deque[int] = collections.deque()
    self.deadline = 0.0
    self.failure = ''
    self.started = False

  @property
  def output(self) -> int:
    """The file descriptor of its answers."""
    return self._process.stdout.fileno()

  def send(self, indices: Sequence[int], items: Sequence[Item]) -> None:
    """Sends the items at these places."""
    chunk = [dataclasses.asdict(items[index]) for index in indices]
    self.pending.extend(indices)
    limit = self._item_seconds if self.started else _START_SECONDS
    self.deadline = time.monotonic() + limit
    try:
      self._process.stdin.write(json.dumps(chunk).encode() + b'\n')
      self._process.stdin.flush()
    except BrokenPipeError:
      self.failure = 'died'

  def receive(self) -> Iterable[tuple[int, Graded | str]]:
    """Yields (index, what was graded, or the traceback of what it raised)."""
    data = os.read(self.output, 1 << 16)
    if not data:
      self.failure = 'died'
    *lines, self._buffer = (self._buffer + data).split(b'\n')
    for line in lines:
      self.deadline = time.monotonic() + self._item_seconds
      value = json.loads(line)
      if not self.started:
        self.started = True  # the first line only says so
        continue
      if 'raised' in value:
        yield self.pending.popleft(), value['raised']
        continue
      seconds = value.pop('seconds')
      yield self.pending.popleft(), Graded(verdicts.Verdict(**value), seconds)

  def end(self) -> str:
    """Kills the process and says how it had ended."""
    if self.failure == 'died':
      with contextlib.suppress(subprocess.TimeoutExpired):
        self._process.wait(1.0)  # it is on its way: learn how it ended
    self._process.kill()
    with contextlib.suppress(BrokenPipeError):
      self._process.stdin.close()
    self._process.stdout.close()
    code = self._process.wait()
    return f'signal {-code}' if code < 0 else f'exit code {code}'


def grade(path: str, item: Item) -> Graded:
  """Grades one item in this process by a grader, 'module:function'."""
  start = time.perf_counter()
  verdict = registry.grade_with(
    path,
    completion=item.completion,
    reference=item.reference,
    finish_reason=item.finish_reason,
  )
  return Graded(verdict, time.perf_counter() - start)


def _work(path: str) -> None:
  """The worker's loop; ends with its standard input."""
  _die_with_parent()
  answers = os.fdopen(os.dup(1), 'wb')
  os.dup2(2, 1)  # whatever a grader prints must not look like an answer
  requests = os.fdopen(os.dup(0), 'rb')
  os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
  registry.load(path)
  answers.write(b'{}\n')
  answers.flush()
  for line in requests:
    for item in json.loads(line):
      try:
        graded = grade(path, Item(**item))
        value = dataclasses.asdict(graded.verdict) | {'seconds': graded.seconds}
      except registry.GraderError as error:
        value = {'raised': str(error)}
      answers.write(json.dumps(value).encode() + b'\n')
      answers.flush()


def _die_with_parent() -> None:
  # The end of standard input stops an idle worker, but not one that hangs.
  if sys.platform == 'linux':
    import ctypes

    ctypes.CDLL(None).prctl(1, signal.SIGKILL)  # PR_SET_PDEATHSIG


if __name__ == '__main__':
  _work(sys.argv[1])
