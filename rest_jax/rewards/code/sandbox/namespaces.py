"""Tier A: a world of its own, made with nothing but system calls.

The server and its programs see a file tree that holds the interpreter's
libraries and four devices, all read-only; no network, not even a loopback
interface that is up; no process but themselves. Root makes it directly, an
ordinary user within a user namespace.
"""

import os
import signal
import stat
import struct

from rest_jax.rewards.code.sandbox import kernel, privileges

_NEW_NS, _NEW_CGROUP, _NEW_UTS = 0x20000, 0x2000000, 0x4000000
_NEW_IPC, _NEW_USER = 0x8000000, 0x10000000
_NEW_PID, _NEW_NET = 0x20000000, 0x40000000
_ALL = _NEW_NS | _NEW_CGROUP | _NEW_UTS | _NEW_IPC | _NEW_PID | _NEW_NET

_NOSUID, _NODEV, _REMOUNT, _BIND = 2, 4, 32, 4096
_READ_ONLY, _RECURSIVE, _PRIVATE = 1, 16384, 1 << 18
_DETACH = 2
_ATTRIBUTE_READ_ONLY, _ATTRIBUTE_NOSUID = 1, 2
_AT_FDCWD, _AT_RECURSIVE = -100, 0x8000
# Any folder that every system has, and under which none of our paths lies.
_PLACES = ('/mnt', '/media', '/srv', '/opt', '/run', '/var', '/tmp', '/home')


def enter(paths: list[str], own_user: int | None) -> None:
  """Puts this process into new namespaces; returns in a child, process 1.

  The calling process stays outside, waits for that child and ends as it did.

  Args:
    paths: files and folders to show.
    own_user: the user that root becomes; None where this process is not root.

  Raises:
    OSError: the kernel, or whoever contains us, does not allow it.
  """
  user, group = os.getuid(), os.getgid()
  kernel.unshare(_ALL | (_NEW_USER if user else 0))
  if user:
    _map(user, group)
  _build(paths)
  _become_first_process()
  if own_user is not None:
    privileges.become(own_user)
  # After the change of user, which would undo it.
  kernel.prctl(kernel.PR_SET_PDEATHSIG, signal.SIGKILL)


def _map(user: int, group: int) -> None:
  for name, text in (
    ('setgroups', 'deny'),
    ('uid_map', f'{user} {user} 1'),
    ('gid_map', f'{group} {group} 1'),
  ):
    with open(f'/proc/self/{name}', 'w') as file:
      file.write(text)


def _build(paths: list[str]) -> None:
  """A file tree in memory with the paths in it becomes the only one."""
  kernel.mount('', '/', '', _RECURSIVE | _PRIVATE, '')
  place = _place(paths)
  kernel.mount(
    'tmpfs', place, 'tmpfs', _NOSUID | _NODEV, 'size=1m,nr_inodes=2000,mode=755'
  )
  # Parents before children; what lies in a folder shown already is there.
  shown: list[str] = []
  for path in sorted(paths):
    if any(path.startswith(f'{other}/') for other in shown):
      continue
    if _show(path, place):
      shown.append(path)
  kernel.mount('', place, '', _REMOUNT | _READ_ONLY | _NOSUID | _NODEV, '')
  os.chdir(place)
  kernel.syscall('pivot_root', b'.', b'.')
  kernel.umount('.', _DETACH)
  os.chdir('/')


def _place(paths: list[str]) -> str:
  for place in _PLACES:
    below = [path for path in paths if path.startswith(f'{place}/')]
    if not below and os.path.isdir(place) and not os.path.islink(place):
      return place
  raise OSError(f'no folder to build the file tree in; tried {_PLACES}')


def _show(path: str, place: str) -> bool:
  target = place + path
  try:
    mode = os.lstat(path).st_mode
  except OSError:
    return False  # not on this system
  os.makedirs(os.path.dirname(target), mode=0o755, exist_ok=True)
  if stat.S_ISLNK(mode) and os.path.isdir(path):
    os.symlink(os.path.realpath(path), target)  # /lib to /usr/lib
    return False
  if stat.S_ISDIR(mode):
    os.mkdir(target, 0o755)
  else:
    os.close(os.open(target, os.O_CREAT | os.O_WRONLY, 0o444))
  kernel.mount(path, target, '', _BIND | _RECURSIVE, '')
  _read_only(target)
  return True


def _read_only(target: str) -> None:
  attributes = struct.pack(
    '=4Q', _ATTRIBUTE_READ_ONLY | _ATTRIBUTE_NOSUID, 0, 0, 0
  )
  kernel.syscall(
    'mount_setattr',
    _AT_FDCWD,
    target.encode(),
    _AT_RECURSIVE,
    attributes,
    len(attributes),
  )


def _become_first_process() -> None:
  first = os.fork()
  if first:
    os.closerange(3, 1 << 20)  # the caller must see the other one's end
    _, status = os.waitpid(first, 0)
    os._exit(os.waitstatus_to_exitcode(status) & 0xFF)
