"""Folders that were set aside and hold what their successor holds.

A folder is made again because an input was edited, or because somebody asked
for it. Often the result is the same: a grader was changed where no sample
touches it, a problem was added to another split. Such a folder takes over the
digest of its twin, and everything that was made of the twin stands.
"""

from collections.abc import Callable

from rest_jax.artifacts import manifests, records, stage_work, storage
from rest_jax.config import configuration

_LEVELS = 2  # problems/<task>/<split>: problems is set aside as a whole


def superseded(folder: storage.PathLike) -> list[manifests.Manifest]:
  """The finished folders that once stood in a folder's place, if whole.

  First those that were set aside alone, then those with a folder around them;
  of each, the newest first.
  """
  folder = storage.path(folder)
  found, below = [], ''
  for place in (folder, *list(folder.parents)[:_LEVELS]):
    number, here = 1, []
    while (aside := storage.aside(place, number)).exists():
      one = _whole(aside / below if below else aside)
      if one is not None:
        here.append(one)
      number += 1
    found += here[::-1]
    below = f'{place.name}/{below}'.rstrip('/')
  return found


def _whole(folder: storage.Path) -> manifests.Manifest | None:
  """A folder's manifest; None where somebody has cleared it out since."""
  try:
    one = manifests.load_if_done(folder)
  except configuration.ConfigurationError:
    return None
  return one if one is not None and one.is_whole() else None


def of(
  work: stage_work.Work,
  same: Callable[[manifests.Manifest], bool] | None = None,
) -> manifests.Manifest | None:
  """A folder that was set aside and held what this one holds.

  Args:
    work: a folder whose parts are all written.
    same: whether a folder that was set aside holds the same; by default, if
      its parts have the same content.
  """

  def has_same_parts(one: manifests.Manifest) -> bool:
    ours = manifests.content_of(work.parts())
    return manifests.content_of(one.parts) == ours

  kind = work.kind.__name__ if work.kind else None
  for one in superseded(work.folder):
    if (one.stage, one.kind) != (work.stage, kind):
      continue
    try:
      if (same or has_same_parts)(one):
        return one
    except records.CorruptPartError:
      continue  # a damaged part costs the work of what comes next
  return None
