"""A stage's folder: parts, and a manifest that is written last.

    FOLDER/
      started.json                   the fingerprint of what is under way
      part-00000-of-00030.parquet …  idempotent: made again only if not whole
      manifest.json                  written last: the folder is done

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
"""

import contextlib
import dataclasses
import hashlib
import json
import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, Literal

import pyarrow as pa

from rest_jax import __version__
from rest_jax.artifacts import fingerprints, leases, records, storage
from rest_jax.config import configuration

MANIFEST, STARTED = 'manifest.json', 'started.json'


@dataclasses.dataclass(frozen=True)
class Manifest:
  """A finished folder, as its manifest.json says.

  Attributes:
    folder: where.
    stage: the stage that made it, such as 'score'.
    kind: the name of its kind of record, or None (a checkpoint).
    fingerprint: {'semantic', 'inputs', 'code'}.
    digest: identity of the content; what the next stage's fingerprint holds.
    parts: a row per part: name, rows, bytes, sha256, content, source.
    statistics: results worth keeping, deterministic.
    recorded: how it was made (times, mesh, versions); never compared.
  """

  folder: storage.Path
  stage: str
  kind: str | None
  fingerprint: Mapping[str, Any]
  digest: str
  parts: Sequence[Mapping[str, Any]]
  statistics: Mapping[str, Any]
  recorded: Mapping[str, Any]

  def table(
    self, *, part: str | None = None, columns: Sequence[str] | None = None
  ) -> pa.Table:
    """The records of one part or of all, each checked as it is read."""
    kind = records.KINDS[self.kind]
    tables = [
      records.read_part(
        self.folder / row['name'], kind, expected=row, columns=columns
      )
      for row in self.parts
      if part is None or row['name'] == part
    ]
    if not tables:
      empty = records.to_table(kind, [])
      return empty.select(columns) if columns else empty
    return pa.concat_tables(
      [table.replace_schema_metadata(None) for table in tables]
    )

  def is_whole(self) -> bool:
    """Whether every part is there; none is opened."""
    if not self.parts:
      return True
    there = {path.name for path in self.folder.iterdir()}
    return all(row['name'] in there for row in self.parts)

  def records(self, *, part: str | None = None) -> list:
    """The records of one part or of all."""
    return records.to_records(records.KINDS[self.kind], self.table(part=part))


def digest_of(value: Any) -> str:
  """A short digest of a JSON-ready value."""
  text = json.dumps(value, sort_keys=True, separators=(',', ':'))
  return hashlib.sha256(text.encode()).hexdigest()[:32]


def content_of(parts: Sequence[Mapping[str, Any]]) -> list[list[str]]:
  """What identifies the records of some parts."""
  return [[part['name'], part['content']] for part in parts]


def load(folder: storage.PathLike, *, stage: str | None = None) -> Manifest:
  """Reads the manifest of a finished folder.

  Args:
    folder: a stage's output.
    stage: the stage that must have made it.

  Raises:
    ConfigurationError: it is not there (with the stage to run), or another
      stage made it.
  """
  manifest = load_if_done(folder)
  if manifest is None:
    half = (storage.path(folder) / STARTED).exists()
    raise configuration.ConfigurationError(
      f'{folder}: {"not finished" if half else "not there"} (no {MANIFEST}). '
      f'Run the stage that makes it first{f": {stage}" if stage else ""}.'
    )
  if stage is not None and manifest.stage != stage:
    raise configuration.ConfigurationError(
      f'{folder}: made by the stage {manifest.stage}, expected {stage}.'
    )
  return manifest


def load_if_done(folder: storage.PathLike) -> Manifest | None:
  """The manifest of a finished folder, or None."""
  folder = storage.path(folder)
  if not (folder / MANIFEST).exists():
    return None
  value = storage.read_json(folder / MANIFEST)
  fields = {field.name for field in dataclasses.fields(Manifest)} - {'folder'}
  if not isinstance(value, dict) or set(value) != fields:
    raise configuration.ConfigurationError(
      f'{folder / MANIFEST}: not a manifest of this version. Delete it and '
      'run the stage again; its parts are kept.'
    )
  return Manifest(folder=folder, **value)


def restate(manifest: Manifest, statistics: Mapping[str, Any]) -> None:
  """Gives a finished folder other statistics; its digest stays the same."""
  value = storage.read_json(manifest.folder / MANIFEST)
  value['statistics'] = statistics
  storage.write_json(manifest.folder / MANIFEST, value)


