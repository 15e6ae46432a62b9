"""GSM8K."""

from rest_jax.tasks import jsonl_rows, problem_sets
from rest_jax.tasks.benchmarks import catalogue, files, readings
from rest_jax.tasks.benchmarks.readings import BadRow, Reading, text

_TABLES = ('(?:main/|data/|grade_school_math/data/)?{split}',)


def read(source: files.Source) -> Reading | None:
  """Reads GSM8K: splits train and test; None where neither is there."""
  result = readings.Collector(source)
  found = result.add_tables(_TABLES, ('train', 'test'), _problem)
  return result.reading() if found else None


def _problem(row) -> problem_sets.Row:
  question = text(row, 'question').strip()
  parts = jsonl_rows.gsm8k_answer(text(row, 'answer'))
  if parts is None:
    raise BadRow("no '####' with an answer behind it")
  answer, solution = parts
  return problem_sets.Row(
    key=catalogue.key_of(question),
    question=question,
    answer=answer,
    solution=solution,
  )
