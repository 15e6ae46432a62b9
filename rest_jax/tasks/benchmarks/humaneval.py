"""Reads HumanEval (Chen et al. 2021)."""

import re

from rest_jax.rewards.code import code_problems
from rest_jax.tasks import problem_sets
from rest_jax.tasks.benchmarks import file_sources, parsed_dataset, tables
from rest_jax.tasks.benchmarks.parsed_dataset import BadRow, ParsedDataset, text

_TABLES = ('(?:data/)?HumanEval', '(?:data/|openai_humaneval/)?{split}')
_ID = re.compile(r'(?:HumanEval/)?(\d+)')


def read(source: file_sources.Source) -> ParsedDataset | None:
  """Reads HumanEval.

  Args:
    source: its table.

  Returns:
    Split test; None if the source has no such table.
  """
  result = parsed_dataset.Collector(source)
  found = result.add_tables(_TABLES, ('test',), _problem)
  return result.dataset() if found else None


def _problem(row: tables.RawRow) -> problem_sets.Row:
  task_id = _ID.fullmatch(text(row, 'task_id').strip())
  if task_id is None:
    raise BadRow('task_id is not like HumanEval/0')
  for name in ('test', 'entry_point'):
    text(row, name)
  return problem_sets.Row(
    key=task_id[1],
    question=text(row, 'prompt'),
    tests=parsed_dataset.tests(code_problems.HUMANEVAL, row),
    solution=text(row, 'canonical_solution'),
  )
