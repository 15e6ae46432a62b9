"""The commands grade and check-task: JSONL in, JSONL out, resumable."""

import json
import subprocess
import sys

import pytest

from rest_jax.commands import check_task, grade
from rest_jax.config import configuration
from rest_jax.rewards.code import programs

MATH = [
  {'id': 'a', 'completion': r'So it is $\boxed{\frac12}$.', 'reference': '0.5'},
  {'id': 'b', 'completion': r'\boxed{3}', 'reference': 4},
  {'id': 'c', 'completion': 'no idea', 'reference': '4'},
  {
    'id': 4,
    'completion': r'\boxed{4}',
    'reference': '4',
    'finish_reason': 'length',
  },
]
OUTCOMES = ['correct', 'wrong', 'no_answer', 'truncated']
ADD = {
  'task_id': 'Own/1',
  'prompt': 'def add(a, b):\n    """Their sum."""\n',
  'entry_point': 'add',
  'canonical_solution': '    return a + b\n',
  'test': 'def check(candidate):\n    assert candidate(1, 2) == 3\n',
}


def write(path, rows):
  path.write_text(''.join(json.dumps(row) + '\n' for row in rows))
  return path


def run(tmp_path, rows=MATH, task='math', name='in.jsonl', **flags):
  source = write(tmp_path / name, rows)
  flags = {'task': task, 'input': source, 'output': tmp_path / 'out'} | flags
  return grade.run([f'--{key}={value}' for key, value in flags.items()])


def verdicts(tmp_path):
  lines = (tmp_path / 'out').read_text().splitlines()
  return [json.loads(line) for line in lines]


@pytest.fixture
def sandbox():
  try:
    with programs.Grader() as grader:
      return grader.tier
  except programs.SandboxUnavailable as error:
    pytest.skip(str(error))


def test_rows_are_graded_in_their_order_and_counted(tmp_path, capsys):
  assert run(tmp_path) == 0
  found = verdicts(tmp_path)
  assert [row['id'] for row in found] == ['a', 'b', 'c', 4]
  assert [row['outcome'] for row in found] == OUTCOMES
  assert [row['reward'] for row in found] == [1.0, 0.0, 0.0, 0.0]
  assert all(set(row) >= {'answer', 'detail'} for row in found)
  told = capsys.readouterr().out
  assert 'grade: 1 of 4 correct (25.00%)' in told
  assert 'truncated             1   25.00%' in told
  counts = json.loads((tmp_path / 'out.manifest.json').read_text())['classes']
  assert sum(counts.values()) == 4 and counts['wrong'] == 1


@pytest.mark.parametrize('cut', [0, 10, -10, -1])
def test_an_interrupted_grading_goes_on_and_gives_the_same(tmp_path, cut):
  run(tmp_path)
  output = tmp_path / 'out'
  whole = output.read_bytes()
  output.write_bytes(whole[:cut])
  run(tmp_path)
  assert output.read_bytes() == whole


def test_a_finished_grading_grades_nothing_again(tmp_path, monkeypatch, capsys):
  run(tmp_path)
  monkeypatch.setattr(grade.registry, 'grade', None)
  run(tmp_path)
  told = capsys.readouterr().out
  assert '4 of 4 rows are graded already' in told
  assert told.count('grade: 1 of 4 correct') == 2


def test_the_output_of_another_input_or_task_is_refused(tmp_path):
  run(tmp_path)
  before = (tmp_path / 'out').read_bytes()
  with pytest.raises(configuration.ConfigurationError, match='input_sha256'):
    run(tmp_path, MATH[:2], name='other.jsonl')
  with pytest.raises(configuration.ConfigurationError, match='task: stands'):
    run(tmp_path, task='gsm8k')
  assert (tmp_path / 'out').read_bytes() == before


def test_a_file_that_is_no_output_of_ours_is_left_alone(tmp_path):
  (tmp_path / 'out').write_text('mine\n')
  with pytest.raises(configuration.ConfigurationError, match='not of this'):
    run(tmp_path)
  assert (tmp_path / 'out').read_text() == 'mine\n'


@pytest.mark.parametrize(
  ('row', 'words'),
  [
    ({'completion': 'x', 'reference': '1'}, "'id' holds nothing"),
    ({'id': 1, 'completion': None, 'reference': '1'}, "'completion' holds No"),
    ({'id': 1, 'completion': 'x'}, "'reference' holds nothing"),
    ({'id': 1, 'completion': 'x', 'reference': []}, 'holds list'),
    ([1], 'got list; a row is a JSON object'),
    (MATH[0] | {'finish_reason': 'tired'}, 'finish_reason'),
  ],
)
def test_a_wrong_row_is_named_before_any_work(tmp_path, row, words):
  with pytest.raises(configuration.ConfigurationError, match=words) as caught:
    run(tmp_path, [*MATH, row])
  assert 'in.jsonl:5: ' in str(caught.value)
  assert not (tmp_path / 'out').exists()


def test_it_needs_neither_jax_nor_tensorflow_nor_gin(tmp_path):
  write(tmp_path / 'in.jsonl', MATH)
  script = (
    'import sys\n'
    'from rest_jax import main\n'
    "code = main.run(['grade', '--task=math', '--input=in.jsonl',"
    " '--output=out'])\n"
    "assert not {'jax', 'tensorflow', 'gin', 'flax'} & set(sys.modules)\n"
    'sys.exit(code)\n'
  )
  subprocess.run([sys.executable, '-c', script], cwd=tmp_path, check=True)
  assert [row['outcome'] for row in verdicts(tmp_path)] == OUTCOMES


def test_programs_are_run_and_what_cannot_be_is_no_programs_fault(
  tmp_path, sandbox
):
  broken = {k: v for k, v in ADD.items() if k != 'test'}
  right = ADD['canonical_solution']
  rows = [
    {'id': 0, 'completion': right, 'problem': ADD},
    {'id': 1, 'completion': '    return a - b\n', 'problem': ADD},
    {'id': 2, 'completion': right, 'problem': ADD, 'finish_reason': 'length'},
    {'id': 3, 'completion': right, 'problem': broken},
  ]
  run(tmp_path, rows, task='humaneval', workers=1)
  found = [row['outcome'] for row in verdicts(tmp_path)]
  assert found == ['correct', 'wrong', 'truncated', 'harness_error']


def test_problems_whose_references_fail_are_named_and_left_out(
  tmp_path, sandbox, capsys
):
  wrong = ADD | {'task_id': 'Own/2', 'canonical_solution': '    return a\n'}
  source = write(tmp_path / 'in.jsonl', [ADD, wrong])
  kept = tmp_path / 'kept.jsonl'
  check_task.run(['--task=humaneval', f'--input={source}', f'--output={kept}'])
  told = capsys.readouterr().out
  assert 'Own/2: 1 of 1 reference solutions fail' in told
  assert 'check-task: 1 of 2 problems of humaneval are fit' in told
  assert [json.loads(line) for line in kept.read_text().splitlines()] == [ADD]
