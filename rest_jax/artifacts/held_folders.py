"""The folders that this process holds, and what a lease of one is.

leases.py takes them; file_leases.py and store_leases.py say how.
"""

import abc
from typing import Any

from rest_jax.artifacts import holders, storage, store_patience

POLL_SECONDS = 2.0  # between two looks at a folder that another process holds

Owner = dict[str, Any]  # holders.record


class LeaseError(store_patience.UnavailableError):
  """The folder cannot be written now; the same command may succeed later."""


class HeldError(LeaseError):
  """Another living process holds the folder."""


class LostError(LeaseError):
  """This process held the folder and does so no longer."""


class Lease(abc.ABC):
  """A folder, or a part of one, that one process holds at a time; see `hold`.

  Attributes:
    folder: what is held.
    holder: the record of the process by which the last `attempt` failed.
  """

  def __init__(self, folder: storage.Path):
    self.folder = folder
    self.holder: Owner | None = None

  @abc.abstractmethod
  def attempt(self) -> bool:
    """Takes the lease if no living process is known to hold it."""

  @abc.abstractmethod
  def take(self) -> None:
    """Waits until it is known whether the lease can be had, and takes it.

    Raises:
      HeldError: a living process holds it.
    """

  @abc.abstractmethod
  def check(self) -> None:
    """Raises LostError if another process may have taken it over."""

  @abc.abstractmethod
  def living(self) -> str | None:
    """Who holds it, in words; changes nothing."""

  def give_up(self) -> None:
    """Holds it no longer."""
    _held.remove(self)

  def _taken(self) -> None:
    """It is held from now on."""
    _held.append(self)

  def _refused(self) -> HeldError:
    return HeldError(
      f'{self.folder}: held by {holders.described(self.holder or {})}. Wait '
      'for it, stop it, or use another RUN_DIR.'
    )


_held: list[Lease] = []


def check_all() -> None:
  """Raises LostError if any folder that this process holds was lost."""
  for lease in list(_held):
    lease.check()
