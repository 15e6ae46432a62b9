"""Hostile programs: what they try fails, ends in time, and leaves nothing.

Those of ESCAPES print BREACHED where they get through, which is what their
test expects: a verdict of correct is a hole. Those of HACKS want a reward for
a function that is wrong. Those of BOMBS want time, memory or a hang.
"""

import json
import os
import pathlib
import time

import pytest

from rest_jax.rewards import verdicts
from rest_jax.rewards.code import programs
from rest_jax.rewards.code.programs import Job, Limits, Tests

LIMITS = Limits(cpu_seconds=0.4, memory_bytes=256 << 20, output_bytes=1 << 20)
PATIENCE = 12.0  # seconds: the longest wall limit, and a busy machine
MARK = 'rest_jax_hostile_test'
GOOD = Job(
  'print(2 * int(input()))', Tests.stdin(['3', '4'], ['6', '8']), LIMITS
)

_CTYPES = 'import ctypes, os\nlibc = ctypes.CDLL(None, use_errno=True)\n'
_BREACHED = '\nprint("BREACHED")'


def _call(expression):
  """Breached where a C call does not return -1."""
  return f'{_CTYPES}if {expression} != -1: print("BREACHED")'


ESCAPES = {
  # processes
  'fork': 'import os\npid = os.fork()' + _BREACHED,
  'vfork by number': _call('libc.syscall(58)'),
  'clone as fork does': _call('libc.syscall(56, 17, 0, 0, 0, 0)'),
  'clone with a user namespace': _call('libc.syscall(56, 0x10000011, 0, 0)'),
  'clone3': _call('libc.syscall(435, ctypes.create_string_buffer(88), 88)'),
  'posix_spawn': (
    'import os\nos.posix_spawn("/bin/true", ["true"], {})' + _BREACHED
  ),
  'subprocess': (
    'import subprocess, sys\n'
    'subprocess.run([sys.executable, "-c", "1"], check=True)' + _BREACHED
  ),
  'exec': 'import os\nos.execv("/bin/echo", ["echo", "BREACHED"])',
  'exec of a file in memory': _call(
    'libc.syscall(322, 0, b"", None, None, 0x1000)'
  ),
  'pty': 'import pty\npty.fork()' + _BREACHED,
  'multiprocessing': (
    'import multiprocessing as m\nm.get_context("fork").Process(target=print, '
    'args=("BREACHED",)).start()'
  ),
  # others
  'signal to the server': ('import os\nos.kill(os.getppid(), 9)' + _BREACHED),
  'signal to everyone': 'import os\nos.kill(-1, 9)' + _BREACHED,
  'signal through pidfd': (
    'import os, signal\nsignal.pidfd_send_signal(os.pidfd_open(os.getppid()), '
    '9)' + _BREACHED
  ),
  'signal through F_SETOWN': (
    'import fcntl, os\nfcntl.fcntl(0, fcntl.F_SETOWN, os.getppid())' + _BREACHED
  ),
  'signal through F_SETSIG': 'import fcntl\nfcntl.fcntl(0, 10, 9)' + _BREACHED,
  'signal with a value': _call(
    'libc.sigqueue(os.getppid(), 9, ctypes.c_void_p(0))'
  ),
  'ptrace attach': _call('libc.ptrace(16, os.getppid(), 0, 0)'),
  'ptrace seize': _call('libc.ptrace(0x4206, os.getppid(), 0, 0)'),
  'memory of the server by file': (
    'import os\nopen(f"/proc/{os.getppid()}/mem", "rb").read(1)' + _BREACHED
  ),
  'memory of the server by call': (
    f'{_CTYPES}b = ctypes.create_string_buffer(64)\n'
    'if libc.process_vm_writev(os.getppid(), b, 1, b, 1, 0) != -1:\n'
    '  print("BREACHED")'
  ),
  'descriptors of the server': _call('libc.syscall(438, 3, 3, 0)'),
  'limits of the server': (
    'import os, resource\n'
    'resource.prlimit(os.getppid(), resource.RLIMIT_NOFILE, (3, 3))' + _BREACHED
  ),
  'priority of others': (
    'import os\nos.setpriority(os.PRIO_USER, 0, 19)' + _BREACHED
  ),
  'affinity of the server': (
    'import os\nos.sched_setaffinity(os.getppid(), {0})' + _BREACHED
  ),
  'own limit of CPU time': (
    'import resource\nresource.setrlimit(resource.RLIMIT_CPU, (99, 99))'
    + _BREACHED
  ),
  'own limit of memory': (
    'import resource\nresource.setrlimit(resource.RLIMIT_AS, (-1, -1))'
    + _BREACHED
  ),
  # files
  'a password file': 'open("/etc/passwd").read()' + _BREACHED,
  'a host name': 'open("/etc/hostname").read()' + _BREACHED,
  'own maps': 'open("/proc/self/maps").read()' + _BREACHED,
  'own arguments': 'open("/proc/self/cmdline").read()' + _BREACHED,
  'processes': 'import os\nos.listdir("/proc")' + _BREACHED,
  'the root': 'import os\nos.listdir("/")' + _BREACHED,
  'home folders': (
    'import os\n'
    'for p in ("/root", "/home", "/tmp", "/var", "/work", "/data", "/mnt"):\n'
    '  try: print("BREACHED" if os.listdir(p) else "")\n'
    '  except OSError: pass'
  ),
  'this repository': f'open({str(pathlib.Path(__file__).resolve())!r})'
  + _BREACHED,
  'a path with dots': (
    'import os\nos.chdir(os.path.dirname(os.__file__))\n'
    'open("../" * 20 + "etc/passwd")' + _BREACHED
  ),
  'a new file in /tmp': f'open("/tmp/{MARK}", "w")' + _BREACHED,
  'a new file in /dev/shm': f'open("/dev/shm/{MARK}", "w")' + _BREACHED,
  'a new file here': f'open("{MARK}", "w")' + _BREACHED,
  'a file without a name': (
    'import os\nos.open("/tmp", os.O_TMPFILE | os.O_RDWR)' + _BREACHED
  ),
  'a folder': f'import os\nos.mkdir("/tmp/{MARK}")' + _BREACHED,
  'a symbolic link': (
    f'import os\nos.symlink("/etc/passwd", "/tmp/{MARK}")' + _BREACHED
  ),
  'a named pipe': f'import os\nos.mkfifo("/tmp/{MARK}")' + _BREACHED,
  'the library, changed': ('import os\nos.chmod(os.__file__, 0)' + _BREACHED),
  'the library, dated': 'import os\nos.utime(os.__file__)' + _BREACHED,
  'the library, written': 'import os\nopen(os.__file__, "a")' + _BREACHED,
  'the library, locked': (
    'import fcntl, os\nfcntl.flock(open(os.__file__), fcntl.LOCK_SH)'
    + _BREACHED
  ),
  'an attribute': (
    'import os\nos.setxattr(os.__file__, "user.x", b"1")' + _BREACHED
  ),
  'bytecode that the next one imports': (
    'import os, py_compile, string\n'
    'py_compile.compile(string.__file__, doraise=True)' + _BREACHED
  ),
  'a file by its handle': _call('libc.syscall(304, -100, b"x" * 16, 0)'),
  'shared memory': (
    'from multiprocessing import shared_memory as s\n'
    's.SharedMemory(create=True, size=1 << 20)' + _BREACHED
  ),
  'System V memory': _call('libc.shmget(0, 1 << 20, 0o1600)'),
  'a file in memory': 'import os\nos.memfd_create("x")' + _BREACHED,
  'a message queue': _call('libc.msgget(0, 0o1600)'),
  # network
  'a TCP socket': 'import socket\nsocket.socket()' + _BREACHED,
  'a UDP socket': 'import socket\nsocket.socket(2, 2)' + _BREACHED,
  'a Unix socket': 'import socket\nsocket.socket(1)' + _BREACHED,
  'a netlink socket': 'import socket\nsocket.socket(16, 3)' + _BREACHED,
  'a raw packet socket': 'import socket\nsocket.socket(17, 3)' + _BREACHED,
  'a datagram pair, for sendto with a name': (
    'import socket\nsocket.socketpair(1, socket.SOCK_DGRAM)' + _BREACHED
  ),
  'a name given to sendto': (
    'import socket\na, b = socket.socketpair()\na.sendto(b"x", "\\0x")'
    + _BREACHED
  ),
  'descriptors in flight': (
    'import array, socket\na, b = socket.socketpair()\n'
    'a.sendmsg([b"x"], [(1, 1, array.array("i", [0]))])' + _BREACHED
  ),
  'a name looked up': (
    'import socket\nsocket.getaddrinfo("example.org", 80)' + _BREACHED
  ),
  # the kernel
  'mount': _call('libc.mount(b"x", b"/", b"tmpfs", 0, None)'),
  'unshare': _call('libc.unshare(0x10000000)'),
  'setns': _call('libc.setns(0, 0)'),
  'chroot': 'import os\nos.chroot("/")' + _BREACHED,
  'setuid': 'import os\nos.setuid(0)' + _BREACHED,
  'setgroups': 'import os\nos.setgroups([])' + _BREACHED,
  'capabilities': _call('libc.prctl(47, 2, 0, 0, 0)'),
  'another filter': _call('libc.prctl(22, 2, 0, 0, 0)'),
  'outliving the server': _call('libc.prctl(1, 0, 0, 0, 0)'),
  'bpf': _call('libc.syscall(321, 0, 0, 0)'),
  'perf': _call('libc.syscall(298, 0, 0, -1, -1, 0)'),
  'io_uring': _call('libc.syscall(425, 8, ctypes.create_string_buffer(120))'),
  'userfaultfd': _call('libc.syscall(323, 0)'),
  'keys': _call('libc.syscall(248, b"user", b"x", b"y", 1, -3)'),
  'the host name, set': 'import socket\nsocket.sethostname("x")' + _BREACHED,
  'the clock, set': 'import time\ntime.clock_settime(0, 1)' + _BREACHED,
  'a pipe of a megabyte': (
    'import fcntl, os\nr, w = os.pipe()\nfcntl.fcntl(w, 1031, 1 << 20)'
    + _BREACHED
  ),
  # what lies about in this process
  'secrets in frames': (
    'import gc, sys\nf, found = sys._getframe(), []\nwhile f:\n'
    '  found += [v for v in [*f.f_locals.values(), *f.f_globals.values()]\n'
    '            if isinstance(v, str) and v == "BREA" + "CHED"]\n'
    '  f = f.f_back\n'
    'found += [o for o in gc.get_objects() if o == "BREA" + "CHED"]\n'
    'print(*found[:1])'
  ),
  'secrets in the environment': (
    'import os\n'
    'if set(os.environ) - {"LANG", "PATH", "PYTHONHASHSEED", "PYTHONUTF8", '
    '"PYTHONINTMAXSTRDIGITS", "OPENBLAS_NUM_THREADS", "OMP_NUM_THREADS", '
    '"MKL_NUM_THREADS", "LC_CTYPE"}: print("BREACHED")'
  ),
  'open descriptors': (
    'import os\n'
    'for fd in range(3, 4096):\n'
    '  try: os.fstat(fd); print("BREACHED"); break\n'
    '  except OSError: pass'
  ),
  'an answer written beside the output': (
    'import os\nfor fd in range(64):\n'
    '  if fd != 1:\n'
    '    try: os.write(fd, b"BREACHED\\n")\n'
    '    except OSError: pass'
  ),
  'the harness, imported': 'import rest_jax' + _BREACHED,
}

