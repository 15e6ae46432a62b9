"""Grades programs: the candidate runs alone, the comparison is made outside.

Three kinds of tests. Of standard input and output: the candidate gets one
input in a sandboxed process, its output is compared here. Of calls: it loads,
gets one list of arguments, and its value, decoded from bytes that can hold
nothing but literals, is compared here. Of a check (HumanEval, MBPP): the test
source runs in a second sandboxed process, where the candidate's functions are
proxies. Each input has a process of its own, so nothing is carried over; the
first test that fails decides.

What counts: exit status 0, within the limit of CPU time, within the limits of
memory and output, and the right answer. `docs/sandbox.md` describes the walls.
"""

import collections
import contextlib
import dataclasses
import os
import re
import socket
import threading
from collections.abc import Iterable, Iterator
from concurrent import futures

from rest_jax import configuration
from rest_jax.rewards import completions, outputs, verdicts
from rest_jax.rewards.program_tests import CALLS, CHECK, STDIN, Tests
from rest_jax.rewards.sandbox import codec, executor, protocol
from rest_jax.rewards.sandbox.executor import (
  Limits,
  Sandbox,
  SandboxUnavailable,
)
from rest_jax.rewards.verdicts import Verdict

__all__ = [
  'Grader',
  'Job',
  'Limits',
  'SandboxUnavailable',
  'Tests',
  'grade',
  'grade_completion',
  'grade_many',
  'require_sandbox',
]

_NUMPY = re.compile(r'\b(?:numpy|np)\b')
_AHEAD = 4  # jobs taken in per worker, so that an endless iterator will do


@dataclasses.dataclass(frozen=True, slots=True)
class Job:
  """A program, None where a completion held none, and its tests."""

  program: str | None
  tests: Tests
  limits: Limits = Limits()


