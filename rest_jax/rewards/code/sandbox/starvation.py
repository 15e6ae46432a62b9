"""Tells a process that sleeps from one that waits for a processor.

On a busy machine a program may run for a small part of the time. The kernel
counts how long each thread was ready to run and did not get a processor
(proc(5), /proc/PID/schedstat, the second number, in nanoseconds). Only time in
which a program neither ran nor waited so counts against its wall limit, so
that a verdict does not depend on what else the machine does.
"""

import os

# A program that lately had this share of a core is not asleep, whatever the
# other numbers say: on a virtual machine the host may take a processor away,
# and the guest counts that as neither running nor waiting. It reaches its
# limit of CPU time soon enough.
_BUSY_SHARE = 0.05
# A program that sleeps briefly again and again waits a little after each sleep,
# and must end too: so many times its wall limit.
_CEILING = 100.0
# Where the kernel does not count waiting, the share alone decides. A process
# of low priority gets as little as this beside many others.
_BUSY_SHARE_ALONE = 0.01
_CEILING_ALONE = 12.0


def asleep(
  age: float, used: float, share: float, pidfds: list[int], wall: float
) -> bool:
  """Whether processes that belong together slept longer than they may.

  Args:
    age: seconds since the start.
    used: CPU seconds of all of them.
    share: of a core that they had lately, together.
    pidfds: of all of them; closed here.
    wall: seconds that they may be asleep.
  """
  try:
    waited = [_waited(pidfd) for pidfd in pidfds]
  finally:
    for pidfd in pidfds:
      os.close(pidfd)
  if None in waited:
    return share < _BUSY_SHARE_ALONE or age > _CEILING_ALONE * wall
  slept = age - used - sum(waited)
  return (slept > wall and share < _BUSY_SHARE) or age > _CEILING * wall


def _waited(pidfd: int) -> float | None:
  """Seconds that a process's threads waited for a processor.

  Threads that have ended are not counted.

  Returns:
    None where the kernel does not say; 0 for a process that has ended.
  """
  try:
    with open(f'/proc/self/fdinfo/{pidfd}') as file:
      fields = dict(line.split(':', 1) for line in file)
    pid = int(fields['Pid'])
    if pid <= 0:
      return 0.0 if pid < 0 else None  # ended; or of another namespace
    total = 0
    for thread in os.listdir(f'/proc/{pid}/task'):
      with open(f'/proc/{pid}/task/{thread}/schedstat') as file:
        _, waited, slices = map(int, file.read().split())
      if thread == str(pid) and not slices:
        return None  # counting is switched off
      total += waited
    return total * 1e-9
  except (OSError, KeyError, ValueError):
    return None