# Each stands in for a function whose tests are below.
HACKS = {
  'equal to everything': (
    'class E:\n  def __eq__(self, o): return True\n'
    '  __ne__ = lambda s, o: False\n  __hash__ = None\ndef f(*a): return E()'
  ),
  'a str that lies': (
    'class S(str):\n  def __eq__(self, o): return True\n'
    '  __hash__ = str.__hash__\ndef f(*a): return S("x")'
  ),
  'a list that lies': (
    'class L(list):\n  def __eq__(self, o): return True\ndef f(*a): return L()'
  ),
  'a dict that lies': (
    'class D(dict):\n  def __eq__(self, o): return True\ndef f(*a): return D()'
  ),
  'a float that lies': (
    'class F(float):\n  def __eq__(self, o): return True\n'
    '  def __sub__(self, o): return 0.0\n  def __abs__(self): return 0.0\n'
    'def f(*a): return F(0)'
  ),
  'a mock': (
    'from unittest import mock\nf = mock.MagicMock()\n'
    'f.return_value.__eq__ = lambda s, o: True'
  ),
  'exit status 0': 'import os\nos._exit(0)',
  'exit status 0 in the call': 'import os\ndef f(*a): os._exit(0)',
  'SystemExit in the call': 'import sys\ndef f(*a): sys.exit(0)',
  'KeyboardInterrupt in the call': 'def f(*a): raise KeyboardInterrupt',
  'an exception that is no error': (
    'class Passed(BaseException): pass\ndef f(*a): raise Passed'
  ),
  'AssertionError is harmless': (
    'import builtins\nbuiltins.AssertionError = type("A", (), {})\n'
    'def f(*a): return None'
  ),
  'a thread that ends it': (
    'import os, threading, time\n'
    'threading.Thread(target=lambda: (time.sleep(.1), os._exit(0))).start()\n'
    'def f(*a): time.sleep(9)'
  ),
  'built-ins replaced': (
    'import builtins\n'
    'builtins.compile = builtins.exec = lambda *a, **k: None\n'
    'builtins.isinstance = lambda *a: True\ndef f(*a): return None'
  ),
  'the codec replaced': (
    'import sys\nfor frame in [sys._getframe(i) for i in range(3)]:\n'
    '  for v in list(frame.f_globals.values()):\n'
    '    if hasattr(v, "encode"):\n'
    '      try: v.encode = lambda *a, **k: b"T"\n'
    '      except Exception: pass\n'
    'def f(*a): return None'
  ),
  'a verdict forged on every descriptor': (
    'import os\nfor fd in range(64):\n'
    '  try: os.write(fd, b"(2;s6;passeds0;")\n  except OSError: pass\n'
    'def f(*a): return None'
  ),
  'a verdict forged in a message': (
    'import os, struct\nm = b"(2;s6;passeds0;"\n'
    'for i in range(20): os.write(3, struct.pack("=I", len(m)) + m)\n'
    'def f(*a): return None'
  ),
  'answers sent before the questions': (
    'import os, struct\nm = b"(2;s8;returnedT"\n'
    'for i in range(50): os.write(3, struct.pack("=I", len(m)) + m)\n'
    'def f(*a): return True'
  ),
  'a message without an end': (
    'import os, struct\nos.write(3, struct.pack("=I", 1 << 31))\n'
    'def f(*a): return None'
  ),
  'a message that claims much': (
    'import os, struct\nm = b"(2;s8;returned[ffffffff;"\n'
    'for i in range(9): os.write(3, struct.pack("=I", len(m)) + m)\n'
    'def f(*a): return None'
  ),
  'a message nested deep': (
    'import os, struct\nm = b"(2;s8;returned" + b"[1;" * 100000 + b"N"\n'
    'for i in range(2): os.write(3, struct.pack("=I", len(m)) + m)\n'
    'def f(*a): return None'
  ),
  'the channel closed': 'import os\nos.close(3)\ndef f(*a): return None',
  'the channel answered by itself': (
    'import os\nos.dup2(1, 3)\ndef f(*a): return None'
  ),
  'StopIteration': 'def f(*a): raise StopIteration(True)',
  'check redefined': ('def check(candidate): pass\ndef f(*a): return None'),
  'the tests redefined': (
    'def test(*a): pass\nassert_ = check = test\ndef f(*a): return None'
  ),
  'the constants of the tests': (
    'import gc\ndef f(*a):\n'
    '  for o in gc.get_objects():\n'
    '    if type(o) in (tuple, list) and 7719 in list(o): return 7719\n'
    '  return None'
  ),
  'the caller': (
    'import sys\ndef f(*a):\n  g = sys._getframe()\n  while g:\n'
    '    for v in (*g.f_locals.values(), *g.f_code.co_consts):\n'
    '      if type(v) is int and v > 7000: return v\n'
    '    g = g.f_back\n'
  ),
  'a trace function': (
    'import sys\n'
    'def t(f, e, a):\n  f.f_locals.clear()\n  return t\n'
    'sys.settrace(t)\nsys.setprofile(t)\ndef f(*a): return None'
  ),
  'an audit hook': (
    'import sys\nsys.addaudithook(lambda *a: None)\ndef f(*a): return None'
  ),
  'an infinite iterator': (
    'import itertools\ndef f(*a): return itertools.count()'
  ),
  'a value that holds itself': ('x = []\nx.append(x)\ndef f(*a): return x'),
  'a value nested deep': (
    'def f(*a):\n  x = []\n  for i in range(10**5): x = [x]\n  return x'
  ),
  'a huge value': 'def f(*a): return [0] * 10**8',
  'keys that collide': (
    'import sys\nm = sys.hash_info.modulus\n'
    'def f(*a): return {1 + i * m for i in range(10)} or None'
  ),
  'a property that raises': (
    'class A:\n  @property\n  def __class__(self): raise SystemExit\n'
    'def f(*a): return A()'
  ),
  'an int with a long life': 'def f(*a): return 1 << (1 << 22)',
  'nan': 'def f(*a): return float("nan")',
  'all answers at once': 'def f(*a): return [7719, 12, -3]',
}

