"""Programs, problems and files that others reported, against what is right.

The reports are development data beside the repository, never copied into it;
each test skips where they are absent. The inputs in this file are the ones
that the reports describe in words.
"""

import gzip
import json

import pytest

from rest_jax.rewards import registry, verdicts
from rest_jax.rewards.code import code_problems, program_extraction, programs
from rest_jax.rewards.code.programs import Limits, Tests

DOUBLE = Tests.stdin(['3\n', '5\n'], ['6\n', '10\n'])
ADD = (
  'def add(x: int, y: int):\n    """Add two numbers x and y\n'
  '    >>> add(2, 3)\n    5\n    """\n'
)
ADD_TESTS = Tests(
  kind='check',
  name='add',
  source=f'{ADD}\ndef check(candidate):\n    assert candidate(2, 3) == 5\n',
  prelude=False,
  prompt=ADD,
)
WITH_FENCE = (
  'def add(x, y):\n    """Adds.\n\n    ```python\n    add(1, 2)\n    ```\n'
  '    """\n    return x + y\n'
)
# id of a report: (tests, completion, outcome); the outcome decided here where
# the report leaves it open.
DESCRIBED = {
  'C1a': (ADD_TESTS, '    return x + y\n```', 'correct'),
  'C1b': (
    ADD_TESTS,
    '    return x + y\n```\n\nThis adds the two numbers.',
    'correct',
  ),
  'C1d': (
    ADD_TESTS,
    'Here is the code: ```python\ndef add(x: int, y: int):\n'
    '    return x + y\n```\n',
    'correct',
  ),
  'C1e': (DOUBLE, 'n = int(input())\nprint(n*2)\n```\n', 'correct'),
  'C2a': (
    DOUBLE,
    '1. Code:\n   ```python\n   n = int(input())\n   print(n*2)\n   ```\n',
    'correct',
  ),
  'C2c': (
    ADD_TESTS,
    '1. Code:\n    ```python\n    return x + y\n    ```\n',
    'correct',
  ),
  'C3b': (ADD_TESTS, f'```python\n{WITH_FENCE}```', 'correct'),
  'C3c': (ADD_TESTS, WITH_FENCE, 'correct'),
  'C3d': (
    ADD_TESTS,
    '<think>\n```python\ndef add(x, y): return 0\n```\n</think>\n'
    '```python\ndef add(x, y): return x + y\n```',
    'correct',
  ),
  'C4a': (
    ADD_TESTS,
    '    s = x\n# now add y\n    s += y\n    return s\n',
    'correct',
  ),
  'C4b': (
    ADD_TESTS,
    'A helper:\n```python\ndef plus(a, b):\n    return a + b\n```\nThen:\n'
    '```python\ndef add(x, y):\n    return plus(x, y)\n```',
    'correct',
  ),
  'E1a': (ADD_TESTS, '    return x + y<|endoftext|>', 'correct'),
}
LONG = '7' * 9131


@pytest.fixture(scope='module')
def data(request):
  folder = request.config.rootpath.parent / 'shared' / 'data'
  if not folder.exists():
    pytest.skip(f'{folder} is not here: development data, never copied')
  return folder


@pytest.fixture(scope='module')
def reports(data):
  """The red team's reports by their id."""
  lines = (data / 'reports' / 'redteam.jsonl').read_text().splitlines()
  return {row['id']: row for row in map(json.loads, lines)}


@pytest.fixture(scope='module')
def humaneval(data):
  with gzip.open(data / 'humaneval' / 'HumanEval.jsonl.gz', 'rt') as file:
    return [json.loads(line) for line in file]


@pytest.fixture(scope='module')
def grader():
  try:
    with programs.Grader() as one:
      assert one.tier
      yield one
  except programs.SandboxUnavailable as error:
    pytest.skip(str(error))


def graded(grader, tests, completion):
  if tests.prompt:
    program = program_extraction.assemble_humaneval(
      tests.prompt, completion, tests.name
    )
  else:
    program = program_extraction.assemble(completion, tests.name or None)
  return grader.grade(program, tests, Limits(cpu_seconds=2.0))


@pytest.mark.parametrize('key', DESCRIBED)
def test_a_completion_that_a_report_describes(grader, key):
  tests, completion, outcome = DESCRIBED[key]
  verdict = graded(grader, tests, completion)
  assert verdict.outcome == outcome, verdict


@pytest.mark.parametrize(
  ('cases', 'program'),
  [
    (f'{{"fn_name": "f", "inputs": [[3]], "outputs": [{LONG}]}}', f'{LONG}'),
    (f'{{"fn_name": "f", "inputs": [[{LONG}]], "outputs": [3]}}', 'x % 10 - 4'),
    (f'{{"inputs": ["{LONG}"], "outputs": ["{LONG}"]}}', None),
  ],
  ids=['A1a', 'A1b', 'A1c'],
)
def test_apps_rows_with_long_integers(grader, cases, program):
  tests = code_problems.tests('apps', {'input_output': cases})
  assert Tests.from_json(tests.to_json()) == tests
  text = f'def f(x): return {program}' if program else 'print(input())'
  verdict = grader.grade(text, tests, Limits())
  assert verdict.outcome == 'correct', verdict


