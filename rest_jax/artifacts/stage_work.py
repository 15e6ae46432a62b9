"""Work on a stage's output folder: what stands, what is left to do.

A *fingerprint* is what a result depends on: the stage's semantic bindings, the
digests of its input folders, the version of the stage's code. A folder that
stands under the same fingerprint is done. One whose bindings differ is refused
with the list of differences, except that the growable bindings may grow. One
whose inputs have changed since (because they grew) is made again: in place
where that is cheap, else after the old folder was set aside. A folder that was
started and holds no work yet takes any configuration.

A folder that is made again, and turns out to hold what one that was set aside
held (its twin, twins.py), takes over that one's digest: what was made of it
stands.

A folder has one writer, which holds it; or several workers, each of which
claims the parts that it makes (workers.py) and holds the folder only while it
begins and while it writes the manifest.
"""

import contextlib
import dataclasses
import json
import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, Literal

import pyarrow as pa

from rest_jax import __version__
from rest_jax.artifacts import (
  fingerprints,
  held_folders,
  holders,
  leases,
  manifests,
  records,
  standing_work,
  storage,
  workers,
)
from rest_jax.config import configuration


@dataclasses.dataclass
class Work:
  """A folder while its stage works on it; see `work_on`.

  Attributes:
    folder: where.
    done: the standing manifest, if there is nothing left to do.
    previous: the manifest that is being extended, if a binding grew.
    lease: of the folder, checked before each write; None: not this process's.
    worker: which of the folder's workers this process is.
    claims: of parts, where there are several workers.

  Every method that writes raises held_folders.LostError where another process
  may have taken the folder over.
  """

  folder: storage.Path
  stage: str
  kind: type | None
  fingerprint: dict[str, Any]
  done: manifests.Manifest | None = None
  previous: manifests.Manifest | None = None
  lease: held_folders.Lease | None = None
  worker: workers.Worker = workers.ALONE
  claims: workers.Claims | None = None
  _parts: dict[str, dict] = dataclasses.field(default_factory=dict)

  def has(self, name: str, *, source: str) -> bool:
    """Whether this part is there, whole, and made from just this source."""
    row = self._parts.get(name)
    if row is None:
      row = records.describe_part(self.folder / name, self.kind)
    if row is None or row['source'] != source:
      return False
    self._parts[name] = row
    return True

  def claim(self, name: str, *, source: str) -> bool:
    """Whether a part that was not there is this process's to make.

    Not where another worker makes it, or has made it since.
    """
    if self.claims is None:
      return True
    if not self.claims.take(name):
      return False
    if self.has(name, source=source):
      self.claims.give_up(name)
      return False
    return True

  def rival(self, name: str) -> str:
    """Who makes a part that could not be claimed, in words."""
    return self.claims.rival(name)

  def write(self, name: str, rows: Sequence, *, source: str) -> None:
    """Writes one part of records, which is claimed no longer."""
    self.write_table(name, records.to_table(self.kind, rows), source=source)

  def write_table(self, name: str, table: pa.Table, *, source: str) -> None:
    """Writes one part, which is claimed no longer."""
    self._check()
    if self.claims is not None:
      self.claims.check(name)
    self._parts[name] = records.write_table(
      self.folder / name, self.kind, table, source=source
    )
    if self.claims is not None:
      self.claims.give_up(name)

  def parts(self) -> list[dict]:
    """The manifest rows of the parts that are there, by name."""
    return [self._parts[name] for name in sorted(self._parts)]

  def keep_unfinished(self, rows: Sequence) -> None:
    """Writes records of parts that are not whole yet, instead of those before.

    They are there for the next attempt, and go when the folder is done.
    """
    self._check()
    records.write_table(
      self.folder / self.worker.unfinished,
      self.kind,
      records.to_table(self.kind, rows),
      source=manifests.digest_of(self.fingerprint),
    )

  def describe_unfinished(self) -> list[dict]:
    """The rows of what `keep_unfinished` wrote under the same fingerprint.

    Of those of an earlier number of workers, each of today's takes its share.
    """
    ours = manifests.digest_of(self.fingerprint)
    paths = sorted(self.folder.glob('*.parquet'))
    rows = [
      records.describe_part(path, self.kind)
      for path in paths
      if self.worker.takes_over(path.name)
    ]
    return [row for row in rows if row is not None and row['source'] == ours]

  def unfinished(self) -> list[Any]:
    """What `keep_unfinished` wrote in an earlier attempt; [] without one."""
    found = []
    for row in self.describe_unfinished():
      path = self.folder / row['name']
      table = records.read_part(path, self.kind, expected=row)
      found += records.to_records(self.kind, table)
    return found

  def is_done(self) -> bool:
    """Whether the folder is done, by this worker or another."""
    if self.done is None and self.claims is not None:
      standing = manifests.load_if_done(self.folder)
      if standing is not None and standing.fingerprint == self.fingerprint:
        self.done = standing
    return self.done is not None

  def finish(
    self,
    *,
    statistics: Mapping[str, Any] | None = None,
    recorded: Mapping[str, Any] | None = None,
    content: Any = None,
    twin: manifests.Manifest | None = None,
  ) -> manifests.Manifest:
    """Writes the manifest: from now on the folder is done.

    Args:
      statistics: deterministic results.
      recorded: times, versions, the mesh.
      content: for folders without parts, what identifies their content.
      twin: a folder that was set aside and held the same; see twins.py.
    """
    if self.claims is None:
      self._check()
      return self._finish(statistics, recorded, content, twin)
    with workers.hold(self.folder, self.worker.purpose(self.stage)):
      if not self.is_done():
        self._finish(statistics, recorded, content, twin)
    return self.done

  def _finish(
    self,
    statistics: Mapping[str, Any] | None,
    recorded: Mapping[str, Any] | None,
    content: Any,
    twin: manifests.Manifest | None,
  ) -> manifests.Manifest:
    parts = self.parts()
    for path in self.folder.glob('*.parquet'):
      if path.name not in self._parts:
        # Left by an earlier, superseded attempt; a store may list it still
        # after it was deleted.
        path.unlink(missing_ok=True)
    if not storage.is_remote(self.folder):
      # Locks outlive their files. On a store a slow worker would take the loss
      # of its lease for a failure; there each deletes its own.
      for path in self.folder.glob(f'.*{leases.SUFFIX}'):
        path.unlink(missing_ok=True)
    fingerprint = json.loads(json.dumps(self.fingerprint))
    identity = [fingerprint, manifests.content_of(parts), content]
    value = {
      'stage': self.stage,
      'kind': self.kind.__name__ if self.kind else None,
      'fingerprint': fingerprint,
      'digest': manifests.digest_of(identity) if twin is None else twin.digest,
      'parts': parts,
      'statistics': json.loads(json.dumps(statistics or {})),
      'recorded': json.loads(json.dumps(recorded or {})),
    }
    storage.write_json(self.folder / manifests.MANIFEST, value)
    self.done = manifests.Manifest(folder=self.folder, **value)
    return self.done

  def _check(self) -> None:
    if self.lease is not None:
      self.lease.check()


