"""One execution: its limits, the files it is given, and how it ended."""

import contextlib
import dataclasses
import os
import socket

from rest_jax.rewards.code.sandbox import codec

CHECK_SHARE = 3.0  # CPU time of a check, over that of one test
_LAST_ERRORS = 2000  # bytes of standard error that are kept


@dataclasses.dataclass(frozen=True, kw_only=True)
class Limits:
  """What one execution may take.

  Attributes:
    cpu_seconds: of processor time; the wall clock is only a loose backstop.
      A check, which makes all its calls in one process, gets CHECK_SHARE
      times as much.
    memory_bytes: of address space.
    output_bytes: of each of standard output and standard error, and of a
      value that is returned.
  """

  cpu_seconds: float = 4.0
  memory_bytes: int = 1 << 30
  output_bytes: int = 16 << 20

  def __post_init__(self):
    for name, low, high in (
      ('cpu_seconds', 0.1, 3600.0),
      ('memory_bytes', 64 << 20, 1 << 40),
      ('output_bytes', 1 << 10, codec.MAX_BYTES),
    ):
      value = getattr(self, name)
      if isinstance(value, bool) or not isinstance(value, (int, float)):
        raise ValueError(f'Limits.{name}: got {value!r}; allowed: a number.')
      if not low <= value <= high:
        raise ValueError(
          f'Limits.{name}: got {value}; allowed: {low:g} to {high:g}.'
        )


@dataclasses.dataclass(frozen=True, slots=True)
class Execution:
  """One process to run.

  Attributes:
    payload: what it is to do, see protocol.
    stdin: its standard input.
    stdout: whether its standard output is kept.
    channel: a socket to another process, for protocol.CHANNEL_FD.
    result: whether it gets a file for its result.
    limits: what it may take.
    patient: whether it waits for another process, which has its own limits.
  """

  payload: list
  limits: Limits
  stdin: bytes = b''
  stdout: bool = False
  channel: socket.socket | None = None
  result: bool = False
  patient: bool = False


@dataclasses.dataclass(frozen=True, slots=True)
class Ended:
  """How a process ended.

  Attributes:
    code: exit status; minus the signal's number where one ended it.
    cpu_seconds: processor time, of user and system.
    peak_bytes: of resident memory.
    killed: 0, or why the server did it, see protocol.
    started: whether the process was prepared and its program began. The child
      empties its payload's file then and closes it, so a program cannot
      undo it.
    stdout: what it wrote, where it was kept.
    stderr: the last part of what it wrote there.
    result: what it wrote to its result.
  """

  code: int
  cpu_seconds: float
  peak_bytes: int
  killed: int
  started: bool
  stdout: bytes | bytearray
  stderr: bytes | bytearray
  result: bytes | bytearray


class Files:
  """The files in memory that a process is given.

  Attributes:
    passed: their descriptors, in the order that server.py expects.
  """

  def __init__(self, execution: Execution, stack: contextlib.ExitStack):
    """Args:
    execution: what is to run.
    stack: closes the files.

    Raises:
      codec.CodecError: the payload cannot be encoded.
    """
    self._stack = stack
    null = os.open(os.devnull, os.O_RDWR | os.O_CLOEXEC)
    stack.callback(os.close, null)
    self._keeps = execution.stdout
    self._limit = int(execution.limits.output_bytes)
    self._stdout = self._file() if execution.stdout else null
    self._stderr = self._file()
    self._result = self._file() if execution.result else None
    self._payload = self._file(codec.encode(execution.payload))
    self.passed = [
      self._payload,
      self._file(execution.stdin) if execution.stdin else null,
      self._stdout,
      self._stderr,
    ]
    if execution.channel:
      self.passed.append(execution.channel.fileno())
    if self._result is not None:
      self.passed.append(self._result)

  def ended(self, status: int, seconds: float, peak: int, killed: int) -> Ended:
    """What a process left, as the server reports its end."""
    return Ended(
      code=os.waitstatus_to_exitcode(status),
      cpu_seconds=seconds,
      peak_bytes=peak << 10,
      killed=killed,
      started=os.fstat(self._payload).st_size == 0,
      stdout=self._read(self._stdout) if self._keeps else b'',
      stderr=self._read(self._stderr, last=_LAST_ERRORS),
      result=b'' if self._result is None else self._read(self._result),
    )

  def _file(self, content: bytes = b'') -> int:
    handle = os.memfd_create('sandbox')
    self._stack.callback(os.close, handle)
    for start in range(0, len(content), 1 << 20):
      os.pwrite(handle, content[start : start + (1 << 20)], start)
    return handle

  def _read(self, handle: int, *, last: int | None = None) -> bytearray:
    """A file's start, or its last bytes; not copied, it may be 16 MB.

    Never more than the limit, though the process cannot have written more: a
    hole of a terabyte must not become memory here, whatever else fails.
    """
    size = os.fstat(handle).st_size
    start = 0 if last is None else max(0, size - last)
    wanted = min(size - start, self._limit)
    data = bytearray()
    while len(data) < wanted:
      part = os.pread(
        handle, min(wanted - len(data), 1 << 20), start + len(data)
      )
      if not part:
        break
      data += part
    return data