@pytest.mark.parametrize('indent', range(5))
def test_all_references_of_mbpp_in_a_list_item_are_found(data, indent):
  rows = [json.loads(line) for line in (data / 'mbpp/mbpp.jsonl').open()]
  assert len(rows) == 974
  for row in rows:
    code = row['code'].replace('\r\n', '\n').replace('\r', '\n')
    lines = ['```python', *code.strip('\n').split('\n'), '```']
    text = ''.join(f'{" " * indent}{line}\n' for line in lines)
    found = program_extraction.assemble(f'1. Code:\n{text}')
    assert found.strip('\n') == code.strip('\n'), row['task_id']


def test_all_references_of_mbpp_with_a_closing_fence_are_found(data):
  for line in (data / 'mbpp/mbpp.jsonl').open():
    code = json.loads(line)['code'].replace('\r\n', '\n').replace('\r', '\n')
    found = program_extraction.assemble(f'{code}\n```')
    assert found.strip('\n') == code.strip('\n'), line[:80]


def test_all_bodies_of_humaneval_with_a_closing_fence_are_found(humaneval):
  for row in humaneval:
    body = row['canonical_solution']
    found = code_problems.program('humaneval', row, f'{body}\n```')
    plain = code_problems.program('humaneval', row, body)
    assert found.rstrip() == plain.rstrip(), row['task_id']


@pytest.mark.parametrize('key', ['D15a', 'D15b', 'D15d'])
def test_reported_completions_of_humaneval(grader, reports, humaneval, key):
  report = reports[key]
  row = {one['task_id']: one for one in humaneval}[report['reference']]
  tests = code_problems.tests('humaneval', row)
  verdict = graded(grader, tests, report['input'])
  assert verdict.outcome == report['expected'], verdict


# D3: any class that counts is right.
@pytest.mark.parametrize('key', ['D2a', 'D2b', 'D3a', 'D3b', 'D15e'])
def test_reported_programs_with_their_tests(reports, key):
  report = reports[key]
  verdict = registry.grade(
    'program', completion=report['input'], reference=report['reference']
  )
  counted = (verdicts.TIMEOUT, verdicts.CRASHED, verdicts.WRONG)
  allowed = counted if key.startswith('D3') else (report['expected'],)
  assert verdict.outcome in allowed, verdict


@pytest.mark.parametrize('key', ['D14a', 'D14b', 'D14d', 'D14e'])
def test_reported_checks(grader, reports, key):
  report = reports[key]
  source = report['reference']
  name = {'D14a': 'total', 'D14b': 'app', 'D14d': 'f', 'D14e': 'S'}[key]
  tests = Tests.check(name, source)
  verdict = grader.grade(report['input'], tests, Limits())
  assert verdict.outcome == report['expected'], verdict


def test_a_reported_detail_can_be_written(reports):
  report = reports['D4']
  verdict = registry.grade(
    'program', completion=report['input'], reference=report['reference']
  )
  assert verdict.outcome == 'crashed'
  verdict.detail.encode()


# What the reports call honest and leave to a rule; docs/sandbox.md has it.
HONEST = {
  'FN h04 fence in a numbered list': (0, 'correct'),
  'FN h06 closing fence on the last line of code': (0, 'correct'),
  'FN h09 body with a comment at the margin': (0, 'correct'),
  'FN h14 lambda': (2, 'correct'),
  'FN h17 class Solution': (2, 'correct'),
  'FN h18 multi-line string in body': (7, 'correct'),
  'FN h22 namedtuple returned': (8, 'correct'),
  'FN h23 html escapes none, trailing chat tokens': (0, 'correct'),
}
HONEST_TESTS = {
  'FN m05 prose, no fence': (
    Tests.check('square_nums', 'assert square_nums([1, 2]) == [1, 4]'),
    'correct',
  ),
  'FN s05 two python blocks, second a test': (
    Tests.stdin(['3\n1 2 3\n'], ['6\n']),
    'correct',
  ),
  'FN s10 [DONE] in a string': (
    Tests.stdin(['3\n1 2 3\n'], ['6\n[DONE]\n']),
    'correct',
  ),
  'FN c02 float for int': (Tests.calls('half', [[4]], [2]), 'wrong'),
  'FN c06 generator': (Tests.calls('ends', [[[1, 2, 3]]], [[1, 3]]), 'correct'),
}


@pytest.mark.parametrize('key', HONEST)
def test_honest_completions_of_humaneval(grader, reports, humaneval, key):
  number, outcome = HONEST[key]
  tests = code_problems.tests('humaneval', humaneval[number])
  verdict = graded(grader, tests, reports[key]['input'])
  assert verdict.outcome == outcome, verdict


@pytest.mark.parametrize('key', HONEST_TESTS)
def test_other_honest_completions(grader, reports, key):
  tests, outcome = HONEST_TESTS[key]
  verdict = graded(grader, tests, reports[key]['input'])
  assert verdict.outcome == outcome, verdict
