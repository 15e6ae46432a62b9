"""One writer: a folder of a run is held by one process at a time.

On a file system the lease is a lock of the kernel (file_leases.py), on gs:// an
object that is renewed (store_leases.py). The latter may be lost to another
process: `Lease.check` and held_folders.check_all then raise LostError; call
them before each write.
"""

import contextlib
from collections.abc import Iterator

from rest_jax.artifacts import holders, storage
from rest_jax.artifacts.file_leases import FileLease
from rest_jax.artifacts.held_folders import Lease
from rest_jax.artifacts.store_leases import StoreLease

SUFFIX = '.lease'


@contextlib.contextmanager
def hold(folder: storage.PathLike, *, purpose: str) -> Iterator[Lease]:
  """Holds `folder` for this process while the block runs.

  Args:
    folder: what is to be written by one process alone; the lease lies beside
      it, so that the folder itself can be renamed.
    purpose: shown to whoever else wants the folder, such as 'sample'.

  Yields:
    The lease, to be checked before each write.

  Raises:
    HeldError: naming the holder (host, process, since when, for what).
    OSError: the lease cannot be written.
  """
  try:
    storage.path(folder).parent.mkdir(parents=True, exist_ok=True)
  except OSError as error:
    raise storage.with_advice(error) from error
  lease = of(folder, purpose)
  lease.take()
  try:
    yield lease
  finally:
    lease.give_up()


def of(folder: storage.PathLike, purpose: str) -> Lease:
  """The lease of a folder, not taken yet.

  Args:
    folder: as of `hold`, in a folder that exists.
    purpose: as of `hold`.
  """
  folder = storage.path(folder)
  path = folder.parent / f'.{folder.name}{SUFFIX}'
  kind = StoreLease if storage.is_remote(folder) else FileLease
  return kind(folder, path, holders.record(purpose))


def holder_of(folder: storage.PathLike) -> str | None:
  """Who holds a folder, in words; None: no living process is known to.

  Args:
    folder: as of `hold`. On gs:// a holder that died shortly before counts as
      alive for STALE_SECONDS, unless it was one of this machine.
  """
  if not storage.path(folder).parent.exists():
    return None
  return of(folder, 'a look').living()
