"""The public rows of APPS, HumanEval and MBPP, ours and the real ones."""

import importlib.util
import json

import pytest

from rest_jax.rewards import verdicts
from rest_jax.rewards.code import code_problems, programs, reference_check
from rest_jax.rewards.code.programs import Limits

HUMANEVAL = {
  'task_id': 'HumanEval/0',
  'prompt': (
    'def base(x):\n    return x + 1\n\n\ndef up(x):\n    """Two more."""\n'
  ),
  'entry_point': 'up',
  'canonical_solution': '    return base(x) + 1\n',
  'test': (
    'METADATA = {}\n\n\ndef check(candidate):\n'
    '    assert candidate(1) == base(base(1))\n    assert up(4) == 6\n'
  ),
}
MBPP = {
  'task_id': 1,
  'code': 'class P:\n  def __init__(s, x): s.x = x\ndef total(ps):\n'
  '  return sum(p.x for p in ps)',
  'test_setup_code': 'p = P(5)',
  'test_list': ['assert total([P(1), p]) == 6', 'assert sum([1]) == 1'],
}


def apps(cases, **columns):
  text = cases if isinstance(cases, str) else json.dumps(cases)
  return {'input_output': text, **columns}


@pytest.fixture(scope='module')
def grader():
  try:
    with programs.Grader() as one:
      assert one.tier
      yield one
  except programs.SandboxUnavailable as error:
    pytest.skip(str(error))


def graded(grader, task, row, completion):
  program = code_problems.program(task, row, completion)
  tests = code_problems.tests(task, row)
  return grader.grade(program, tests, Limits(cpu_seconds=1.0)).outcome


@pytest.mark.parametrize(
  ('completion', 'expected'),
  [
    ('    return x + 2\n', 'correct'),
    ('```python\ndef up(x):\n    return base(base(x))\n```', 'correct'),
    ('    return x\n', 'wrong'),
    # The helper that the tests use is the prompt's, not the program's.
    ('    return 0\n\ndef base(x):\n    return 0\n', 'wrong'),
    ('def base(x): return 0\ndef up(x): return 0\n', 'wrong'),
    ('', 'no_answer'),
  ],
)
def test_humaneval_rows(grader, completion, expected):
  assert graded(grader, 'humaneval', HUMANEVAL, completion) == expected


def test_mbpp_rows(grader):
  assert graded(grader, 'mbpp', MBPP, MBPP['code']) == 'correct'
  wrong = MBPP['code'].replace('p.x for', '2 * p.x for')
  assert graded(grader, 'mbpp', MBPP, wrong) == 'wrong'
  assert code_problems.function_name('mbpp', MBPP) == 'total'


def test_the_function_under_test_may_have_a_builtins_name():
  row = {
    'code': 'def sum(a, b): return a + b',
    'test_list': ['assert sum(1, 2)'],
  }
  assert code_problems.function_name('mbpp', row) == 'sum'
  row = {'test_list': ['assert set(f(x)) == set()']}
  assert code_problems.function_name('mbpp', row) == 'f'


def test_apps_rows(grader):
  row = apps({'inputs': ['1\n2\n'], 'outputs': ['3\n']})
  program = '```python\nprint(int(input()) + int(input()))\n```'
  assert graded(grader, 'apps', row, program) == 'correct'
  row = apps({'fn_name': 'add', 'inputs': [[1, 2]], 'outputs': [3]})
  program = 'class Solution:\n  def add(self, a: int, b: int): return a + b'
  assert graded(grader, 'apps', row, program) == 'correct'
  assert graded(grader, 'apps', row, program.replace('+', '-')) == 'wrong'


@pytest.mark.parametrize(
  ('task', 'row', 'message'),
  [
    ('apps', apps(''), 'no JSON'),
    ('apps', apps('{"inputs": ['), 'no JSON'),
    ('apps', apps('[]'), 'no JSON object'),
    ('apps', apps({'inputs': ['1']}), 'outputs'),
    ('apps', {}, 'input_output'),
    ('apps', apps({'inputs': 3, 'outputs': 3}), 'cannot be read'),
    ('humaneval', {'prompt': ''}, 'test'),
    ('mbpp', {'test_list': ['assert True']}, 'calls a function'),
    ('mbpp', {'code': ''}, 'test_list'),
    ('other', {}, "got 'other'; allowed: apps, humaneval, mbpp"),
  ],
)
def test_rows_without_readable_tests_are_refused(task, row, message):
  with pytest.raises(ValueError, match=message):
    code_problems.tests(task, row)


def test_solutions_are_read_from_json_and_lists():
  assert code_problems.references('apps', {'solutions': '["a"]'}) == ['a']
  assert code_problems.references('apps', {'solutions': ['a']}) == ['a']
  assert code_problems.references('apps', {'solutions': ''}) == []
  (reference,) = code_problems.references('humaneval', HUMANEVAL)
  assert reference.endswith('return base(x) + 1\n')


@pytest.fixture(scope='module')
def references(request):
  """tests/benchmarks/references.py."""
  path = request.config.rootpath / 'tests' / 'benchmarks' / 'references.py'
  spec = importlib.util.spec_from_file_location('references', path)
  module = importlib.util.module_from_spec(spec)
  spec.loader.exec_module(module)
  return module


@pytest.fixture(scope='module')
def shared(request):
  folder = request.config.rootpath.parent / 'shared' / 'data'
  if not folder.exists():
    pytest.skip(f'{folder} is not here: development data, never copied')
  return folder


# tests/benchmarks/references.py goes through all of MBPP.
@pytest.mark.parametrize(('task', 'every'), [('humaneval', 2), ('mbpp', 12)])
def test_references_are_correct_and_broken_ones_are_not(
  grader, references, shared, task, every
):
  chosen = references.rows(shared, task)
  assert len(chosen) == {'humaneval': 164, 'mbpp': 974}[task]
  special = {367, 601, 927, 596, 533, 56, 'HumanEval/32', 'HumanEval/38'}
  chosen = [
    row
    for i, row in enumerate(chosen)
    if i % every == 0 or row['task_id'] in special
  ]
  assert list(references.surprises(grader, task, chosen)) == []


# Several answers are right: (problem_id, of its solutions, so many pass).
AMBIGUOUS = {2365, 2378, 2386, 2391, 2398, 2400}


def test_apps_references_pass_wherever_one_answer_is_right(
  grader, references, shared
):
  rows = references.rows(shared, 'apps')
  assert len(rows) == 50
  for row in rows:
    if row['problem_id'] in AMBIGUOUS:
      continue
    found = reference_check.examine(
      code_problems.tests('apps', row),
      code_problems.references('apps', row)[:3],
      grader=grader,
    )
    for verdict in found.verdicts:
      # Written to be indented into a function: nonlocal at the margin.
      nonlocal_ = 'nonlocal' in verdict.detail
      assert verdict.outcome == verdicts.CORRECT or nonlocal_, (row, verdict)
