"""Gives up what the server may do beyond an ordinary user, and checks it.

A server that root starts becomes a user of its own, one that no other server
on the machine has: RLIMIT_NPROC does not bind user 0, and it counts all
threads of a user, so servers that share a user would take threads from each
other.
"""

import os
import re
import resource
import socket
import struct

from rest_jax.rewards.code.sandbox import kernel

# systemd keeps these for users that exist only while a service runs.
_FIRST_USER, _LAST_USER = 61184, 65519
_CAPABILITY_VERSION = 0x20080522
_OWN_TASKS = 160  # processes and threads of a server and its programs
_SHARED_TASKS = 2048  # above those the user had when the server started


def claim_user() -> tuple[int, socket.socket]:
  """A user number that no other server here has.

  Each server holds an abstract Unix socket whose name holds its user; the
  kernel gives a name to one process only, and frees it when that one ends. The
  search starts at random, since servers of other network namespaces do not see
  the name. It must come before this process enters a namespace of its own.

  Returns:
    (the user, the socket to keep open while the server runs).

  Raises:
    OSError: all of them are taken.
  """
  count = _LAST_USER - _FIRST_USER + 1
  start = int.from_bytes(os.urandom(4), 'little')
  for step in range(count):
    user = _FIRST_USER + (start + step) % count
    claim = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
    try:
      claim.bind(f'\0rest_jax sandbox user {user}')
      return user, claim
    except OSError:
      claim.close()
  raise OSError(f'all users from {_FIRST_USER} to {_LAST_USER} are taken')


def become(user: int) -> None:
  """Root becomes another user, for good, without groups."""
  os.setgroups([])
  os.setresgid(user, user, user)
  os.setresuid(user, user, user)


def drop() -> None:
  """Leaves no capability, no way to gain one, and nothing to trace.

  Raises:
    OSError: something is left.
  """
  kernel.prctl(kernel.PR_SET_NO_NEW_PRIVS, 1)
  header = struct.pack('=Ii', _CAPABILITY_VERSION, 0)
  kernel.syscall('capset', header, bytes(24))
  found = kernel.buffer(24)
  kernel.syscall('capget', header, found)
  if any(found.raw) or 0 in os.getresuid() + os.getresgid():
    raise OSError('capabilities, or user or group 0, are left after the drop')
  kernel.prctl(kernel.PR_SET_DUMPABLE, 0)


def limit_server() -> None:
  """Limits that are the same for every program, set once."""
  resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
  resource.setrlimit(resource.RLIMIT_MEMLOCK, (0, 0))
  resource.setrlimit(resource.RLIMIT_MSGQUEUE, (0, 0))


def counts_per_namespace() -> bool:
  """Whether RLIMIT_NPROC counts within a user namespace: Linux 5.14, newer."""
  found = re.match(r'(\d+)\.(\d+)', os.uname().release)
  return found is not None and (int(found[1]), int(found[2])) >= (5, 14)


def task_limit(counted_alone: bool) -> int:
  """How many processes and threads RLIMIT_NPROC should allow a program.

  Args:
    counted_alone: whether the user, or its namespace, is this server's only;
      else all that the user runs is counted, on the whole machine.
  """
  if counted_alone:
    return _OWN_TASKS
  return _tasks_of(os.getuid()) + _SHARED_TASKS


def _tasks_of(user: int) -> int:
  total = 0
  for name in os.listdir('/proc'):
    if not name.isdigit():
      continue
    try:
      if os.stat(f'/proc/{name}').st_uid == user:
        total += len(os.listdir(f'/proc/{name}/task'))
    except OSError:
      continue  # it ended meanwhile
  return total
