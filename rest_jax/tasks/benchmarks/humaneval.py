"""HumanEval."""

import re

from rest_jax.rewards.code import code_problems
from rest_jax.tasks import problem_sets
from rest_jax.tasks.benchmarks import files, readings
from rest_jax.tasks.benchmarks.readings import BadRow, Reading, text

_TABLES = ('(?:data/)?HumanEval', '(?:data/|openai_humaneval/)?{split}')
_ID = re.compile(r'(?:HumanEval/)?(\d+)')


def read(source: files.Source) -> Reading | None:
  """Reads HumanEval: split test; None where it is not there."""
  result = readings.Collector(source)
  found = result.add_tables(_TABLES, ('test',), _problem)
  return result.reading() if found else None


def _problem(row) -> problem_sets.Row:
  task_id = _ID.fullmatch(text(row, 'task_id').strip())
  if task_id is None:
    raise BadRow('task_id is not like HumanEval/0')
  for name in ('test', 'entry_point'):
    text(row, name)
  return problem_sets.Row(
    key=task_id[1],
    question=text(row, 'prompt'),
    tests=readings.tests(code_problems.HUMANEVAL, row),
    solution=text(row, 'canonical_solution'),
  )
