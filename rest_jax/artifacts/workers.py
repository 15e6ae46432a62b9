"""A folder with many writers, each of which claims the parts that it makes.

A claim is a lease (leases.py) of the part alone. What a process had claimed is
free again when it dies: at once on a local file system, on gs:// when it has
renewed nothing for store_leases.STALE_SECONDS.
"""

import contextlib
import dataclasses
import re
import time
from collections.abc import Iterator

from rest_jax.artifacts import held_folders, holders, leases, storage

UNFINISHED = (
  'unfinished.parquet'  # of worker 0; of another: unfinished-3.parquet
)
_OF_WORKER = re.compile(r'unfinished(?:-(\d+))?\.parquet')
PATIENCE_SECONDS = 120.0  # for another worker that begins or ends a folder


@dataclasses.dataclass(frozen=True)
class Worker:
  """One of the processes that fill a folder together.

  Attributes:
    index: which of them.
    number: how many there are.
  """

  index: int = 0
  number: int = 1

  @property
  def is_alone(self) -> bool:
    """Whether there is no other."""
    return self.number == 1

  @property
  def unfinished(self) -> str:
    """The file that keeps what this worker has of parts that are not whole."""
    if not self.index:
      return UNFINISHED
    return UNFINISHED.replace('.', f'-{self.index}.')

  def owns(self, number: int) -> bool:
    """Whether this worker is the first to make the part of this number."""
    return number % self.number == self.index

  def takes_over(self, name: str) -> bool:
    """Whether a file is what this worker goes on from, see `unfinished`."""
    found = _OF_WORKER.fullmatch(name)
    return found is not None and self.owns(int(found[1] or 0))

  def purpose(self, stage: str) -> str:
    """What a lease is taken for; no two workers have the same."""
    return f'{stage}, worker {self.index} of {self.number}'


ALONE = Worker()


class Claims:
  """Parts of a folder that several processes fill, each part by one of them.

  A context manager: what is claimed when it ends is given up.
  """

  def __init__(self, folder: storage.PathLike, *, purpose: str):
    """Claims nothing yet.

    Args:
      folder: of the parts; it exists.
      purpose: shown to the others; two processes of one job must differ in it.
    """
    self._folder, self._purpose = storage.path(folder), purpose
    # Kept from one attempt to the next: whether a rival lives is seen only in
    # what happens between them.
    self._leases: dict[str, held_folders.Lease] = {}
    self._claimed: set[str] = set()

  def __enter__(self) -> 'Claims':
    return self

  def __exit__(self, *_) -> None:
    for name in list(self._claimed):
      self.give_up(name)

  def take(self, name: str) -> bool:
    """Claims a part, unless another living process has; never waits."""
    if name in self._claimed:
      return True
    if name not in self._leases:
      self._leases[name] = leases.of(self._folder / name, self._purpose)
    if not self._leases[name].attempt():
      return False
    self._claimed.add(name)
    return True

  def rival(self, name: str) -> str:
    """Who had claimed a part when `take` was refused it last, in words."""
    return holders.described(self._leases[name].holder or {})

  def check(self, name: str) -> None:
    """Raises LostError if another process may have claimed the part."""
    if name in self._claimed:
      self._leases[name].check()

  def give_up(self, name: str) -> None:
    """From now on others may claim the part."""
    if name in self._claimed:
      self._claimed.remove(name)
      self._leases.pop(name).give_up()


def require_none(folder: storage.PathLike, *, purpose: str) -> None:
  """Raises HeldError where a worker is at a part of a folder.

  Called by a process that fills the folder alone, and holds it: no worker can
  begin then, but one that had begun before holds no more than its part.

  Args:
    folder: of the parts.
    purpose: shown to the worker, should it look just then.
  """
  for path in sorted(storage.path(folder).glob(f'.*.parquet{leases.SUFFIX}')):
    name = path.name.removeprefix('.').removesuffix(leases.SUFFIX)
    lease = leases.of(path.parent / name, purpose)
    lease.take()
    lease.give_up()


@contextlib.contextmanager
def hold(folder: storage.PathLike, purpose: str) -> Iterator[None]:
  """leases.hold, where others hold the folder for moments only.

  Args:
    folder: as of leases.hold.
    purpose: as of leases.hold.

  Raises:
    HeldError: it has been held for PATIENCE_SECONDS.
  """
  give_up = time.monotonic() + PATIENCE_SECONDS
  with contextlib.ExitStack() as stack:
    while True:
      try:
        stack.enter_context(leases.hold(folder, purpose=purpose))
        break
      except held_folders.HeldError:
        if time.monotonic() >= give_up:
          raise
        time.sleep(held_folders.POLL_SECONDS)
    yield
