"""The trusted side: starts a fork-server, hands it programs, reads what comes.

Inputs and outputs are files in memory, so nothing has to be fed or drained
while a program runs, and nothing can block or grow beyond its limit.
"""

import contextlib
import os
import pathlib
import select
import signal
import socket
import struct
import subprocess
import threading
import time

from rest_jax.rewards.code.sandbox import interpreters, probe, protocol
from rest_jax.rewards.code.sandbox.executions import Ended, Files, Limits, Task

TIERS = ('A', 'B')
_JOBS_PER_SERVER = 2000  # cheap insurance against whatever might pile up
_START_SECONDS = 60.0
_GRACE = 2.0  # wall seconds on top
_WALL = 3.0  # wall seconds per CPU second, for a program that sleeps
_CEILING = 40.0  # the same, for one that is starved of the processor
_LOST_SECONDS = 15.0  # beyond all that, the server is taken for dead
SETUP_FAILED = -signal.SIGUSR2  # a process that could not be prepared
_START = (
  'import sys; sys.path.append({root!r}); '
  'from rest_jax.rewards.code.sandbox import server; server.main()'
)
_ROOT = str(pathlib.Path(__file__).resolve().parents[4])


class SandboxUnavailable(RuntimeError):
  """No tier holds on this machine; nothing may run."""


class ServerLost(RuntimeError):
  """The fork-server ended, or does not answer."""


class Sandbox:
  """Runs programs in one server after another; a context manager.

  Args:
    tier: 'A', 'B', or None for the first that holds here.
    numpy: whether programs find numpy, where it is installed.
    python: the interpreter; None for a fitting one, see interpreters.py.

  Raises:
    SandboxUnavailable: on first use, saying what each tier lacked.
  """

  def __init__(
    self,
    *,
    tier: str | None = None,
    numpy: bool = False,
    python: str | None = None,
  ):
    if tier not in (None, *TIERS):
      raise ValueError(f'tier: got {tier!r}; allowed: {TIERS} or None.')
    self._tiers = (tier,) if tier else TIERS
    self._numpy = numpy
    self._python = python
    self._server: _Server | None = None
    self._jobs = 0
    self._lock = threading.Lock()

  def __enter__(self) -> 'Sandbox':
    return self

  def __exit__(self, *_) -> None:
    self.close()

  def close(self) -> None:
    """Ends the server and all that it runs."""
    if self._server:
      self._server.close()
      self._server = None

  @property
  def tier(self) -> str:
    """The tier that holds here; starts the server."""
    with self._lock:
      return self._ready().tier

  def run(self, *tasks: Task, until: int | None = None) -> list[Ended]:
    """Runs tasks beside each other; returns when all have ended.

    Args:
      *tasks: one, or two that talk to each other.
      until: the task whose end ends the others.

    Raises:
      ServerLost: the server died; it is replaced at the next call.
      SandboxUnavailable: no tier holds.
    """
    with self._lock:
      if self._jobs >= _JOBS_PER_SERVER:
        self.close()
      server = self._ready()
      self._jobs += 1
      try:
        return server.run(tasks, until)
      except BaseException as error:
        self.close()  # whatever still runs there must not go on
        if isinstance(error, OSError):
          raise ServerLost(str(error)) from error
        raise

  def _ready(self) -> '_Server':
    if self._server is None:
      reasons = []
      for tier in self._tiers:
        try:
          self._server = _Server(tier, self._numpy, self._python)
          break
        except (OSError, SandboxUnavailable) as error:
          reasons.append(f'tier {tier}: {error}')
      else:
        raise SandboxUnavailable(
          f'no sandbox for programs: {"; ".join(reasons)}. Tier A needs user '
          'namespaces (or root with CAP_SYS_ADMIN), tier B none; both need '
          'Linux 5.13 or newer on x86-64 or aarch64 with Landlock and seccomp '
          'allowed. docs/sandbox.md says how to allow them.'
        )
      self._tiers = (self._server.tier,)  # never another one later
      self._jobs = 0
    return self._server


