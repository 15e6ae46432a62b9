"""A published data set after parsing: its problems, and the rows left out.

The module of each data set (gsm8k.py, mathematics.py, …) gathers its problems
with a `Collector`, which gives a `ParsedDataset`.
"""

import dataclasses
import hashlib
import json
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence

from rest_jax.rewards.code import code_problems
from rest_jax.tasks import problem_sets
from rest_jax.tasks.benchmarks import file_sources, tables

# Reasons to leave a row out. These are faults of the published data itself:
# such rows count towards the published number of problems.
NO_BOX = 'the solution has no box, or an empty one'
NO_TESTS = 'no tests'
BAD_TESTS = 'tests that cannot be read'
OWN_FAULTS = frozenset({NO_BOX, NO_TESTS, BAD_TESTS})
# These are faults of a copy: such rows do not count.
SAME_KEY = 'a key that an earlier row has'
LINK = 'a link in an archive, never followed'


class BadRow(ValueError):
  """Raised for a row that is left out; its message is the reason."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class ParsedDataset:
  """A data set as it was read.

  Attributes:
    rows: split to its problems. They are sorted by their keys, so that every
      layout in which the set is published gives the same.
    skipped: split to reason to the places of the rows that were left out.
    where: the folder or archive that was read, for messages.
    files: name to path of every table, or of the archive, that was read.
  """

  rows: Mapping[str, Sequence[problem_sets.Row]]
  skipped: Mapping[str, Mapping[str, Sequence[str]]]
  where: str
  files: Mapping[str, str]

  def digest(self) -> str:
    """The sha256 of all problems; the same for every layout."""
    result = hashlib.sha256()
    for split in sorted(self.rows):
      for row in self.rows[split]:
        fields = [split, *dataclasses.astuple(row)]
        result.update(json.dumps(fields).encode())
        result.update(b'\n')
    return result.hexdigest()


class Collector:
  """Gathers the problems of a source; leaves out a key that comes again."""

  def __init__(self, source: file_sources.Source):
    self._source = source
    self._rows: dict[str, dict[str, problem_sets.Row]] = {}
    self._skipped: dict[str, dict[str, list[str]]] = {}
    self._files: dict[str, str] = {}
    if isinstance(source, file_sources.Archive):
      self._files[source.name] = source.where
      for link in source.links:
        self.skip('', f'{source.name}/{link}', LINK)

  def entries(self, name: str) -> Iterator[tables.Entry]:
    """Reads the rows of a table, and notes that the table was read."""
    if isinstance(self._source, file_sources.Folder):
      self._files[name] = self._source.path(name)
    return tables.entries(self._source, name)

  def add_tables(
    self,
    patterns: Sequence[str],
    splits: Sequence[str],
    make: Callable[[tables.RawRow], problem_sets.Row],
  ) -> bool:
    """Adds the problems of all tables of these splits.

    Args:
      patterns: see tables.find.
      splits: see tables.find.
      make: turns a row into a problem; raises BadRow to leave it out.

    Returns:
      Whether any table was found.
    """
    found = tables.find(self._source, patterns, splits)
    for split, names in found.items():
      for name in names:
        self.add_all(split, self.entries(name), make)
    return bool(found)

  def add(self, split: str, where: str, row: problem_sets.Row) -> None:
    """Adds a problem; leaves it out if its key is there already."""
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
    self,
    split: str | Callable[[tables.RawRow], str],
    entries: Iterable[tables.Entry],
    make: Callable[[tables.RawRow], problem_sets.Row],
  ) -> None:
    """Adds the problem of each row.

    Args:
      split: its name, or a function that tells a row's split.
      entries: the rows.
      make: turns a row into a problem; raises BadRow to leave it out.
    """
    for entry in entries:
      name = split if isinstance(split, str) else 'unknown'
      if isinstance(entry.row, tables.Fault):
        self.skip(name, entry.where, entry.row.reason)
        continue
      try:
        name = name if isinstance(split, str) else split(entry.row)
        self.add(name, entry.where, make(entry.row))
      except BadRow as error:
        self.skip(name, entry.where, str(error))

  def dataset(self) -> ParsedDataset:
    """The data set with everything that was added and left out."""
    return ParsedDataset(
      rows={
        split: sorted(rows.values(), key=lambda row: _natural(row.key))
        for split, rows in self._rows.items()
      },
      skipped=self._skipped,
      where=self._source.where,
      files=self._files,
    )


def text(row: tables.RawRow, *names: str, empty: bool = False) -> str:
  """Reads a text field.

  Args:
    row: as published.
    *names: of the field, in the different layouts; the first that is there and
      not None is read.
    empty: whether the text may be empty.

  Returns:
    The text; a whole number as its digits.

  Raises:
    BadRow: the field is missing, or neither a text nor a whole number.
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


def tests(task: str, row: tables.RawRow) -> str:
  """Reads the tests of a code problem.

  Args:
    task: a name in rewards/code/code_problems.py.
    row: as published.

  Returns:
    They as JSON (program_tests.Tests.to_json).

  Raises:
    BadRow: they cannot be read, or they test nothing.
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
  """The text with LF at the end of every line."""
  return value.replace('\r\n', '\n').replace('\r', '\n')


def _natural(key: str) -> tuple[int, int, str]:
  """Sorts numbers by value, and before other keys."""
  return (0, int(key), '') if key.isascii() and key.isdigit() else (1, 0, key)
