"""Reads APPS (Hendrycks et al. 2021).

A problem's question is the published prompt with another last line: the
question, the starter code if there is some, and then, in our own words,
whether to read standard input or to write a function.
"""

import json
import re
import textwrap
from collections.abc import Iterator, Mapping
from typing import Any

from rest_jax.rewards.code import code_problems
from rest_jax.tasks import problem_sets
from rest_jax.tasks.benchmarks import file_sources, parsed_dataset, tables
from rest_jax.tasks.benchmarks.parsed_dataset import BadRow, ParsedDataset, text

_TABLES = ('(?:data/|all/|default/)?{split}',)
# In the archive, each problem is a folder of files; _COLUMNS names the column
# that each file is in the tables.
_PROBLEM = re.compile(
  r'(?:APPS/)?(train|test)/(\d+)/([a-z_]+\.(?:txt|json|py))'
)
_COLUMNS = {
  'question.txt': 'question',
  'input_output.json': 'input_output',
  'solutions.json': 'solutions',
  'starter_code.py': 'starter_code',
  'metadata.json': 'metadata',
}
STANDARD_INPUT = (
  'Read from standard input and write the answer to standard output.'
)
CALL_BASED = 'Write {name}: it is called with its arguments, and returns.'


def read(source: file_sources.Source) -> ParsedDataset | None:
  """Reads APPS.

  Args:
    source: its tables, or a folder of files for each problem.

  Returns:
    Splits train and test; None if the source has neither layout. A problem
    without tests, or with tests that cannot be read, is left out.
  """
  result = parsed_dataset.Collector(source)
  if result.add_tables(_TABLES, ('train', 'test'), _problem):
    return result.dataset()
  matches = {
    name: match
    for name in source.names
    if (match := _PROBLEM.fullmatch(name)) and match[3] in _COLUMNS
  }
  for split, entry in _folders(source, matches):
    result.add_all(split, [entry], _problem)
  return result.dataset() if matches else None


def _folders(
  source: file_sources.Source, matches: Mapping[str, re.Match[str]]
) -> Iterator[tuple[str, tables.Entry]]:
  """(split, row) of each problem's folder, once all its files are read."""
  left: dict[tuple[str, str], int] = {}
  for match in matches.values():
    folder = match[1], match[2]
    left[folder] = left.get(folder, 0) + 1
  gathered: dict[tuple[str, str], dict[str, Any]] = {}
  for name, data in source.stream(matches):
    match = matches[name]
    folder = match[1], match[2]
    row = gathered.setdefault(folder, {'problem_id': int(match[2])})
    row[_COLUMNS[match[3]]] = data
    left[folder] -= 1
    if not left[folder]:
      row = _decoded(gathered.pop(folder))
      yield match[1], tables.Entry(f'{match[1]}/{match[2]}', row)


def _decoded(row: Mapping[str, Any]) -> tables.RawRow | tables.Fault:
  """Turns the bytes of a folder's files into the columns of the tables."""
  try:
    row = {
      name: value.decode() if isinstance(value, bytes) else value
      for name, value in row.items()
    }
  except UnicodeDecodeError:
    return tables.Fault(tables.NOT_UTF8)
  try:
    metadata = json.loads(row.pop('metadata', '{}'))
  except ValueError:
    return tables.Fault(tables.NOT_JSON)
  return metadata | row if isinstance(metadata, dict) else row


def _problem(row: tables.RawRow) -> problem_sets.Row:
  question = parsed_dataset.unix_lines(text(row, 'question')).strip()
  tests = _tests(row)
  try:
    name = code_problems.function_name(code_problems.APPS, row)
  except ValueError:
    raise BadRow(parsed_dataset.BAD_TESTS) from None
  starter = _optional(row, 'starter_code')
  parts = [question]
  if starter.strip():
    parts.append(parsed_dataset.unix_lines(starter).strip('\n').rstrip())
  parts.append(CALL_BASED.format(name=name) if name else STANDARD_INPUT)
  return problem_sets.Row(
    key=str(int(text(row, 'problem_id'))),
    question='\n\n'.join(parts),
    tests=tests,
    level=_optional(row, 'difficulty') or None,
    solution=_solution(row),
  )


def _optional(row: tables.RawRow, name: str) -> str:
  return '' if row.get(name) is None else text(row, name, empty=True)


def _tests(row: tables.RawRow) -> str:
  cases = row.get('input_output')
  if cases is None or cases == '' or cases == {}:
    raise BadRow(parsed_dataset.NO_TESTS)
  return parsed_dataset.tests(code_problems.APPS, row)


def _solution(row: tables.RawRow) -> str | None:
  """The first of its solutions that is a text; None if there is none."""
  try:
    solutions = code_problems.references(code_problems.APPS, row)
  except (ValueError, TypeError):
    return None
  for solution in solutions:
    if isinstance(solution, str) and solution.strip():
      return (
        textwrap.dedent(parsed_dataset.unix_lines(solution))
        .strip('\n')
        .rstrip()
      )
  return None
