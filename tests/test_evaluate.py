"""The stage evaluate, and the paired difference, on small folders."""

import json
import os

import numpy as np
import pytest
from scipy import stats

from rest_jax import evaluate
from rest_jax.artifacts import fingerprints, manifests, records, stage_work
from rest_jax.config import configuration
from rest_jax.evaluation import comparison, difficulty_bins
from rest_jax.rewards import verdicts

GREEDY = {'name': 'eval/greedy', 'temperature': 0.0}
SAMPLED = {'name': 'eval/sampled', 'temperature': 1.0, 'top_p': 0.95}


def write(folder, stage, kind, rows, *, semantic=None, inputs=None, **more):
  with stage_work.work_on(
    folder,
    stage=stage,
    kind=kind,
    semantic=semantic or {},
    inputs={'content': manifests.digest_of(str(rows))} | (inputs or {}),
    version=1,
  ) as work:
    work.write(records.part_name(0, 1), rows, source='')
    work.finish(**more)
  return os.fspath(folder)


def write_task(root, graded, *, stream, num_samples):
  """graded: {key: [(outcome, answer)]}; returns samples and verdicts dirs."""
  samples = write(
    root / 'samples',
    'sample',
    records.Sample,
    [],
    semantic={'stream': stream, 'num_samples': num_samples},
    inputs={'of': str(graded)},
  )
  rows = [
    records.Verdict(
      problem_id=f't/test/{key}',
      sample_index=index,
      stream=stream['name'],
      outcome=outcome,
      reward=float(outcome == verdicts.CORRECT),
      answer=answer,
      detail='',
      grader='number/1',
    )
    for key, answers in graded.items()
    for index, (outcome, answer) in enumerate(answers)
  ]
  folder = write(
    root / 'verdicts',
    'score',
    records.Verdict,
    rows,
    inputs={'samples': manifests.load(samples).digest},
    statistics={
      'task': 't',
      'split': 'test',
      'classes': {stream['name']: {}},
    },
  )
  return samples, folder


def write_problems(root, levels):
  rows = [
    records.Problem(
      id=f't/test/{key}',
      prompt_parts=[[1]],
      question='?',
      answer='1',
      level=level,
      type='sum' if level == '1' else None,
    )
    for key, level in levels.items()
  ]
  return write(root / 'problems', 'prepare', records.Problem, rows)


def answers(correct, wrong, *, silent=0, broken=0):
  return (
    [('correct', '1')] * correct
    + [('wrong', '2')] * wrong
    + [('no_answer', None)] * silent
    + [('harness_error', None)] * broken
  )


@pytest.fixture
def run(tmp_path):
  """Evaluates {folder name: (stream, n, graded)}; returns results.json."""

  def run(tasks, *, levels=None, name='iteration_01', **arguments):
    root = tmp_path / 'run' / name / 'evaluation'
    dirs = [
      write_task(root / key, graded, stream=stream, num_samples=n)
      for key, (stream, n, graded) in tasks.items()
    ]
    problems = []
    if levels:
      problems = [write_problems(root / key, levels) for key in tasks]
    evaluate.evaluate(
      samples_dirs=[samples for samples, _ in dirs],
      verdicts_dirs=[graded for _, graded in dirs],
      problems_dirs=problems,
      results_dir=os.fspath(root / 'results'),
      model_name=name,
      iteration=arguments.pop('iteration', 1),
      checkpoint=os.fspath(tmp_path / 'run' / name / 'checkpoints'),
      bootstrap_resamples=500,
      **arguments,
    )
    return json.loads((root / 'results' / 'results.json').read_text())

  return run


SAMPLES = {
  'a': answers(4, 0),
  'b': answers(1, 2, silent=1),
  'c': answers(0, 4),
  'd': answers(2, 2),
}


def test_sampled_rows_hold_pass_at_k_and_maj_at_k(run):
  rows = run({'t': (SAMPLED, 4, SAMPLES)})['rows']
  found = {(row['metric'], row['k']): row['value'] for row in rows}
  assert found == {
    ('pass@1', 1): pytest.approx((1 + 1 / 4 + 0 + 1 / 2) / 4),
    ('pass@k', 2): pytest.approx((1 + 1 / 2 + 0 + 5 / 6) / 4),
    ('pass@k', 4): pytest.approx((1 + 1 + 0 + 1) / 4),
    ('maj@k', 1): pytest.approx((1 + 1 / 4 + 0 + 1 / 2) / 4),
    # b: {c,w} ties in 2 of 6, {c,-} in 1; d: {c,c} 1 of 6, ties 4 of 6.
    ('maj@k', 2): pytest.approx((1 + 2 / 6 + 0 + 3 / 6) / 4),
    ('maj@k', 4): pytest.approx((1 + 0 + 0 + 1 / 2) / 4),
  }
  for row in rows:
    assert row['ci_low'] <= row['value'] <= row['ci_high']
    assert row['n'] == 4
    assert (row['task'], row['split']) == ('t', 'test')
    assert (row['temperature'], row['num_samples']) == (1.0, 4)
    assert row['unparsed_rate'] == pytest.approx(1 / 16)
    assert row['classes']['correct'] == pytest.approx(7 / 16)
    assert sum(row['classes'].values()) == pytest.approx(1)


