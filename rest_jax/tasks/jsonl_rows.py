"""The rows of a JSONL file of problems: good ones, and why the others are bad.

See jsonl.py for what a row is.
"""

import hashlib
import re
from collections.abc import Iterator
from typing import Any

from rest_jax.artifacts import json_lines, storage
from rest_jax.config import configuration
from rest_jax.rewards import registry
from rest_jax.rewards.code import code_problems
from rest_jax.rewards.math import math_answer
from rest_jax.rewards.text import numerals
from rest_jax.tasks import problem_sets, splits

_CALCULATOR = re.compile(r'<<[^<>]*>>')


class _BadRow(ValueError):
  """Why a row is left out."""


def read_rows(
  source: storage.PathLike, grader: str
) -> tuple[list[problem_sets.Row], dict[str, list[str]]]:
  """Reads a JSONL file of problems.

  Args:
    source: the file; UTF-8, one JSON object a line, empty lines are ignored.
    grader: what it cannot compare with is a bad row.

  Returns:
    (the good rows, reason to 'line N' of every bad row).

  Raises:
    ConfigurationError: no such file, no good row, or more than half are bad.
  """
  rows, skipped, keys = [], {}, set()
  for number, line in lines(source):
    try:
      row = _row(line, number, grader)
      if row.key in keys:
        raise _BadRow('an id that an earlier line has')
      keys.add(row.key)
      rows.append(row)
    except _BadRow as error:
      skipped.setdefault(str(error), []).append(f'line {number}')
  bad = sum(len(where) for where in skipped.values())
  if bad > len(rows) or not rows:
    reasons = '; '.join(
      f'{len(where)} x {reason} ({", ".join(where[: splits.LISTED])})'
      for reason, where in skipped.items()
    )
    raise configuration.ConfigurationError(
      f'{source}: {len(rows)} usable problems, {bad} bad rows: '
      f'{reasons or "the file is empty"}. Each line must be like '
      '{"id": "1", "question": "...", "answer": "42"}.'
    )
  return rows, skipped


def lines(source: storage.PathLike) -> Iterator[tuple[int, bytes]]:
  """The lines of a file that hold something, with their numbers from 1.

  Raises:
    ConfigurationError: there is no such file.
  """
  content = _read(source).removeprefix(b'\xef\xbb\xbf').split(b'\n')
  return ((n, line) for n, line in enumerate(content, 1) if line.strip())


def gsm8k_answer(text: str) -> tuple[str, str] | None:
  """(answer, solution) of a text like 'reasoning\\n#### 42', else None.

  Calculator annotations, '<<48/2=24>>', are removed from the solution.
  """
  reasoning, mark, answer = text.rpartition('####')
  answer = answer.strip()
  if not mark or not answer or '\n' in answer:
    return None
  reasoning = _CALCULATOR.sub('', reasoning).rstrip()
  lines = [line.rstrip() for line in reasoning.split('\n')]
  return answer, '\n'.join([*lines, f'#### {answer}']).lstrip('\n')


def _row(line: bytes, number: int, grader: str) -> problem_sets.Row:
  try:
    value = json_lines.row(line)
    fields = {k: v for k, v in value.items() if k != 'tests'}
    value |= json_lines.texts(line, fields)
  except ValueError as error:
    # Without what JSON's reader says of the place: rows are counted by reason,
    # and each has its line number beside it.
    raise _BadRow(str(error).partition(' (')[0]) from None
  question = _text(value, 'question', needed=True)
  reads = registry.get(grader).reads
  answer = _text(value, 'answer', needed=reads == 'answer')
  solution = _text(value, 'solution')
  parts = gsm8k_answer(answer) if answer else None
  if parts is not None:
    answer, solution = parts[0], solution or parts[1]
  tests = None
  if reads == 'tests':
    tests = _tests(value.get('tests'), solution)
  elif reads == 'answer':
    _check_answer(answer, grader)
  key = _text(value, 'id')
  return problem_sets.Row(
    key=splits.key(key) if key else f'line-{number:06d}',
    question=question,
    answer=answer,
    tests=tests,
    level=_text(value, 'level'),
    type=_text(value, 'type'),
    solution=solution,
  )


def _check_answer(answer: str, grader: str) -> None:
  """Raises for an answer that the grader could never compare with."""
  if grader in ('number', 'gsm8k'):
    try:
      numerals.parse_reference(answer)
    except ValueError:
      raise _BadRow(
        'an answer that is not a number (or set GRADER=exact)'
      ) from None
  elif grader == 'math':
    if not math_answer.equivalent(answer, answer):
      raise _BadRow('an answer that the math grader cannot read')
  elif grader in registry.REGISTRY and '\n' in answer:
    raise _BadRow('an answer of several lines')


def _tests(value: Any, solution: str | None) -> str:
  if value in (None, '', [], {}):
    raise _BadRow('no tests')
  try:
    return code_problems.own(value, solution).to_json()
  except ValueError as error:
    raise _BadRow(str(error)) from None


def _text(value: dict, name: str, *, needed: bool = False) -> str | None:
  """A field as stripped text."""
  field = value.get(name)
  if field is not None and not isinstance(field, str):
    raise _BadRow(f'{name} is neither a text nor a number')
  if field is not None and any('\ud800' <= c <= '\udfff' for c in field):
    raise _BadRow('not UTF-8')  # half of a surrogate pair, as \ud83d
  field = (field or '').strip()
  if needed and not field:
    raise _BadRow(f'no {name}')
  return field or None


def _read(source: storage.PathLike) -> bytes:
  try:
    return storage.path(source).read_bytes()
  except (FileNotFoundError, IsADirectoryError):
    raise configuration.ConfigurationError(
      f'{source}: no such file. Set INPUT (or INPUT_TEST) to a JSONL file.'
    ) from None


def sha256(source: storage.PathLike) -> str:
  """The sha256 of a file's bytes, in hexadecimal."""
  return hashlib.sha256(_read(source)).hexdigest()
