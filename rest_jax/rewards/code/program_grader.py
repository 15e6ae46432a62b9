"""Grades one program at a time, in sandboxes that it keeps.

Each input has a process of its own, so nothing is carried over; the first test
that fails decides. See programs.py for what counts.
"""

import dataclasses
import re
import reprlib
import socket
from typing import Any

from rest_jax.rewards import verdicts
from rest_jax.rewards.code import output_comparison, process_verdicts
from rest_jax.rewards.code.program_tests import CALLS, CHECK, STDIN, Tests
from rest_jax.rewards.code.sandbox import codec, protocol, supervisor
from rest_jax.rewards.code.sandbox.executions import CHECK_SHARE
from rest_jax.rewards.code.sandbox.supervisor import Limits, Sandbox
from rest_jax.rewards.verdicts import Verdict

_NUMPY = re.compile(r'\b(?:numpy|np)\b')
_MAX_BITS = 1000  # of an integer that is shown


class Grader:
  """Grades in sandboxes that it keeps; a context manager, for one thread.

  Args:
    tier: of the sandbox, see supervisor.Sandbox.

  Raises:
    SandboxUnavailable: when grading; nothing has run then.
  """

  def __init__(self, *, tier: str | None = None):
    self._tier = tier
    self._sandboxes: dict[bool, Sandbox] = {}
    self._wrapped: dict[tuple, bool] = {}  # problems that references decided

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
      return process_verdicts.verdict_of(verdicts.HARNESS_ERROR, fault)
    if program is None or not program.strip():
      return process_verdicts.verdict_of(verdicts.NO_ANSWER, 'no program')
    for attempt in (1, 2):
      try:
        return self._graded(program, tests, limits)
      except process_verdicts.Killed as error:
        # Once may be a neighbour's fault; twice is taken for the program's.
        outcome, reason = verdicts.CRASHED, str(error)
      except supervisor.ServerLost as error:
        outcome = verdicts.HARNESS_ERROR
        reason = f'the sandbox was lost {attempt} times: {error}'
      except codec.CodecError as error:
        outcome = verdicts.HARNESS_ERROR
        reason = f'the tests cannot be sent: {error}'
        break
    return process_verdicts.verdict_of(outcome, reason)

  def wrapped(self, tests: Tests, limits: Limits) -> bool:
    """Whether each output of calls is a list that holds the value.

    Tests.wrapped where it is given; else what the first reference solution
    shows that passes in one reading alone. Where none does, or there is none,
    the outputs are the values as they stand.
    """
    if tests.wrapped is not None:
      return tests.wrapped
    if not tests.references:
      return False
    first = codec.encode(list(tests.outputs[:1]))[:200]
    key = (tests.name, tests.references, first)
    if key not in self._wrapped:
      self._wrapped[key] = self._shown_wrapped(tests, limits) or False
    return self._wrapped[key]

  def _shown_wrapped(self, tests: Tests, limits: Limits) -> bool | None:
    for reference in tests.references:
      for wrapped in (True, False):
        reading = dataclasses.replace(tests, wrapped=wrapped, references=())
        verdict = self.grade(reference, reading, limits)
        if verdict.outcome == verdicts.CORRECT:
          return wrapped
    return None

  def _graded(self, program: str, tests: Tests, limits: Limits) -> Verdict:
    if tests.kind == CHECK:
      return self._checked(program, tests, limits)
    wrapped = tests.kind == CALLS and self.wrapped(tests, limits)
    total = len(tests.inputs)
    for number in range(total):
      if tests.kind == STDIN:
        verdict = self._fed(program, tests, number, limits)
      else:
        verdict = self._called(program, tests, number, wrapped, limits)
      if verdict:
        detail = f'test {number + 1} of {total}: {verdict.detail}'
        return dataclasses.replace(verdict, detail=detail)
    return process_verdicts.verdict_of(verdicts.CORRECT, f'{total} tests')

  def _fed(
    self, program: str, tests: Tests, number: int, limits: Limits
  ) -> Verdict | None:
    """One input, one output; None where it is right."""
    execution = supervisor.Execution(
      [protocol.PROGRAM, program],
      limits,
      stdin=tests.inputs[number].encode('utf-8', 'surrogatepass'),
      stdout=True,
    )
    (ended,) = self._sandbox(program).run(execution)
    verdict = process_verdicts.unsound(ended, limits)
    if verdict:
      return verdict
    wrong = output_comparison.difference(tests.outputs[number], ended.stdout)
    return process_verdicts.verdict_of(verdicts.WRONG, wrong) if wrong else None

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
    execution = supervisor.Execution(payload, limits, result=True)
    (ended,) = self._sandbox(program).run(execution)
    verdict = process_verdicts.unsound(ended, limits)
    if verdict:
      return verdict
    expected = tests.outputs[number]
    if wrapped:
      expected = expected[0] if isinstance(expected, list) else expected
    # A right value has as many parts; more are not even decoded, since that
    # happens outside all limits. Two for the status and the tuple around.
    most = output_comparison.parts(expected) + 2
    try:
      found = codec.decode(ended.result, hashing=False, items=most)
      if found == (protocol.ABSENT, tests.name):
        return process_verdicts.verdict_of(
          verdicts.WRONG, f'{tests.name} is not defined'
        )
      status, value = found
    except codec.CodecError:
      if not codec.starts_whole(ended.result, protocol.RETURNED):
        return process_verdicts.verdict_of(
          verdicts.CRASHED, 'it returned nothing'
        )
      return process_verdicts.verdict_of(
        verdicts.WRONG, f'another value than {_shown(expected)}, and a larger'
      )
    except (TypeError, ValueError):
      return process_verdicts.verdict_of(
        verdicts.CRASHED, 'it returned nothing'
      )
    try:
      right = status == protocol.RETURNED and output_comparison.same_value(
        expected, value
      )
    except RecursionError:
      right = False
    if right:
      return None
    return process_verdicts.verdict_of(
      verdicts.WRONG, f'{_shown(value)}, expected {_shown(expected)}'
    )

  def _checked(self, program: str, tests: Tests, limits: Limits) -> Verdict:
    """Two processes that talk: the candidate, and the tests."""
    limits = dataclasses.replace(
      limits, cpu_seconds=min(limits.cpu_seconds * CHECK_SHARE, 3600.0)
    )
    prompt = tests.prompt if tests.source.startswith(tests.prompt) else ''
    theirs, ours = socket.socketpair()
    with theirs, ours:
      candidate, judge = self._sandbox(program + tests.source).run(
        supervisor.Execution(
          [protocol.SERVE, program, tests.prelude], limits, channel=theirs
        ),
        supervisor.Execution(
          [protocol.JUDGE, tests.source[len(prompt) :], tests.name, prompt],
          limits,
          channel=ours,
          result=True,
          patient=True,
        ),
        until=1,
      )
    outcome, detail = process_verdicts.judged(judge)
    # A candidate that has answered every question may end as it likes when the
    # tests hang up: only its CPU time still counts.
    unanswered = outcome in (protocol.LOST, '')
    by_itself = candidate.killed != protocol.KILLED_BY_REQUEST
    if candidate.cpu_seconds > limits.cpu_seconds or (unanswered and by_itself):
      unsound = process_verdicts.unsound(candidate, limits)
      if unsound:
        return unsound
    return process_verdicts.of_check(outcome, detail, judge, limits)

  def _sandbox(self, text: str) -> Sandbox:
    """The sandbox for a program; one with numpy loaded where it names it."""
    numpy = _NUMPY.search(text) is not None
    if numpy not in self._sandboxes:
      self._sandboxes[numpy] = Sandbox(tier=self._tier, numpy=numpy)
    return self._sandboxes[numpy]


class _Shown(reprlib.Repr):
  """The start of a value's text, at little cost however large it is."""

  def repr_int(self, value: int, level: int) -> str:
    if abs(value).bit_length() > _MAX_BITS:
      return f'an integer of {abs(value).bit_length()} bits'
    return super().repr_int(value, level)

  def repr_str(self, value: str, level: int) -> str:
    return repr(value[: self.maxstring + 1])


def _shown(value: Any) -> str:
  try:
    text = _Shown().repr(value)
  except (ValueError, RecursionError):
    text = type(value).__name__
  return text if len(text) <= 60 else f'{text[:60]}…'
