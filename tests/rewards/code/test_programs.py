"""Verdicts on programs: right ones, wrong ones, and tests that are neither."""

import os
import threading
import time

import pytest

from rest_jax.rewards import verdicts
from rest_jax.rewards.code import programs, reference_check
from rest_jax.rewards.code.programs import Job, Limits, Tests

FAST = Limits(cpu_seconds=0.5, memory_bytes=256 << 20, output_bytes=1 << 20)
DOUBLE = Tests.stdin(['3\n', '5\n'], ['6\n', '10\n'])


@pytest.fixture(scope='module')
def grader():
  try:
    with programs.Grader() as one:
      assert one.tier in ('A', 'B')
      yield one
  except programs.SandboxUnavailable as error:
    pytest.skip(str(error))


@pytest.fixture
def outcome(grader):
  def graded(program, tests, limits=FAST):
    verdict = grader.grade(program, tests, limits)
    assert verdict.reward == (verdict.outcome == verdicts.CORRECT)
    assert '\n' not in verdict.detail
    return verdict.outcome

  return graded


def check(*lines, name='f'):
  body = '\n'.join(f'  {line}' for line in lines)
  return Tests.check(name, f'def check(candidate):\n{body}\n')


@pytest.mark.parametrize(
  ('program', 'expected'),
  [
    ('print(2 * int(input()))', 'correct'),
    ('print(6)', 'wrong'),  # the first test alone
    ('print(10)', 'wrong'),
    ('', 'no_answer'),
    ('  \n', 'no_answer'),
    (None, 'no_answer'),
    ('print(2 * int(input())', 'crashed'),
    ('print(2 * int(input())); raise SystemExit(3)', 'crashed'),
    ('print(2 * int(input())); exit(0)', 'correct'),
    ('print(2 * int(input())); import os; os._exit(1)', 'crashed'),
    ('print(2 * int(input())); x = 1 / 0', 'crashed'),
    ('x = "\ud800"\nprint(6)', 'crashed'),  # a lone surrogate in the source
    ('\x00', 'crashed'),
  ],
)
def test_a_programs_output_decides(outcome, program, expected):
  assert outcome(program, DOUBLE) == expected


def test_input_and_output_may_be_lists_of_lines(outcome):
  tests = Tests.stdin([['1', '2']], [['2', '1']])
  assert outcome('a, b = input(), input(); print(b); print(a)', tests) == (
    'correct'
  )


def test_the_first_test_that_fails_is_named(grader):
  verdict = grader.grade('print(6)', DOUBLE, FAST)
  assert verdict.detail == "test 2 of 2: line 1: '6', expected '10'"


def test_cpu_time_is_the_limit_and_sleep_is_not_free(grader):
  start = time.monotonic()
  burnt = grader.grade('while True: pass', DOUBLE, FAST)
  assert burnt.outcome == 'timeout' and 'CPU' in burnt.detail
  slept = grader.grade('import time; time.sleep(60)', DOUBLE, FAST)
  assert slept.outcome == 'timeout' and 'asleep' in slept.detail
  assert time.monotonic() - start < 30


@pytest.mark.parametrize(
  ('program', 'expected'),
  [
    ('def f(a, b): return a + b', 'correct'),
    ('class Solution:\n  def f(self, a, b): return a + b', 'correct'),
    ('def f(a, b): return a - b', 'wrong'),
    ('def f(a, b): return float(a + b)', 'wrong'),
    ('def f(a, b): return [a + b]', 'wrong'),
    ('def f(a, b): return str(a + b)', 'wrong'),
    ('def g(a, b): return a + b', 'wrong'),
    ('class Solution:\n  def g(self, a, b): return a + b', 'wrong'),
    ('def f(a): return a', 'crashed'),
    ('def f(a, b): print(a + b)', 'wrong'),
    ('def f(a, b): return object()', 'crashed'),
    ('f = 3', 'crashed'),
    ('def f(a, b): return a + b\nif __name__ == "__main__": 1 / 0', 'correct'),
    ('import os\nos._exit(0)', 'crashed'),
    ('raise SystemExit', 'crashed'),
  ],
)
def test_a_functions_value_decides(outcome, program, expected):
  tests = Tests.calls('f', [[1, 2], [5, 5]], [3, 10])
  assert outcome(program, tests) == expected


def test_each_call_has_a_process_of_its_own(outcome):
  program = 'n = 0\ndef f():\n  global n\n  n += 1\n  return n'
  assert outcome(program, Tests.calls('f', [[], []], [1, 1])) == 'correct'


