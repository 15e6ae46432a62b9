"""Several runs on one page: the right numbers, paired on the same problems."""

import pytest
from test_report import Reader, page_of, table_of, write_run

from rest_jax.artifacts import records, storage
from rest_jax.commands import compare
from rest_jax.config import configuration
from rest_jax.reporting import run_comparison, run_facts, run_reader


@pytest.fixture
def runs(tmp_path):
  """A run, and a longer one on the same problems with other dials."""
  first, second = (storage.path(tmp_path / name) for name in ('x', 'y'))
  write_run(first, iterations=1, size=12)
  write_run(second, iterations=2, size=12)
  text = "RUN_DIR = 'y'\nTASKS = ['<arithmetic>']\nSEED = 7\n"
  (second / 'config.gin').write_text(text)
  return first, second


def written(tmp_path, *folders):
  target = tmp_path / 'out.html'
  assert compare.run([*map(str, folders), f'--output={target}']) == 0
  return target.read_text()


def greedy(folder, model, task):
  where = folder / model / 'evaluation' / task / 'greedy/verdicts'
  rows = []
  for part in where.glob('*.parquet'):
    rows += records.read_part(part, records.Verdict).to_pylist()
  return {row['problem_id']: row['outcome'] == 'correct' for row in rows}


def test_the_difference_is_that_of_the_last_models(tmp_path, runs):
  text = written(tmp_path, *runs)
  assert not Reader(text).depth
  a = greedy(runs[1], 'iteration_02', 'arithmetic')
  b = greedy(runs[0], 'iteration_01', 'arithmetic')
  points = 100 * sum(a[key] - b[key] for key in a) / len(a)
  _, rows = table_of(text, 'Greedy pass@1 in percentage points')
  # Of rows with one heading the last one is kept: base against base.
  assert rows['arithmetic/test'][:2] == ['y: base', 'x: base']
  row = next(
    line
    for line in text.splitlines()
    if '<td>y: iteration 2</td><td>x: iteration 1</td>' in line
    and 'arithmetic/test' in line
  )
  assert f'<td>{points:+.1f} [' in row and '<td>12</td><td>0</td>' in row


def test_problems_that_are_not_the_same_are_left_out(tmp_path, runs):
  def differences():
    made = [
      run_comparison.ComparedRun(
        name=path.name,
        run=run_reader.read(path, run_reader.find(path)),
        found=run_reader.find(path),
      )
      for path in runs
    ]
    found = run_comparison.values(made, {'resamples': 50, 'seed': 0})
    return found['run_differences']

  before = {one.problems: (one.n, one.left_out) for one in differences()}
  assert before == {
    'arithmetic/test': (12, 0),
    'arithmetic_hard/test': (12, 0),
  }
  # In another run, problem 3 has the same id and another answer.
  where = runs[1] / 'problems/arithmetic/test'
  for part in sorted(where.glob('*.parquet')):
    rows = records.to_records(
      records.Problem, records.read_part(part, records.Problem)
    )
    changed = [
      type(row)(**{n: getattr(row, n) for n in row.__slots__} | {'answer': '0'})
      if row.id.endswith('0003')
      else row
      for row in rows
    ]
    table = records.to_table(records.Problem, changed)
    made = records.write_table(part, records.Problem, table, source='x')
    manifest = storage.read_json(where / 'manifest.json')
    manifest['parts'] = [
      made if row['name'] == made['name'] else row for row in manifest['parts']
    ]
    storage.write_json(where / 'manifest.json', manifest)
  after = {one.problems: (one.n, one.left_out) for one in differences()}
  assert after['arithmetic/test'] == (11, 1)
  assert after['arithmetic_hard/test'] == (12, 0)


def test_only_dials_that_differ_are_shown(tmp_path, runs):
  header, rows = table_of(written(tmp_path, *runs), 'Lines of config.gin')
  assert header == ['dial', 'x', 'y']
  assert rows == {'SEED': ['–', '7']}


def test_each_run_has_a_curve_of_its_own(tmp_path, runs):
  found = []
  for path in runs:
    known = run_reader.find(path)
    one = run_comparison.ComparedRun(
      name=path.name, run=run_reader.read(path, known), found=known
    )
    found.append(one)
  values = run_comparison.values(found, {'resamples': 50, 'seed': 0})
  chart = values['progress'][0]
  assert [one.name for one in chart.series] == ['x', 'y']
  assert [len(one.points) for one in chart.series] == [2, 3]
  titles = [chart.title for chart in values['training']]
  assert titles.count('iteration 1: loss') == 1
  assert 'SFT on human solutions: D_val' in titles


def test_dials_are_read_as_gin_writes_them():
  text = (
    '# Macros:\n# ====\nA = 1\nLONG = \\\n    [1,\n     2]\n'
    "scope/f.x = {'a': 1,\n       'b': 2}\n\n# Parameters:\nB = 'x = y'\n"
  )
  assert run_facts.dials(text) == {
    'A': '1',
    'LONG': '[1, 2]',
    'scope/f.x': "{'a': 1, 'b': 2}",
    'B': "'x = y'",
  }


@pytest.mark.parametrize(
  ('paths', 'names'),
  [
    (['runs/a', 'runs/b'], ['a', 'b']),
    (['one/run', 'two/run'], ['one/run', 'two/run']),
    (['/r', 'r'], ['/r', 'r']),
  ],
)
def test_runs_have_short_names_that_differ(paths, names):
  assert run_comparison.names(paths) == names


def test_wrong_runs_and_outputs_are_refused_and_nothing_is_written(
  tmp_path, runs, monkeypatch
):
  monkeypatch.chdir(tmp_path)
  first, second = map(str, runs)
  for arguments, words in (
    ([first], 'got 1'),
    ([first, f'{first}/'], 'got 1'),
    ([first, str(tmp_path / 'none')], 'no run'),
    ([first, second, f'--output={tmp_path}'], 'is a folder'),
  ):
    with pytest.raises(configuration.ConfigurationError, match=words):
      compare.run(arguments)
  assert not (tmp_path / 'compare.html').exists()
  assert page_of(first)  # and the runs are whole