class _Server:
  """One fork-server process."""

  def __init__(self, tier: str, numpy: bool, python: str | None):
    self.tier = tier
    self._number = 0
    python = python or interpreters.interpreter(tier)
    folder = interpreters.numpy_folder(python) if numpy else ''
    packages = [
      os.path.join(folder, name) for name in ('numpy', 'numpy.libs') if folder
    ]
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    self._socket = ours
    with theirs:
      self._process = subprocess.Popen(
        [
          python,
          *('-S', '-s', '-P', '-B', '-W', 'ignore', '-c'),
          _START.format(root=_ROOT),
          *(str(theirs.fileno()), tier, folder, *packages),
        ],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        cwd='/',
        env=_ENVIRONMENT,
        pass_fds=[theirs.fileno()],
      )
    try:
      message = self._receive(time.monotonic() + _START_SECONDS)
      if not message.startswith(b'ready'):
        raise SandboxUnavailable(
          message.decode(errors='replace').removeprefix('failed ')
          or 'the server ended before it was ready'
        )
      self._probe()
    except BaseException:
      self.close()
      raise

  def _probe(self) -> None:
    with probe.Canary() as path:
      payload = [protocol.PROGRAM, probe.program(path)]
      (ended,) = self.run((Task(payload, Limits(), stdout=True),), None)
    breach = probe.breach(ended.stdout)
    if ended.code or breach:
      raise SandboxUnavailable(
        f'a test program ended with {ended.code} and could: {breach}; '
        f'{ended.stderr[-300:].decode(errors="replace")}'
      )

  def close(self) -> None:
    self._socket.close()  # its end, and its children's
    try:
      self._process.wait(5.0)
    except subprocess.TimeoutExpired:
      self._process.kill()
      self._process.wait()

  def run(self, tasks: tuple[Task, ...], until: int | None) -> list[Ended]:
    with contextlib.ExitStack() as stack:
      files = [Files(task, stack) for task in tasks]
      first, last = self._number, 0.0
      for task, one in zip(tasks, files, strict=True):
        seconds = self._spawn(task, one)
        last = max(last, time.monotonic() + seconds)
      for task in tasks:
        if task.channel:
          task.channel.close()  # now only the two processes hold it
      reports: dict[int, tuple] = {}
      while len(reports) < len(tasks):
        message = self._receive(last + _LOST_SECONDS)
        if len(message) != protocol.REPORT.size:
          raise ServerLost('the server ended')
        number, *report = protocol.REPORT.unpack(message)
        reports[number - first] = report
        if number - first == until:
          for other in range(len(tasks)):
            if other not in reports:
              self._kill(first + other)
      return [files[i].ended(*reports[i]) for i in range(len(tasks))]

  def _spawn(self, task: Task, files: 'Files') -> float:
    """Asks for one process; returns the longest that it may take."""
    limits = task.limits
    ceiling = limits.cpu_seconds * _CEILING + _GRACE
    wall = limits.cpu_seconds * _WALL + _GRACE
    if task.patient:
      wall = ceiling = ceiling + _GRACE
    request = protocol.REQUEST.pack(
      protocol.SPAWN,
      self._number,
      limits.cpu_seconds,
      wall,
      ceiling,
      int(limits.memory_bytes),
      int(limits.output_bytes),
    )
    self._number += 1
    rights = struct.pack(f'={len(files.passed)}i', *files.passed)
    ancillary = [(socket.SOL_SOCKET, socket.SCM_RIGHTS, rights)]
    self._socket.sendmsg([request], ancillary)
    return ceiling

  def _kill(self, number: int) -> None:
    zeros = (0.0, 0.0, 0.0, 0, 0)
    self._socket.send(protocol.REQUEST.pack(protocol.KILL, number, *zeros))

  def _receive(self, deadline: float) -> bytes:
    poll = select.poll()
    poll.register(self._socket, select.POLLIN)
    left = max(0.0, deadline - time.monotonic())
    if not poll.poll(left * 1000):
      raise ServerLost('the server does not answer')
    return self._socket.recv(4096)


# Explicit: a candidate can print it.
_ENVIRONMENT = {
  'LANG': 'C.UTF-8',
  'PATH': '/usr/bin:/bin',
  'PYTHONHASHSEED': '0',  # the same order of sets each time
  'PYTHONINTMAXSTRDIGITS': '0',  # programs that print large numbers are right
  'PYTHONUTF8': '1',
  'OPENBLAS_NUM_THREADS': '1',  # a server that forks has one thread
  'OMP_NUM_THREADS': '1',
  'MKL_NUM_THREADS': '1',
}
