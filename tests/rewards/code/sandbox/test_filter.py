"""The filter on system calls, run by an interpreter of its own, per machine.

aarch64's filter has not run on such a machine; this is all that checks it.
"""

import pathlib
import platform
import re
import struct

import pytest

from rest_jax.rewards.code.sandbox import seccomp, syscalls

MACHINES = ['x86_64', 'aarch64']
ARCH = {'x86_64': 0xC000003E, 'aarch64': 0xC00000B7}
COLUMN = {'x86_64': 0, 'aarch64': 1}
# Numbers written down here a second time, from the kernel's tables, of calls
# that a candidate must not make.
FORBIDDEN = {
  'x86_64': {
    'socket': 41,
    'connect': 42,
    'sendmsg': 46,
    'recvmsg': 47,
    'bind': 49,
    'fork': 57,
    'vfork': 58,
    'execve': 59,
    'kill': 62,
    'chmod': 90,
    'ptrace': 101,
    'mount': 165,
    'tkill': 200,
    'tgkill': 234,
    'utimes': 235,
    'keyctl': 250,
    'unshare': 272,
    'perf_event_open': 298,
    'open_by_handle_at': 304,
    'setns': 308,
    'process_vm_readv': 310,
    'process_vm_writev': 311,
    'seccomp': 317,
    'memfd_create': 319,
    'bpf': 321,
    'execveat': 322,
    'userfaultfd': 323,
    'pidfd_send_signal': 424,
    'io_uring_setup': 425,
    'pidfd_open': 434,
    'pidfd_getfd': 438,
    'memfd_secret': 447,
  },
  'aarch64': {
    'socket': 198,
    'bind': 200,
    'connect': 203,
    'sendmsg': 211,
    'recvmsg': 212,
    'execve': 221,
    'kill': 129,
    'tkill': 130,
    'tgkill': 131,
    'fchmodat': 53,
    'utimensat': 88,
    'ptrace': 117,
    'mount': 40,
    'keyctl': 219,
    'unshare': 97,
    'perf_event_open': 241,
    'open_by_handle_at': 265,
    'setns': 268,
    'process_vm_readv': 270,
    'process_vm_writev': 271,
    'seccomp': 277,
    'memfd_create': 279,
    'bpf': 280,
    'execveat': 281,
    'userfaultfd': 282,
    'pidfd_send_signal': 424,
    'io_uring_setup': 425,
    'pidfd_open': 434,
    'pidfd_getfd': 438,
    'memfd_secret': 447,
  },
}


def run(machine, number, arguments=(), arch=None):
  """Interprets the filter as the kernel would; returns its answer."""
  values = list(arguments) + [0] * (6 - len(arguments))
  data = struct.pack(
    '<IIQ6Q', number, ARCH[machine] if arch is None else arch, 0, *values
  )
  code = seccomp.program(machine)
  assert len(code) <= 4096  # BPF_MAXINSNS
  at, register = 0, 0
  while True:
    operation, true, false, constant = code[at]
    at += 1
    if operation == 0x20:  # load a word
      assert constant % 4 == 0 and constant + 4 <= len(data)
      (register,) = struct.unpack_from('<I', data, constant)
    elif operation == 0x54:  # and
      register &= constant
    elif operation == 0x05:  # jump
      at += constant
    elif operation == 0x15:  # jump if equal
      at += true if register == constant else false
    elif operation == 0x35:  # jump if at least
      at += true if register >= constant else false
    elif operation == 0x06:
      return constant
    else:
      raise AssertionError(f'operation {operation:#x}')


@pytest.mark.parametrize('machine', MACHINES)
def test_allowed_calls_are_allowed_and_all_other_numbers_are_not(machine):
  column = COLUMN[machine]
  allowed = {n[column] for n in syscalls.ALLOWED.values()} - {None}
  conditional = {n[column] for n, _ in syscalls.CONDITIONAL.values()}
  assert len(allowed) > 60
  for number in range(600):
    answer = run(machine, number)
    if number in allowed:
      assert answer == seccomp.ALLOW, number
    elif number not in conditional:
      missing = number == 435 or number >= syscalls.FIRST_UNKNOWN
      assert answer == (seccomp.ENOSYS if missing else seccomp.EPERM), number


@pytest.mark.parametrize('machine', MACHINES)
def test_dangerous_calls_are_refused_whatever_their_arguments(machine):
  for name, number in FORBIDDEN[machine].items():
    for value in (0, 1, 2**32 - 1, 2**64 - 1):
      answer = run(machine, number, [value] * 6)
      assert answer == seccomp.EPERM, name


