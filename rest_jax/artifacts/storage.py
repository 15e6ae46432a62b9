"""Files, local or gs://, written so that a reader never sees half of one.

Every path goes through `path()`, an etils epath whose remote backend is fsspec
(gcsfs for gs://): epath's own default would import TensorFlow. Locally a file
is written beside its final name, synced, and renamed; on an object store it is
one upload under the final name, which the store makes visible at once.
"""

import concurrent.futures
import contextlib
import errno
import json
import os
import shutil
import uuid
from collections.abc import Iterator, Sequence
from typing import Any

from rest_jax.artifacts import store_patience
from rest_jax.config import configuration

# Read by epath at each call: never the TensorFlow backend.
os.environ['EPATH_USE_TF'] = 'false'

import fsspec  # noqa: E402
import fsspec.config  # noqa: E402
from etils import epath  # noqa: E402

# gcsfs would answer from its own cache of listings: sizes, and the absence of a
# file, that another process has changed since. It reads this when it is made.
for _protocol in ('gs', 'gcs', 's3'):
  fsspec.config.conf.setdefault(_protocol, {})['use_listings_cache'] = False
# By its name: gcsfs is loaded by whoever opens a path of it.
for _protocol in ('gs', 'gcs'):
  fsspec.register_implementation(
    _protocol, 'rest_jax.artifacts.gs_files.PatientFiles', clobber=True
  )

Path = epath.Path
PathLike = epath.PathLike

_ADVICE = {
  errno.ENOSPC: 'the disk is full; free some space and run the same command'
  ' again, finished parts are kept',
  errno.EDQUOT: 'the disk quota is used up; free some space and run the same'
  ' command again, finished parts are kept',
  errno.EACCES: 'the folder cannot be written; check its owner and mode, or'
  ' set RUN_DIR to another one',
  errno.EPERM: 'the folder cannot be written; check its owner and mode, or'
  ' set RUN_DIR to another one',
  errno.EROFS: 'the file system is read-only; set RUN_DIR to another one',
  errno.EEXIST: 'a file stands where a folder is needed; set RUN_DIR to another'
  ' one, or move the file away',
  errno.ENOTDIR: 'a file stands where a folder is needed; set RUN_DIR to'
  ' another one, or move the file away',
}
_MOVES_AT_ONCE = 16  # requests; a checkpoint has thousands of objects
FINAL_ERRNOS = frozenset(_ADVICE)  # trying again will not help


def path(value: PathLike) -> epath.Path:
  """`value` as a path object; understands gs://, s3:// and local paths."""
  return epath.Path(value)


def is_remote(value: PathLike) -> bool:
  """Whether the path lies on an object store."""
  return '://' in os.fspath(value)


def absolute(value: PathLike) -> epath.Path:
  """The whole path of a local one: Orbax refuses any other."""
  return path(value) if is_remote(value) else path(value).resolve()


def write_bytes(target: PathLike, data: bytes) -> None:
  """Writes a whole file so that it is there complete, or not at all.

  Args:
    target: where; missing parent folders are made.
    data: the file's content.

  Raises:
    OSError: naming the file and what to do, where the disk is full, the folder
      cannot be written or the store fails. The target is then what it was.
  """
  target = path(target)
  try:
    target.parent.mkdir(parents=True, exist_ok=True)
    if is_remote(target):
      _write_remote(target, data)
    else:
      _write_local(os.fspath(target), data)
  except OSError as error:
    raise with_advice(error) from error


def with_advice(error: OSError) -> OSError:
  """The same error with what to do about it, said once."""
  if getattr(error, 'has_advice', False):
    return error
  advice = _ADVICE.get(error.errno, 'the file cannot be written there')
  result = type(error)(error.errno, f'{advice} ({error})')
  result.has_advice = True
  return result


@contextlib.contextmanager
def disk_errors(folder: PathLike) -> Iterator[None]:
  """Turns what other libraries say of a full disk into an OSError.

  TensorStore raises a ValueError with the reason in its text.
  """
  try:
    yield
  except OSError:
    raise
  except Exception as error:
    text = str(error)
    if 'No space left on device' not in text and 'quota exceeded' not in text:
      raise
    number = errno.ENOSPC if 'No space' in text else errno.EDQUOT
    name = os.strerror(number)
    raise with_advice(OSError(number, name, os.fspath(folder))) from error


