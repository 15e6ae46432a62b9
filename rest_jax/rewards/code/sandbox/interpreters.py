"""Which Python runs the candidates."""

import functools
import importlib.util
import os
import pathlib
import subprocess
import sys

_OTHERS = ('/usr/local/bin/python3', '/usr/bin/python3')
_OLDEST = (3, 11)


def interpreter(tier: str) -> str:
  """The caller's own, or where its files are out of reach, the system's.

  A server that root starts becomes an ordinary user. In tier A it is shown
  the interpreter's files; in tier B it needs a way to them, which a Python
  below /root does not have.

  Raises:
    OSError: there is none.
  """
  if tier == 'A' or os.geteuid() != 0 or _open_to_all(os.__file__):
    return sys.executable
  for path in _OTHERS:
    library = _library(path)
    if library and _open_to_all(library):
      return path
  raise OSError(
    f'a user other than root cannot read {os.__file__}, nor a system Python '
    f'of version {".".join(map(str, _OLDEST))} or newer in {_OTHERS}; install '
    'one, or move this one out of a private folder'
  )


def numpy_folder(python: str) -> str:
  """The folder that holds the interpreter's numpy; '' where it has none."""
  if python != sys.executable:
    return ''
  found = importlib.util.find_spec('numpy')
  if found is None or not found.origin:
    return ''
  return os.path.dirname(os.path.dirname(found.origin))


@functools.cache
def _library(python: str) -> str:
  """Where an interpreter's standard library is; '' if it does not fit."""
  script = 'import os, sys; print(os.__file__, *sys.version_info[:2])'
  try:
    output = subprocess.check_output([python, '-I', '-S', '-c', script])
  except (OSError, subprocess.CalledProcessError):
    return ''
  *path, major, minor = output.decode().split()
  fits = (int(major), int(minor)) >= _OLDEST
  return ' '.join(path) if fits else ''


def _open_to_all(path: str) -> bool:
  parents = pathlib.Path(os.path.realpath(path)).parents
  return all(parent.stat().st_mode & 0o001 for parent in parents)