@pytest.mark.parametrize(
  ('wrapped', 'outputs', 'value', 'expected'),
  [
    (None, [[3]], '3', 'wrong'),  # as they stand
    (None, [[3]], '[3]', 'correct'),
    (False, [[3]], '[3]', 'correct'),
    (False, [[3]], '3', 'wrong'),
    (True, [[3]], '3', 'correct'),
    (None, [[1, 2, 3]], '[1, 2, 3]', 'correct'),
    (None, [[1, 2, 3]], '1', 'wrong'),  # the first element alone
    (True, [[[1, 2]]], '(1, 2)', 'correct'),
    (None, [3], '3', 'correct'),
    (None, [0.3], '0.1 + 0.2', 'correct'),
    (None, [[[1, 2], [3]]], '((1, 2), (3,))', 'correct'),
    (None, [True], '1', 'wrong'),
  ],
)
def test_whether_outputs_are_wrapped_is_the_problems_to_say(
  outcome, wrapped, outputs, value, expected
):
  tests = Tests.calls('f', [[]], outputs, wrapped=wrapped)
  assert outcome(f'def f(): return {value}', tests) == expected


def test_reference_solutions_decide_whether_outputs_are_wrapped(grader):
  tests = Tests.calls('f', [[1], [2]], [[1], [2]])
  for solution, wrapped in (
    ('def f(x): return x', True),
    ('def f(x): return [x]', False),
  ):
    found = reference_check.examine(tests, [solution], FAST, grader=grader)
    assert found.tests.wrapped is wrapped and not found.fault
    assert found.verdicts[0].outcome == 'correct'


def test_an_examination_says_what_is_wrong_with_a_problem(grader):
  good, bad = 'print(2 * int(input()))', 'print(1)'
  for solutions, fault in (
    ([good], ''),
    ([good, bad], '1 of 2 reference solutions fail; the first: wrong, '),
    ([bad], '1 of 1 reference solutions fail'),
    ([], 'no reference solution'),
  ):
    found = reference_check.examine(DOUBLE, solutions, FAST, grader=grader)
    assert found.fault.startswith(fault) and bool(fault) == bool(found.fault)


@pytest.mark.parametrize(
  'tests',
  [
    Tests.stdin([], []),
    Tests.stdin(['1'], []),
    Tests.stdin(['1'], ['1', '2']),
    Tests.calls('f', [], []),
    Tests.calls('', [[1]], [1]),
    Tests.calls('f', [[object()]], [1]),
    Tests.check('f', ''),
    Tests.check('f', 'def check(candidate): pass'),
    Tests.check('', 'assert f(1)'),
    Tests.check('f', 'assert True'),
    Tests.check('f', 'def check(candidate):\n  assert True'),
    Tests.check('f', 'assert f('),
    Tests(kind='other'),
  ],
)
def test_tests_that_test_nothing_are_our_fault_and_never_right(outcome, tests):
  assert outcome('def f(*a): return 1\nprint(1)', tests) == 'harness_error'


@pytest.mark.parametrize(
  ('program', 'expected'),
  [
    ('def f(x): return [x, {x: (x, None)}]', 'correct'),
    ('def f(x): return [x, {x: [x, None]}]', 'wrong'),
    ('def f(x): raise ValueError(x)', 'crashed'),
    ('def f(x): raise StopIteration', 'crashed'),
    ('def f(x): raise SystemExit', 'crashed'),
    ('def f(x):\n  while True: pass', 'timeout'),
    ('def g(x): pass', 'wrong'),
    ('def f(x)', 'crashed'),
    ('1 / 0', 'crashed'),
    ('def f(x): return (y for y in [x])', 'wrong'),
  ],
)
def test_a_check_decides(outcome, program, expected):
  tests = check(
    'for x in (1, "a"):', '  assert candidate(x) == [x, {x: (x, None)}]'
  )
  assert outcome(program, tests) == expected


def test_a_loop_over_calls_does_not_end_early(outcome):
  """StopIteration, raised by the candidate, must not end the tests' loop."""
  tests = check('assert all(x == 1 for x in map(candidate, [1, 2, 3]))')
  assert outcome('def f(x): return 1', tests) == 'correct'
  for error in ('StopIteration', 'GeneratorExit', 'StopAsyncIteration'):
    program = f'def f(x):\n  if x > 1: raise {error}\n  return 1'
    assert outcome(program, tests) == 'crashed', error


def test_an_expected_exception_reaches_the_tests(outcome):
  tests = check(
    'try:',
    '  candidate(-1)',
    '  assert False',
    'except ValueError as error:',
    '  assert "negative" in str(error)',
  )
  assert outcome('def f(x): raise ValueError("negative")', tests) == 'correct'
  assert outcome('def f(x): raise KeyError("negative")', tests) == 'crashed'
  assert outcome('def f(x): return None', tests) == 'wrong'