def require_folder(folder: PathLike, dial: str) -> None:
  """Raises ConfigurationError where a file stands at a folder's place.

  Args:
    folder: that will be written to; it need not exist.
    dial: that names it.
  """
  place = path(folder)
  if place.exists() and not place.is_dir():
    raise configuration.ConfigurationError(
      f'{dial}: got {os.fspath(folder)!r}, which is a file; expected a folder, '
      'or a name that is free.'
    )


def names_in(folder: PathLike) -> set[str]:
  """The names of what lies in a folder that is there.

  A store's listing may be late, and show nothing of a folder that is new.
  """
  try:
    return {entry.name for entry in path(folder).iterdir()}
  except FileNotFoundError:
    return set()


def write_json(target: PathLike, value: Any) -> None:
  """Writes `value` as indented JSON with a final newline (see write_bytes)."""
  text = json.dumps(value, indent=1, sort_keys=True, ensure_ascii=False)
  write_bytes(target, (text + '\n').encode())


def read_json(source: PathLike) -> Any:
  """Reads a JSON file; raises ConfigurationError where it is broken."""
  try:
    return json.loads(path(source).read_text())
  except json.JSONDecodeError as error:
    raise configuration.ConfigurationError(
      f'{source}: not valid JSON ({error}). It was edited or damaged: delete '
      'it and run the stage that wrote it again.'
    ) from error


def set_aside(folder: PathLike, *, last: Sequence[str] = ()) -> epath.Path:
  """Renames a folder to NAME.superseded-K, so that nothing in it is lost.

  On an object store, which has no folders, each object is moved by the store
  itself: no byte of it passes through this machine. If that is interrupted the
  next call goes on with the same K.

  Args:
    folder: on this machine or on an object store.
    last: names of files in it that are moved after all others, in this order:
      where one of them is, the folder is whole.

  Returns:
    The new folder.
  """
  folder = path(folder)
  number = 1
  while True:
    target = aside(folder, number)
    begun = last and not any((target / name).exists() for name in last)
    if not target.exists() or (is_remote(folder) and begun):
      break
    number += 1
  if is_remote(folder):
    _move_objects(folder, target, last)
  else:
    shutil.move(os.fspath(folder), os.fspath(target))
  return target


def aside(folder: PathLike, number: int) -> epath.Path:
  """Where the folder is that was set aside as the `number`-th; from 1."""
  folder = path(folder)
  return folder.parent / f'{folder.name}.superseded-{number}'


def _move_objects(
  folder: epath.Path, target: epath.Path, last: Sequence[str]
) -> None:
  """Renames every object below `folder`, those named in `last` at the end.

  A listing may be late: it shows what was moved already, by a request whose
  answer was lost, or deleted; and it may lack those of `last`.
  """
  protocol, _, root = os.fspath(folder).rstrip('/').partition('://')
  files = fsspec.filesystem(protocol)
  names = [name.removeprefix(f'{root}/') for name in files.find(root)]

  def move(name: str) -> None:
    with contextlib.suppress(FileNotFoundError):
      files.mv_file(f'{root}/{name}', os.fspath(target / name))

  with concurrent.futures.ThreadPoolExecutor(_MOVES_AT_ONCE) as pool:
    list(pool.map(move, [name for name in names if name not in last]))
  for name in last:
    move(name)


def _write_remote(target: epath.Path, data: bytes) -> None:
  try:
    target.write_bytes(data)
  except (OSError, store_patience.UnavailableError):
    raise
  except Exception as error:
    # gcsfs raises the errors of aiohttp, requests and google.auth, and its own.
    text = f'{type(error).__name__}: {error}'
    raise OSError(errno.EIO, text, os.fspath(target)) from error


def _write_local(target: str, data: bytes) -> None:
  folder, name = os.path.split(target)
  beside = os.path.join(folder, f'.{name}.{uuid.uuid4().hex[:8]}.tmp')
  try:
    with open(beside, 'wb') as file:
      file.write(data)
      file.flush()
      os.fsync(file.fileno())
    os.replace(beside, target)
  except BaseException:
    with contextlib.suppress(OSError):
      os.unlink(beside)
    raise
  descriptor = os.open(folder or '.', os.O_RDONLY)
  try:
    os.fsync(descriptor)
  finally:
    os.close(descriptor)
