"""A job that ran out of memory, told in terms of the dials that need less.

The error is one of three kinds: XLA's RESOURCE_EXHAUSTED (device memory, or the
host's on CPUs), Python's MemoryError, and the kernel, which kills the process.
Starting the job again with the same dials would end the same way.
"""

import ast
import os
import pathlib
import signal
from collections.abc import Mapping

_XLA = ('XlaRuntimeError', 'JaxRuntimeError')
_REMAT = 'DecoderConfig.remat'
# Dials by stage: what to do with each. 'more' and 'less' are powers of two.
_DIALS = {
  'train': (
    ('MICROBATCHES', 'more'),
    ('ROW_LENGTH', 'less'),
    ('BATCH_ROWS', 'less'),
    ('GREEDY_GROUPS', 'less'),
  ),
  'sample': (
    ('GROUPS', 'less'),
    ('LANES', 'less'),
    ('GREEDY_GROUPS', 'less'),
    ('MAX_DECODE_LENGTH', 'less'),
  ),
  'score': (('NUM_WORKERS', 'less'),),
  'grade_dval': (('NUM_WORKERS', 'less'),),
  'select': (('MAX_TRAIN', 'less'),),
  'prepare': (('MAX_TRAIN', 'less'),),
}
_NOTES = {'GREEDY_GROUPS': {'train': ' for D_val'}}
_LARGE = 0.8  # of the memory: a killed process of that size was too large


def is_out_of_memory(error: BaseException) -> bool:
  """Whether an error says that there is not enough memory."""
  if isinstance(error, MemoryError):
    return True
  text = str(error)
  exhausted = 'RESOURCE_EXHAUSTED' in text or 'Out of memory' in text
  return type(error).__name__ in _XLA and exhausted


def told(stage: str, bindings: Mapping[str, str], detail: str = '') -> str:
  """What to say of a stage that ran out of memory.

  Args:
    stage: its name.
    bindings: gin_parser.bindings(): the text of every bound value.
    detail: what the library said; its first line is shown.
  """
  tries = [
    f'{name}{_suggested(name, how, bindings)}'
    f'{_NOTES.get(name, {}).get(stage, "")}'
    for name, how in _DIALS.get(stage, ())
  ]
  if stage == 'train' and not _is_full(bindings):
    remat = "--gin.architecture.DecoderConfig.remat=full (MODEL's remat)"
    tries.insert(2, remat)
  advice = f'try {", ".join(tries)}' if tries else 'take a larger machine'
  detail = (
    f' ({detail.strip().splitlines()[0][:200]})' if detail.strip() else ''
  )
  return (
    f'out of memory in {stage}: {advice}; or more devices, or a machine with '
    f'more memory. Not tried again{detail}.'
  )


class KillWatch:
  """Whether a killed process was killed for the memory that it took.

  The kernel counts the processes that it kills for memory, for the machine and
  for a group of processes (a container). Not every system lets these counts
  be read, so that a process of nearly all the memory counts, too.
  """

  def __init__(self, pid: int):
    """Reads the counts before anything happens.

    Args:
      pid: of the process.
    """
    self._pid = pid
    self._before = _kills()
    self._peak = 0
    self._said = False

  def look(self) -> None:
    """Notes the size of the process; call it while it runs."""
    try:
      pages = pathlib.Path(f'/proc/{self._pid}/statm').read_text().split()[1]
      size = int(pages) * os.sysconf('SC_PAGE_SIZE')
    except (OSError, IndexError, ValueError):
      return
    self._peak = max(self._peak, size)

  def read(self, line: str) -> None:
    """Looks for what C++ says of memory before it ends the process."""
    self._said |= 'std::bad_alloc' in line

  def killed(self, exit_code: int) -> bool:
    """Whether this end of the process was for its memory.

    Args:
      exit_code: negative: minus the signal that ended it.
    """
    if exit_code in (-signal.SIGABRT, 128 + signal.SIGABRT):
      return self._said
    if exit_code not in (-signal.SIGKILL, 128 + signal.SIGKILL):
      return False
    now = _kills()
    if any(now.get(name, 0) > count for name, count in self._before.items()):
      return True
    total = memory_bytes()
    return bool(total) and self._peak > _LARGE * total


def memory_bytes() -> int:
  """The memory that processes here may take; 0 where nothing says so."""
  limits = []
  for name in _group_files('memory.max', 'memory.limit_in_bytes'):
    text = _text(name).strip()
    if text.isdigit():
      limits.append(int(text))
  for line in _text('/proc/meminfo').splitlines():
    if line.startswith('MemTotal:'):
      limits.append(int(line.split()[1]) * 1024)
  return min(limits, default=0)


def _kills() -> dict[str, int]:
  """Processes killed for memory so far, by the file that counts them."""
  found = {}
  events = _group_files('memory.events', 'memory.oom_control')
  for name in ['/proc/vmstat', *events]:
    for line in _text(name).splitlines():
      words = line.split()
      if len(words) == 2 and words[0] == 'oom_kill' and words[1].isdigit():
        found[name] = int(words[1])
  return found


def _group_files(second: str, first: str) -> list[str]:
  """The files of this process's control group, of version 2 and of 1."""
  found = []
  for line in _text('/proc/self/cgroup').splitlines():
    _, controllers, path = line.split(':', 2)
    if not controllers:
      roots = [f'/sys/fs/cgroup{path}', '/sys/fs/cgroup']
      found += [f'{root.rstrip("/")}/{second}' for root in roots]
    elif controllers == 'memory':
      roots = [f'/sys/fs/cgroup/memory{path}', '/sys/fs/cgroup/memory']
      found += [f'{root.rstrip("/")}/{first}' for root in roots]
  return found


def _text(name: str) -> str:
  try:
    return pathlib.Path(name).read_text()
  except OSError:
    return ''


def _suggested(name: str, how: str, bindings: Mapping[str, str]) -> str:
  """'=32 (now 64)', or what there is to say where it is not a number."""
  value = _value(bindings.get(name, ''))
  if isinstance(value, bool) or not isinstance(value, int):
    shown = '' if name not in bindings else f' (now {bindings[name]})'
    return f'=…{shown}'
  if how == 'more':
    rows = _value(bindings.get('BATCH_ROWS', ''))
    better = max(2, 2 * value)
    while isinstance(rows, int) and rows % better and better < rows:
      better += 1  # MICROBATCHES divides BATCH_ROWS
    return f'={better} (now {value})'
  return f'={max(1, value // 2)} (now {value})'


def _value(text: str) -> object:
  try:
    return ast.literal_eval(text)
  except (ValueError, SyntaxError):
    return None


def _is_full(bindings: Mapping[str, str]) -> bool:
  return any(
    key.endswith(_REMAT) and text == "'full'" for key, text in bindings.items()
  )