def test_objects_of_the_candidates_classes_stay_with_it(outcome):
  source = (
    'root = Node(1)\nroot.left = Node(2)\nroot.left.left = Node(3)\n'
    'assert height(root) == 3\nassert root.left.value == 2\n'
    'assert same(root) is root\nassert same(root) != root.left\n'
  )
  program = (
    'class Node:\n'
    '  def __init__(self, value):\n    self.value, self.left = value, None\n'
    'def height(n): return 0 if n is None else 1 + height(n.left)\n'
    'def same(n): return n\n'
  )
  tests = Tests.check('height', source)
  assert outcome(program, tests) == 'correct'
  assert outcome(program.replace('1 + ', ''), tests) == 'wrong'


def test_a_test_may_hand_over_a_type(outcome):
  tests = Tests.check('f', 'assert f([1, "a"], int) == [1]')
  assert (
    outcome('def f(x, t): return [y for y in x if type(y) is t]', tests)
    == 'correct'
  )


def test_counters_and_their_kin_compare_as_dicts(outcome):
  tests = Tests.check('f', "assert f('aab') == {'a': 2, 'b': 1}")
  assert (
    outcome(
      'from collections import Counter\ndef f(x): return Counter(x)', tests
    )
    == 'correct'
  )


def test_names_that_tests_use_are_not_the_candidates_to_supply(outcome):
  """Built-ins, the standard library, and what the tests' source defines."""
  source = 'def twice(x):\n  return 2 * x\n'
  tests = Tests.check(
    'f', source + 'assert all([f(1) == twice(1)])\nassert math.pi > len([f(2)])'
  )
  liar = (
    'class math: pi = 9\ndef all(x): return True\ndef len(x): return 0\n'
    'def twice(x): return 7\ndef f(x): return 7'
  )
  assert outcome(liar, tests) == 'wrong'
  assert outcome('def f(x): return 2 * x', tests) == 'correct'


def test_arguments_that_change_in_place_change_for_the_tests_too(outcome):
  tests = check(
    'inner = [1]',
    'x = [3, inner, {"k": {2}}]',
    'assert candidate(x) is x',
    'assert inner == [1, 5] and x == [{"k": {2, 9}}, inner]',
  )
  program = (
    'def f(x):\n  x[1].append(5)\n  x[2]["k"].add(9)\n'
    '  x[:] = [x[2], x[1]]\n  return x'
  )
  assert outcome(program, tests) == 'correct'
  assert outcome('def f(x): return x', tests) == 'wrong'


def test_verdicts_come_in_the_jobs_order(grader):
  jobs = [
    Job(f'print({i % 3})', Tests.stdin([''], ['1']), FAST) for i in range(40)
  ]
  jobs[7] = Job('import time; time.sleep(0.5); print(1)', jobs[0].tests, FAST)
  found = list(programs.grade_many(iter(jobs), workers=2))
  expected = ['correct' if i % 3 == 1 or i == 7 else 'wrong' for i in range(40)]
  assert [verdict.outcome for verdict in found] == expected


def test_jobs_are_taken_in_as_they_are_needed(grader):
  taken = []

  def endless():
    while True:
      taken.append(None)
      yield Job('print(1)', Tests.stdin([''], ['1']), FAST)

  stream = programs.grade_many(endless(), workers=1)
  assert next(stream).outcome == 'correct'
  stream.close()
  assert len(taken) < 10


def test_no_worker_is_refused():
  with pytest.raises(ValueError, match='workers: got 0'):
    next(programs.grade_many([], workers=0))


def test_grade_keeps_its_server_and_threads_may_share_it(grader):
  found = []

  def work():
    found.append(programs.grade('print(2 * int(input()))', DOUBLE).outcome)

  threads = [threading.Thread(target=work) for _ in range(4)]
  for thread in threads:
    thread.start()
  for thread in threads:
    thread.join()
  assert found == ['correct'] * 4
  assert programs._kept['process'] == os.getpid()


@pytest.mark.parametrize(
  'values',
  [
    {'cpu_seconds': 0},
    {'cpu_seconds': '1'},
    {'cpu_seconds': True},
    {'memory_bytes': 1000},
    {'output_bytes': 10**12},
    {'cpu_seconds': float('nan')},
  ],
)
def test_limits_outside_their_range_are_refused(values):
  with pytest.raises(ValueError, match=f'Limits.{next(iter(values))}: got'):
    Limits(**values)
