"""The command check-task: are a code task's tests fit to teach?

    rest-jax check-task --task=apps --input=problems.jsonl [--output=kept.jsonl]

Runs each problem's own reference solutions against its tests. A problem is
named, and left out of the output, if a reference fails, the references
disagree, there is none, or the tests cannot be read: its reward would be
noise. So is one of APPS whose references do not settle whether its outputs are
wrapped in lists. The input's rows are the data set's own public rows.
"""

import argparse
from collections.abc import Sequence

from rest_jax.artifacts import json_lines, storage
from rest_jax.config import configuration
from rest_jax.rewards.code import code_problems, programs, reference_check

_KEYS = {'apps': 'problem_id', 'humaneval': 'task_id', 'mbpp': 'task_id'}


def run(arguments: Sequence[str]) -> int:
  """Checks, prints the faults, writes the sound rows; returns 0."""
  parser = argparse.ArgumentParser(
    prog='rest-jax check-task',
    formatter_class=argparse.RawDescriptionHelpFormatter,
    description=__doc__,
  )
  parser.add_argument('--task', required=True, choices=code_problems.TASKS)
  parser.add_argument('--input', required=True, metavar='FILE.jsonl')
  parser.add_argument('--output', metavar='FILE.jsonl')
  parser.add_argument('--references', type=int, default=3, help='of a problem')
  flags = parser.parse_args(arguments)
  if flags.references < 1:
    raise configuration.ConfigurationError(
      f'--references: got {flags.references}; allowed: at least 1.'
    )
  sound, total = [], 0
  with programs.Grader() as grader:
    for number, line, row in json_lines.read(flags.input):
      total += 1
      fault = _fault(flags.task, row, flags.references, grader)
      if fault:
        name = row.get(_KEYS[flags.task], f'line {number}')
        print(_printable(f'{name}: {fault}'), flush=True)
      else:
        sound.append(line)
  if flags.output:
    storage.write_bytes(flags.output, b''.join(sound))
  print(f'check-task: {len(sound)} of {total} problems of {flags.task} are fit')
  return 0


def _printable(text: str) -> str:
  return text.encode('utf-8', 'backslashreplace').decode()


def _fault(task: str, row: dict, limit: int, grader: programs.Grader) -> str:
  try:
    tests = code_problems.tests(task, row)
    references = code_problems.references(task, row)[:limit]
  except ValueError as error:
    return str(error)
  except (KeyError, TypeError) as error:
    return f'references that cannot be read: {type(error).__name__}: {error}'
  if not all(isinstance(one, str) for one in references):
    return 'references that are no texts'
  return reference_check.examine(tests, references, grader=grader).fault
