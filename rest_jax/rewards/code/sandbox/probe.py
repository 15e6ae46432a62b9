"""Whether the walls stand: tried from inside before any candidate runs."""

import os
import tempfile

# Every attempt must fail. Ends in one word per attempt that did not.
PROGRAM = """
import _socket, ctypes, os
libc = ctypes.CDLL(None)

def returned(value):
  if value == -1:
    raise OSError

attempts = {
  'read': lambda: open(CANARY).close(),
  'list': lambda: os.listdir(os.path.dirname(CANARY)),
  'write': lambda: open(CANARY + '.new', 'w').close(),
  'change': lambda: os.chmod(CANARY, 0o600),
  'environment': lambda: open(f'/proc/{os.getppid()}/environ', 'rb').read(1),
  'fork': lambda: os.fork() or os._exit(0),
  'exec': lambda: os.execv('/bin/true', ['true']),
  'signal': lambda: os.kill(os.getppid(), 0),
  'socket': lambda: _socket.socket(_socket.AF_INET),
  'trace': lambda: returned(libc.ptrace(16, os.getppid(), 0, 0)),
  'memory': lambda: os.memfd_create('x'),
  'namespace': lambda: returned(libc.unshare(0x10000000)),
}
for name, attempt in attempts.items():
  try:
    attempt()
    print(name, end=' ')
  except OSError:
    pass
print('done')
"""


class Canary:
  """A file that everyone may read, and no program may see."""

  def __enter__(self) -> str:
    handle, self._path = tempfile.mkstemp(prefix='rest_jax_canary_')
    os.fchmod(handle, 0o644)
    os.write(handle, b'visible')
    os.close(handle)
    return self._path

  def __exit__(self, *_) -> None:
    os.unlink(self._path)


def program(canary: str) -> str:
  """The probe's source for a canary's path."""
  return PROGRAM.replace('CANARY', repr(canary))


def breach(stdout: bytes) -> str:
  """What the probe could do; empty where it could do nothing.

  Args:
    stdout: of the probe.
  """
  words = stdout.decode(errors='replace').split()
  if words == ['done']:
    return ''
  return ' '.join(words[:-1] if words[-1:] == ['done'] else words) or 'nothing'
