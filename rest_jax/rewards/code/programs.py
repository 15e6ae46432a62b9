"""Grades programs: the candidate runs alone, the comparison is made outside.

Three kinds of tests. Of standard input and output: the candidate gets one
input in a sandboxed process, its output is compared here. Of calls: it loads,
gets one list of arguments, and its value, decoded from bytes that can hold
nothing but literals and no further than the expected one has parts, is
compared here. Of a check (HumanEval, MBPP): the test
source runs in a second sandboxed process, where the candidate's functions are
proxies. Each input has a process of its own, so nothing is carried over; the
first test that fails decides.

What counts: exit status 0, within the limit of CPU time, within the limits of
memory and output, and the right answer. A check makes all its calls in one
process and gets three times the CPU limit. `docs/sandbox.md` describes the
walls.
"""

import collections
import contextlib
import dataclasses
import os
import threading
from collections.abc import Iterable, Iterator
from concurrent import futures

from rest_jax.config import configuration
from rest_jax.rewards import verdicts
from rest_jax.rewards.code import program_extraction
from rest_jax.rewards.code.process_verdicts import verdict_of
from rest_jax.rewards.code.program_grader import Grader
from rest_jax.rewards.code.program_tests import Tests
from rest_jax.rewards.code.sandbox.supervisor import Limits, SandboxUnavailable
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

_AHEAD = 4  # jobs taken in per worker, so that an endless iterator will do


@dataclasses.dataclass(frozen=True, slots=True)
class Job:
  """A program, None where a completion held none, and its tests."""

  program: str | None
  tests: Tests
  limits: Limits = Limits()


def grade(
  program: str | None, tests: Tests, limits: Limits | None = None
) -> Verdict:
  """Whether a program does what its tests ask.

  The first call starts a server that later calls of this process use; calls
  from several threads wait for each other. `grade_many` is for many.

  Args:
    program: source, see program_extraction.py; None is no_answer.
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
    completion: the sampled text, see program_extraction.py.
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
    return verdict_of(verdicts.HARNESS_ERROR, f'the tests: {error}')
  if tests.prompt:
    program = program_extraction.assemble_humaneval(
      tests.prompt, completion, tests.name
    )
  else:
    program = program_extraction.assemble(completion, tests.name or None)
  try:
    return grade(program, tests)
  except SandboxUnavailable as error:
    return verdict_of(verdicts.HARNESS_ERROR, str(error))


_lock = threading.Lock()
_kept: dict = {}


def grade_many(
  jobs: Iterable[Job], *, workers: int, tier: str | None = None
) -> Iterator[Verdict]:
  """Grades jobs in several sandboxes; verdicts come in the jobs' order.

  Args:
    jobs: taken in as they are needed.
    workers: sandboxes that run at the same time.
    tier: of the sandboxes, see supervisor.Sandbox.

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
