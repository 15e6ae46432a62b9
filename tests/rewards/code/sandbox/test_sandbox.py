"""The sandbox itself: tiers, users, failing closed, servers that die."""

import ctypes
import json
import os
import pathlib
import shutil
import struct
import subprocess
import sys
import time

import pytest

from rest_jax.rewards.code.sandbox import (
  interpreters,
  landlock,
  probe,
  protocol,
  seccomp,
  supervisor,
)
from rest_jax.rewards.code.sandbox.supervisor import Execution, Limits, Sandbox

ROOT = pathlib.Path(__file__).resolve().parents[4]
ORDINARY = 65534  # nobody
LIMITS = Limits(cpu_seconds=1.0)


def program(source, **values):
  return Execution([protocol.PROGRAM, source], LIMITS, stdout=True, **values)


@pytest.fixture(params=['A', 'B'])
def sandbox(request):
  with Sandbox(tier=request.param) as one:
    try:
      assert one.tier == request.param
    except supervisor.SandboxUnavailable as error:
      pytest.skip(str(error))
    yield one


def test_a_program_is_no_root_and_has_no_capability(sandbox):
  (ended,) = sandbox.run(program('import os\nprint(os.getresuid())'))
  users = set(eval(ended.stdout))
  assert len(users) == 1 and 0 not in users


def test_tier_a_has_its_own_processes_and_files(sandbox):
  (ended,) = sandbox.run(
    program('import os\nprint(os.getppid(), os.path.exists("/etc/passwd"))')
  )
  assert os.path.exists('/etc/passwd')
  parent, exists = ended.stdout.decode().split()
  assert (parent == '1') == (sandbox.tier == 'A')
  assert (exists == 'False') == (sandbox.tier == 'A')


@pytest.mark.parametrize('attempt', ['read', 'list', 'write', 'fork'])
def test_the_probe_sees_a_wall_that_is_not_there(tmp_path, attempt):
  """It runs here in a plain interpreter, which has no walls at all."""
  with probe.Canary() as canary:
    output = subprocess.run(
      [sys.executable, '-c', probe.program(canary)],
      stdout=subprocess.PIPE,
      cwd=tmp_path,
      timeout=60,
    ).stdout
    pathlib.Path(f'{canary}.new').unlink(missing_ok=True)
  assert attempt in probe.breach(output).split()


@pytest.mark.parametrize('output', [b'', b'read done', b'don', b'done done'])
def test_the_probe_takes_nothing_but_its_own_last_word(output):
  assert probe.breach(output)
  assert not probe.breach(b'done\n')


@pytest.mark.parametrize(
  'sabotage',
  [
    # no filter: its installation does nothing
    'seccomp.Filter.install = lambda self: None',
    # no Landlock
    'landlock.restrict = lambda paths: None',
  ],
)
def test_a_server_with_a_missing_wall_is_not_used(
  monkeypatch, sandbox, sabotage
):
  if sandbox.tier == 'A' and 'landlock' in sabotage:
    pytest.skip('the file tree of tier A hides the canary too')
  start = supervisor._START.replace(
    'server.main()',
    f'seccomp, landlock = server.seccomp, server.landlock; {sabotage}; '
    'server.main()',
  )
  assert 'lambda' in start
  monkeypatch.setattr(supervisor, '_START', start)
  with Sandbox(tier=sandbox.tier) as broken:
    with pytest.raises(supervisor.SandboxUnavailable, match='and could:'):
      broken.run(program('print(1)'))


def test_a_server_that_dies_is_lost_and_then_replaced(sandbox):
  sandbox.run(program('print(1)'))
  sandbox._server._process.kill()
  time.sleep(0.2)
  with pytest.raises(supervisor.ServerLost):
    sandbox.run(program('print(1)'))
  (ended,) = sandbox.run(program('print(1)'))
  assert ended.stdout == b'1\n'


def test_a_server_is_replaced_after_some_jobs(monkeypatch, sandbox):
  monkeypatch.setattr(supervisor, '_JOBS_PER_SERVER', 3)
  processes = set()
  for _ in range(7):
    sandbox.run(program('print(1)'))
    processes.add(sandbox._server._process.pid)
  assert len(processes) == 3


def test_closing_ends_all_processes_even_busy_ones(sandbox):
  sandbox.run(program('print(1)'))
  process = sandbox._server._process
  request = protocol.REQUEST.pack(
    protocol.SPAWN, 99, 60.0, 60.0, 1 << 30, 1 << 20
  )
  endless = program('while True: pass')
  with supervisor.contextlib.ExitStack() as stack:
    files = supervisor.Files(endless, stack)
    rights = struct.pack(f'={len(files.passed)}i', *files.passed)
    sandbox._server._socket.sendmsg([request], [(1, 1, rights)])
    time.sleep(0.3)
  before = _family(process.pid)
  assert len(before) >= 2  # the server, and the program
  sandbox.close()
  assert process.poll() is not None
  deadline = time.monotonic() + 5
  while any(map(_alive, before)) and time.monotonic() < deadline:
    time.sleep(0.05)
  assert not any(map(_alive, before))


