"""The fork-server: starts a program per request, and says how it ended.

A new interpreter, never a fork of the caller (which may hold threads, a TPU,
tests). It imports what programs import anyway, walls itself in for good, and
then forks: the child gets descriptors that the server never reads. It has one
thread, keeps nothing of a program, and ends when its caller does.

Run as:
  python -c 'from rest_jax.rewards.code.sandbox import server; server.main()'
with the socket's descriptor, the tier and the folders of packages as
arguments.
"""

import gc
import os
import select
import signal
import socket
import sys
import time

from rest_jax.rewards.code.sandbox import (
  child,
  kernel,
  landlock,
  namespaces,
  privileges,
  protocol,
  runtime,
  seccomp,
)

_WINDOW = 4.0  # seconds over which a share of a core is measured, or more
_MARGIN = 0.02  # seconds
_ASK_SECONDS = 1.0  # between two questions about one process


def main() -> None:
  """Walls itself in, says 'ready', serves; ends with its caller."""
  descriptor, tier, numpy_folder, *packages = sys.argv[1:]
  control = socket.socket(fileno=int(descriptor))
  try:
    settings, _claim = _prepare(tier, numpy_folder, packages)
  except Exception as error:  # said to the caller, who tries the next tier
    control.send(f'failed {error}'.encode()[:2000])
    raise SystemExit(1) from None
  control.send(f'ready {os.getuid()} {settings.tasks}'.encode())
  _Server(control, settings).serve()


def _prepare(
  tier: str, numpy_folder: str, packages: list[str]
) -> tuple[child.Settings, socket.socket | None]:
  """The settings of every child, and what keeps the user's number ours."""
  if not kernel.supported():
    raise OSError(f'no filter for {kernel.MACHINE}; known: x86_64, aarch64')
  names = runtime.prelude()
  if numpy_folder:
    names['np'] = names['numpy'] = runtime.import_numpy(numpy_folder)
  paths = runtime.paths(packages)
  user, claim = privileges.claim_user() if os.getuid() == 0 else (None, None)
  privileges.limit_server()
  alone = user is not None or (
    tier == 'A' and privileges.counts_per_namespace()
  )
  if tier == 'A':
    namespaces.enter(list(paths), user)
  elif user is not None:
    privileges.become(user)
  tasks = privileges.task_limit(counted_alone=alone)
  os.chdir('/')
  privileges.drop()
  landlock.restrict(paths)
  _forget_the_checkout()
  return child.Settings(names, seccomp.Filter(), tasks, os.getpid()), claim


def _forget_the_checkout() -> None:
  """Programs find the standard library, and not us."""
  sys.path.remove(os.path.abspath(__file__).rsplit('/rest_jax/', 1)[0])
  for name in [name for name in sys.modules if name.startswith('rest_jax')]:
    del sys.modules[name]
  sys.argv[:] = ['solution.py']
  sys.path_importer_cache.clear()


class _Child:
  """A program that runs, and when to look at it again."""

  def __init__(self, number: int, pid: int, cpu: float, wall: float):
    self.number = number
    self.pid = pid
    self.killed = 0
    self._cpu = cpu
    self._wall = wall
    self._start = time.monotonic()
    # Two times, the last at least a window ago, and what was used by then.
    self._checkpoints = [(self._start, 0.0)] * 2
    self.deadline = self._start + min(cpu, wall) + _MARGIN

  def kill(self, reason: int) -> None:
    self.killed = self.killed or reason
    self.deadline = float('inf')
    os.kill(self.pid, signal.SIGKILL)

  def age(self, now: float) -> float:
    return now - self._start

  def used(self) -> float:
    """CPU seconds, by the kernel's own clock of the process."""
    return time.clock_gettime((~self.pid << 3) | 2)

  def share(self, now: float, used: float) -> float:
    """The share of a core that it had lately."""
    since, before = self._checkpoints[0]
    if now - self._checkpoints[1][0] >= _WINDOW:
      self._checkpoints = [self._checkpoints[1], (now, used)]
    return (used - before) / max(now - since, _MARGIN)

  def look(self, now: float) -> bool:
    """Kills it if it has had its CPU time.

    Returns:
      Whether it is past its wall limit: the supervisor is to say whether it
      was asleep or waited for a processor, which cannot be seen from inside.
    """
    left = self._cpu - self.used()
    if left < 0:
      self.kill(protocol.KILLED_BY_CPU)
      return False
    past = self.age(now) >= self._wall
    # With one thread it cannot reach its CPU limit before that.
    self.deadline = now + left + _MARGIN
    limit = now + _ASK_SECONDS if past else self._start + self._wall + _MARGIN
    self.deadline = min(self.deadline, limit)
    return past


class _Server:
  """The loop over requests, ends and deadlines."""

  def __init__(self, control: socket.socket, settings: child.Settings):
    self._control = control
    self._settings = settings
    self._children: dict[int, _Child] = {}  # by the descriptor of its end
    self._poll = select.poll()
    self._poll.register(control, select.POLLIN)

  def serve(self) -> None:
    gc.collect()
    gc.freeze()  # a child's collection must not copy our pages
    while True:
      for descriptor, _ in self._poll.poll(self._patience()):
        if descriptor == self._control.fileno():
          if not self._heed():
            self._end()
        else:
          self._report(descriptor)
      now = time.monotonic()
      for one in list(self._children.values()):
        if one.deadline <= now and one.look(now):
          self._ask(one, now)

  def _patience(self) -> float | None:
    deadlines = [one.deadline for one in self._children.values()]
    soonest = min(deadlines, default=float('inf'))
    if soonest == float('inf'):
      return None
    return max(0.0, soonest - time.monotonic()) * 1000 + 1

  def _heed(self) -> bool:
    message, descriptors, _, _ = socket.recv_fds(
      self._control, protocol.REQUEST.size, protocol.MOST_DESCRIPTORS
    )
    if not message:
      return False
    kind, number, *limits = protocol.REQUEST.unpack(message)
    if kind != protocol.SPAWN:
      asleep = kind == protocol.KILL_ASLEEP
      for one in self._children.values():
        if one.number == number:
          one.kill(
            protocol.KILLED_BY_WALL if asleep else protocol.KILLED_BY_REQUEST
          )
      return True
    cpu, wall, memory, file_bytes = limits
    pid = os.fork()
    if not pid:
      child.main(self._settings, descriptors, cpu, memory, file_bytes)
    end = os.pidfd_open(pid)
    self._children[end] = _Child(number, pid, cpu, wall)
    self._poll.register(end, select.POLLIN)
    for descriptor in descriptors:
      os.close(descriptor)
    return True

  def _ask(self, one: _Child, now: float) -> None:
    """Asks whether a process past its wall limit, and all beside it, slept."""
    used = {other: other.used() for other in self._children.values()}
    share = sum(other.share(now, used[other]) for other in used)
    question = protocol.QUESTION.pack(
      one.number, one.age(now), sum(used.values()), share
    )
    socket.send_fds(self._control, [question], list(self._children))

  def _report(self, descriptor: int) -> None:
    one = self._children.pop(descriptor)
    self._poll.unregister(descriptor)
    os.close(descriptor)
    _, status, usage = os.wait4(one.pid, 0)
    seconds = usage.ru_utime + usage.ru_stime
    self._control.send(
      protocol.REPORT.pack(
        one.number, status, seconds, usage.ru_maxrss, one.killed
      )
    )

  def _end(self) -> None:
    for one in self._children.values():
      os.kill(one.pid, signal.SIGKILL)
    for one in self._children.values():
      os.waitpid(one.pid, 0)
    os._exit(0)
