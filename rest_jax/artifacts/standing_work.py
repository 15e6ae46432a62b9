"""What stands in a stage's output folder when the stage begins, and goes on."""

from collections.abc import Callable, Mapping
from typing import Any, Literal, NamedTuple

from rest_jax.artifacts import fingerprints, manifests, storage


class Standing(NamedTuple):
  """What stands in a folder.

  Attributes:
    done: its manifest, if nothing is left to do.
    previous: its manifest, if it is extended.
  """

  done: manifests.Manifest | None = None
  previous: manifests.Manifest | None = None


def begin(
  folder: storage.Path,
  fingerprint: dict[str, Any],
  continued: Callable[[Mapping[str, Any]], dict[str, Any]],
  on_new_inputs: Literal['remake', 'set_aside'],
  holds_work: Callable[[storage.Path], bool],
) -> Standing:
  """Finds out what stands in a folder, and notes what is made there now.

  Args:
    folder: held by this process.
    fingerprint: of what is made; its semantic bindings are replaced by those
      that go on with what stands.
    continued: these, for the fingerprint that stands; raises FingerprintError
      where it cannot be gone on with.
    on_new_inputs: as of stage_work.work_on.
    holds_work: as of stage_work.work_on.
  """
  standing = manifests.load_if_done(folder)
  old = None
  if standing is not None:
    old = standing.fingerprint
  elif (folder / manifests.STARTED).exists() and holds_files(folder):
    old = storage.read_json(folder / manifests.STARTED)
  if old is not None:
    try:
      fingerprint['semantic'] = continued(old)
    except fingerprints.FingerprintError:
      superseded = (
        on_new_inputs == 'set_aside' and old['inputs'] != fingerprint['inputs']
      )
      stands = standing or holds_work(folder)
      if stands and not superseded:
        raise
      storage.set_aside(folder, last=(manifests.STARTED, manifests.MANIFEST))
      old = None
  found = Standing()
  if old is not None:
    if old == fingerprint and standing is not None:
      if standing.is_whole():
        return Standing(done=standing)
    elif old['inputs'] == fingerprint['inputs']:
      # Valid until the grown one replaces it.
      found = Standing(previous=standing)
    elif on_new_inputs == 'set_aside':
      storage.set_aside(folder, last=(manifests.STARTED, manifests.MANIFEST))
    else:
      (folder / manifests.MANIFEST).unlink(missing_ok=True)
  storage.write_json(folder / manifests.STARTED, fingerprint)
  return found


def holds_files(folder: storage.PathLike) -> bool:
  """Whether a folder is there and holds anything that could be lost."""
  return any(
    name != manifests.STARTED and not name.startswith('.')
    for name in storage.names_in(folder)
  )
