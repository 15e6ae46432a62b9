"""Reads the Hungarian national finals of 2023, which a person grades."""

import re

from rest_jax.tasks import problem_sets
from rest_jax.tasks.benchmarks import file_sources, parsed_dataset, tables
from rest_jax.tasks.benchmarks.parsed_dataset import BadRow, ParsedDataset, text

_TABLES = ('(?:data/|default/)?{split}',)


def read(source: file_sources.Source) -> ParsedDataset | None:
  """Reads the exam.

  Args:
    source: its table, or one CSV file of any name.

  Returns:
    Split test; None if the source has no such file, or several.
  """
  names = tables.find(source, _TABLES, ('test',)).get('test', ())
  if not names:
    names = [name for name in source.names if re.fullmatch(r'[^/]+\.csv', name)]
  if len(names) != 1:
    return None
  result = parsed_dataset.Collector(source)
  entries = result.entries(names[0])
  numbered = (_numbered(entry, i) for i, entry in enumerate(entries))
  result.add_all('test', numbered, _problem)
  return result.dataset()


def _numbered(entry: tables.Entry, index: int) -> tables.Entry:
  """The entry with its place as its number, if it has no such column."""
  if isinstance(entry.row, tables.Fault):
    return entry
  return tables.Entry(entry.where, {'idx': index, **entry.row})


def _problem(row: tables.RawRow) -> problem_sets.Row:
  index = text(row, 'idx').strip()
  if not (index.isascii() and index.isdigit()):
    raise BadRow('idx is not a number')
  return problem_sets.Row(
    key=f'{int(index):02d}',
    question=text(row, 'problem', 'Question', 'question').strip(),
  )
