"""Reads GSM8K (Cobbe et al. 2021)."""

from rest_jax.tasks import jsonl_rows, problem_sets
from rest_jax.tasks.benchmarks import (
  file_sources,
  parsed_dataset,
  published_task,
  tables,
)
from rest_jax.tasks.benchmarks.parsed_dataset import BadRow, ParsedDataset, text

_TABLES = ('(?:main/|data/|grade_school_math/data/)?{split}',)


def read(source: file_sources.Source) -> ParsedDataset | None:
  """Reads GSM8K.

  Args:
    source: its tables.

  Returns:
    Splits train and test; None if the source has no such table.
  """
  result = parsed_dataset.Collector(source)
  found = result.add_tables(_TABLES, ('train', 'test'), _problem)
  return result.dataset() if found else None


def _problem(row: tables.RawRow) -> problem_sets.Row:
  question = text(row, 'question').strip()
  parts = jsonl_rows.gsm8k_answer(text(row, 'answer'))
  if parts is None:
    raise BadRow("no '####' with an answer after it")
  answer, solution = parts
  return problem_sets.Row(
    key=published_task.key_of(question),
    question=question,
    answer=answer,
    solution=solution,
  )
