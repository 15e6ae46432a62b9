"""Every layout in which a data set is published gives the same problems."""

import hashlib
import json

import published_sets
import pytest

from rest_jax.rewards.code.program_tests import Tests
from rest_jax.tasks.benchmarks import published_files
from rest_jax.tasks.problem_sets import Row


def key(question):
  return hashlib.sha256(question.encode()).hexdigest()[:12]


MATH_TRAIN = {
  Row(
    key=key('What is $1+1$?'),
    question='What is $1+1$?',
    answer='2',
    level='1',
    type='Algebra',
    solution='Not $\\boxed{}$ but\n\n$1+1=\\boxed{2}.$',
  ),
  Row(
    key=key('Halve one.'),
    question='Halve one.',
    answer='\\frac{1}{2}',
    level='?',
    type='Counting & Probability',
    solution='It is $\\boxed{\\frac{1}{2}}$.',
  ),
}
MATH_TEST = Row(
  key=key('Solve $x=3é$.'),
  question='Solve $x=3é$.',
  answer='3',
  level='5',
  type='Algebra',
  solution='$\\boxed{3}$',
)


def math_in(layout, folder, tmp_path):
  if layout == 'subjects':
    for split, rows in published_sets.MATH.items():
      for row in rows:
        name = 'algebra' if row['type'] == 'Algebra' else 'number_theory'
        published_sets.write('parquet', folder / name, {split: [row]})
  elif layout == 'folders':
    published_sets.write_math_folders(folder)
  elif layout in ('MATH.tar', 'MATH.tar.gz', 'math-main.zip'):
    published_sets.write_math_folders(tmp_path / 'unpacked')
    outer = 'math-main/' if layout.endswith('.zip') else ''
    published_sets.archive(tmp_path / 'unpacked', folder / layout, outer)
  else:
    published_sets.write(layout, folder, published_sets.MATH)


@pytest.mark.parametrize(
  'layout',
  [
    *published_sets.TABLES,
    'converted',
    'subjects',
    'folders',
    'MATH.tar',
    'MATH.tar.gz',
    'math-main.zip',
  ],
)
def test_math_is_the_same_in_every_layout(layout, tmp_path):
  folder = tmp_path / 'data' / 'math'
  folder.mkdir(parents=True)
  math_in(layout, folder, tmp_path)
  # the folder itself, and the one above it
  for place in (folder, tmp_path / 'data'):
    dataset = published_files.read('math', place)
    assert set(dataset.rows['train']) == MATH_TRAIN
    assert dataset.rows['test'] == [MATH_TEST]
    assert not dataset.skipped
    keys = [row.key for row in dataset.rows['train']]
    assert keys == sorted(keys)


APPS_7 = dict(
  key='7',
  question='Print twice the number.\n\nRead from standard input and write the '
  'answer to standard output.',
  tests=Tests.stdin(['2\n'], ['4\n']).to_json(),
  level='introductory',
  solution='n = int(input())\nprint(2 * n)',
)
APPS_12 = dict(
  key='12',
  question='Add one.\n\ndef up(x):\n\nWrite up: it is called with its '
  'arguments, and returns.',
  tests=Tests.calls('up', [[1]], [2]).to_json(),
  level='interview',
  solution='def up(x):\n    return x + 1',
)


@pytest.mark.parametrize(
  'layout', [*published_sets.TABLES, 'folders', 'APPS.tar.gz', 'APPS.zip']
)
def test_apps_is_the_same_in_every_layout(layout, tmp_path):
  folder = tmp_path / 'apps'
  folder.mkdir()
  if layout == 'folders':
    published_sets.write_apps_folders(folder)
  elif layout.startswith('APPS'):
    published_sets.write_apps_folders(tmp_path / 'unpacked')
    published_sets.archive(tmp_path / 'unpacked', folder / layout)
  else:
    published_sets.write(layout, folder, published_sets.APPS)
  dataset = published_files.read('apps', folder)
  # by number, not by letter
  assert dataset.rows['train'] == [Row(**APPS_7), Row(**APPS_12)]
  assert dataset.rows['test'] == [Row(**APPS_7)]
  assert not dataset.skipped


