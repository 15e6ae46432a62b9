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
  monkeypatch.setattr(grade.pool.Pool, 'grade', None)
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


ODD = [
  b'{"id": "\\ud83d", "completion": "yes \\ud83d", "reference": "Yes"}',
  b'{"id": 2, "completion": "The answer is Yes.", "reference": "y\\udfff"}',
  b'{"id": %d, "completion": "x", "reference": 7}' % 10**12,
  b'{"id": 1' + b'0' * 5000 + b', "completion": "x", "reference": "y"}',
  b'{"id": 5, "completion": "%s", "reference": "y"}' % (b'[' * 100_000),
]


@pytest.mark.parametrize('task', ['math', 'gsm8k', 'bbh', 'number', 'exact'])
def test_no_row_stops_the_grading_of_the_others(tmp_path, task):
  source = tmp_path / 'in.jsonl'
  source.write_bytes(b'\xef\xbb\xbf' + b'\n'.join(ODD))
  flags = [f'--task={task}', f'--input={source}', f'--output={tmp_path}/out']
  assert grade.run(flags) == 0
  whole = (tmp_path / 'out').read_bytes()
  whole.decode()  # UTF-8, whatever the rows hold
  assert [line['id'] for line in map(json.loads, whole.splitlines()[:3])] == [
    '\ud83d',
    2,
    10**12,
  ]
  (tmp_path / 'out').write_bytes(whole[:-40])
  grade.run(flags)
  assert (tmp_path / 'out').read_bytes() == whole


@pytest.mark.parametrize(
  'line',
  [
    b'[' * 100_000,
    b'{"id": ' * 100_000,
    b'{"id": 1, "completion": "x", "reference": NaN}',
    b'{"id": 1, "completion": "x", "reference": 1e99999}',
    b'{"id": 1, "completion": "x", "reference": ' + b'1' * 200_000 + b'}',
    b'{"id": 1, "completion": "\xff", "reference": "1"}',
    b'\x00',
  ],
)
def test_a_line_that_is_no_row_is_named_and_nothing_is_graded(tmp_path, line):
  source = tmp_path / 'in.jsonl'
  source.write_bytes(json.dumps(MATH[0]).encode() + b'\n' + line + b'\n')
  flags = ['--task=math', f'--input={source}', f'--output={tmp_path}/out']
  with pytest.raises(configuration.ConfigurationError, match=r'in\.jsonl:2: '):
    grade.run(flags)
  assert not (tmp_path / 'out').exists()


@pytest.mark.parametrize(
  ('task', 'reference', 'completion'),
  [
    ('gsm8k', '1e16', '#### 10000000000000000'),
    ('number', '0.00001', 'The answer is 0.00001.'),
    ('exact', '1.50', 'The answer is 1.50'),
    ('math', '1e22', r'\\boxed{10^{22}}'),
    ('gsm8k', '1' * 30, f'#### {"1" * 30}'),
  ],
)
def test_a_reference_that_is_a_number_is_what_was_typed(
  tmp_path, task, reference, completion
):
  row = f'{{"id": 1, "completion": "{completion}", "reference": {reference}}}'
  (tmp_path / 'in.jsonl').write_text(row)
  grade.run(
    [f'--task={task}', f'--input={tmp_path}/in.jsonl']
    + [f'--output={tmp_path}/out']
  )
  assert verdicts(tmp_path)[0]['outcome'] == 'correct'


def test_a_grader_of_ones_own_grades(tmp_path, monkeypatch):
  (tmp_path / 'shouting_grader.py').write_text(
    'from rest_jax.rewards.verdicts import Verdict\n'
    'def grade(completion, reference, *, finish_reason=None):\n'
    '  right = completion.upper() == reference\n'
    '  return Verdict(outcome="correct" if right else "wrong",\n'
    '                 reward=float(right), answer=None)\n'
  )
  monkeypatch.chdir(tmp_path)
  monkeypatch.syspath_prepend(tmp_path)
  rows = [
    {'id': i, 'completion': text, 'reference': 'YES'}
    for i, text in enumerate(('yes', 'no'))
  ]
  assert run(tmp_path, rows, task='shouting_grader:grade', workers=1) == 0
  assert [row['outcome'] for row in verdicts(tmp_path)] == ['correct', 'wrong']
  with pytest.raises(configuration.ConfigurationError, match="got 'maths'"):
    run(tmp_path, rows, task='maths')


def test_a_problem_that_cannot_be_read_is_no_programs_fault(tmp_path, sandbox):
  problems = [
    ADD | {'prompt': 5},
    ADD | {'test': None},
    ADD | {'entry_point': ['add']},
    {},
  ]
  rows = [
    {'id': i, 'completion': ADD['canonical_solution'], 'problem': problem}
    for i, problem in enumerate([*problems, ADD])
  ]
  run(tmp_path, rows, task='humaneval', workers=1)
  found = [row['outcome'] for row in verdicts(tmp_path)]
  assert found == ['harness_error'] * 4 + ['correct']


def test_check_task_reads_a_file_with_a_byte_order_mark(
  tmp_path, sandbox, capsys
):
  source = tmp_path / 'in.jsonl'
  odd = ADD | {'task_id': '\ud83d', 'canonical_solution': '    return "\ud83d"'}
  lines = [json.dumps(row).encode() for row in (ADD, odd)]
  source.write_bytes(b'\xef\xbb\xbf' + b'\n'.join(lines))
  kept = tmp_path / 'kept.jsonl'
  check_task.run(['--task=humaneval', f'--input={source}', f'--output={kept}'])
  assert '1 of 2 problems of humaneval are fit' in capsys.readouterr().out
  assert json.loads(kept.read_bytes()) == ADD
