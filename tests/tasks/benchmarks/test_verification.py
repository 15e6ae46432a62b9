"""What is found wrong with a data set, and when it is refused."""

import dataclasses
import hashlib
import json

import published_sets
import pytest

from rest_jax.config import configuration
from rest_jax.tasks.benchmarks import (
  catalogue,
  parsed_dataset,
  published_files,
  verification,
)
from rest_jax.tasks.problem_sets import Row

MATH = dataclasses.replace(
  catalogue.get('math'), counts={'train': 3, 'test': 1}, exemplars=()
)


def dataset(rows, skipped=None, files=None):
  return parsed_dataset.ParsedDataset(
    rows=rows, skipped=skipped or {}, where='DIR', files=files or {}
  )


def problem(key='a', **fields):
  return Row(
    **{
      'key': key,
      'question': f'What is {key}?',
      'answer': '1',
      'solution': '$\\boxed{1}$',
      **fields,
    }
  )


TRAIN, TEST = [problem('a'), problem('b'), problem('c')], [problem('d')]


def test_what_is_published_passes_without_a_warning():
  found = verification.verify(MATH, dataset({'train': TRAIN, 'test': TEST}))
  assert not found.warnings and not found.summary.partial
  assert found.lines[1] == '  train: 3 problems; 3 are published'
  assert found.summary.rows == {'train': 3, 'test': 1}
  kept = json.loads(json.dumps(found.summary.to_json()))
  assert verification.Summary.from_json(kept) == found.summary


@pytest.mark.parametrize('number', [2, 4])
def test_a_wrong_count_is_an_error_that_says_what_to_do(number):
  rows = [problem(str(i)) for i in range(number)]
  skipped = {'train': {'not valid JSON': ['train.jsonl:9']}}
  with pytest.raises(configuration.ConfigurationError) as error:
    verification.verify(MATH, dataset({'train': rows, 'test': TEST}, skipped))
  for words in (
    f'train has {number} problems, published are 3',
    'not valid JSON (train.jsonl:9)',
    'Download it again',
    '--allow_partial',
  ):
    assert words in str(error.value)
  found = verification.verify(
    MATH, dataset({'train': rows, 'test': TEST}), allow_partial=True
  )
  assert found.summary.partial
  assert any('published are 3' in line for line in found.warnings)


def test_a_faulty_problem_counts_as_there_and_a_damaged_line_does_not():
  rows = {'train': TRAIN[:2], 'test': TEST}
  fault = {'train': {parsed_dataset.NO_BOX: ['train.jsonl:3']}}
  found = verification.verify(MATH, dataset(rows, fault))
  assert not found.summary.partial
  assert any('train.jsonl:3' in line for line in found.lines)
  for reason in ('not valid JSON', parsed_dataset.SAME_KEY):
    with pytest.raises(configuration.ConfigurationError):
      verification.verify(MATH, dataset(rows, {'train': {reason: ['x']}}))


def test_nothing_at_all_is_never_accepted():
  for rows in ({}, {'train': []}):
    with pytest.raises(configuration.ConfigurationError):
      verification.verify(MATH, dataset(rows), allow_partial=True)


def test_a_split_that_nobody_published_is_an_error():
  rows = {'train': TRAIN, 'test': TEST, 'unknown': [problem('e')]}
  with pytest.raises(configuration.ConfigurationError, match='unknown has 1'):
    verification.verify(MATH, dataset(rows))


def test_a_missing_exemplar_is_an_error():
  benchmark = dataclasses.replace(MATH, exemplars=('a', 'zz'))
  rows = {'train': TRAIN, 'test': TEST}
  with pytest.raises(configuration.ConfigurationError, match='missing: zz'):
    verification.verify(benchmark, dataset(rows))
  borrowed = dataclasses.replace(benchmark, exemplars_from='gsm8k')
  assert not verification.verify(borrowed, dataset(rows)).warnings


@pytest.mark.parametrize(
  ('row', 'name'),
  [
    (problem('c', question='What is a? '), 'repeated questions'),
    (problem('c', question='What is d?'), 'questions in two splits'),
    (problem('c', answer=''), 'no answer'),
    (problem('c', answer=None), 'no answer'),
    (
      problem('c', answer='1' * 5000, solution=f'$\\boxed{{{"1" * 5000}}}$'),
      'a reference that its own grader does not take',
    ),
    (problem('c', solution=None), 'no human solution'),
    (problem('c', answer='2'), 'an answer that differs from its box'),
  ],
)
def test_what_looks_odd_is_named_with_its_place(row, name):
  rows = {'train': [*TRAIN[:2], row], 'test': TEST}
  found = verification.verify(MATH, dataset(rows))
  assert not found.summary.partial
  places = found.summary.found[name]
  assert len(places) == 1 and 'c' in places[0]
  assert any(line.startswith(name) for line in found.warnings)


def test_an_answer_spelt_otherwise_than_its_box_is_the_same():
  row = problem('c', answer='0.5', solution='$\\boxed{\\frac{1}{2}}$')
  rows = {'train': [*TRAIN[:2], row], 'test': TEST}
  assert not verification.verify(MATH, dataset(rows)).warnings


def test_programs_need_tests_and_the_exam_needs_nothing():
  apps = dataclasses.replace(
    catalogue.get('apps'), counts={'train': 1}, exemplars=()
  )
  row = problem('1', answer=None, tests=None)
  found = verification.verify(apps, dataset({'train': [row]})).summary.found
  assert found == {'no answer': ['train/1']}
  exam = dataclasses.replace(
    catalogue.get('hungarian_exam'), counts={'test': 1}
  )
  row = Row(key='00', question='Draw.')
  assert not verification.verify(exam, dataset({'test': [row]})).warnings


def test_bbh_shares_exemplars_between_subtasks(tmp_path):
  published_sets.write_bbh(tmp_path)
  rows = published_files.read('bbh', tmp_path).rows
  copies = [
    dataclasses.replace(row, key=f'x{row.key}', type='copied')
    for row in rows['prompts']
  ]
  counts = {'prompts': 12, 'test': 3}
  bbh = dataclasses.replace(catalogue.get('bbh'), counts=counts)
  both = {**rows, 'prompts': [*rows['prompts'], *copies]}
  assert not verification.verify(bbh, dataset(both)).warnings


def test_a_file_that_is_not_the_published_one_is_named(tmp_path, monkeypatch):
  path = tmp_path / 'train.jsonl'
  path.write_text('x')
  rows, files = {'train': TRAIN, 'test': TEST}, {'data/train.jsonl': str(path)}
  digest = hashlib.sha256(b'x').hexdigest()
  for known, expected in ((digest, 0), ('0' * 64, 1)):
    monkeypatch.setitem(
      verification.PUBLISHED_SHA256, ('math', 'train.jsonl'), known
    )
    found = verification.verify(MATH, dataset(rows, files=files))
    assert len(found.warnings) == expected
  assert str(path) in found.warnings[0]


def test_published_digests_are_whole():
  for (name, file), digest in verification.PUBLISHED_SHA256.items():
    assert len(digest) == 64 and int(digest, 16)
    addresses = catalogue.get(name).urls
    assert file in addresses


def test_the_page_on_data_tells_where_to_get_every_set(root):
  page = (root / 'docs' / 'data.md').read_text()
  for row in catalogue.CATALOGUE.values():
    assert f'`{row.name}`' in page
    for split, count in row.counts.items():
      assert f'{split} {count:,}' in page, (row.name, split)
    if row.data is None:
      address = row.homepage.partition('://')[2]
      assert (
        address.partition('/tree/')[0]
        in (root / 'third_party' / 'README.md').read_text()
      )
