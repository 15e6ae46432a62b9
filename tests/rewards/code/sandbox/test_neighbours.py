"""A verdict depends on the program alone, not on its neighbours or on load."""

import contextlib
import os
import subprocess
import sys
import threading
import time

import cost
import pytest

from rest_jax.rewards.code import programs
from rest_jax.rewards.code.programs import Limits, Tests
from rest_jax.rewards.code.sandbox import privileges, protocol, starvation
from rest_jax.rewards.code.sandbox.supervisor import Execution, Sandbox

LIMITS = Limits(cpu_seconds=1.0)
HOG = (
  'import threading, time\nthreading.stack_size(65536)\ntry:\n  while True:\n'
  '    threading.Thread(target=time.sleep, args=(3,), daemon=True).start()\n'
  'except RuntimeError: pass\ntime.sleep(2)\nprint(0)'
)
THREADED = (
  'import threading\nfound = []\n'
  't = threading.Thread(target=lambda: found.append(2 * int(input())))\n'
  't.start()\nt.join()\nprint(*found)'
)
DOUBLE = Tests.stdin(['3'], ['6'])


@pytest.fixture(params=['A', 'B'])
def tier(request):
  try:
    with Sandbox(tier=request.param) as one:
      return one.tier
  except programs.SandboxUnavailable as error:
    pytest.skip(str(error))


def user_of(sandbox):
  execution = Execution(
    [protocol.PROGRAM, 'import os\nprint(os.getuid())'], LIMITS, stdout=True
  )
  (ended,) = sandbox.run(execution)
  return int(ended.stdout)


def test_each_server_that_root_starts_has_a_user_of_its_own(tier):
  if os.geteuid() != 0:
    pytest.skip('not root')
  with contextlib.ExitStack() as stack:
    several = [stack.enter_context(Sandbox(tier=tier)) for _ in range(4)]
    assert len({user_of(sandbox) for sandbox in several}) == 4


def test_a_claimed_user_is_free_again_when_its_server_ends(monkeypatch):
  monkeypatch.setattr(privileges, '_LAST_USER', privileges._FIRST_USER + 1)
  claims = [privileges.claim_user() for _ in range(2)]
  assert len({user for user, _ in claims}) == 2
  with pytest.raises(OSError, match='are taken'):
    privileges.claim_user()
  user, socket = claims.pop()
  socket.close()
  again, socket = privileges.claim_user()
  assert again == user
  for _, one in [*claims, (again, socket)]:
    one.close()


def test_threads_of_one_program_are_not_taken_from_another(tier):
  if tier == 'B' and os.geteuid() != 0:
    pytest.skip("tier B counts all of an ordinary user's threads")
  limits = Limits(cpu_seconds=2.0, memory_bytes=1 << 32)
  with programs.Grader(tier=tier) as one, programs.Grader(tier=tier) as other:
    assert other.grade(THREADED, DOUBLE, limits).reward == 1
    hog = threading.Thread(target=one.grade, args=(HOG, DOUBLE, limits))
    hog.start()
    time.sleep(1.0)
    verdicts = [other.grade(THREADED, DOUBLE, limits) for _ in range(5)]
    assert hog.is_alive()  # it held its threads all the while
    hog.join()
  assert [one.outcome for one in verdicts] == ['correct'] * 5


@pytest.mark.parametrize(
  'end',
  [
    'import resource\nresource.setrlimit(resource.RLIMIT_CPU, (0, 0))\n'
    'while True: pass',
    'import resource\nresource.setrlimit(resource.RLIMIT_AS, (0, 0))\n'
    'x = bytearray(1 << 20)',
    'import resource\nresource.setrlimit(resource.RLIMIT_FSIZE, (0, 0))\n'
    'print(1, flush=True)',
    'import resource\nresource.setrlimit(resource.RLIMIT_STACK, (4096, 4096))\n'
    'def f(): f()\nf()',
    'import signal\nsignal.raise_signal(signal.SIGUSR2)',
    'import signal\nsignal.setitimer(signal.ITIMER_PROF, 0.01)\n'
    'while True: pass',
    'import os\nos.abort()',
    'import os\nfor i in range(64):\n  try: os.close(i)\n'
    '  except OSError: pass',
    'import os\nos._exit(255)',
    'import ctypes\nctypes.CDLL(None).syscall(0x40000000)',
  ],
)
def test_no_way_to_end_is_a_harness_error(tier, end):
  checks = (
    DOUBLE,
    Tests.calls('f', [[3]], [6]),
    Tests.check('f', 'assert f(3) == 6'),
  )
  with programs.Grader(tier=tier) as grader:
    for tests in checks:
      body = '\n'.join(f'  {line}' for line in end.split('\n'))
      for program in (end, f'def f(x):\n{body}'):
        verdict = grader.grade(program, tests, LIMITS)
        assert verdict.outcome in ('wrong', 'crashed', 'timeout'), verdict