@pytest.mark.parametrize('machine', MACHINES)
def test_another_convention_kills_the_process(machine):
  other = ARCH['aarch64' if machine == 'x86_64' else 'x86_64']
  for arch in (0x40000003, 0x40000028, 0, other):  # i386, arm
    assert run(machine, 1, arch=arch) == seccomp.KILL_PROCESS
  if machine == 'x86_64':
    for number in (0x40000000, 0x40000000 + 57, 0xFFFFFFFF):
      assert run(machine, number) == seccomp.KILL_PROCESS


@pytest.mark.parametrize(
  ('name', 'arguments', 'allowed'),
  [
    ('clone', [0x3D0F00], True),  # as pthread_create does
    ('clone', [17], False),  # as fork does
    ('clone', [0x4111], False),  # as vfork does
    ('clone', [0x3D0F00 | 0x10000000], False),  # and a user namespace
    ('clone', [0x10000000], False),
    ('fcntl', [0, 2], True),
    ('fcntl', [0, 8], False),  # F_SETOWN
    ('fcntl', [0, 10], False),  # F_SETSIG
    ('fcntl', [0, 1031], False),  # F_SETPIPE_SZ
    ('fcntl', [0, 2 + 2**32], False),
    ('ioctl', [0, 0x5401], True),
    ('ioctl', [0, 0x5412], False),  # TIOCSTI
    ('ioctl', [0, 0x8901], False),  # FIOSETOWN
    ('socketpair', [1, 1], True),
    ('socketpair', [1, 1 | 0o2000000], True),
    ('socketpair', [1, 2], False),  # datagrams
    ('socketpair', [1, 5], False),
    ('socketpair', [40, 1], False),
    ('sendto', [3, 0, 1, 0, 0, 0], True),
    ('sendto', [3, 0, 1, 0, 0x7FFF00000000, 16], False),
    ('sendto', [3, 0, 1, 0, 1, 16], False),
    ('prctl', [15], True),
    ('prctl', [1, 0], False),  # PR_SET_PDEATHSIG
    ('prctl', [22, 2], False),
    ('prlimit64', [0, 3], True),
    ('prlimit64', [1, 3], False),
    ('getsockopt', [3, 1, 3], True),
    ('getsockopt', [3, 6, 3], False),
  ],
)
@pytest.mark.parametrize('machine', MACHINES)
def test_arguments_decide(machine, name, arguments, allowed):
  number = syscalls.CONDITIONAL[name][0][COLUMN[machine]]
  expected = seccomp.ALLOW if allowed else seccomp.EPERM
  assert run(machine, number, arguments) == expected


@pytest.mark.parametrize('machine', MACHINES)
def test_the_assembled_program_is_the_same_in_the_kernels_layout(machine):
  code = seccomp.program(machine)
  data = seccomp.assemble(code)
  assert len(data) == 8 * len(code)
  again = [struct.unpack_from('<HBBI', data, 8 * i) for i in range(len(code))]
  assert again == code


@pytest.mark.parametrize('machine', MACHINES)
def test_numbers_agree_with_the_kernels_headers(machine):
  if machine == 'x86_64':
    paths = pathlib.Path('/usr/include').glob('**/asm/unistd_64.h')
  else:
    paths = pathlib.Path('/usr/include').glob('asm-generic/unistd.h')
  text = ''.join(path.read_text() for path in paths)
  if not text or (machine == 'x86_64' and platform.machine() != 'x86_64'):
    pytest.skip("the kernel's headers are not installed (linux-libc-dev)")
  found = dict(
    re.findall(r'#define __NR3?2?6?4?_?(\w+)\s+(?:__NR_\w+\s+)?(\d+)', text)
  )
  # Names of which the generic table has two, by the size of a word.
  aliases = {
    'newfstatat': 'fstatat',
    'fadvise64': 'fadvise64',
    'prlimit64': 'prlimit64',
  }
  tables = dict(syscalls.ALLOWED)
  tables |= {name: n for name, (n, _) in syscalls.CONDITIONAL.items()}
  tables |= syscalls.MISSING
  checked = 0
  for name, numbers in tables.items():
    number = numbers[COLUMN[machine]]
    header = found.get(name, found.get(aliases.get(name, name)))
    if number is None:
      assert header is None, name
    elif header is not None:
      assert int(header) == number, name
      checked += 1
  assert checked > 85
