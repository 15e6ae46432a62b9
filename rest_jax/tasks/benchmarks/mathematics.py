"""MATH, and the 500 of its test problems that are known as MATH-500."""

import re

from rest_jax.rewards.math import answer_extraction
from rest_jax.tasks import problem_sets
from rest_jax.tasks.benchmarks import catalogue, files, readings, tables
from rest_jax.tasks.benchmarks.readings import BadRow, Reading, text

_SUBJECTS = (
  'algebra',
  'counting_and_probability',
  'geometry',
  'intermediate_algebra',
  'number_theory',
  'prealgebra',
  'precalculus',
)
_TABLES = (
  '(?:MATH/|data/|default/)?{split}',
  f'(?:MATH/|data/)?(?:{"|".join(_SUBJECTS)})/{{split}}',
)
_PROBLEM = re.compile(r'(?:MATH/)?(train|test)/[^/]+/\d+\.json')
_LEVEL = re.compile(r'(?:Level )?([1-5])')


def read(source: files.Source) -> Reading | None:
  """Reads MATH.

  Args:
    source: its tables, or one JSON file for each problem.

  Returns:
    Splits train and test; None where the source holds neither layout.
  """
  result = readings.Collector(source)
  if result.add_tables(_TABLES, ('train', 'test'), _problem):
    return result.reading()
  splits = {
    name: match[1]
    for name in source.names
    if (match := _PROBLEM.fullmatch(name))
  }
  for name, data in source.stream(splits):
    rows = [(name, tables.parse_object(data))]
    result.add_all(splits[name], rows, _problem)
  return result.reading() if splits else None


def read_500(source: files.Source) -> Reading | None:
  """Reads MATH-500: split test."""
  patterns = ('(?:math/|data/)?math_?500', '(?:data/|default/)?{split}')
  result = readings.Collector(source)
  found = result.add_tables(patterns, ('test',), _problem_500)
  return result.reading() if found else None


def boxed(solution: str) -> str | None:
  r"""The answer of a solution, by the grader's own rule.

  Args:
    solution: of the data set.

  Returns:
    What the last \boxed{} holds, stripped; None where it is empty, does not
    close, or is not there.
  """
  if '\\boxed' not in solution and '\\fbox' not in solution:
    return None  # a sentence such as 'the answer is 3' is not taken here
  found = answer_extraction.candidates(solution, stop=()).texts
  return (found[-1].strip() or None) if found else None


def _problem(row) -> problem_sets.Row:
  solution = text(row, 'solution').strip()
  answer = boxed(solution)
  if answer is None:
    raise BadRow(readings.NO_BOX)
  return _row(row, answer, solution, text(row, 'type').strip())


def _problem_500(row) -> problem_sets.Row:
  answer, solution = text(row, 'answer').strip(), text(row, 'solution').strip()
  return _row(row, answer, solution, text(row, 'subject', 'type').strip())


def _row(row, answer, solution, subject) -> problem_sets.Row:
  question = text(row, 'problem').strip()
  level = _LEVEL.fullmatch(text(row, 'level').strip())
  return problem_sets.Row(
    key=catalogue.key_of(question),
    question=question,
    answer=answer,
    level=level[1] if level else '?',
    type=subject,
    solution=solution,
  )
