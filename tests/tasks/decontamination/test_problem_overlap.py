"""`prepare` compares training with test problems, and can leave some out."""

import json

import pytest

from rest_jax import prepare
from rest_jax.artifacts import fingerprints, manifests, storage, task_card
from rest_jax.config import configuration
from rest_jax.tasks import jsonl

NUMBER = 60
DROPPED = 'shares a 13-gram with a test set (DROP_OVERLAP)'


def story(key):
  """A question of 20 tokens, no three of them in another one."""
  return ' '.join(f'{key}w{i}' for i in range(20)) + '?'


def write_rows(path, rows):
  path.write_text('\n'.join(json.dumps(row) for row in rows))
  return str(path)


def row(key, question, **more):
  return {'id': key, 'question': question, 'answer': '1', **more}


def task(folder, name, rows, test, **fields):
  """A JSONL task whose test set is `test`."""
  folder.mkdir(exist_ok=True)
  return jsonl.JsonlConfig(
    name=name,
    input=write_rows(folder / f'{name}.jsonl', rows),
    input_test=write_rows(folder / f'{name}_test.jsonl', test),
    vocabulary='bytes',
    **({'num_shots': 0} | fields),
  )


@pytest.fixture
def own(tmp_path):
  """t: t0 to t59; its test set repeats t1, t5 and the solution of t2.

  Which of its problems are D_val is a seeded choice: t1 is, t2 to t5 are not.
  """
  rows = [row(f't{i}', story(f't{i}')) for i in range(NUMBER)]
  rows[2]['solution'] = f'As {story("x")} says, 1.'
  test = [
    row('a', f'Tell me, {story("t5")} And so on, {story("a")}'),
    row('b', story('x')),
    row('c', story('c')),
    row('d', f'Say: {story("t1")}'),
  ]
  return task(tmp_path, 't', rows, test)


@pytest.fixture
def other(tmp_path):
  """u: its test set asks what t3, t4 and its own u0 ask, in capitals."""
  rows = [row(f'u{i}', story(f'u{i}')) for i in range(NUMBER)]
  test = [row(key, story(key).upper()) for key in ('t3', 't4')]
  return task(tmp_path, 'u', rows, [*test, row('z', story('z'))])


def run(folder, *tasks, **fields):
  prepare.prepare(run_dir=str(folder), tasks=tasks, seed=0, **fields)
  report = folder / 'problems/overlap.json'
  return storage.read_json(report) if report.exists() else None


def pair_of(report, training, evaluated):
  (pair,) = [
    pair
    for pair in report['pairs']
    if (pair['training_set'], pair['evaluated_set']) == (training, evaluated)
  ]
  return pair


def ids(folder, name):
  manifest = manifests.load(folder / 'problems' / name)
  return {problem.id.split('/')[-1] for problem in manifest.records()}


def test_each_training_set_is_compared_with_each_evaluated_one(
  tmp_path, own, other
):
  report = run(tmp_path / 'r', own, other)
  pairs = {(p['training_set'], p['evaluated_set']) for p in report['pairs']}
  evaluated = {'t/dval', 't/test', 'u/dval', 'u/test'}
  training = {'t/train', 't/dval', 'u/train', 'u/dval'}
  assert pairs == {(a, b) for a in training for b in evaluated if a != b}


def test_questions_and_human_solutions_are_looked_through(
  tmp_path, own, other, capsys
):
  folder = tmp_path / 'r'
  report = run(folder, own, other)
  assert {'t2', 't3', 't4', 't5'} <= ids(folder, 't/train')
  assert 't1' in ids(folder, 't/dval')
  pair = pair_of(report, 't/train', 't/test')
  found = {one['id']: one for one in pair['examples']}
  assert set(found) == {'t/test/a', 't/test/b'}
  assert found['t/test/a']['with'] == 't/train/t5'
  assert found['t/test/b']['with'] == 't/train/t2'
  assert found['t/test/a']['coverage'] == pytest.approx(20 / 45, abs=1e-4)
  assert found['t/test/b']['coverage'] == 1 and pair['half_covered'] == 1
  assert pair['same_question'] == 0 and pair['training_shared'] == 2
  pair = pair_of(report, 't/train', 'u/test')
  assert pair['shared'] == pair['same_question'] == 2
  out = capsys.readouterr().out
  assert (
    'overlap: t/train x u/test: 2 of 3 problems share a 13-gram with it (2 '
    'ask the same question)\n' in out
  )
  assert 'overlap: t/train x t/test: 2 of 4 problems share a' in out
  assert 'overlap: t/dval x t/test: 1 of 4 problems share a' in out
  assert out.count('overlap: ') == 3


def test_a_second_call_leaves_the_report_and_says_the_same(
  tmp_path, own, other, capsys
):
  run(tmp_path / 'r', own, other)
  report = tmp_path / 'r/problems/overlap.json'
  before, out = report.stat(), capsys.readouterr().out
  run(tmp_path / 'r', own, other)
  assert report.stat().st_mtime_ns == before.st_mtime_ns
  assert capsys.readouterr().out == out
  first = report.read_bytes()
  report.write_bytes(first[:100])  # half of one, as after a bad copy
  run(tmp_path / 'r', own, other)
  assert report.read_bytes() == first
  report.unlink()
  run(tmp_path / 'r', own, other)
  assert report.read_bytes() == first


def test_the_report_grows_with_the_tasks_and_in_any_order(tmp_path, own, other):
  small = run(tmp_path / 'grown', own)
  assert {p['evaluated_set'] for p in small['pairs']} == {'t/test', 't/dval'}
  # Asked for the second task alone, it still compares all that is there.
  grown = run(tmp_path / 'grown', other)
  assert grown == run(tmp_path / 'once', own, other)
  assert pair_of(grown, 't/train', 'u/test')['shared'] == 2


