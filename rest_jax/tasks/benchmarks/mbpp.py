"""Reads MBPP (Austin et al. 2021), the full set of 974 problems."""

from collections.abc import Sequence

from rest_jax.rewards.code import code_problems
from rest_jax.tasks import problem_sets
from rest_jax.tasks.benchmarks import file_sources, parsed_dataset, tables
from rest_jax.tasks.benchmarks.parsed_dataset import BadRow, ParsedDataset, text

_TABLES = ('mbpp', '(?:full/|data/)?(?:prompt|train|validation|test)')
# Its README splits it by task_id: the last task_id of each split.
_SPLITS = (('prompt', 10), ('test', 510), ('validation', 600), ('train', 974))


def read(source: file_sources.Source) -> ParsedDataset | None:
  """Reads MBPP.

  Args:
    source: its tables.

  Returns:
    Splits prompt, test, validation and train, by task_id; None if the source
    has no such table.
  """
  result = parsed_dataset.Collector(source)
  found = tables.find(source, _TABLES, ('all',))
  for name in found.get('all', ()):
    result.add_all(_split, result.entries(name), _problem)
  return result.dataset() if found else None


def _number(row: tables.RawRow) -> int:
  number = text(row, 'task_id').strip()
  if not (number.isascii() and number.isdigit()):
    raise BadRow('task_id is not a number')
  return int(number)


def _split(row: tables.RawRow) -> str:
  number = _number(row)
  for split, last in _SPLITS:
    if 1 <= number <= last:
      return split
  raise BadRow('task_id is not one of 1 to 974')


def _problem(row: tables.RawRow) -> problem_sets.Row:
  tests = row.get('test_list')
  if not isinstance(tests, Sequence) or isinstance(tests, str) or not tests:
    raise BadRow(parsed_dataset.NO_TESTS)
  if not all(isinstance(test, str) for test in tests):
    raise BadRow(parsed_dataset.BAD_TESTS)
  lines = [text(row, 'text').strip(), 'Your code should pass these tests:']
  lines += [test.strip() for test in tests]
  return problem_sets.Row(
    key=str(_number(row)),
    question='\n'.join(lines),
    tests=parsed_dataset.tests(code_problems.MBPP, row),
    solution=parsed_dataset.unix_lines(text(row, 'code')).strip('\n'),
  )
