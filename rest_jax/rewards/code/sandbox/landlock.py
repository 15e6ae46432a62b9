"""What a candidate may open: read-only paths, and a few devices.

Landlock hides every file that is not named, from this process and all its
children, whoever they are; it needs no privilege. Newer kernels also let it
refuse TCP, abstract Unix sockets and signals to processes outside; seccomp
refuses these too.
"""

import ctypes
import os
import struct

from rest_jax.rewards.code.sandbox import kernel

READ = (1 << 2) | (1 << 3)  # read files, list folders
READ_FILE = 1 << 2
READ_WRITE = (1 << 1) | (1 << 2)
_RULE_PATH_BENEATH = 1


def abi() -> int:
  """The kernel's version of Landlock; 0 where there is none."""
  try:
    return kernel.syscall('landlock_create_ruleset', None, 0, 1)
  except OSError:
    return 0


def restrict(paths: dict[str, int]) -> None:
  """Leaves this process, for good, the access given per path and below it.

  Args:
    paths: path to READ, READ_FILE or READ_WRITE; those that do not exist are
      passed over.

  Raises:
    OSError: the kernel has no Landlock, or refused; nothing may run then.
  """
  version = abi()
  if version < 1:
    raise OSError(
      'the kernel has no Landlock (5.13 or newer, and landlock among the '
      'security modules in its lsm= parameter)'
    )
  # All that this version governs: 13 kinds of access in the first one, then
  # linking between folders, truncation, ioctl on devices.
  kinds = 13 + (version >= 2) + (version >= 3) + (version >= 5)
  attributes = [(1 << kinds) - 1]
  if version >= 4:
    attributes.append(0b11)  # TCP: bind, connect
  if version >= 6:
    attributes.append(0b11)  # abstract Unix sockets, signals
  packed = struct.pack(f'={len(attributes)}Q', *attributes)
  ruleset = kernel.syscall(
    'landlock_create_ruleset',
    ctypes.create_string_buffer(packed),
    len(packed),
    0,
  )
  try:
    for path, access in paths.items():
      _add(ruleset, path, access)
    kernel.prctl(kernel.PR_SET_NO_NEW_PRIVS, 1)
    kernel.syscall('landlock_restrict_self', ruleset, 0)
  finally:
    os.close(ruleset)


def _add(ruleset: int, path: str, access: int) -> None:
  try:
    handle = os.open(path, os.O_PATH | os.O_CLOEXEC)
  except OSError:
    return
  try:
    rule = ctypes.create_string_buffer(struct.pack('=Qi', access, handle))
    kernel.syscall('landlock_add_rule', ruleset, _RULE_PATH_BENEATH, rule, 0)
  finally:
    os.close(handle)
