"""Reads MATH (Hendrycks et al. 2021) and MATH-500 (Lightman et al. 2023)."""

import re

from rest_jax.rewards.math import answer_extraction
from rest_jax.tasks import problem_sets
from rest_jax.tasks.benchmarks import (
  file_sources,
  parsed_dataset,
  published_task,
  tables,
)
from rest_jax.tasks.benchmarks.parsed_dataset import BadRow, ParsedDataset, text

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


def read(source: file_sources.Source) -> ParsedDataset | None:
  """Reads MATH.

  Args:
    source: its tables, or one JSON file for each problem.

  Returns:
    Splits train and test; None if the source has neither layout.
  """
  result = parsed_dataset.Collector(source)
  if result.add_tables(_TABLES, ('train', 'test'), _problem):
    return result.dataset()
  splits = {
    name: match[1]
    for name in source.names
    if (match := _PROBLEM.fullmatch(name))
  }
  for name, data in source.stream(splits):
    entry = tables.Entry(name, tables.parse_object(data))
    result.add_all(splits[name], [entry], _problem)
  return result.dataset() if splits else None


def read_500(source: file_sources.Source) -> ParsedDataset | None:
  """Reads MATH-500.

  Args:
    source: its table; it may lie beside those of MATH.

  Returns:
    Split test; None if the source has no such table.
  """
  patterns = ('(?:math/|data/)?math_?500', '(?:data/|default/)?{split}')
  result = parsed_dataset.Collector(source)
  found = result.add_tables(patterns, ('test',), _problem_500)
  return result.dataset() if found else None


def boxed(solution: str) -> str | None:
  r"""Finds the answer of a solution, by the grader's own rule.

  Args:
    solution: of the data set.

  Returns:
    The content of the last \boxed{}, stripped; None if it is empty, has no
    closing brace, or is missing.
  """
  if '\\boxed' not in solution and '\\fbox' not in solution:
    return None  # a sentence such as 'the answer is 3' is not taken here
  found = answer_extraction.candidates(solution, stop=()).texts
  return (found[-1].strip() or None) if found else None


def _problem(row: tables.RawRow) -> problem_sets.Row:
  solution = text(row, 'solution').strip()
  answer = boxed(solution)
  if answer is None:
    raise BadRow(parsed_dataset.NO_BOX)
  return _row(row, answer, solution, text(row, 'type').strip())


def _problem_500(row: tables.RawRow) -> problem_sets.Row:
  answer, solution = text(row, 'answer').strip(), text(row, 'solution').strip()
  return _row(row, answer, solution, text(row, 'subject', 'type').strip())


def _row(
  row: tables.RawRow, answer: str, solution: str, subject: str
) -> problem_sets.Row:
  question = text(row, 'problem').strip()
  level = _LEVEL.fullmatch(text(row, 'level').strip())
  return problem_sets.Row(
    key=published_task.key_of(question),
    question=question,
    answer=answer,
    level=level[1] if level else '?',
    type=subject,
    solution=solution,
  )