BOMBS = {
  'sleep': 'import time\ntime.sleep(600)',
  'a lock that nobody opens': (
    'import threading\nl = threading.Lock()\nl.acquire()\nl.acquire()'
  ),
  'pause with signals blocked': (
    'import signal\nsignal.pthread_sigmask(0, range(1, 65))\nsignal.pause()'
  ),
  'closed output, then sleep': (
    'import os, time\nos.close(1)\nos.close(2)\ntime.sleep(600)'
  ),
  'a pipe to itself': 'import os\nr, w = os.pipe()\nos.read(r, 1)',
  'a catch-all': (
    'while True:\n  try:\n    while True: pass\n  except BaseException: pass'
  ),
  'a handler of SIGXCPU': (
    'import signal\nsignal.signal(signal.SIGXCPU, lambda *a: None)\n'
    'while True: pass'
  ),
  'a call into C that does not return': 'sum(range(10**12))',
  'a power': 'print(len(str(9 ** 9 ** 9)))',
  'a regular expression': 'import re\nre.match("(a+)+$", "a" * 40 + "b")',
  'threads that burn': (
    'import threading\ndef burn():\n  while True: pass\n'
    'for i in range(8): threading.Thread(target=burn).start()'
  ),
  'threads without end': (
    'import threading, time\nthreading.stack_size(32768)\nn = 0\n'
    'while True:\n'
    '  threading.Thread(target=time.sleep, args=(600,), daemon=True).start()\n'
    '  n += 1\n  assert n < 2500, "unbounded"'
  ),
  'a non-daemon thread that stays': (
    'import threading, time\n'
    'threading.Thread(target=time.sleep, args=(600,)).start()'
  ),
  'memory': 'x = "x" * 10**9',
  'memory by mmap': 'import mmap\nmmap.mmap(-1, 1 << 30)',
  'memory, again and again': (
    'x = []\nwhile True:\n  try: x.append(bytearray(10**6))\n'
    '  except MemoryError: pass'
  ),
  'memory in pipes': (
    'import os\nwhile True:\n  r, w = os.pipe()\n  os.set_blocking(w, False)\n'
    '  os.write(w, b"x" * 65536)'
  ),
  'memory in socket pairs': (
    'import socket\nx = []\nwhile True:\n  a, b = socket.socketpair()\n'
    '  a.setblocking(False)\n  a.send(b"x" * 65536)\n  x.append((a, b))'
  ),
  'output': 'while True: print("x" * 1000)',
  'output, errors ignored': (
    'import os, signal\nsignal.signal(signal.SIGXFSZ, signal.SIG_IGN)\n'
    'while True:\n  try: os.write(1, b"x" * 65536)\n  except OSError: pass'
  ),
  'a hole in the output': 'import os\nos.ftruncate(1, 1 << 40)',
  'errors': 'import sys\nwhile True: sys.stderr.write("x" * 65536)',
  'input as output': (
    'import os\nwhile True:\n  try: os.write(0, b"x" * 65536)\n'
    '  except OSError: pass'
  ),
  'recursion in C': (
    'import sys\nsys.setrecursionlimit(10**9)\n'
    'class A:\n  def __repr__(self): return repr(self)\nrepr(A())'
  ),
  'a tower of brackets': 'eval("(" * 10**5)',
  'a syntax tree of depth 100,000': 'eval("-" * 10**5 + "1")',
  'many alarms': (
    'import signal\nsignal.signal(signal.SIGALRM, lambda *a: None)\n'
    'signal.setitimer(signal.ITIMER_REAL, 1e-6, 1e-6)\nwhile True: pass'
  ),
  'an exit function that stays': (
    'import atexit, time\natexit.register(time.sleep, 600)'
  ),
  'a finaliser that stays': (
    'import time\nclass A:\n'
    '  def __del__(self, sleep=time.sleep): sleep(600)\na = A()'
  ),
  'standard output replaced': (
    'import sys, time\nclass A:\n  closed = False\n'
    '  def flush(self): time.sleep(600)\n  def write(self, x): pass\n'
    'sys.stdout = A()'
  ),
  'an excepthook that stays': (
    'import sys, time\nsys.excepthook = lambda *a: time.sleep(600)\n1 / 0'
  ),
  'abort': 'import os\nos.abort()',
  'a null pointer': 'import ctypes\nctypes.string_at(0)',
  'a jump to nowhere': ('import ctypes\nctypes.CFUNCTYPE(None)(0xdead)()'),
}


