"""Whether a process that wrote its name down is still the same and alive.

A number alone does not say so: it is used again by later processes, and other
machines and containers have the same numbers.
"""

import os
import pathlib
import socket
from typing import Any


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
