"""What has been read of a data set: its problems, and what was left out."""

import dataclasses
import hashlib
import json
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Any

from rest_jax.rewards.code import code_problems
from rest_jax.tasks import problem_sets
from rest_jax.tasks.benchmarks import files, tables

# Faults of the published data itself: such rows count as being there.
NO_BOX = 'the solution has no box, or an empty one'
NO_TESTS = 'no tests'
BAD_TESTS = 'tests that cannot be read'
OWN_FAULTS = frozenset({NO_BOX, NO_TESTS, BAD_TESTS})
# Of a copy that is not what was published.
SAME_KEY = 'a key that an earlier row has'
LINK = 'a link in an archive, never followed'


class BadRow(ValueError):
  """Why a row is left out; its text is the reason."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class Reading:
  """A data set as it was read.

  Attributes:
    rows: split to its problems, in the order of their keys, so that every
      layout gives the same.
    skipped: split to reason to where each such row is.
    where: the folder or archive that was read.
    files: name to path of every table, or of the archive, that was read.
  """

  rows: Mapping[str, Sequence[problem_sets.Row]]
  skipped: Mapping[str, Mapping[str, Sequence[str]]]
  where: str
  files: Mapping[str, str]

  def digest(self) -> str:
    """A sha256 of all problems; the same for every layout."""
    result = hashlib.sha256()
    for split in sorted(self.rows):
      for row in self.rows[split]:
        fields = [split, *dataclasses.astuple(row)]
        result.update(json.dumps(fields).encode())
        result.update(b'\n')
    return result.hexdigest()


class Collector:
  """Gathers rows of a source; a key that is there twice is left out."""

  def __init__(self, source: files.Source):
    self._source = source
    self._rows: dict[str, dict[str, problem_sets.Row]] = {}
    self._skipped: dict[str, dict[str, list[str]]] = {}
    self._files: dict[str, str] = {}
    if isinstance(source, files.Archive):
      self._files[source.name] = source.where
      for link in source.links:
        self.skip('', f'{source.name}/{link}', LINK)

  def rows(self, name: str) -> Iterator[tuple[str, Any]]:
    """(where, raw row or Fault) of a table, which counts as read."""
    if isinstance(self._source, files.Folder):
      self._files[name] = self._source.path(name)
    return tables.rows(self._source, name)

  def add_tables(
    self, patterns: Sequence[str], splits: Sequence[str], make: Callable
  ) -> bool:
    """Keeps the problems of all tables of these splits; False for no table.

    Args:
      patterns, splits: see tables.find.
      make: a raw row to a problem; raises BadRow.
    """
    found = tables.find(self._source, patterns, splits)
    for split, names in found.items():
      for name in names:
        self.add_all(split, self.rows(name), make)
    return bool(found)

  def add(self, split: str, where: str, row: problem_sets.Row) -> None:
    """Keeps a problem."""
    rows = self._rows.setdefault(split, {})
    if row.key in rows:
      self.skip(split, where, SAME_KEY)
    else:
      rows[row.key] = row

  def skip(self, split: str, where: str, reason: str) -> None:
    """Notes that a row was left out."""
    reasons = self._skipped.setdefault(split, {})
    reasons.setdefault(reason, []).append(where)

  def add_all(
    self, split: Any, rows: Iterable[tuple[str, Any]], make: Callable
  ) -> None:
    """Makes and keeps the problem of each raw row.

    Args:
      split: its name, or a function of the raw row that gives it.
      rows: (where, raw row or Fault).
      make: a raw row to a problem; raises BadRow.
    """
    for where, raw in rows:
      name = split if isinstance(split, str) else 'unknown'
      if isinstance(raw, tables.Fault):
        self.skip(name, where, raw.reason)
        continue
      try:
        name = name if isinstance(split, str) else split(raw)
        self.add(name, where, make(raw))
      except BadRow as error:
        self.skip(name, where, str(error))

  def reading(self) -> Reading:
    """All that was gathered."""
    return Reading(
      rows={
        split: sorted(rows.values(), key=lambda row: _natural(row.key))
        for split, rows in self._rows.items()
      },
      skipped=self._skipped,
      where=self._source.where,
      files=self._files,
    )


def text(row: Mapping[str, Any], *names: str, empty: bool = False) -> str:
  """The first of these fields that is there, as text.

  Args:
    row: a raw row.
    names: of the field, in different layouts.
    empty: whether it may be empty.

  Raises:
    BadRow: none is there, or it is neither a text nor a whole number.
  """
  for name in names:
    value = row.get(name)
    if value is not None:
      break
  else:
    raise BadRow(f'no field {names[0]!r}')
  if isinstance(value, int) and not isinstance(value, bool):
    value = str(value)
  if not isinstance(value, str):
    raise BadRow(f'{name!r} is not a text')
  if any('\ud800' <= character <= '\udfff' for character in value):
    raise BadRow(f'{name!r} is not UTF-8')  # half of a surrogate pair
  if not empty and not value.strip():
    raise BadRow(f'{name!r} is empty')
  return value


def tests(task: str, row: Mapping[str, Any]) -> str:
  """The tests of a code problem, as JSON.

  Raises:
    BadRow: they cannot be read, or there is nothing in them to fail.
  """
  try:
    result = code_problems.tests(task, row)
    encoded = result.to_json()
  except (ValueError, RecursionError):
    raise BadRow(BAD_TESTS) from None
  if any('\ud800' <= character <= '\udfff' for character in encoded):
    raise BadRow(BAD_TESTS)
  if result.fault():
    raise BadRow(NO_TESTS if not result.inputs else BAD_TESTS)
  return encoded


def unix_lines(value: str) -> str:
  """With LF at the end of every line."""
  return value.replace('\r\n', '\n').replace('\r', '\n')


def _natural(key: str) -> tuple:
  return (0, int(key), '') if key.isascii() and key.isdigit() else (1, 0, key)
