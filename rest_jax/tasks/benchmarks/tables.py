"""Rows of JSONL (also gzipped), JSON, Parquet and CSV files."""

import csv
import dataclasses
import gzip
import io
import json
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any, BinaryIO

from rest_jax.config import configuration
from rest_jax.tasks.benchmarks import file_sources

RawRow = Mapping[str, Any]  # a row as it is published: field to value


@dataclasses.dataclass(frozen=True, slots=True)
class Fault:
  """Stands in place of a row that cannot be read, and says why."""

  reason: str


@dataclasses.dataclass(frozen=True, slots=True)
class Entry:
  """One row of a file.

  Attributes:
    where: its place: 'train.jsonl:7' is line 7, 'train.parquet[7]' is row 7,
      both counted from 1.
    row: its fields, or why it cannot be read.
  """

  where: str
  row: RawRow | Fault


NOT_UTF8 = 'not UTF-8'
NOT_JSON = 'not valid JSON'
NOT_AN_OBJECT = 'not a JSON object'
# 'train.jsonl', 'train-00000-of-00002.parquet', 'train/0000.parquet'.
_FILE = r'(?:-\d+-of-\d+|/\d+)?\.(parquet|jsonl\.gz|jsonl|json|csv)'
_BATCH = 256  # rows of Parquet that are in memory at once


def find(
  source: file_sources.Source, patterns: Sequence[str], splits: Sequence[str]
) -> dict[str, list[str]]:
  """Finds the files of each split.

  Args:
    source: where to look.
    patterns: regular expressions that match a file's name up to its shard
      number and ending (which _FILE matches). `{split}` stands for the split's
      name. The first pattern that matches any file is used for all splits.
    splits: names of the splits.

  Returns:
    Split to the names of its files; {} if no pattern matches.

  Raises:
    ConfigurationError: a split is there in two formats.
  """
  for pattern in patterns:
    found = {}
    for split in splits:
      regex = re.compile(pattern.replace('{split}', split) + _FILE)
      matches = [m for name in source.names if (m := regex.fullmatch(name))]
      if len({match[match.lastindex] for match in matches}) > 1:
        names = ', '.join(match.group() for match in matches)
        raise configuration.ConfigurationError(
          f'{source.where}: {split} is there more than once: {names}. Keep one.'
        )
      if matches:
        found[split] = [match.group() for match in matches]
    if found:
      return found
  return {}


def entries(source: file_sources.Source, name: str) -> Iterator[Entry]:
  """Reads the rows of a file, in their order.

  Args:
    source: where the file is.
    name: of the file; its ending tells the format.

  Raises:
    ConfigurationError: the file as a whole is damaged.
  """
  with file_sources.damage(f'{source.where}/{name}'), source.open(name) as file:
    if name.endswith('.parquet'):
      yield from _parquet(file, name, source.where)
    elif name.endswith('.csv'):
      yield from _csv(file, name)
    elif name.endswith('.gz'):
      with gzip.open(file) as plain:
        yield from _lines(plain, name)
    elif name.endswith('.json'):
      yield from _json(file, name)
    else:
      yield from _lines(file, name)


def parse_object(data: bytes) -> RawRow | Fault:
  """Parses a JSON object; a Fault if the bytes are not one."""
  try:
    value = json.loads(data.decode('utf-8-sig'))
  except UnicodeDecodeError:
    return Fault(NOT_UTF8)
  except (ValueError, RecursionError):
    return Fault(NOT_JSON)
  return value if isinstance(value, dict) else Fault(NOT_AN_OBJECT)


def _lines(file: Iterable[bytes], name: str) -> Iterator[Entry]:
  for number, line in enumerate(file, 1):
    if line.strip():
      yield Entry(f'{name}:{number}', parse_object(line))


def _json(file: BinaryIO, name: str) -> Iterator[Entry]:
  """Reads a JSON list of rows, or JSON lines that are named .json."""
  data = file.read()
  if not data.lstrip(b'\xef\xbb\xbf \t\r\n').startswith(b'['):
    yield from _lines(io.BytesIO(data), name)
    return
  try:
    values = json.loads(data.decode('utf-8-sig'))
  except ValueError as error:  # UnicodeDecodeError is one
    raise configuration.ConfigurationError(
      f'{name}: not a JSON list in UTF-8 ({error}). Download it again.'
    ) from None
  for number, value in enumerate(values, 1):
    ok = isinstance(value, dict)
    row = value if ok else Fault(NOT_AN_OBJECT)
    yield Entry(f'{name}[{number}]', row)


def _parquet(file: BinaryIO, name: str, where: str) -> Iterator[Entry]:
  import pyarrow
  from pyarrow import parquet

  try:
    number = 0
    for batch in parquet.ParquetFile(file).iter_batches(_BATCH):
      for row in batch.to_pylist():
        number += 1
        yield Entry(f'{name}[{number}]', row)
  except (pyarrow.ArrowException, UnicodeDecodeError) as error:
    raise configuration.ConfigurationError(
      f'{where}/{name}: not a Parquet file that can be read, truncated or '
      f'damaged ({error}). Download it again.'
    ) from error


def _csv(file: BinaryIO, name: str) -> Iterator[Entry]:
  try:
    text = file.read().decode('utf-8-sig')
  except UnicodeDecodeError as error:
    raise configuration.ConfigurationError(
      f'{name}: not UTF-8 ({error}). Download it again.'
    ) from None
  for number, row in enumerate(csv.DictReader(io.StringIO(text)), 1):
    yield Entry(f'{name}[{number}]', row)
