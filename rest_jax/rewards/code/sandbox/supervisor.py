"""The trusted side: starts a fork-server, hands it programs, reads what comes.

Inputs and outputs are files in memory, so nothing has to be fed or drained
while a program runs, and nothing can block or grow beyond its limit.
"""

import contextlib
import os
import pathlib
import select
import socket
import subprocess
import threading
import time

from rest_jax.rewards.code.sandbox import (
  interpreters,
  probe,
  protocol,
  starvation,
)
from rest_jax.rewards.code.sandbox.executions import (
  Ended,
  Execution,
  Files,
  Limits,
)

TIERS = ('A', 'B')
_JOBS_PER_SERVER = 2000  # cheap insurance against whatever might pile up
_START_SECONDS = 60.0
_GRACE = 2.0  # wall seconds on top
_WALL = 3.0  # wall seconds of sleep per CPU second
_LOST_SECONDS = 60.0  # without a word when one is due: the server is dead
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

  def run(
    self, *executions: Execution, until: int | None = None
  ) -> list[Ended]:
    """Runs programs beside each other; returns when all have ended.

    Args:
      *executions: one, or two that talk to each other.
      until: the place among them of the one whose end ends the others.

    Returns:
      How each ended, in their order.

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
        return server.run(executions, until)
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
      message, _ = self._receive(time.monotonic() + _START_SECONDS)
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
      (ended,) = self.run((Execution(payload, Limits(), stdout=True),), None)
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

  def run(
    self, executions: tuple[Execution, ...], until: int | None
  ) -> list[Ended]:
    with contextlib.ExitStack() as stack:
      files = [Files(one, stack) for one in executions]
      first, patience = self._number, 0.0
      walls = []
      for one, given in zip(executions, files, strict=True):
        walls.append(self._spawn(one, given))
        patience = max(patience, walls[-1])
      for one in executions:
        if one.channel:
          one.channel.close()  # now only the two processes hold it
      deadline = time.monotonic() + patience + _LOST_SECONDS
      reports: dict[int, tuple] = {}
      while len(reports) < len(executions):
        message, pidfds = self._receive(deadline)
        if len(message) == protocol.QUESTION.size:
          deadline = time.monotonic() + _LOST_SECONDS
          number, *state = protocol.QUESTION.unpack(message)
          if starvation.asleep(*state, pidfds, walls[number - first]):
            self._order(protocol.KILL_ASLEEP, number)
          continue
        if len(message) != protocol.REPORT.size:
          raise ServerLost('the server ended')
        number, *report = protocol.REPORT.unpack(message)
        reports[number - first] = report
        if number - first == until:
          for other in range(len(executions)):
            if other not in reports:
              self._order(protocol.KILL, first + other)
      return [files[i].ended(*reports[i]) for i in range(len(executions))]

  def _spawn(self, execution: Execution, files: Files) -> float:
    """Asks for one process; returns the seconds that it may be asleep."""
    limits = execution.limits
    wall = limits.cpu_seconds * _WALL + _GRACE
    if execution.patient:
      wall += 2 * _GRACE  # so that the one it waits for is ended first
    request = protocol.REQUEST.pack(
      protocol.SPAWN,
      self._number,
      limits.cpu_seconds,
      wall,
      int(limits.memory_bytes),
      int(limits.output_bytes),
    )
    self._number += 1
    socket.send_fds(self._socket, [request], files.passed)
    return wall

  def _order(self, kind: int, number: int) -> None:
    self._socket.send(protocol.REQUEST.pack(kind, number, 0.0, 0.0, 0, 0))

  def _receive(self, deadline: float) -> tuple[bytes, list[int]]:
    """(the server's next message, the descriptors beside it)."""
    poll = select.poll()
    poll.register(self._socket, select.POLLIN)
    left = max(0.0, deadline - time.monotonic())
    if not poll.poll(left * 1000):
      raise ServerLost('the server does not answer')
    message, descriptors, _, _ = socket.recv_fds(
      self._socket, 4096, protocol.MOST_DESCRIPTORS
    )
    return message, descriptors


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