def test_programs_end_with_a_caller_that_is_killed(sandbox, tmp_path):
  script = (
    'import os, sys, threading, time\n'
    'from rest_jax.rewards.code.sandbox.supervisor import *\n'
    'from rest_jax.rewards.code.sandbox import protocol\n'
    f's = Sandbox(tier={sandbox.tier!r})\n'
    's.tier\n'
    'print(s._server._process.pid, flush=True)\n'
    's.run(Execution([protocol.PROGRAM, "while True: pass"], '
    'Limits(cpu_seconds=60)))\n'
  )
  caller = subprocess.Popen(
    [sys.executable, '-c', script],
    stdout=subprocess.PIPE,
    env=dict(os.environ, PYTHONPATH=str(ROOT)),
  )
  server = int(caller.stdout.readline())
  deadline = time.monotonic() + 10
  while len(_family(server)) < (3 if sandbox.tier == 'A' else 2):
    assert time.monotonic() < deadline
    time.sleep(0.05)
  family = _family(server)
  caller.kill()
  caller.wait()
  caller.stdout.close()
  deadline = time.monotonic() + 10
  while any(map(_alive, family)) and time.monotonic() < deadline:
    time.sleep(0.05)
  assert not any(map(_alive, family))


def test_two_programs_run_at_the_same_time(sandbox):
  start = time.monotonic()
  sleepers = [program('import time; time.sleep(0.5); print(1)')] * 2
  found = sandbox.run(*sleepers)
  assert [one.stdout for one in found] == [b'1\n'] * 2
  assert time.monotonic() - start < 5


def test_threads_are_counted_where_the_server_has_a_user_of_its_own(sandbox):
  if sandbox.tier == 'B' and os.geteuid() != 0:
    pytest.skip("the user's other processes are counted too")
  many = (
    'import threading, time\nthreading.stack_size(32768)\nn = 0\ntry:\n'
    '  while n < 1000:\n    threading.Thread(target=time.sleep, args=(9,), '
    'daemon=True).start()\n    n += 1\nexcept RuntimeError: pass\nprint(n)'
  )
  limits = Limits(cpu_seconds=2.0, memory_bytes=1 << 36)
  task = Execution([protocol.PROGRAM, many], limits, stdout=True)
  (ended,) = sandbox.run(task)
  assert 100 < int(ended.stdout) < 160


def test_what_is_measured_is_reported(sandbox):
  burn = 'x = bytearray(50 << 20)\nimport time\n'
  burn += 'while time.process_time() < 0.3: pass'
  (ended,) = sandbox.run(program(burn))
  assert 0.3 <= ended.cpu_seconds < 0.5
  assert 50 << 20 < ended.peak_bytes < 100 << 20


def test_only_the_end_of_the_errors_is_kept(sandbox):
  (ended,) = sandbox.run(
    program('import sys\nsys.stderr.write("x" * 10000 + "end")')
  )
  assert len(ended.stderr) == 2000 and ended.stderr.endswith(b'end')


def test_output_is_bounded_here_too_whatever_the_program_left():
  limits = Limits(output_bytes=1 << 20)
  task = Execution([protocol.PROGRAM, ''], limits, stdout=True, result=True)
  with supervisor.contextlib.ExitStack() as stack:
    files = supervisor.Files(task, stack)
    for handle in files.passed[2:]:
      os.ftruncate(handle, 1 << 40)
    ended = files.ended(0, 0.0, 0, 0)
  assert len(ended.stdout) == len(ended.result) == 1 << 20
  assert len(ended.stderr) == 2000


def test_another_tier_is_never_taken_later(sandbox):
  assert sandbox._tiers == (sandbox.tier,)


def test_an_unknown_tier_is_refused():
  with pytest.raises(ValueError, match="tier: got 'C'"):
    Sandbox(tier='C')


_REPORT = """
import json, sys
from rest_jax.rewards.code import programs
from rest_jax.rewards.code.programs import Limits, Tests
found = {}
for tier in sys.argv[1:]:
  try:
    with programs.Grader(tier=None if tier == 'any' else tier) as grader:
      tests = Tests.stdin(['3'], ['6'])
      limits = Limits(cpu_seconds=1.0)
      found[tier] = [grader.tier] + [
        grader.grade(program, tests, limits).outcome
        for program in (
          'print(2 * int(input()))',
          'print(5)',
          'import os; os.fork(); print(6)',
          'open("/etc/hostname"); print(6)',
          'while True: pass',
        )
      ]
      check = Tests.check('f', 'assert f([1]) == (1,)')
      found[tier].append(
        grader.grade('def f(x): return tuple(x)', check, limits).outcome
      )
  except programs.SandboxUnavailable as error:
    found[tier] = str(error)
print(json.dumps(found))
"""
_EXPECTED = 'correct wrong crashed crashed timeout correct'.split()


