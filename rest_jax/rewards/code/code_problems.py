"""The public rows of APPS, HumanEval and MBPP: tests, programs, references."""

import builtins
import dataclasses
import keyword
import re
from collections.abc import Mapping
from typing import Any

from rest_jax.artifacts import json_lines
from rest_jax.rewards.code import program_extraction
from rest_jax.rewards.code.program_tests import CALLS, CHECK, Tests
from rest_jax.rewards.code.sandbox import codec

APPS, HUMANEVAL, MBPP = 'apps', 'humaneval', 'mbpp'
TASKS = (APPS, HUMANEVAL, MBPP)
_REFERENCES = 3  # that may decide whether outputs are wrapped
_STUB = re.compile(r'^(?:async )?def (\w+)', re.MULTILINE)
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
      return _humaneval(row)
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
    inputs, outputs = cases['inputs'], cases['outputs']
    if not isinstance(inputs, list) or not isinstance(outputs, list):
      raise TypeError('inputs and outputs must be lists')
    if cases.get('fn_name'):
      found = Tests.calls(
        str(cases['fn_name']), inputs, outputs, references=_some(row)
      )
      if found.ambiguous() and not found.references:
        return dataclasses.replace(found, wrapped=True)
      return found
    return Tests.stdin(inputs, outputs)
  except (KeyError, TypeError, AttributeError) as error:
    raise ValueError(
      f'{task}: tests that cannot be read: {type(error).__name__}: {error}'
    ) from error


def _humaneval(row: Mapping) -> Tests:
  prompt, source = row.get('prompt') or '', row['test']
  if not isinstance(prompt, str) or not isinstance(source, str):
    raise TypeError('prompt and test must be texts')
  # Between them a line end, which belongs to what runs before the tests.
  before = f'{prompt}\n' if prompt else ''
  checked = Tests.check(function_name(HUMANEVAL, row), before + source)
  return dataclasses.replace(checked, prompt=prompt)


def _some(row: Mapping) -> list[str]:
  """A few of the solutions, if they can be read."""
  try:
    solutions = references(APPS, row)
  except (ValueError, TypeError):
    return []
  texts = [one for one in solutions if isinstance(one, str) and one.strip()]
  return texts[:_REFERENCES]


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
      value = json_lines.loads(value)
    except ValueError:
      raise ValueError('tests that are no JSON') from None
  if isinstance(value, list):
    row = {'test_list': value, 'code': solution}
    found = tests(MBPP, row)
  elif isinstance(value, dict) and 'test' in value:
    found = tests(HUMANEVAL, value)
  elif isinstance(value, dict):
    found = tests(APPS, {'input_output': value})
    if found.kind == CALLS:  # one's own outputs are the values as they stand
      found = dataclasses.replace(found, wrapped=False, references=())
  else:
    raise ValueError('tests that are neither an object nor a list')
  fault = found.fault()
  if fault:
    raise ValueError(f'tests that test nothing: {fault}')
  _require_sendable(found)
  return found


def _require_sendable(found: Tests) -> None:
  """Raises ValueError for tests that can never be run on a program."""
  if found.kind == CHECK:
    try:
      source = found.source.removeprefix(found.prompt)
      compile(source, 'tests', 'exec', dont_inherit=True)
    except (SyntaxError, ValueError, RecursionError, MemoryError) as error:
      raise ValueError(f'tests that do not compile: {error}') from None
    return
  try:
    codec.encode([found.inputs, found.outputs])
  except codec.CodecError as error:
    raise ValueError(f'tests that no program can be given: {error}') from None


def function_name(task: str, row: Mapping) -> str | None:
  """The function that the tests call; None for a whole program."""
  _check_task(task)
  if task == HUMANEVAL:
    # Rows of other sets in this form name none: the prompt ends in its stub.
    stubs = _STUB.findall(row.get('prompt') or '')
    name = row.get('entry_point') or (stubs[-1] if stubs else None)
    if not isinstance(name, str) or not name.isidentifier():
      raise ValueError('humaneval: no entry_point, and no def in the prompt')
    return name
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
  solutions = json_lines.loads(text) if isinstance(text, str) else text
  if not isinstance(solutions, list):
    raise ValueError('apps: solutions are no list')
  return solutions


def _cases(row: Mapping) -> dict:
  text = row['input_output']
  try:
    cases = (
      json_lines.loads(text, constants=True) if isinstance(text, str) else text
    )
  except ValueError as error:
    raise ValueError(f'apps: input_output is no JSON: {error}') from error
  if not isinstance(cases, dict):
    raise ValueError('apps: input_output is no JSON object')
  return cases


def _check_task(task: str) -> None:
  if task not in TASKS:
    raise ValueError(f'task: got {task!r}; allowed: {", ".join(TASKS)}.')
