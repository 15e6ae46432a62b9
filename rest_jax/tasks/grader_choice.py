"""Which grader suits the answers of a JSONL file of problems."""

from rest_jax.artifacts import json_lines, storage
from rest_jax.config import configuration
from rest_jax.rewards.math import math_answer, reading
from rest_jax.rewards.text import numerals
from rest_jax.tasks import jsonl_rows

_SHARE = 0.9  # of the rows that must suit: some may be bad
_LATEX = ('\\', '^', '_{', '$')


def guess(source: storage.PathLike) -> tuple[str, str]:
  """The grader for a file, and why.

  Args:
    source: a JSONL file as tasks/jsonl.py describes.

  Returns:
    ('program', …) where the rows have tests, 'gsm8k' where all answers are
    numbers, 'math' where they are mathematics, 'exact' where they are other
    texts of one line; and the reason for a person.

  Raises:
    ConfigurationError: there is no file, no row that can be read, or the rows
      are of different kinds.
  """
  kinds: dict[str, int] = {}
  for _, line in jsonl_rows.lines(source):
    try:
      kind = _kind(json_lines.row(line), line)
    except ValueError:
      continue  # prepare names it
    if kind:
      kinds[kind] = kinds.get(kind, 0) + 1
  total = sum(kinds.values())
  if not total:
    raise configuration.ConfigurationError(
      f'{source}: no row with a question and an answer (or tests). Each line '
      'must be like {"id": "1", "question": "...", "answer": "42"}.'
    )
  numbers = kinds.get('number', 0)
  mathematics = numbers + kinds.get('math', 0)
  if kinds.get('tests', 0) >= _SHARE * total:
    return 'program', f'{kinds["tests"]} of {total} rows have tests'
  if kinds.get('tests', 0):
    raise configuration.ConfigurationError(
      f'{source}: {kinds["tests"]} of {total} rows have tests, the others '
      'answers. Make two files of them, or set GRADER.'
    )
  if numbers >= _SHARE * total:
    return 'gsm8k', f'{numbers} of {total} answers are numbers'
  if mathematics >= _SHARE * total:
    return 'math', f'{mathematics} of {total} answers are mathematics'
  return 'exact', f'{kinds.get("text", 0)} of {total} answers are texts'


def _kind(row: dict, line: bytes) -> str | None:
  if row.get('tests'):
    return 'tests'
  answer = row.get('answer')
  answer = json_lines.texts(line, {'answer': answer}).get('answer', answer)
  if not isinstance(answer, str) or not answer.strip():
    return None
  parts = jsonl_rows.gsm8k_answer(answer)
  answer = parts[0] if parts else answer.strip()
  try:
    numerals.parse_reference(answer)
    return 'number'
  except ValueError:
    pass
  marked = any(mark in answer for mark in _LATEX)
  read = reading.read(answer) if marked else None
  if read is not None and read.kind not in ('opaque', 'text'):
    return 'math' if math_answer.equivalent(answer, answer) else 'text'
  return 'text'