# ---- load -------------------------------------------------------------------


@pytest.fixture
def busy():
  """One core with nine busy processes on it, and this process too."""
  core = min(os.sched_getaffinity(0))
  before = os.sched_getaffinity(0)
  os.sched_setaffinity(0, {core})
  neighbours = [
    subprocess.Popen([sys.executable, '-c', 'while True: pass'])
    for _ in range(9)
  ]
  yield
  for one in neighbours:
    one.kill()
    one.wait()
  os.sched_setaffinity(0, before)


def test_a_candidate_that_waits_for_slow_tests_is_not_asleep(busy):
  """Ten processes on one core: 0.6 s of CPU time take 6 s, above the limit."""
  tests = Tests.check(
    'f',
    'import time\ndef check(candidate):\n'
    '  while time.process_time() < 0.6: pass\n  assert candidate(1) == 2\n',
  )
  with programs.Grader() as grader:
    verdict = grader.grade('def f(x): return x + 1', tests, LIMITS)
  assert verdict.outcome == 'correct', verdict


def test_a_sleeper_is_ended_beside_busy_neighbours_too(busy):
  with programs.Grader() as grader:
    verdict = grader.grade(
      'import time\ntime.sleep(600)', DOUBLE, Limits(cpu_seconds=0.2)
    )
  assert verdict.outcome == 'timeout' and 'asleep' in verdict.detail


@pytest.mark.parametrize(
  ('used', 'waited', 'share', 'asleep'),
  [
    (0.0, 0.0, 0.0, True),
    (0.5, 9.0, 0.0, False),  # it waited for a processor
    (0.5, 0.0, 0.1, False),  # its processor was taken away from outside
    (0.5, None, 0.005, True),  # the kernel does not say
    (0.5, None, 0.02, False),
    (6.0, 0.0, 0.0, False),
  ],
)
def test_only_time_asleep_counts(monkeypatch, used, waited, share, asleep):
  monkeypatch.setattr(starvation, '_waited', lambda pidfd: waited)
  handle = os.open(os.devnull, os.O_RDONLY)
  assert starvation.asleep(10.0, used, share, [handle], 5.0) is asleep
  with pytest.raises(OSError):
    os.fstat(handle)  # closed


def test_the_kernel_says_how_long_a_process_waited(busy):
  child = subprocess.Popen([sys.executable, '-c', 'while True: pass'])
  time.sleep(2.0)
  pidfd = os.pidfd_open(child.pid)
  waited = starvation._waited(pidfd)
  os.close(pidfd)
  child.kill()
  child.wait()
  if waited is None:
    pytest.skip('this kernel does not count it')
  assert 0.5 < waited < 30


# ---- cost in the caller -----------------------------------------------------

# Millions of passes of an empty loop: as much CPU as about a program may take,
# which it may not take here.
LIMIT = 160


@pytest.mark.parametrize('piece', ['[0;', '{0;', 'N', '(0;', 's0;', '<0;'])
def test_a_flood_of_values_costs_the_caller_little(piece):
  count = 4_000_000
  program = (
    f'import os\nd = b"(2;s8;returned[{count:x};" + b"{piece}" * {count}\n'
    'm = memoryview(d)\nwhile m: m = m[os.write(3, m):]\nos._exit(0)\n'
  )
  tests = Tests.calls('f', [[3]], [[6, 7]])
  with programs.Grader() as grader:
    assert grader.tier
    spent = cost.in_loops(grader.grade, program, tests, Limits(), tries=1)
    verdict = grader.grade(program, tests, Limits())
  assert spent < LIMIT  # it was 9 s
  assert verdict.outcome == 'wrong', verdict


@pytest.mark.parametrize(
  'text',
  [
    "'ab\\n' * 5_000_000",
    "'6 7 ' * 4_000_000",
    "'\\n' * 15_000_000",
    "'\\xa0\\n' * 5_000_000",
    "'6 7' + '\\nx' * 7_000_000",
  ],
)
def test_a_flood_of_output_costs_the_caller_little(text):
  tests = Tests.stdin([''], ['6 7'])
  with programs.Grader() as grader:
    assert grader.tier
    job = (f'print({text})', tests, Limits())
    spent = cost.in_loops(grader.grade, *job, tries=1)
    verdict = grader.grade(*job)
  assert spent < LIMIT
  assert verdict.outcome == 'wrong', verdict
