"""Processes of this machine: whether one that wrote its name down is the same
and alive; and children that end with their parent.

A number alone does not name a process: it is used again by later ones, and
other machines and containers have the same numbers.
"""

import ctypes
import os
import pathlib
import signal
import socket
import sys
from collections.abc import Callable
from typing import Any

_PR_SET_PDEATHSIG = 1


def machine() -> str | None:
  """Identity of this machine's boot and of this process's namespace.

  Within one identity a process is known by its number and start time.

  Returns:
    None where there is no /proc to read it from.
  """
  try:
    boot = pathlib.Path('/proc/sys/kernel/random/boot_id').read_text().strip()
    space = os.readlink('/proc/self/ns/pid')
    return f'{socket.gethostname()}/{boot}/{space}'
  except OSError:
    return None


def start_time(pid: Any) -> str | None:
  """When a process of this machine started.

  Args:
    pid: its number.

  Returns:
    Clock ticks since the boot, as /proc writes them; None: it has ended.
  """
  try:
    stat = pathlib.Path(f'/proc/{pid}/stat').read_text()
  except (OSError, ValueError):
    return None
  fields = stat.rpartition(')')[2].split()
  return None if fields[0] in 'ZX' else fields[19]


def die_with_parent(parent: int) -> Callable[[], None] | None:
  """A preexec_fn by which the kernel kills the child when its parent ends.

  Args:
    parent: the number of this process.
  """
  if not sys.platform.startswith('linux'):
    return None
  prctl = ctypes.CDLL(None).prctl

  def set_death_signal() -> None:
    prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
    if os.getppid() != parent:  # the parent ended before the call
      os._exit(1)

  return set_death_signal