@dataclasses.dataclass
class Work:
  """A folder while its stage works on it; see `work_on`.

  Attributes:
    folder: where.
    done: the standing manifest, if there is nothing left to do.
    previous: the manifest that is being extended, if a binding grew.
    lease: of the folder, checked before each write; None: not this process's.

  Every method that writes raises leases.LostError where another process may
  have taken the folder over.
  """

  folder: storage.Path
  stage: str
  kind: type | None
  fingerprint: dict[str, Any]
  done: Manifest | None = None
  previous: Manifest | None = None
  lease: leases.Lease | None = None
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

  def write(self, name: str, rows: Sequence, *, source: str) -> None:
    """Writes one part of records."""
    self.write_table(name, records.to_table(self.kind, rows), source=source)

  def write_table(self, name: str, table: pa.Table, *, source: str) -> None:
    """Writes one part."""
    self._check()
    self._parts[name] = records.write_table(
      self.folder / name, self.kind, table, source=source
    )

  def parts(self) -> list[dict]:
    """The manifest rows of the parts that are there, by name."""
    return [self._parts[name] for name in sorted(self._parts)]

  def finish(
    self,
    *,
    statistics: Mapping[str, Any] | None = None,
    recorded: Mapping[str, Any] | None = None,
    content: Any = None,
    twin: Manifest | None = None,
  ) -> Manifest:
    """Writes the manifest: from now on the folder is done.

    Args:
      statistics: deterministic results.
      recorded: times, versions, the mesh.
      content: for folders without parts, what identifies their content.
      twin: a folder that was set aside and held the same; see twins.py.
    """
    self._check()
    parts = self.parts()
    for path in self.folder.glob('*.parquet'):
      if path.name not in self._parts:
        path.unlink()  # left by an earlier, superseded attempt
    fingerprint = json.loads(json.dumps(self.fingerprint))
    value = {
      'stage': self.stage,
      'kind': self.kind.__name__ if self.kind else None,
      'fingerprint': fingerprint,
      'digest': twin.digest
      if twin is not None
      else digest_of([fingerprint, content_of(parts), content]),
      'parts': parts,
      'statistics': json.loads(json.dumps(statistics or {})),
      'recorded': json.loads(json.dumps(recorded or {})),
    }
    storage.write_json(self.folder / MANIFEST, value)
    self.done = Manifest(folder=self.folder, **value)
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
  inputs: Mapping[str, Manifest | str],
  version: int,
  growable: Sequence[str] = (),
  on_new_inputs: Literal['remake', 'set_aside'] = 'remake',
  absent: Mapping[str, Any] | None = None,
  holds_work: Callable[[storage.Path], bool] | None = None,
  remedy: str = '',
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
      name: value.digest if isinstance(value, Manifest) else value
      for name, value in inputs.items()
    },
    'code': f'{__version__.rsplit(".", 1)[0]}/{stage}/{version}',
  }
  fingerprint = json.loads(json.dumps(fingerprint))
  with leases.hold(folder, purpose=stage) as lease:
    work = Work(folder, stage, kind, fingerprint, lease=lease)
    standing = load_if_done(folder)
    old = None
    if standing is not None:
      old = standing.fingerprint
    elif (folder / STARTED).exists() and _holds_files(folder):
      old = storage.read_json(folder / STARTED)
    if old is not None:
      try:
        fingerprint['semantic'] = fingerprints.continued(
          old,
          fingerprint,
          semantic=semantic,
          absent=absent or {},
          where=folder,
          growable=growable,
          remedy=remedy or _remedy(),
        )
      except fingerprints.FingerprintError:
        superseded = (
          on_new_inputs == 'set_aside'
          and old['inputs'] != fingerprint['inputs']
        )
        stands = standing or (holds_work or _holds_files)(folder)
        if stands and not superseded:
          raise
        storage.set_aside(folder, last=(STARTED, MANIFEST))
        old = None
    if old is not None:
      if old == fingerprint and standing is not None:
        if standing.is_whole():
          work.done = standing
      elif old['inputs'] == fingerprint['inputs']:
        work.previous = standing  # valid until the grown one replaces it
      elif on_new_inputs == 'set_aside':
        storage.set_aside(folder, last=(STARTED, MANIFEST))
      else:
        (folder / MANIFEST).unlink(missing_ok=True)
    if work.done is None:
      storage.write_json(folder / STARTED, fingerprint)
    yield work


def _remedy() -> str:
  """How the launcher makes this process's folder again; '' without one."""
  job = os.environ.get(leases.JOB)
  return job and f'--redo={job} sets it aside first' or ''


def _holds_files(folder: storage.Path) -> bool:
  """Whether a folder that was started holds anything that could be lost."""
  names = {path.name for path in folder.iterdir()}
  return any(name != STARTED and not name.startswith('.') for name in names)
