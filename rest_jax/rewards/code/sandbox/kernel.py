"""The system calls that Python's standard library has no name for.

One ctypes handle for all of them. os.unshare exists from Python 3.12 on only;
going through ctypes everywhere leaves one path to test.
"""

import ctypes
import os

MACHINE = os.uname().machine
# Numbers that differ: (x86-64, aarch64).
_NUMBERS = {
  'capget': (125, 90),
  'capset': (126, 91),
  'pivot_root': (155, 41),
  'mount_setattr': (442, 442),
  'landlock_create_ruleset': (444, 444),
  'landlock_add_rule': (445, 445),
  'landlock_restrict_self': (446, 446),
}
_COLUMN = {'x86_64': 0, 'aarch64': 1}

PR_SET_PDEATHSIG = 1
PR_SET_DUMPABLE = 4
PR_SET_SECCOMP = 22
PR_SET_NO_NEW_PRIVS = 38

libc = ctypes.CDLL(None, use_errno=True)
libc.syscall.restype = ctypes.c_long


def supported() -> bool:
  """Whether this machine's system call numbers are known here."""
  return os.uname().sysname == 'Linux' and MACHINE in _COLUMN


def syscall(name: str, *arguments) -> int:
  """Makes one of the calls above.

  Args:
    name: of the call.
    *arguments: integers, bytes, None, ctypes buffers.

  Raises:
    OSError: with the call's name.
  """
  number = _NUMBERS[name][_COLUMN[MACHINE]]
  converted = [
    ctypes.c_long(value) if isinstance(value, int) else value
    for value in arguments
  ]
  return _checked(name, libc.syscall(ctypes.c_long(number), *converted))


def buffer(size: int) -> ctypes.Array:
  """Zeroed memory that a call can write to; its bytes are in `raw`."""
  return ctypes.create_string_buffer(size)


def prctl(option: int, value: int = 0) -> None:
  """prctl(2) with one argument; the others are 0."""
  arguments = [ctypes.c_ulong(value), *[ctypes.c_ulong(0)] * 3]
  _checked('prctl', libc.prctl(option, *arguments))


def unshare(flags: int) -> None:
  """unshare(2)."""
  _checked('unshare', libc.unshare(flags))


def mount(source: str, target: str, kind: str, flags: int, data: str) -> None:
  """mount(2); empty strings stand for NULL."""
  values = [text.encode() or None for text in (source, target, kind, data)]
  source_b, target_b, kind_b, data_b = values
  result = libc.mount(source_b, target_b, kind_b, ctypes.c_ulong(flags), data_b)
  _checked(f'mount {target}', result)


def umount(target: str, flags: int) -> None:
  """umount2(2)."""
  _checked(f'umount {target}', libc.umount2(target.encode(), flags))


def _checked(name: str, result: int) -> int:
  if result == -1:
    number = ctypes.get_errno()
    raise OSError(number, f'{name}: {os.strerror(number)}')
  return result
