"""What the forked child does: limits, the filter, then the program.

From here on everything belongs to the candidate, this module's own objects
too. Nothing that decides about it is in this process.
"""

import atexit
import builtins
import fcntl
import os
import resource
import signal
import sys
import types
import typing

from rest_jax.rewards.code.sandbox import (
  candidate,
  codec,
  judge,
  kernel,
  protocol,
  seccomp,
)

_OPEN_FILES = 64
_STACK = 64 << 20  # soft; the hard limit stays, and memory is limited anyway
_FILE_NAME = 'solution.py'
_STANDARD = {
  **dict.fromkeys(('/dev/stdin', '/dev/fd/0', '/proc/self/fd/0'), 0),
  **dict.fromkeys(('/dev/stdout', '/dev/fd/1', '/proc/self/fd/1'), 1),
  **dict.fromkeys(('/dev/stderr', '/dev/fd/2', '/proc/self/fd/2'), 2),
}


class Settings(typing.NamedTuple):
  """What every child starts from.

  Attributes:
    prelude: names for programs that a judge would have imported.
    filter: of system calls, ready to be installed.
    tasks: RLIMIT_NPROC.
    server: the server's process number.
  """

  prelude: dict[str, object]
  filter: seccomp.Filter
  tasks: int
  server: int


def main(
  settings: Settings,
  descriptors: list[int],
  cpu: float,
  memory: int,
  file_bytes: int,
) -> None:
  """Runs one payload; never returns."""
  status = 1
  try:
    task, source, *rest = _prepare(
      settings, descriptors, cpu, memory, file_bytes
    )
  except BaseException:
    os._exit(1)  # its payload still stands, which says that it never began
  try:
    if task == protocol.PROGRAM:
      status = _run(source, settings.prelude, '__main__')
    elif task == protocol.JUDGE:
      judge.run(source, *rest)
      status = 0
    else:
      status = _answer(task, source, settings.prelude, *rest)
  except BaseException:
    pass
  finally:
    os._exit(status)


def _prepare(
  settings: Settings,
  descriptors: list[int],
  cpu: float,
  memory: int,
  file_bytes: int,
) -> list:
  kernel.prctl(kernel.PR_SET_PDEATHSIG, signal.SIGKILL)
  if os.getppid() != settings.server:
    os._exit(1)  # the server ended before the line above
  payload = codec.decode(_contents(descriptors[0]), depth=codec.SENT_DEPTH)
  # Out of the way of the numbers that they get.
  given, *spare = [fcntl.fcntl(one, fcntl.F_DUPFD, 32) for one in descriptors]
  for target, descriptor in enumerate(spare):
    os.dup2(descriptor, target)
  os.closerange(len(spare), given)
  os.closerange(given + 1, 1 << 20)
  os.setpgid(0, 0)
  # Behind the server's own look at the clock: a second line, for programs
  # with many threads. The kernel counts it in ticks, so not to the point.
  seconds = int(cpu * 1.1) + 1
  limits = (
    (resource.RLIMIT_CPU, seconds, seconds),
    (resource.RLIMIT_AS, memory, memory),
    (resource.RLIMIT_FSIZE, file_bytes, file_bytes),
    (resource.RLIMIT_NOFILE, _OPEN_FILES, _OPEN_FILES),
    (resource.RLIMIT_NPROC, settings.tasks, settings.tasks),
  )
  for which, soft, hard in limits:
    present = resource.getrlimit(which)[1]
    if present != resource.RLIM_INFINITY:
      soft, hard = min(soft, present), min(hard, present)
    resource.setrlimit(which, (soft, hard))
  hard = resource.getrlimit(resource.RLIMIT_STACK)[1]
  soft = _STACK if hard == resource.RLIM_INFINITY else min(_STACK, hard)
  resource.setrlimit(resource.RLIMIT_STACK, (soft, hard))
  signal.signal(signal.SIGXFSZ, signal.SIG_DFL)  # too much output ends it
  settings.filter.install()
  # The last step: from here on, however it ends is the program's own doing.
  os.ftruncate(given, 0)
  os.close(given)
  return list(payload)


def _contents(descriptor: int) -> bytes:
  size = os.fstat(descriptor).st_size
  data = bytearray()
  while len(data) < size:
    data += os.pread(descriptor, size - len(data), len(data))
  return bytes(data)


def _run(source: str, names: dict[str, object], name: str) -> int:
  """Runs source as the interpreter runs a script; returns its exit status."""
  space = _namespace(names, name)
  try:
    _execute(source, space)
    status = 0
  except SystemExit as error:
    status = _exit_status(error)
  except BaseException as error:
    _print_error(error)
    status = 1
  return _finish(status, space)


def _namespace(names: dict[str, object], name: str) -> dict:
  module = types.ModuleType(name)
  module.__file__ = _FILE_NAME
  module.__dict__.update(names)
  sys.modules[name] = module
  return module.__dict__


def _execute(source: str, space: dict) -> None:
  if '/dev/' in source or '/proc/self' in source:
    builtins.open = _open_standard(builtins.open)
  exec(compile(source, _FILE_NAME, 'exec', dont_inherit=True), space)


def _open_standard(original):
  """open() that knows /dev/stdin, which no file tree here holds."""

  def open(file, *arguments, **keywords):
    if isinstance(file, str) and file in _STANDARD:
      file = os.dup(_STANDARD[file])
    return original(file, *arguments, **keywords)

  return open


def _answer(task: str, source: str, names: dict[str, object], *rest) -> int:
  """Loads source as a module, then lets others call it."""
  try:
    space = _namespace(names if rest[-1] else {}, 'solution')
    _execute(source, space)
    if task == protocol.CALL:
      candidate.call(space, *rest[:-1])
    else:
      candidate.serve(space)
    return 0
  except SystemExit as error:
    return _exit_status(error) or 1  # before it had answered everything
  except BaseException as error:
    _print_error(error)
    return 1


def _exit_status(error: SystemExit) -> int:
  if error.code is None:
    return 0
  if isinstance(error.code, int):
    return error.code & 0xFF
  print(error.code, file=sys.stderr)
  return 1


def _print_error(error: BaseException) -> None:
  try:
    trace = error.__traceback__
    while trace and trace.tb_frame.f_code.co_filename != _FILE_NAME:
      trace = trace.tb_next  # our own frames say nothing about the program
    sys.excepthook(type(error), error.with_traceback(trace), trace)
  except BaseException:
    pass


def _finish(status: int, space: dict) -> int:
  """Waits for threads, runs exit functions, flushes, as the interpreter."""
  try:
    sys.modules['threading']._shutdown()
    atexit._run_exitfuncs()
  except BaseException:
    status = status or 1
  # A file that the program opened is flushed when it goes, with the last name.
  sys.modules.pop('__main__', None)
  for flush in (
    lambda: sys.stdout.flush(),
    lambda: sys.__stdout__.flush(),
    lambda: sys.stderr.flush(),
    space.clear,
  ):
    try:
      flush()
    except (AttributeError, ValueError):
      pass  # the program closed it, or put something else there
    except BaseException:
      status = status or 120  # as the interpreter
  return status