class Grader:
  """Grades in sandboxes that it keeps; a context manager, for one thread.

  Args:
    tier: of the sandbox, see executor.Sandbox.

  Raises:
    SandboxUnavailable: when grading; nothing has run then.
  """

  def __init__(self, *, tier: str | None = None):
    self._tier = tier
    self._sandboxes: dict[bool, Sandbox] = {}

  def __enter__(self) -> 'Grader':
    return self

  def __exit__(self, *_) -> None:
    self.close()

  def close(self) -> None:
    """Ends the servers."""
    while self._sandboxes:
      self._sandboxes.popitem()[1].close()

  @property
  def tier(self) -> str:
    """Of the sandbox that runs, 'A' or 'B'."""
    return self._sandbox('').tier

  def grade(self, program: str | None, tests: Tests, limits: Limits) -> Verdict:
    """The verdict on one program; see the module's `grade`."""
    fault = tests.fault()
    if fault:
      return _verdict(verdicts.HARNESS_ERROR, fault)
    if program is None or not program.strip():
      return _verdict(verdicts.NO_ANSWER, 'no program')
    for attempt in (1, 2):
      try:
        return self._graded(program, tests, limits)
      except executor.ServerLost as error:
        reason = f'the sandbox was lost {attempt} times: {error}'
      except codec.CodecError as error:
        reason = f'the tests cannot be sent: {error}'
        break
    return _verdict(verdicts.HARNESS_ERROR, reason)

  def _graded(self, program: str, tests: Tests, limits: Limits) -> Verdict:
    if tests.kind == CHECK:
      return self._checked(program, tests, limits)
    wrapped = tests.wrapped
    if tests.kind == CALLS and wrapped is None:
      wrapped = all(
        isinstance(value, list) and len(value) == 1 for value in tests.outputs
      )
    total = len(tests.inputs)
    for number in range(total):
      if tests.kind == STDIN:
        verdict = self._fed(program, tests, number, limits)
      else:
        verdict = self._called(program, tests, number, wrapped, limits)
      if verdict:
        detail = f'test {number + 1} of {total}: {verdict.detail}'
        return dataclasses.replace(verdict, detail=detail)
    return _verdict(verdicts.CORRECT, f'{total} tests')

  def _fed(
    self, program: str, tests: Tests, number: int, limits: Limits
  ) -> Verdict | None:
    """One input, one output; None where it is right."""
    task = executor.Task(
      [protocol.PROGRAM, program],
      limits,
      stdin=tests.inputs[number].encode('utf-8', 'surrogatepass'),
      stdout=True,
    )
    (ended,) = self._sandbox(program).run(task)
    verdict = _unsound(ended, limits)
    if verdict:
      return verdict
    found = ended.stdout.decode('utf-8', 'replace')
    wrong = outputs.difference(tests.outputs[number], found)
    return _verdict(verdicts.WRONG, wrong) if wrong else None

  def _called(
    self,
    program: str,
    tests: Tests,
    number: int,
    wrapped: bool,
    limits: Limits,
  ) -> Verdict | None:
    """One call, one value; None where it is right."""
    arguments = list(tests.inputs[number])
    payload = [protocol.CALL, program, tests.name, arguments, tests.prelude]
    task = executor.Task(payload, limits, result=True)
    (ended,) = self._sandbox(program).run(task)
    verdict = _unsound(ended, limits)
    if verdict:
      return verdict
    expected = tests.outputs[number]
    if wrapped:
      expected = expected[0] if isinstance(expected, list) else expected
    try:
      found = codec.decode(ended.result, hashing=False)
      if found == (protocol.ABSENT, tests.name):
        return _verdict(verdicts.WRONG, f'{tests.name} is not defined')
      status, value = found
    except (codec.CodecError, TypeError, ValueError):
      return _verdict(verdicts.CRASHED, 'it returned nothing')
    try:
      right = status == protocol.RETURNED and outputs.same_value(
        expected, value
      )
    except RecursionError:
      right = False
    if right:
      return None
    return _verdict(
      verdicts.WRONG, f'{_short(value)}, expected {_short(expected)}'
    )

  def _checked(self, program: str, tests: Tests, limits: Limits) -> Verdict:
    """Two processes that talk: the candidate, and the tests."""
    theirs, ours = socket.socketpair()
    with theirs, ours:
      candidate, judge = self._sandbox(program + tests.source).run(
        executor.Task(
          [protocol.SERVE, program, tests.prelude], limits, channel=theirs
        ),
        executor.Task(
          [protocol.JUDGE, tests.source, tests.name],
          limits,
          channel=ours,
          result=True,
          patient=True,
        ),
        until=1,
      )
    outcome, detail = _judged(judge)
    # A candidate that has answered every question may end as it likes when the
    # tests hang up: only its CPU time still counts.
    unanswered = outcome in (protocol.LOST, '')
    by_itself = candidate.killed != protocol.KILLED_BY_REQUEST
    if candidate.cpu_seconds > limits.cpu_seconds or (unanswered and by_itself):
      unsound = _unsound(candidate, limits)
      if unsound:
        return unsound
    if outcome == protocol.PASSED:
      return _verdict(verdicts.CORRECT, 'all assertions')
    if outcome == protocol.FAILED:
      return _verdict(verdicts.WRONG, detail)
    if outcome == protocol.RAISED:
      return _verdict(verdicts.CRASHED, detail)
    if outcome == protocol.LOST:
      return _verdict(verdicts.CRASHED, 'the program ended before the tests')
    if judge.cpu_seconds >= limits.cpu_seconds or judge.killed:
      # What a program returns can make its tests slow: its own loss.
      return _verdict(verdicts.TIMEOUT, 'the tests took too long')
    return _verdict(
      verdicts.HARNESS_ERROR, detail or f'the tests ended with {judge.code}'
    )

  def _sandbox(self, text: str) -> Sandbox:
    """The sandbox for a program; one with numpy loaded where it names it."""
    numpy = _NUMPY.search(text) is not None
    if numpy not in self._sandboxes:
      self._sandboxes[numpy] = Sandbox(tier=self._tier, numpy=numpy)
    return self._sandboxes[numpy]


def grade(
  program: str | None, tests: Tests, limits: Limits | None = None
) -> Verdict:
  """Whether a program does what its tests ask.

  The first call starts a server that later calls of this process use; calls
  from several threads wait for each other. `grade_many` is for many.

  Args:
    program: source, see completions.py; None is no_answer.
    tests: see Tests; harness_error where there are none.
    limits: for each test.

  Returns:
    correct; wrong; no_answer; timeout (CPU time, or asleep); crashed (an
    exception, a signal, an exit status other than 0, too much output or
    memory); harness_error.

  Raises:
    SandboxUnavailable: programs cannot run safely here.
  """
  with _lock:
    if _kept.get('process') != os.getpid():
      _kept.update(process=os.getpid(), grader=Grader())
    return _kept['grader'].grade(program, tests, limits or Limits())


def require_sandbox() -> None:
  """Returns where programs can run safely on this machine.

  Raises:
    ConfigurationError: no tier holds; it says what each one lacks.
  """
  try:
    with Grader() as grader:
      _ = grader.tier
  except SandboxUnavailable as error:
    raise configuration.ConfigurationError(
      f'programs cannot be graded here: {error}'
    ) from error


