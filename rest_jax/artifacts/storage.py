"""Files, local or gs://, written so that a reader never sees half of one.

Every path goes through `path()`, an etils epath whose remote backend is fsspec
(gcsfs for gs://): epath's own default would import TensorFlow. Locally a file
is written beside its final name, synced, and renamed; on an object store it is
one upload under the final name, which the store makes visible at once.
"""

import contextlib
import errno
import json
import os
import shutil
import uuid
from collections.abc import Iterator
from typing import Any

from rest_jax.config import configuration

# Read by epath at each call: never the TensorFlow backend.
os.environ['EPATH_USE_TF'] = 'false'

from etils import epath  # noqa: E402

Path = epath.Path
PathLike = epath.PathLike

_ADVICE = {
  errno.ENOSPC: 'the disk is full; free some space and run the same command'
  ' again, finished parts are kept',
  errno.EDQUOT: 'the disk quota is used up; free some space and run the same'
  ' command again, finished parts are kept',
  errno.EACCES: 'the folder cannot be written; check its owner and mode, or'
  ' set RUN_DIR to another one',
  errno.EROFS: 'the file system is read-only; set RUN_DIR to another one',
}
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
    OSError: naming the file and what to do, where the disk is full or the
      folder cannot be written. The target is then what it was before.
  """
  target = path(target)
  try:
    target.parent.mkdir(parents=True, exist_ok=True)
    if is_remote(target):
      target.write_bytes(data)
    else:
      _write_local(os.fspath(target), data)
  except OSError as error:
    raise with_advice(error) from error


def with_advice(error: OSError) -> OSError:
  """The same error with what to do about it, said once."""
  if getattr(error, 'has_advice', False):
    return error
  advice = _ADVICE.get(error.errno, 'the file could not be written')
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


def set_aside(folder: PathLike) -> epath.Path:
  """Renames a folder to NAME.superseded-K, so that nothing in it is lost."""
  folder = path(folder)
  number = 1
  while (folder.parent / f'{folder.name}.superseded-{number}').exists():
    number += 1
  target = folder.parent / f'{folder.name}.superseded-{number}'
  if is_remote(folder):
    _copy(folder, target)
    folder.rmtree()
  else:
    shutil.move(os.fspath(folder), os.fspath(target))
  return target


def _copy(folder: epath.Path, target: epath.Path) -> None:
  for source in folder.iterdir():  # epath has no recursive glob on a store
    if source.is_dir():
      _copy(source, target / source.name)
    else:
      (target / source.name).write_bytes(source.read_bytes())


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