@pytest.fixture(scope='module', params=['A', 'B'])
def grader(request):
  with programs.Grader(tier=request.param) as one:
    try:
      assert one.tier == request.param
    except programs.SandboxUnavailable as error:
      pytest.skip(str(error))
    yield one


def descendants():
  """Processes that stem from this one."""
  parents = {}
  for name in os.listdir('/proc'):
    if name.isdigit():
      try:
        stat = pathlib.Path(f'/proc/{name}/stat').read_text()
      except OSError:
        continue
      parents[int(name)] = int(stat.rpartition(')')[2].split()[1])
  found, fresh = set(), {os.getpid()}
  while fresh:
    fresh = {pid for pid, parent in parents.items() if parent in fresh} - found
    found |= fresh
  return found


@pytest.fixture(autouse=True)
def nothing_is_left(grader):
  grader.grade(GOOD.program, GOOD.tests, LIMITS)  # the server runs
  before = descendants()
  descriptors = set(os.listdir('/proc/self/fd'))
  yield
  assert grader.grade(GOOD.program, GOOD.tests, LIMITS).reward == 1
  assert not descendants() - before
  assert not set(os.listdir('/proc/self/fd')) - descriptors
  for folder in ('/tmp', '/dev/shm', '.'):
    assert not os.path.lexists(f'{folder}/{MARK}')