def grade_completion(
  completion: str, reference: str | None, *, finish_reason: str | None = None
) -> Verdict:
  """The grader `program` of a task: a completion against a problem's tests.

  Args:
    completion: the sampled text, see completions.py.
    reference: the problem's column `tests` (Tests.to_json).
    finish_reason: of the sample; 'length' and 'prompt' are never correct.

  Returns:
    As `grade`; harness_error where the tests cannot be read, or where there
    is no sandbox: nothing has run then.
  """
  cut_off = verdicts.unfinished(finish_reason)
  if cut_off is not None:
    return cut_off
  try:
    tests = Tests.from_json(reference or '')
  except (ValueError, TypeError) as error:
    return _verdict(verdicts.HARNESS_ERROR, f'the tests: {error}')
  if tests.prompt:
    program = completions.assemble_humaneval(
      tests.prompt, completion, tests.name
    )
  else:
    program = completions.assemble(completion, tests.name or None)
  try:
    return grade(program, tests)
  except SandboxUnavailable as error:
    return _verdict(verdicts.HARNESS_ERROR, str(error))


_lock = threading.Lock()
_kept: dict = {}


def grade_many(
  jobs: Iterable[Job], *, workers: int, tier: str | None = None
) -> Iterator[Verdict]:
  """Grades jobs in several sandboxes; verdicts come in the jobs' order.

  Args:
    jobs: taken in as they are needed.
    workers: sandboxes that run at the same time.
    tier: of the sandboxes, see executor.Sandbox.

  Raises:
    SandboxUnavailable: programs cannot run safely here.
  """
  if workers < 1:
    raise ValueError(f'workers: got {workers}; allowed: 1 or more.')
  graders: list[Grader] = []
  local = threading.local()

  def work(job: Job) -> Verdict:
    if not hasattr(local, 'grader'):
      local.grader = Grader(tier=tier)
      graders.append(local.grader)
    return local.grader.grade(job.program, job.tests, job.limits)

  with contextlib.ExitStack() as stack:
    stack.callback(lambda: [grader.close() for grader in graders])
    pool = stack.enter_context(futures.ThreadPoolExecutor(workers))
    stack.callback(pool.shutdown, cancel_futures=True)
    waiting: collections.deque[futures.Future] = collections.deque()
    for job in jobs:
      waiting.append(pool.submit(work, job))
      if len(waiting) >= workers * _AHEAD:
        yield waiting.popleft().result()
    while waiting:
      yield waiting.popleft().result()


def _unsound(ended: executor.Ended, limits: Limits) -> Verdict | None:
  """The verdict on a process that did not end well, whatever it wrote."""
  if ended.code == executor.SETUP_FAILED:
    raise executor.ServerLost('a process could not be prepared')
  killed_by_limit = ended.code == -9 and (
    ended.killed == protocol.KILLED_BY_CPU
    or ended.cpu_seconds > 0.8 * limits.cpu_seconds
  )
  if killed_by_limit or ended.cpu_seconds > limits.cpu_seconds:
    return _verdict(
      verdicts.TIMEOUT, f'more than {limits.cpu_seconds:g} s of CPU time'
    )
  if ended.killed == protocol.KILLED_BY_WALL:
    return _verdict(verdicts.TIMEOUT, 'asleep for too long')
  if ended.code == 0:
    return None
  if ended.code == -9:
    # Not by itself, which it cannot, and not by us: out of memory, perhaps.
    raise executor.ServerLost('a program was killed from outside')
  if ended.code == -25:
    return _verdict(
      verdicts.CRASHED, f'more than {limits.output_bytes} bytes of output'
    )
  if ended.code < 0:
    return _verdict(verdicts.CRASHED, f'signal {-ended.code}')
  lines = ended.stderr.decode('utf-8', 'replace').strip().splitlines()
  reason = lines[-1][:200] if lines else 'no message'
  return _verdict(verdicts.CRASHED, f'exit status {ended.code}: {reason}')


def _judged(judge: executor.Ended) -> tuple[str, str]:
  if judge.code == executor.SETUP_FAILED:
    raise executor.ServerLost('a process could not be prepared')
  try:
    outcome, detail = codec.decode(judge.result)
    return outcome, detail
  except (codec.CodecError, TypeError, ValueError):
    return '', ''


def _verdict(outcome: str, detail: str) -> Verdict:
  reward = 1.0 if outcome == verdicts.CORRECT else 0.0
  line = ' '.join(detail.split())
  return Verdict(outcome=outcome, reward=reward, answer=None, detail=line)


def _short(value) -> str:
  try:
    text = repr(value)
  except (ValueError, RecursionError):
    text = type(value).__name__
  return text if len(text) <= 60 else f'{text[:60]}…'
