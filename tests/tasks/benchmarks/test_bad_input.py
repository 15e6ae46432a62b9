"""What is not as it was published: a clear error, or a row that is listed."""

import gzip
import io
import json
import os
import tarfile
import zipfile

import published_sets
import pytest

from rest_jax.config import configuration
from rest_jax.tasks.benchmarks import (
  file_sources,
  parsed_dataset,
  published_files,
  tables,
)

MATH, APPS = published_sets.MATH, published_sets.APPS


def lines(rows):
  return b''.join(json.dumps(row).encode() + b'\n' for row in rows)


def skipped(name, folder, split):
  return published_files.read(name, folder).skipped[split]


def refused(name, folder, *words):
  with pytest.raises(configuration.ConfigurationError) as error:
    published_files.read(name, folder)
  for word in words:
    assert word in str(error.value), error.value


def test_a_missing_folder_an_empty_one_and_another_layout(tmp_path):
  refused('math', tmp_path / 'none', 'none', 'no such folder')
  (tmp_path / 'empty' / 'within').mkdir(parents=True)
  refused('math', tmp_path / 'empty', 'is empty')
  (tmp_path / 'other').mkdir()
  (tmp_path / 'other' / 'questions.txt').write_text('1+1')
  for name in published_files.READERS:
    refused(name, tmp_path / 'other', 'questions.txt', 'Allowed: ')
  with pytest.raises(file_sources.NotFoundError):
    published_files.read('math', tmp_path / 'other')


def test_a_folder_with_far_too_many_files_is_not_searched(
  tmp_path, monkeypatch
):
  monkeypatch.setattr(file_sources, 'MAX_FILES', 3)
  for number in range(4):
    (tmp_path / f'{number}.txt').write_text('')
  refused('math', tmp_path, 'more than 3 files')


def test_bad_lines_are_listed_by_their_place(tmp_path):
  good = MATH['train'][0]
  data = [
    lines([good]),
    b'{"problem": "cut\n',
    b'\n',  # an empty line is no row
    b'{"problem": "\xff"}\n',
    b'[1]\n',
    lines([{**good, 'problem': 'No solution.', 'solution': None}]),
    lines([{**good, 'problem': 'A number.', 'solution': 3.5}]),
    lines([{**good, 'problem': '  '}]),
    lines([{**good, 'problem': '\ud83d'}]),
    lines([{**good, 'problem': 'Empty.', 'solution': '$\\boxed{ }$'}]),
    lines([{**good, 'problem': 'None.', 'solution': 'The answer is 3.'}]),
    lines([{**good, 'problem': 'Open.', 'solution': '$\\boxed{3$'}]),
    lines([{**good, 'problem': good['problem'] + ' '}]),
  ]
  (tmp_path / 'train.jsonl').write_bytes(b''.join(data))
  assert skipped('math', tmp_path, 'train') == {
    tables.NOT_JSON: ['train.jsonl:2'],
    tables.NOT_UTF8: ['train.jsonl:4'],
    tables.NOT_AN_OBJECT: ['train.jsonl:5'],
    "no field 'solution'": ['train.jsonl:6'],
    "'solution' is not a text": ['train.jsonl:7'],
    "'problem' is empty": ['train.jsonl:8'],
    "'problem' is not UTF-8": ['train.jsonl:9'],
    parsed_dataset.NO_BOX: [
      'train.jsonl:10',
      'train.jsonl:11',
      'train.jsonl:12',
    ],
    parsed_dataset.SAME_KEY: ['train.jsonl:13'],
  }
  assert len(published_files.read('math', tmp_path).rows['train']) == 1


def test_bad_files_of_one_problem_each_are_listed_by_name(tmp_path):
  published_sets.write_math_folders(tmp_path)
  folder = tmp_path / 'MATH' / 'train' / 'algebra'
  (folder / '7.json').write_bytes(b'{"problem": ')
  (folder / '8.json').write_bytes(b'\xff\xfe')
  assert skipped('math', tmp_path, 'train') == {
    tables.NOT_JSON: ['MATH/train/algebra/7.json'],
    tables.NOT_UTF8: ['MATH/train/algebra/8.json'],
  }


@pytest.mark.parametrize(
  ('cases', 'reason'),
  [
    ('', parsed_dataset.NO_TESTS),
    (None, parsed_dataset.NO_TESTS),
    ('{}', parsed_dataset.BAD_TESTS),
    ('{"inputs": [], "outputs": []}', parsed_dataset.NO_TESTS),
    ('{"inputs": ["1"]', parsed_dataset.BAD_TESTS),
    ('[1]', parsed_dataset.BAD_TESTS),
    ('{"inputs": ["1"], "outputs": []}', parsed_dataset.BAD_TESTS),
    ('{"fn_name": "f", "inputs": [["\\ud83d"]], "outputs": [1]}', None),
    # more digits than Python converts
    (
      f'{{"inputs": ["1"], "outputs": [{"9" * 5000}]}}',
      parsed_dataset.BAD_TESTS,
    ),
  ],
)
def test_apps_problems_without_tests_are_listed(cases, reason, tmp_path):
  row = {**APPS['train'][0], 'problem_id': 99, 'input_output': cases}
  data = lines([APPS['train'][1], row])
  (tmp_path / 'train.jsonl').write_bytes(data)
  dataset = published_files.read('apps', tmp_path)
  expected = {reason or parsed_dataset.BAD_TESTS: ['train.jsonl:2']}
  assert dataset.skipped['train'] == expected
  assert [row.key for row in dataset.rows['train']] == ['7']