def test_rows_have_the_columns_of_the_design(run):
  [row] = run({'t': (GREEDY, 1, {'a': answers(1, 0)})})['rows']
  assert set(row) >= {
    'model',
    'checkpoint',
    'iteration',
    'task',
    'split',
    'metric',
    'k',
    'temperature',
    'num_samples',
    'value',
    'ci_low',
    'ci_high',
    'n',
    'unparsed_rate',
    'timeout_rate',
    'truncated_rate',
  }
  assert (row['metric'], row['k'], row['value']) == ('pass@1_greedy', 1, 1)
  assert (row['model'], row['iteration']) == ('iteration_01', 1)
  assert row['checkpoint'] == 'iteration_01/checkpoints'  # of the run


@pytest.mark.parametrize(
  ('name', 'given', 'shown'),
  [
    ('base', 0, 0),
    ('sft_human', 0, None),
    ('iteration_03', 3, 3),
    ('iteration_best', 3, None),
  ],
)
def test_only_the_models_of_the_loop_have_an_iteration(run, name, given, shown):
  tasks = {'t': (GREEDY, 1, {'a': answers(1, 0)})}
  [row] = run(tasks, name=name, iteration=given)['rows']
  assert row['iteration'] == shown


def test_a_harness_error_is_counted_and_not_blamed_on_the_model(run):
  graded = {
    'a': answers(1, 0, broken=3),
    'b': answers(2, 2),
    'c': answers(0, 0, broken=4),
  }
  rows = run({'t': (SAMPLED, 4, graded)})['rows']
  found = {(row['metric'], row['k']): row for row in rows}
  assert found['pass@1', 1]['value'] == pytest.approx((1 + 0.5) / 2)
  assert found['pass@1', 1]['n'] == 2
  # a has one sample left: it has no value at k = 2, rather than a wrong one.
  assert found['pass@k', 2]['value'] == pytest.approx(5 / 6)
  assert found['pass@k', 2]['n'] == 1
  assert rows[0]['harness_error_rate'] == pytest.approx(7 / 12)


def test_nothing_but_harness_errors_gives_no_number(run):
  rows = run({'t': (GREEDY, 1, {'a': answers(0, 0, broken=1)})})['rows']
  assert [(row['value'], row['ci_low'], row['n']) for row in rows] == [
    (None, None, 0)
  ]


def test_what_a_person_has_yet_to_grade_gives_no_number(run):
  # The empty one needs nobody, and alone would say that all is wrong.
  graded = {'a': [('ungraded', None)], 'b': answers(0, 0, silent=1)}
  [row] = run({'t': (GREEDY, 1, graded)})['rows']
  assert (row['value'], row['ci_low'], row['n']) == (None, None, 0)
  assert row['ungraded_rate'] == row['unparsed_rate'] == 0.5


@pytest.mark.parametrize('value', [0, 1])
def test_all_or_none_correct_does_not_make_the_value_certain(run, value):
  """Three problems alike: the Wilson interval of 0 or of 3 of 3."""
  graded = {key: answers(4 * value, 4 - 4 * value) for key in 'abc'}
  oracle = stats.binomtest(3 * value, 3).proportion_ci(method='wilson')
  for row in run({'t': (SAMPLED, 4, graded)})['rows']:
    assert row['value'] == value
    found = (row['ci_low'], row['ci_high'])
    assert found == pytest.approx((oracle.low, oracle.high))


def test_programs_without_answers_have_no_majority(run):
  graded = {'a': [('correct', None), ('wrong', None)]}
  rows = run({'t': (SAMPLED, 2, graded)})['rows']
  assert {row['metric'] for row in rows} == {'pass@1', 'pass@k'}


def test_the_breakdown_adds_up_to_the_whole(run):
  levels = {'a': '1', 'b': '2', 'c': '2', 'd': '1'}
  results = run({'t': (SAMPLED, 4, SAMPLES)}, levels=levels)
  found = {(row['by'], row['group']): row for row in results['breakdown']}
  assert set(found) == {('level', '1'), ('level', '2'), ('type', 'sum')}
  assert found['level', '1']['value'] == pytest.approx(0.75)
  assert found['level', '2']['value'] == pytest.approx(0.125)
  [average] = results['averages']  # the one type is no average
  assert (average['by'], average['groups'], average['n']) == ('level', 2, 4)
  assert average['value'] == pytest.approx((0.75 + 0.125) / 2)
  assert average['ci_low'] <= average['value'] <= average['ci_high']
  whole = results['rows'][0]
  parts = [found['level', level] for level in '12']
  assert whole['value'] == pytest.approx(
    sum(row['value'] * row['n'] for row in parts) / whole['n']
  )