@pytest.mark.parametrize(
  ('layout', 'prefix'),
  [
    *((layout, '') for layout in published_sets.TABLES),
    ('parquet', 'main/'),
    ('jsonl', 'grade-school-math-main/grade_school_math/data/'),
    ('jsonl', 'grade_school_math/data/'),
  ],
)
def test_gsm8k_is_the_same_in_every_layout(layout, prefix, tmp_path):
  published_sets.write(layout, tmp_path / prefix, published_sets.GSM8K)
  # what lies beside it is not taken for it
  wrong = {'train': [{'question': 'Sub-questions?', 'answer': 'No\n#### 1'}]}
  published_sets.write('parquet', tmp_path / 'socratic', wrong)
  published_sets.write('jsonl', tmp_path, {'train_socratic': wrong['train']})
  dataset = published_files.read('gsm8k', tmp_path)
  question = 'Ann has 3 pens and buys 4. How many?'
  assert dataset.rows == {
    'train': [
      Row(
        key=key(question),
        question=question,
        answer='7',
        solution='She has 3+4=7 pens.\n#### 7',
      )
    ],
    'test': [
      Row(
        key=key('Two times 600?'),
        question='Two times 600?',
        answer='1,200',
        solution='It is 1200.\n#### 1,200',
      )
    ],
  }


@pytest.mark.parametrize(
  'name', ['HumanEval.jsonl', 'HumanEval.jsonl.gz', 'test.parquet']
)
def test_humaneval_keeps_its_prompt_and_numbers(name, tmp_path):
  stem, _, layout = name.partition('.')
  rows = published_sets.HUMANEVAL['test'][::-1]
  published_sets.write(layout, tmp_path, {stem: rows})
  found = published_files.read('humaneval', tmp_path).rows['test']
  assert [row.key for row in found] == ['0', '10']
  assert found[1].question == 'def plus10(x):\n    """Adds 10."""\n'
  assert found[1].solution == '    return x + 10\n'
  tests = Tests.from_json(found[1].tests)
  assert tests.name == 'plus10' and tests.prompt == found[1].question
  assert tests.source.startswith(tests.prompt)


@pytest.mark.parametrize('layout', ['mbpp.jsonl', 'parquet'])
def test_mbpp_is_split_by_number(layout, tmp_path):
  rows = published_sets.MBPP_ROWS
  if layout == 'parquet':
    # an empty column of the file that holds one split only
    for row in rows:
      name = {10: 'prompt', 974: 'train'}.get(row['task_id'], 'test')
      part = f'{name}-{row["task_id"]:05d}-of-00001'
      published_sets.write('parquet', tmp_path / 'full', {part: [row]})
  else:
    published_sets.write('jsonl', tmp_path, {'mbpp': rows})
  dataset = published_files.read('mbpp', tmp_path)
  assert {
    split: [row.key for row in rows] for split, rows in dataset.rows.items()
  } == {
    'prompt': ['10'],
    'test': ['11', '510'],
    'validation': ['511', '600'],
    'train': ['601', '974'],
  }
  first = dataset.rows['prompt'][0]
  assert first.question == (
    'Write a function to add 10.\nYour code should pass these tests:\n'
    'assert add10(0) == 10'
  )
  assert first.solution == 'def add10(x):\n\treturn x + 10'
  assert Tests.from_json(first.tests).name == 'add10'


@pytest.mark.parametrize(
  'name', ['math500.jsonl', 'test.jsonl', 'test.parquet']
)
def test_math500_takes_its_own_answers(name, tmp_path):
  stem, _, layout = name.partition('.')
  rows = published_sets.MATH500['test']
  published_sets.write(layout, tmp_path, {stem: rows})
  assert published_files.read('math500', tmp_path).rows == {'test': [MATH_TEST]}


def test_math500_is_found_beside_math(tmp_path):
  published_sets.write('jsonl', tmp_path / 'math', published_sets.MATH)
  rows = published_sets.MATH500['test']
  published_sets.write('jsonl', tmp_path / 'math', {'math500': rows})
  for place in (tmp_path / 'math', tmp_path):
    assert len(published_files.read('math500', place).rows['test']) == 1
    assert len(published_files.read('math', place).rows['test']) == 1