@pytest.mark.parametrize(
  'lacking', ['question.txt', 'input_output.json', 'solutions.json']
)
def test_an_apps_folder_that_lacks_a_file(lacking, tmp_path):
  published_sets.write_apps_folders(tmp_path)
  (tmp_path / 'APPS' / 'train' / '0007' / lacking).unlink()
  dataset = published_files.read('apps', tmp_path)
  rows = {row.key: row for row in dataset.rows['train']}
  if lacking == 'solutions.json':  # as most test problems do
    assert rows['7'].solution is None and not dataset.skipped
  else:
    reason = (
      parsed_dataset.NO_TESTS if 'input' in lacking else "no field 'question'"
    )
    assert dataset.skipped == {'train': {reason: ['train/0007']}}


def test_an_apps_folder_that_is_not_utf8_is_listed(tmp_path):
  published_sets.write_apps_folders(tmp_path)
  bad = tmp_path / 'APPS' / 'train' / '0007' / 'question.txt'
  bad.write_bytes(b'\xff')
  assert skipped('apps', tmp_path, 'train') == {tables.NOT_UTF8: ['train/0007']}


def test_mbpp_rows_without_tests_or_with_a_strange_number(tmp_path):
  row = published_sets.MBPP_ROWS[0]
  data = lines(
    [
      row,
      {**row, 'task_id': 2, 'test_list': []},
      {**row, 'task_id': 3, 'test_list': [1]},
      {**row, 'task_id': 975},
      {**row, 'task_id': 'x'},
      row,
    ]
  )
  (tmp_path / 'mbpp.jsonl').write_bytes(data)
  dataset = published_files.read('mbpp', tmp_path)
  assert dataset.skipped == {
    'prompt': {
      parsed_dataset.NO_TESTS: ['mbpp.jsonl:2'],
      parsed_dataset.BAD_TESTS: ['mbpp.jsonl:3'],
      parsed_dataset.SAME_KEY: ['mbpp.jsonl:6'],
    },
    'unknown': {
      'task_id is not one of 1 to 974': ['mbpp.jsonl:4'],
      'task_id is not a number': ['mbpp.jsonl:5'],
    },
  }


def test_gsm8k_needs_its_mark(tmp_path):
  row = {'question': 'How many?', 'answer': 'Seven, it is 7.'}
  (tmp_path / 'train.jsonl').write_bytes(lines([row]))
  reason = "no '####' with an answer after it"
  assert skipped('gsm8k', tmp_path, 'train') == {reason: ['train.jsonl:1']}


@pytest.mark.parametrize('keep', [0, 10, 0.5, -4])
def test_a_truncated_gzip_is_an_error(keep, tmp_path):
  rows = MATH['train'] * 50
  data = gzip.compress(lines(rows))
  keep = int(len(data) * keep) if 0 < keep < 1 else keep
  (tmp_path / 'train.jsonl.gz').write_bytes(data[:keep] or b'\0\0')
  refused('math', tmp_path, 'train.jsonl.gz', 'Download it again')


@pytest.mark.parametrize('name', ['MATH.tar', 'MATH.tar.gz', 'MATH.zip'])
@pytest.mark.parametrize('share', [0.0, 0.02, 0.5, 0.9])
def test_a_truncated_archive_is_an_error(name, share, tmp_path):
  published_sets.write_math_folders(tmp_path / 'unpacked')
  for path in (tmp_path / 'unpacked').rglob('*.json'):
    row = json.loads(path.read_text())
    row['padding'] = os.urandom(5_000).hex()  # which does not compress
    path.write_text(json.dumps(row))
  published_sets.archive(tmp_path / 'unpacked', tmp_path / name)
  folder = tmp_path / 'math'
  folder.mkdir()
  data = (tmp_path / name).read_bytes()
  end = data.rstrip(b'\0') if name.endswith('.tar') else data
  (folder / name).write_bytes(data[: int(len(end) * share)])
  refused('math', folder, name, 'truncated or damaged', 'Download it again')


@pytest.mark.parametrize('keep', [0.0, 0.5, 0.99])
def test_a_truncated_parquet_file_is_an_error(keep, tmp_path):
  published_sets.write('parquet', tmp_path, MATH)
  data = (tmp_path / 'test.parquet').read_bytes()
  (tmp_path / 'test.parquet').write_bytes(data[: int(len(data) * keep)])
  refused('math', tmp_path, 'test.parquet', 'Download it again')


def test_a_json_list_that_is_cut_is_an_error(tmp_path):
  (tmp_path / 'train.json').write_text(json.dumps(MATH['train'])[:-3])
  refused('math', tmp_path, 'train.json', 'not a JSON list')
  (tmp_path / 'train.json').write_text(json.dumps([1, MATH['train'][0]]))
  assert skipped('math', tmp_path, 'train') == {
    tables.NOT_AN_OBJECT: ['train.json[1]']
  }