@contextlib.contextmanager
def work_on(
  folder: storage.PathLike,
  *,
  stage: str,
  kind: type | None,
  semantic: Mapping[str, Any],
  inputs: Mapping[str, manifests.Manifest | str],
  version: int,
  growable: Sequence[str] = (),
  on_new_inputs: Literal['remake', 'set_aside'] = 'remake',
  absent: Mapping[str, Any] | None = None,
  holds_work: Callable[[storage.Path], bool] | None = None,
  remedy: str = '',
  worker: workers.Worker = workers.ALONE,
) -> Iterator[Work]:
  """Holds a stage's output folder, and says what is left to do in it.

  Args:
    folder: the stage's output.
    stage: its name.
    kind: the kind of record that it writes, or None.
    semantic: its semantic bindings (configuration.semantics).
    inputs: name to manifest (or digest) of what it reads.
    version: of the stage's code; raised when its results change.
    growable: keys of `semantic` whose number, or list, may grow.
    on_new_inputs: what becomes of a folder whose inputs have changed. One that
      is set aside may be made again with another configuration.
    absent: for keys of `semantic` that earlier versions did not record, what
      they stood for. (Fields of configurations need no entry: a field that was
      not recorded stands for its declared default.)
    holds_work: whether an unfinished folder holds anything that is not made
      again in seconds; by default, whether it holds any file.
    remedy: how a refused folder is made again, for the error; by default the
      flag of the launcher, where it has started this process.
    worker: where several fill the folder, which this is: the folder is then
      not held, and every part must be claimed.

  Yields:
    A Work; where its `done` is set there is nothing to do.

  Raises:
    FingerprintError: the folder belongs to another configuration.
    HeldError: another process is writing it.
  """
  folder = storage.path(folder)
  fingerprint = {
    'semantic': configuration.semantics(semantic),
    'inputs': {
      name: value.digest if isinstance(value, manifests.Manifest) else value
      for name, value in inputs.items()
    },
    'code': f'{__version__.rsplit(".", 1)[0]}/{stage}/{version}',
  }
  fingerprint = json.loads(json.dumps(fingerprint))
  work = Work(folder, stage, kind, fingerprint, worker=worker)

  def continued(old: Mapping[str, Any]) -> dict[str, Any]:
    return fingerprints.continued(
      old,
      fingerprint,
      semantic=semantic,
      absent=absent or {},
      where=folder,
      growable=growable,
      remedy=remedy or _remedy(),
    )

  def begin() -> None:
    work.done, work.previous = standing_work.begin(
      folder,
      fingerprint,
      continued,
      on_new_inputs,
      holds_work or standing_work.holds_files,
    )

  if worker.is_alone:
    with leases.hold(folder, purpose=stage) as work.lease:
      workers.require_none(folder, purpose=stage)
      begin()
      yield work
    return
  purpose = worker.purpose(stage)
  with workers.hold(folder, purpose):
    begin()
  with workers.Claims(folder, purpose=purpose) as work.claims:
    yield work


def _remedy() -> str:
  """How the launcher makes this process's folder again; '' without one."""
  job = os.environ.get(holders.JOB)
  return job and f'--redo={job} sets it aside first' or ''