@pytest.mark.parametrize('name', ['test.jsonl', 'exam.csv', 'test.parquet'])
def test_the_exam_is_numbered_and_has_no_answers(name, tmp_path):
  stem, _, layout = name.partition('.')
  rows = published_sets.EXAM['test']
  if layout == 'csv':
    rows = [{'Question': row['problem']} for row in rows]
  published_sets.write(layout, tmp_path, {stem: rows})
  assert published_files.read('hungarian_exam', tmp_path).rows == {
    'test': [
      Row(key='00', question='Draw a circle.'),
      Row(key='01', question='Draw it again.'),
    ]
  }


def bbh_in(layout, tmp_path):
  folder = tmp_path / 'bbh'
  folder.mkdir()
  outer = 'BIG-Bench-Hard-main/'
  if layout == 'folders':
    published_sets.write_bbh(folder)
  elif layout == 'outer':
    published_sets.write_bbh(folder / outer)
  else:
    published_sets.write_bbh(tmp_path / 'unpacked')
    published_sets.archive(tmp_path / 'unpacked', folder / layout, outer)
  return folder


@pytest.mark.parametrize(
  'layout', ['folders', 'outer', 'BIG-Bench-Hard-main.zip', 'bbh.tar.gz']
)
def test_bbh_is_the_same_in_every_layout(layout, tmp_path):
  folder = bbh_in(layout, tmp_path)
  for place in (folder, tmp_path):
    dataset = published_files.read('bbh', place)
    assert [row.key for row in dataset.rows['test']] == [
      'counting-000',
      'liking-000',
      'liking-001',
    ]
    assert dataset.rows['test'][2] == Row(
      key='liking-001',
      question='Is 5 odd?',
      answer='yes',
      type='liking',
      lead='Say whether it is so.\n\n',
    )
    assert dataset.rows['prompts'][0] == Row(
      key='counting-000',
      question='How many in 1 bags?\nOptions:\n(A) 1',
      answer='(A)',
      type='counting',
      # an empty line within it is no end
      solution='One each.\n\nThat is 1. So the answer is (A).',
      lead='Count the things.\n\n',
    )
    assert [row.answer for row in dataset.rows['prompts'][3:]] == [
      'yes',
      'no',
      'yes',
    ]
    assert dataset.rows['prompts'][3].solution == (
      'It may be. So the answer is yes.'
    )
  assert published_files.read('bbh_direct', folder).digest() == dataset.digest()


def test_a_reading_lies_on_an_object_store_too(bucket, tmp_path):
  from rest_jax.artifacts import storage

  published_sets.write_math_folders(tmp_path / 'unpacked')
  published_sets.archive(tmp_path / 'unpacked', tmp_path / 'MATH.tar.gz')
  data = (tmp_path / 'MATH.tar.gz').read_bytes()
  storage.write_bytes(f'{bucket}/packed/MATH.tar.gz', data)
  lines = '\n'.join(json.dumps(row) for row in published_sets.MATH['train'])
  storage.write_bytes(f'{bucket}/math/train.jsonl', lines.encode())
  packed = published_files.read('math', f'{bucket}/packed')
  assert set(packed.rows['train']) == MATH_TRAIN
  assert packed.rows['test'] == [MATH_TEST]
  assert set(published_files.read('math', bucket).rows['train']) == MATH_TRAIN


def test_the_digest_sees_every_field_and_no_layout(tmp_path):
  published_sets.write('jsonl', tmp_path / 'a', published_sets.MATH)
  published_sets.write('parquet', tmp_path / 'b', published_sets.MATH)
  digest = published_files.read('math', tmp_path / 'a').digest()
  assert digest == published_files.read('math', tmp_path / 'b').digest()
  for field in ('problem', 'level', 'type', 'solution'):
    value = published_sets.MATH['test'][0][field]
    other = 'Level 4' if field == 'level' else 'A ' + value
    rows = [{**published_sets.MATH['test'][0], field: other}]
    changed = {**published_sets.MATH, 'test': rows}
    published_sets.write('jsonl', tmp_path / field, changed)
    assert published_files.read('math', tmp_path / field).digest() != digest, (
      field
    )
