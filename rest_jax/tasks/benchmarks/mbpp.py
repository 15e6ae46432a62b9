"""MBPP, the full set."""

from collections.abc import Sequence

from rest_jax.rewards.code import code_problems
from rest_jax.tasks import problem_sets
from rest_jax.tasks.benchmarks import files, readings, tables
from rest_jax.tasks.benchmarks.readings import BadRow, Reading, text

_TABLES = ('mbpp', '(?:full/|data/)?(?:prompt|train|validation|test)')
# By task_id, as its README splits it; the last of each.
_SPLITS = (('prompt', 10), ('test', 510), ('validation', 600), ('train', 974))


def read(source: files.Source) -> Reading | None:
  """Reads MBPP: splits prompt, test, validation, train, by task_id."""
  result = readings.Collector(source)
  found = tables.find(source, _TABLES, ('all',))
  for name in found.get('all', ()):
    result.add_all(_split, result.rows(name), _problem)
  return result.reading() if found else None


def _number(row) -> int:
  number = text(row, 'task_id').strip()
  if not (number.isascii() and number.isdigit()):
    raise BadRow('task_id is not a number')
  return int(number)


def _split(row) -> str:
  number = _number(row)
  for split, last in _SPLITS:
    if 1 <= number <= last:
      return split
  raise BadRow('task_id is not one of 1 to 974')


def _problem(row) -> problem_sets.Row:
  tests = row.get('test_list')
  if not isinstance(tests, Sequence) or isinstance(tests, str) or not tests:
    raise BadRow(readings.NO_TESTS)
  if not all(isinstance(test, str) for test in tests):
    raise BadRow(readings.BAD_TESTS)
  lines = [text(row, 'text').strip(), 'Your code should pass these tests:']
  lines += [test.strip() for test in tests]
  return problem_sets.Row(
    key=str(_number(row)),
    question='\n'.join(lines),
    tests=readings.tests(code_problems.MBPP, row),
    solution=readings.unix_lines(text(row, 'code')).strip('\n'),
  )