def _report(*tiers, python=sys.executable, prepare=None, user=None):
  output = subprocess.run(
    [python, '-c', _REPORT, *tiers],
    env={'PATH': '/usr/bin:/bin', 'PYTHONPATH': str(ROOT), 'HOME': '/'},
    stdout=subprocess.PIPE,
    check=True,
    cwd='/',
    preexec_fn=prepare,
    user=user,
    group=user,
    extra_groups=[] if user else None,
    timeout=120,
  ).stdout
  return json.loads(output)


@pytest.mark.parametrize('tier', ['A', 'B'])
@pytest.mark.parametrize('who', ['root', 'ordinary user'])
def test_every_tier_holds_for_root_and_for_an_ordinary_user(who, tier):
  python, user = sys.executable, None
  if who == 'root' and os.geteuid() != 0:
    pytest.skip('not root')
  if who == 'ordinary user' and os.geteuid() == 0:
    python, user = _python_for_all(), ORDINARY
  found = _report(tier, python=python, user=user)[tier]
  if isinstance(found, str):
    pytest.skip(found)
  assert found == [tier, *_EXPECTED]


def _refusing(*numbers):
  """Makes system calls fail with EPERM, as a container's filter does."""
  code = [(0x20, 0, 0, 0)]
  for number in numbers:
    code += [(0x15, 0, 1, number), (0x06, 0, 0, seccomp.EPERM)]
  code.append((0x06, 0, 0, seccomp.ALLOW))

  def prepare():
    one = seccomp.Filter()
    data = seccomp.assemble(code)
    one._code = ctypes.create_string_buffer(data, len(data))
    one._header = ctypes.create_string_buffer(
      struct.pack('@HP', len(code), ctypes.addressof(one._code))
    )
    one._address = ctypes.addressof(one._header)
    seccomp.kernel.prctl(seccomp.kernel.PR_SET_NO_NEW_PRIVS, 1)
    one.install()

  return prepare


UNSHARE = {'x86_64': 272, 'aarch64': 97}
LANDLOCK = 444
SECCOMP_PRCTL = {'x86_64': 157, 'aarch64': 167}


def test_where_namespaces_are_refused_tier_b_is_taken():
  if landlock.abi() < 1:
    pytest.skip('the kernel has no Landlock')
  prepare = _refusing(UNSHARE[os.uname().machine])
  found = _report('A', 'any', prepare=prepare)
  assert 'tier A: ' in found['A'] and 'unshare' in found['A']
  if isinstance(found['any'], str):
    pytest.skip(found['any'])
  assert found['any'] == ['B', *_EXPECTED]


def test_where_nothing_holds_nothing_runs():
  found = _report('any', prepare=_refusing(LANDLOCK))['any']
  assert 'no sandbox for programs' in found
  assert 'tier A: ' in found and 'tier B: ' in found
  assert 'docs/sandbox.md' in found


def test_without_an_interpreter_that_others_can_read_tier_b_refuses(
  monkeypatch,
):
  monkeypatch.setattr(interpreters, '_open_to_all', lambda path: False)
  monkeypatch.setattr(os, 'geteuid', lambda: 0)
  with pytest.raises(OSError, match='cannot read'):
    interpreters.interpreter('B')
  assert interpreters.interpreter('A') == sys.executable


def test_the_sandbox_needs_nothing_but_the_standard_library():
  """As an ordinary user with a plain python3 has it."""
  script = (
    'import sys\n'
    'from rest_jax.rewards.code import (\n'
    '  code_problems, programs, reference_check)\n'
    'names = {name.partition(".")[0] for name in sys.modules}\n'
    'own = set(sys.stdlib_module_names) | {"rest_jax"}\n'
    'print(sorted(n for n in names - own if not n.startswith("_")))'
  )
  output = subprocess.check_output(
    [sys.executable, '-S', '-c', script],
    env={'PYTHONPATH': str(ROOT)},
    text=True,
  )
  assert output == '[]\n'


def _python_for_all():
  for path in (sys.executable, shutil.which('python3', path='/usr/bin:/bin')):
    if path and interpreters._library(path):
      if interpreters._open_to_all(interpreters._library(path)):
        return path
  pytest.skip('no Python 3.11 or newer that an ordinary user can read')


def _alive(pid):
  try:
    stat = pathlib.Path(f'/proc/{pid}/stat').read_text()
  except OSError:
    return False
  return stat.rpartition(')')[2].split()[0] != 'Z'


def _family(pid):
  """A process and all that stem from it."""
  found = {pid}
  for _ in range(4):
    for name in os.listdir('/proc'):
      if name.isdigit():
        try:
          stat = pathlib.Path(f'/proc/{name}/stat').read_text()
        except OSError:
          continue
        if int(stat.rpartition(')')[2].split()[1]) in found:
          found.add(int(name))
  return found