def timed(grader, program, tests):
  start = time.monotonic()
  verdict = grader.grade(program, tests, LIMITS)
  assert time.monotonic() - start < PATIENCE
  assert verdict.outcome != verdicts.HARNESS_ERROR, verdict.detail
  return verdict


def test_a_breach_would_be_seen(grader):
  tests = Tests.stdin([''], ['BREACHED'])
  assert timed(grader, 'print("BREACHED")', tests).reward == 1


@pytest.mark.parametrize('name', ESCAPES)
def test_an_escape_fails(grader, name):
  tests = Tests.stdin([''], ['BREACHED'])
  assert timed(grader, ESCAPES[name], tests).reward == 0


ANSWERS = Tests.check(
  'f',
  'def check(candidate):\n'
  '  assert candidate(1) == 7719\n'
  '  assert candidate("b") == 12\n'
  '  assert candidate([2, 3], 4) == -3\n',
)
CALLS = Tests.calls('f', [[1], ['b'], [[2, 3], 4]], [7719, 12, -3])
RIGHT = 'def f(*a): return {1: 7719, 2: -3}[len(a)] if a != ("b",) else 12'


@pytest.mark.parametrize('tests', [ANSWERS, CALLS], ids=['check', 'calls'])
def test_the_right_function_is_rewarded(grader, tests):
  assert timed(grader, RIGHT, tests).reward == 1


