"""The filter on a candidate's system calls, as a classic BPF program.

The kernel runs it at each call. It dies on another machine's convention (a
32-bit call, or x32's bit 30), looks the number up in a balanced tree, and
answers: allow; allow if the arguments are right; EPERM; ENOSYS. A tree, not a
list, because the kernel walks the program for every number when it is
installed, which happens once per execution.
"""

import ctypes
import struct

from rest_jax.rewards.code.sandbox import kernel, syscalls

ALLOW = 0x7FFF0000
KILL_PROCESS = 0x80000000
EPERM = 0x00050000 | 1
ENOSYS = 0x00050000 | 38

_AUDIT_ARCH = {'x86_64': 0xC000003E, 'aarch64': 0xC00000B7}
_COLUMN = {'x86_64': 0, 'aarch64': 1}
_X32_BIT = 0x40000000

# classic BPF: code, jump if true, jump if false, constant
_LOAD, _AND, _JUMP, _EQUAL, _AT_LEAST, _RETURN = (
  0x20,
  0x54,
  0x05,
  0x15,
  0x35,
  0x06,
)
_NUMBER_AT, _ARCH_AT, _ARGUMENTS_AT = 0, 4, 16  # in struct seccomp_data
_MAX_JUMP = 255

Instruction = tuple[int, int, int, int]


def program(machine: str) -> list[Instruction]:
  """The filter of a machine, as (code, true, false, constant) each.

  Args:
    machine: 'x86_64' or 'aarch64', as in os.uname().
  """
  code = [
    (_LOAD, 0, 0, _ARCH_AT),
    (_EQUAL, 1, 0, _AUDIT_ARCH[machine]),
    (_RETURN, 0, 0, KILL_PROCESS),
    (_LOAD, 0, 0, _NUMBER_AT),
  ]
  if machine == 'x86_64':
    code += [(_AT_LEAST, 0, 1, _X32_BIT), (_RETURN, 0, 0, KILL_PROCESS)]
  return code + _tree(_intervals(machine))


def assemble(instructions: list[Instruction]) -> bytes:
  """As the kernel's array of struct sock_filter."""
  return b''.join(struct.pack('=HBBI', *one) for one in instructions)


class Filter:
  """A filter that is ready to be installed, many times, after a fork."""

  def __init__(self):
    code = assemble(program(kernel.MACHINE))
    self._code = ctypes.create_string_buffer(code, len(code))
    self._header = ctypes.create_string_buffer(
      struct.pack('@HP', len(code) // 8, ctypes.addressof(self._code))
    )
    self._address = ctypes.addressof(self._header)

  def install(self) -> None:
    """Binds this process, for good; no_new_privs must be set."""
    zero = ctypes.c_ulong(0)
    result = kernel.libc.prctl(
      kernel.PR_SET_SECCOMP,
      ctypes.c_ulong(2),  # SECCOMP_MODE_FILTER
      ctypes.c_ulong(self._address),
      zero,
      zero,
    )
    if result:
      raise OSError(ctypes.get_errno(), 'seccomp: the filter was refused')


def _intervals(machine: str) -> list[tuple[int, list[Instruction]]]:
  """What is done from each number on, by number; the first one is 0."""
  column = _COLUMN[machine]
  answers: dict[int, list[Instruction]] = {}
  for number in syscalls.ALLOWED.values():
    if number[column] is not None:
      answers[number[column]] = [(_RETURN, 0, 0, ALLOW)]
  for number, conditions in syscalls.CONDITIONAL.values():
    answers[number[column]] = _conditions(conditions)
  for number in syscalls.MISSING.values():
    answers[number[column]] = [(_RETURN, 0, 0, ENOSYS)]
  denied = [(_RETURN, 0, 0, EPERM)]
  result = []
  for number in range(syscalls.FIRST_UNKNOWN):
    answer = answers.get(number, denied)
    if not result or result[-1][1] != answer:
      result.append((number, answer))
  result.append((syscalls.FIRST_UNKNOWN, [(_RETURN, 0, 0, ENOSYS)]))
  return result


def _tree(intervals: list[tuple[int, list[Instruction]]]) -> list[Instruction]:
  """Binary search for the interval that the loaded number lies in."""
  if len(intervals) == 1:
    return intervals[0][1]
  middle = len(intervals) // 2
  left, right = _tree(intervals[:middle]), _tree(intervals[middle:])
  border = intervals[middle][0]
  if len(left) <= _MAX_JUMP:
    return [(_AT_LEAST, len(left), 0, border), *left, *right]
  head = [(_AT_LEAST, 0, 1, border), (_JUMP, 0, 0, len(left))]
  return [*head, *left, *right]


def _conditions(conditions) -> list[Instruction]:
  code = []
  for argument, mask, values in conditions:
    low = _ARGUMENTS_AT + 8 * argument  # both machines are little-endian
    code += [
      (_LOAD, 0, 0, low + 4),
      (_EQUAL, 1, 0, 0),
      (_RETURN, 0, 0, EPERM),
      (_LOAD, 0, 0, low),
    ]
    if mask is not None:
      code.append((_AND, 0, 0, mask))
    for i, value in enumerate(values):
      code.append((_EQUAL, len(values) - i, 0, value))
    code.append((_RETURN, 0, 0, EPERM))
  return [*code, (_RETURN, 0, 0, ALLOW)]