def test_a_run_in_a_bucket_has_the_same_report(tmp_path, own, bucket):
  here = run(tmp_path / 'r', own)
  assert run(storage.path(f'{bucket}/r'), own) == here
  assert run(storage.path(f'{bucket}/r'), own, overlap_ngram=0) is None


def test_another_length_compares_again_and_zero_not_at_all(tmp_path, own):
  folder = tmp_path / 'r'
  first = run(folder, own)
  longer = run(folder, own, overlap_ngram=50)
  assert (first['ngram'], longer['ngram']) == (13, 50)
  assert pair_of(first, 't/train', 't/test')['shared'] == 2
  # 20 tokens are less than 50: a whole question, in the solution of t2.
  assert pair_of(longer, 't/train', 't/test')['shared'] == 1
  before = manifests.load(folder / 'problems/t/train').digest
  assert run(folder, own, overlap_ngram=0) is None
  assert manifests.load(folder / 'problems/t/train').digest == before


def test_dropped_problems_are_counted_and_shared_with_no_test_set(
  tmp_path, own, other, capsys
):
  plain, folder = tmp_path / 'plain', tmp_path / 'r'
  run(plain, own, other)
  capsys.readouterr()
  report = run(folder, own, other, drop_overlap=True)
  shared = {'t2', 't3', 't4', 't5'}
  assert ids(folder, 't/train') == ids(plain, 't/train') - shared
  assert ids(folder, 't/dval') == ids(plain, 't/dval') - {'t1'}
  for name in ('t/test', 'u/train', 'u/dval', 'u/test'):
    assert ids(folder, name) == ids(plain, name)
  manifest = manifests.load(folder / 'problems/t/train')
  card = task_card.of(manifest)
  assert card.skipped == {DROPPED: 4}
  assert card.num_problems == len(ids(folder, 't/train'))
  assert sorted(manifest.statistics['skipped_rows'][DROPPED]) == sorted(shared)
  said = capsys.readouterr().out
  assert 'warning: 4 of ' in said
  assert f'rows left out (t2, t3, t4, t5: {DROPPED}), of t/train' in said
  for pair in report['pairs']:
    if pair['evaluated_set'].endswith('/test'):
      assert pair['shared'] == pair['training_shared'] == 0


def test_dval_is_left_a_problem_that_only_training_shares(tmp_path):
  """Dropping is against test sets: train may share with D_val."""
  rows = [row(f't{i}', story(f't{i}')) for i in range(NUMBER)]
  rows += [row(f'v{i}', f'again {story(f"t{i}")}') for i in range(NUMBER)]
  own = task(tmp_path, 't', rows, [row('c', story('c'))])
  report = run(tmp_path / 'r', own, drop_overlap=True)
  assert pair_of(report, 't/train', 't/dval')['shared'] > 0
  assert len(ids(tmp_path / 'r', 't/train')) > NUMBER


def test_dropping_belongs_to_the_training_problems_fingerprint(
  tmp_path, own, other
):
  folder = tmp_path / 'r'
  run(folder, own, drop_overlap=True)
  run(folder, own, drop_overlap=True)  # the same is done already
  for tasks, fields in (
    ([own], {}),
    ([own], {'drop_overlap': True, 'overlap_ngram': 8}),
    ([own, other], {'drop_overlap': True}),  # its test set drops more
  ):
    with pytest.raises(fingerprints.FingerprintError, match='drop_overlap'):
      run(folder, *tasks, **fields)


def test_a_test_set_is_the_same_with_and_without_dropping(tmp_path, own):
  run(tmp_path / 'a', own)
  run(tmp_path / 'b', own, drop_overlap=True)
  a, b = (manifests.load(tmp_path / name / 'problems/t/test') for name in 'ab')
  assert a.digest == b.digest


def test_dropping_everything_is_refused_with_the_fix(tmp_path):
  text = 'the same long template of many words in which one number is'
  rows = [row(f't{i}', f'{text} all that differs {i}') for i in range(NUMBER)]
  test = [row('c', f'{text} all that differs {NUMBER}')]
  own = task(tmp_path, 't', rows, test)
  with pytest.raises(configuration.ConfigurationError, match='OVERLAP_NGRAM'):
    run(tmp_path / 'r', own, drop_overlap=True)


def test_dropping_needs_a_length_and_says_so_before_any_work(tmp_path, own):
  with pytest.raises(configuration.ConfigurationError, match='DROP_OVERLAP'):
    run(tmp_path / 'r', own, drop_overlap=True, overlap_ngram=0)
  assert not (tmp_path / 'r').exists()


def test_the_dials_reach_both_stages():
  from rest_jax.config import gin_parser

  bindings = [
    'RUN_DIR=x',
    'MODEL=None',
    'OVERLAP_NGRAM=9',
    'DROP_OVERLAP=True',
    'EXAMPLES_DIR=e',
    "EVAL_PROBLEMS_DIRS=['p', 'q']",
  ]
  found = {
    stage: gin_parser.parse(
      stage, gin_files=['tasks/arithmetic.gin'], bindings=bindings
    )[1]
    for stage in ('prepare', 'select')
  }
  assert found['prepare']['overlap_ngram'] == 9
  assert found['prepare']['drop_overlap'] is True
  assert found['select']['overlap_ngram'] == 9
  assert list(found['select']['eval_problems_dirs']) == ['p', 'q']
