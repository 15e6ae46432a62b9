"""Parts of a folder that many processes fill, each part by one at a time.

A claim is a lease (leases.py) of the part alone. What a process had claimed is
free again when it dies: at once on a local file system, on gs:// when it has
renewed nothing for leases.STALE_SECONDS.
"""

from rest_jax.artifacts import holders, leases, storage


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
    self._leases: dict[str, leases.Lease] = {}
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
