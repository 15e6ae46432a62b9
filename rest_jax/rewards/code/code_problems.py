"""The public rows of APPS, HumanEval and MBPP: tests, programs, references."""

import builtins
import dataclasses
import json
import keyword
import re
from collections.abc import Mapping
from typing import Any

from rest_jax.rewards.code import program_extraction
from rest_jax.rewards.code.program_tests import Tests

APPS, HUMANEVAL, MBPP = 'apps', 'humaneval', 'mbpp'
TASKS = (APPS, HUMANEVAL, MBPP)
_CALLED = re.compile(r'(?<![\w.])([A-Za-z_]\w*)\s*\(')


def tests(task: str, row: Mapping) -> Tests:
  """The tests of a problem.

  Args:
    task: one of TASKS.
    row: the data set's own public row. APPS: input_output, JSON in a string.
      HumanEval: prompt, test, entry_point. MBPP: test_list, and optionally
      test_setup_code and test_imports.

  Raises:
    ValueError: the row holds no tests that can be read: the fault is the
      data's, a harness_error, and never a program's.
  """
  _check_task(task)
  try:
    if task == HUMANEVAL:
      source = f'{row["prompt"]}\n{row["test"]}'
      checked = Tests.check(row['entry_point'], source)
      return dataclasses.replace(checked, prompt=row['prompt'])
    if task == MBPP:
      source = '\n'.join(
        [
          *row.get('test_imports', ()),
          row.get('test_setup_code') or '',
          *row['test_list'],
        ]
      )
      return Tests.check(function_name(task, row), source)
    cases = _cases(row)
    if cases.get('fn_name'):
      return Tests.calls(cases['fn_name'], cases['inputs'], cases['outputs'])
    return Tests.stdin(cases['inputs'], cases['outputs'])
  except (KeyError, TypeError, AttributeError) as error:
    raise ValueError(
      f'{task}: tests that cannot be read: {type(error).__name__}: {error}'
    ) from error


def own(value: Any, solution: str | None = None) -> Tests:
  """The tests of a user's own problem, in whichever of these forms.

      {"inputs": ["3\\n"], "outputs": ["9\\n"]}                    stdin, stdout
      {"fn_name": "f", "inputs": [[3]], "outputs": [9]}           calls
      ["assert f(3) == 9", ...]                                   assertions
      {"entry_point": "f", "test": "def check(candidate): ..."}   a check

  Args:
    value: one of these, or its JSON in a string.
    solution: a right program, if there is one; of assertions it says which of
      the names in them is tested.

  Raises:
    ValueError: it is none of these, or tests nothing.
  """
  if isinstance(value, str):
    try:
      value = json.loads(value)
    except ValueError:
      raise ValueError('tests that are no JSON') from None
  if isinstance(value, list):
    row = {'test_list': value, 'code': solution}
    found = tests(MBPP, row)
  elif isinstance(value, dict) and 'test' in value:
    found = tests(HUMANEVAL, {'prompt': '', **value})
  elif isinstance(value, dict):
    found = tests(APPS, {'input_output': value})
  else:
    raise ValueError('tests that are neither an object nor a list')
  fault = found.fault()
  if fault:
    raise ValueError(f'tests that test nothing: {fault}')
  return found


def function_name(task: str, row: Mapping) -> str | None:
  """The function that the tests call; None for a whole program."""
  _check_task(task)
  if task == HUMANEVAL:
    return row['entry_point']
  if task == APPS:
    return _cases(row).get('fn_name') or None
  # One that the reference defines (some have a built-in's name), else, where
  # the row has no reference, one that nobody else does.
  names = [name for line in row['test_list'] for name in _CALLED.findall(line)]
  code = row.get('code') or ''
  for name in names:
    if re.search(rf'^def\s+{name}\b', code, re.MULTILINE):
      return name
  for name in names:
    if not hasattr(builtins, name) and not keyword.iskeyword(name):
      return name
  raise ValueError('mbpp: no assertion calls a function')


def program(task: str, row: Mapping, completion: str) -> str | None:
  """The program that a completion makes; None where there is none."""
  name = function_name(task, row)
  if task == HUMANEVAL:
    return program_extraction.assemble_humaneval(
      row['prompt'], completion, name
    )
  return program_extraction.assemble(completion, name)


def references(task: str, row: Mapping) -> list[str]:
  """The programs that the data set calls right."""
  _check_task(task)
  if task == HUMANEVAL:
    return [row['prompt'] + row['canonical_solution']]
  if task == MBPP:
    return [row['code']]
  text = row.get('solutions') or '[]'
  return json.loads(text) if isinstance(text, str) else list(text)


def _cases(row: Mapping) -> dict:
  text = row['input_output']
  try:
    cases = json.loads(text) if isinstance(text, str) else text
  except ValueError as error:
    raise ValueError(f'apps: input_output is no JSON: {error}') from error
  if not isinstance(cases, dict):
    raise ValueError('apps: input_output is no JSON object')
  return cases


def _check_task(task: str) -> None:
  if task not in TASKS:
    raise ValueError(f'task: got {task!r}; allowed: {", ".join(TASKS)}.')