def test_a_split_in_two_formats_is_an_error(tmp_path):
  published_sets.write('jsonl', tmp_path, MATH)
  published_sets.write('parquet', tmp_path, MATH)
  refused('math', tmp_path, 'train.jsonl, train.parquet', 'Keep one')


def tar_with(path, member, data=b''):
  with tarfile.open(path, 'w') as packed:
    member.size = len(data)
    packed.addfile(member, io.BytesIO(data))


@pytest.mark.parametrize(
  'name', ['../train/algebra/1.json', '/train/algebra/1.json', 'a/../../b.json']
)
@pytest.mark.parametrize('kind', ['tar', 'zip'])
def test_a_path_out_of_an_archive_is_refused(kind, name, tmp_path):
  folder = tmp_path / 'down' / 'math'
  folder.mkdir(parents=True)
  data = json.dumps(MATH['train'][0]).encode()
  if kind == 'tar':
    tar_with(folder / 'MATH.tar', tarfile.TarInfo(name), data)
  else:
    with zipfile.ZipFile(folder / 'MATH.zip', 'w') as packed:
      packed.writestr(name, data)
  before = sorted(tmp_path.rglob('*'))
  refused('math', folder, name, 'leads out of it')
  assert sorted(tmp_path.rglob('*')) == before


@pytest.mark.parametrize('kind', ['symbolic', 'hard', 'zip'])
def test_a_link_in_an_archive_is_never_followed(kind, tmp_path):
  secret = tmp_path / 'secret.json'
  secret.write_text(json.dumps(MATH['test'][0]))
  folder, name = tmp_path / 'math', 'MATH/test/algebra/1.json'
  published_sets.write_math_folders(tmp_path / 'unpacked')
  folder.mkdir()
  (tmp_path / 'unpacked' / 'MATH' / 'test' / 'algebra' / '0.json').unlink()
  if kind == 'zip':
    published_sets.archive(tmp_path / 'unpacked', folder / 'MATH.zip')
    link = zipfile.ZipInfo(name)
    link.external_attr = 0o120777 << 16
    with zipfile.ZipFile(folder / 'MATH.zip', 'a') as packed:
      packed.writestr(link, str(secret))
  else:
    published_sets.archive(tmp_path / 'unpacked', folder / 'MATH.tar')
    link = tarfile.TarInfo(name)
    link.type = tarfile.SYMTYPE if kind == 'symbolic' else tarfile.LNKTYPE
    link.linkname = str(secret)
    with tarfile.open(folder / 'MATH.tar', 'a') as packed:
      packed.addfile(link)
  dataset = published_files.read('math', folder)
  assert 'test' not in dataset.rows and len(dataset.rows['train']) == 2
  (where,) = dataset.skipped[''][parsed_dataset.LINK]
  assert where.endswith(name)


def test_another_sets_archive_is_not_opened(tmp_path):
  published_sets.write_math_folders(tmp_path / 'unpacked')
  folder = tmp_path / 'manual'
  folder.mkdir()
  (folder / 'APPS.tar.gz').write_bytes(b'not even an archive')
  with pytest.raises(file_sources.NotFoundError):
    published_files.read('math', folder)
  published_sets.archive(tmp_path / 'unpacked', folder / 'MATH.tar')
  assert len(published_files.read('math', folder).rows['train']) == 2
  refused('apps', folder, 'APPS.tar.gz', 'truncated or damaged')


def test_bbh_must_be_whole(tmp_path):
  published_sets.write_bbh(tmp_path)
  prompt = tmp_path / 'cot-prompts' / 'liking.txt'
  text = prompt.read_text()
  prompt.write_text(text.rpartition('\n\nQ:')[0])
  refused('bbh', tmp_path, 'liking.txt', '2 exemplars', 'has 3')
  prompt.write_text(text.removesuffix('So the answer is yes.'))
  refused('bbh', tmp_path, 'liking.txt', '2 exemplars')
  prompt.write_bytes(b'\xff')
  refused('bbh', tmp_path, 'liking.txt', 'not UTF-8')
  prompt.unlink()
  refused('bbh', tmp_path, 'liking', 'Copy both folders')
  prompt.write_text(text)
  problems = tmp_path / 'bbh' / 'liking.json'
  problems.write_text('{"examples": [')
  refused('bbh', tmp_path, 'liking.json', tables.NOT_JSON)
  problems.write_text('{}')
  refused('bbh', tmp_path, 'liking.json', "no list 'examples'")
  problems.write_text('{"examples": [1, {"input": "x"}]}')
  dataset = published_files.read('bbh', tmp_path)
  assert dataset.skipped['test'] == {
    tables.NOT_AN_OBJECT: ['bbh/liking.json[0]'],
    "no field 'target'": ['bbh/liking.json[1]'],
  }


def test_an_unknown_set_names_the_nearest():
  with pytest.raises(configuration.ConfigurationError, match='Nearest: gsm8k'):
    published_files.read('gsm8', '.')
