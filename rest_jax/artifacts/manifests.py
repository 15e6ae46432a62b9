"""A stage's finished folder: parts, and a manifest that is written last.

    FOLDER/
      started.json                   the fingerprint of what is under way
      part-00000-of-00030.parquet …  idempotent: made again only if not whole
      manifest.json                  written last: the folder is done

How a folder is made, or refused: stage_work.py.
"""

import dataclasses
import hashlib
import json
from collections.abc import Mapping, Sequence
from typing import Any

import pyarrow as pa

from rest_jax.artifacts import records, storage
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
    # A store may list a part some time after it can be read.
    left = {row['name'] for row in self.parts} - storage.names_in(self.folder)
    return all((self.folder / name).exists() for name in left)

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
