"""The Hungarian national finals of 2023: questions that a person grades."""

import re

from rest_jax.tasks import problem_sets
from rest_jax.tasks.benchmarks import files, readings, tables
from rest_jax.tasks.benchmarks.readings import BadRow, Reading, text

_TABLES = ('(?:data/|default/)?{split}',)


def read(source: files.Source) -> Reading | None:
  """Reads the exam: split test; None where it is not there."""
  names = tables.find(source, _TABLES, ('test',)).get('test', ())
  if not names:  # the one CSV file, by whatever name
    names = [name for name in source.names if re.fullmatch(r'[^/]+\.csv', name)]
  if len(names) != 1:
    return None
  result = readings.Collector(source)
  numbered = (
    # where it has no column of numbers, by its place
    (where, row if isinstance(row, tables.Fault) else {'idx': number, **row})
    for number, (where, row) in enumerate(result.rows(names[0]))
  )
  result.add_all('test', numbered, _problem)
  return result.reading()


def _problem(row) -> problem_sets.Row:
  index = text(row, 'idx').strip()
  if not (index.isascii() and index.isdigit()):
    raise BadRow('idx is not a number')
  return problem_sets.Row(
    key=f'{int(index):02d}',
    question=text(row, 'problem', 'Question', 'question').strip(),
  )