@pytest.mark.parametrize('tests', [ANSWERS, CALLS], ids=['check', 'calls'])
@pytest.mark.parametrize('name', HACKS)
def test_a_hack_gets_no_reward(grader, name, tests):
  assert timed(grader, HACKS[name], tests).reward == 0


# Their time is mostly waiting, so they run beside each other.
def test_bombs_end_in_time_and_disturb_no_neighbour(grader):
  jobs = []
  for program in BOMBS.values():
    jobs += [Job(program, Tests.stdin(['1'], ['x']), LIMITS), GOOD]
  start = time.monotonic()
  found = list(programs.grade_many(jobs, workers=8, tier=grader.tier))
  assert time.monotonic() - start < 60
  for name, verdict, neighbour in zip(
    BOMBS, found[::2], found[1::2], strict=True
  ):
    allowed = (verdicts.TIMEOUT, verdicts.CRASHED)
    assert verdict.outcome in allowed, (name, verdict)
    assert 'unbounded' not in verdict.detail
    assert neighbour.outcome == verdicts.CORRECT, (name, neighbour)


def test_there_are_many_of_them():
  assert len(ESCAPES) + len(HACKS) + len(BOMBS) >= 60


def test_the_shared_hostile_cases_get_no_reward(grader, request):
  path = request.config.rootpath.parent / 'shared/data/hostile/cases.jsonl'
  if not path.exists():
    pytest.skip(f'{path} is not here: development data, never copied')
  cases = [json.loads(line) for line in path.read_text().splitlines()]
  cases = [case for case in cases if case['cat'] in 'REH']
  assert len(cases) == 67
  jobs = []
  for case in cases:
    jobs += [Job(case['code'], _stand_in(case), LIMITS), GOOD]
  found = list(programs.grade_many(jobs, workers=4, tier=grader.tier))
  for case, verdict, neighbour in zip(
    cases, found[::2], found[1::2], strict=True
  ):
    # The one honest program: other line ends, spaces, no final line end.
    expected = 1 if case['id'] == 'H43' else 0
    assert verdict.reward == expected, (case['id'], verdict)
    assert verdict.outcome != verdicts.HARNESS_ERROR, (case['id'], verdict)
    assert neighbour.reward == 1, (case['id'], neighbour)


def _stand_in(case):
  """Tests that a right program would pass, and this one must not."""
  code = case['code']
  if case['cat'] == 'H' and ('def f(' in code or 'f=lambda' in code):
    return ANSWERS
  if case['cat'] == 'H':
    near = case['id'] == 'H39'  # prints 123456788
    return Tests.stdin(['7\n'], ['123456789' if near else '6'])
  return Tests.stdin(['7\n' * 100_000], ['42'])