def test_results_have_no_times_and_are_the_same_again(run, tmp_path):
  tasks = {'t': (SAMPLED, 4, SAMPLES), 'g': (GREEDY, 1, {'a': answers(1, 0)})}
  first = run(tasks)
  folder = tmp_path / 'run' / 'iteration_01' / 'evaluation' / 'results'
  digest = manifests.load(folder).digest
  (folder / 'results.json').unlink()  # a lost file is made again
  assert run(tasks) == first
  assert manifests.load(folder).digest == digest
  assert 'seconds' not in json.dumps(first)


def test_more_tasks_are_evaluated_in_the_same_folder(run):
  tasks = {'t': (GREEDY, 1, {'a': answers(1, 0)})}
  assert len(run(tasks)['rows']) == 1
  assert len(run(tasks | {'s': (SAMPLED, 4, SAMPLES)})['rows']) == 7


def test_another_seed_is_refused(run):
  tasks = {'t': (GREEDY, 1, {'a': answers(1, 0)})}
  run(tasks)
  with pytest.raises(fingerprints.FingerprintError, match='seed'):
    run(tasks, seed=1)


def test_verdicts_of_other_samples_are_refused(tmp_path):
  one, _ = write_task(tmp_path / '1', SAMPLES, stream=SAMPLED, num_samples=4)
  _, two = write_task(
    tmp_path / '2', {'a': answers(1, 0)}, stream=SAMPLED, num_samples=1
  )
  with pytest.raises(configuration.ConfigurationError, match='Run score again'):
    evaluate.evaluate(
      samples_dirs=[one],
      verdicts_dirs=[two],
      results_dir=os.fspath(tmp_path / 'r'),
      model_name='base',
    )


@pytest.mark.parametrize(
  'arguments',
  [
    {'verdicts_dirs': [], 'samples_dirs': []},
    {'verdicts_dirs': ['v'], 'samples_dirs': []},
    {
      'verdicts_dirs': ['v'],
      'samples_dirs': ['s'],
      'problems_dirs': ['a', 'b'],
    },
  ],
)
def test_lists_of_different_lengths_are_refused(arguments):
  with pytest.raises(configuration.ConfigurationError, match='same number'):
    evaluate.evaluate(results_dir='r', model_name='base', **arguments)


def test_two_models_are_compared_on_the_problems_they_share(tmp_path):
  generator = np.random.default_rng(0)
  keys = [f'{i:03d}' for i in range(300)]
  solved_b = {key: generator.random() < 0.4 for key in keys}
  solved_a = {k: solved_b[k] or generator.random() < 0.2 for k in keys}
  graded_a = {k: answers(int(v), int(not v)) for k, v in solved_a.items()}
  graded_b = {k: answers(int(v), int(not v)) for k, v in solved_b.items()}
  graded_a['only'] = answers(1, 0)
  graded_b['000'] = answers(0, 0, broken=1)
  _, a = write_task(tmp_path / 'a', graded_a, stream=GREEDY, num_samples=1)
  _, b = write_task(tmp_path / 'b', graded_b, stream=GREEDY, num_samples=1)
  found = comparison.paired_difference(a, b, 'eval/greedy')
  shared = keys[1:]
  expected = np.mean([solved_a[k] - float(solved_b[k]) for k in shared])
  assert found.difference == pytest.approx(expected)
  assert 0 < found.ci_low < expected < found.ci_high
  assert (found.n, found.only_a, found.only_b) == (299, 2, 0)
  assert found.value_a - found.value_b == pytest.approx(expected)
  with pytest.raises(configuration.ConfigurationError, match='no problem'):
    comparison.paired_difference(a, b, 'eval/sampled')


def test_difficulty_bins_have_the_papers_bounds(tmp_path):
  graded = {f'{i}': answers(i, 8 - i) for i in range(9)}
  graded['broken'] = answers(0, 0, broken=8)
  stream = {'name': 'difficulty', 'temperature': 1.0}
  _, folder = write_task(tmp_path / 't', graded, stream=stream, num_samples=8)
  names = ['very_hard'] * 2 + ['hard'] * 2 + ['medium'] * 2 + ['easy'] * 3
  expected = {f't/test/{i}': name for i, name in enumerate(names)}
  assert difficulty_bins.bins(folder, 't') == expected
  # With several tasks, each has its folder below the one that is named.
  _, inner = write_task(tmp_path / 'all', graded, stream=stream, num_samples=8)
  os.rename(inner, tmp_path / 'u')
  assert difficulty_bins.bins(tmp_path, 'u') == expected
