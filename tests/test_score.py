"""The stage score on small folders written as prepare and sample write them."""

import dataclasses
import os
import subprocess
import sys

import pytest
import sample_folders

from rest_jax import score
from rest_jax.artifacts import fingerprints, manifests
from rest_jax.config import configuration
from rest_jax.distributed import preemption
from rest_jax.rewards import pool, registry, verdicts
from rest_jax.rewards.code import program_grader, programs


@pytest.fixture
def run(tmp_path):
  """Scores; returns the verdicts by (key, index), and the manifest."""

  def run(answers, parts, *, name='', grader='number', **arguments):
    target = os.fspath(tmp_path / f'verdicts{name}')
    score.score(
      samples_dirs=[sample_folders.samples(tmp_path / f'samples{name}', parts)],
      problems_dirs=[
        sample_folders.problems(
          tmp_path / f'problems{name}', answers, grader=grader
        )
      ],
      verdicts_dirs=[target],
      num_workers=1,
      **arguments,
    )
    manifest = manifests.load(target, stage='score')
    rows = manifest.records()
    return {(v.problem_id[8:], v.sample_index): v for v in rows}, manifest

  return run


def test_what_a_person_grades_waits_and_earns_nothing(run, capsys):
  parts = [[('a', 0, 'x = 3'), ('a', 1, ' '), ('b', 0, 'y', 'length')]]
  found, manifest = run({'a': None, 'b': None}, parts, grader='by_hand')
  assert {key: verdict.outcome for key, verdict in found.items()} == {
    ('a', 0): verdicts.UNGRADED,
    ('a', 1): verdicts.NO_ANSWER,
    ('b', 0): verdicts.TRUNCATED,
  }
  assert manifest.statistics['mean_reward'] == {'e_step': 0.0}
  assert manifest.statistics['alarm'] is None
  assert (
    '1 wait for a person: rest-jax grading-sheet' in capsys.readouterr().out
  )


PARTS = [
  [('a', 0, 'The answer is 1.'), ('b', 0, 'The answer is 1.')],
  [
    ('b', 1, 'The answer is 2.'),
    ('a', 1, 'I do not know'),
    ('a', 2, 'The answer is 1.', 'length'),
    ('a', 3, '', 'prompt'),
  ],
]


def test_every_sample_gets_the_verdict_of_its_own_problem(run):
  found, manifest = run({'b': '2', 'a': '1'}, PARTS)
  assert {key: verdict.outcome for key, verdict in found.items()} == {
    ('a', 0): verdicts.CORRECT,
    ('b', 0): verdicts.WRONG,
    ('b', 1): verdicts.CORRECT,
    ('a', 1): verdicts.NO_ANSWER,
    ('a', 2): verdicts.TRUNCATED,
    ('a', 3): verdicts.TRUNCATED,
  }
  assert [v.reward for v in found.values()] == [1, 0, 1, 0, 0, 0]
  assert found['b', 0].answer == '1'
  assert {v.grader for v in found.values()} == {registry.get('number').label}
  assert 'prompt' in found['a', 3].detail
  classes = manifest.statistics['classes']['e_step']
  assert classes == dict.fromkeys(verdicts.OUTCOMES, 0) | {
    'correct': 2,
    'wrong': 1,
    'no_answer': 1,
    'truncated': 2,
  }
  assert manifest.statistics['mean_reward'] == {'e_step': pytest.approx(1 / 3)}
  assert manifest.statistics['alarm'] is None


def test_verdicts_lie_in_parts_named_as_the_samples(run, tmp_path):
  _, manifest = run({'b': '2', 'a': '1'}, PARTS)
  sampled = manifests.load(tmp_path / 'samples')
  assert [row['name'] for row in manifest.parts] == [
    row['name'] for row in sampled.parts
  ]
  assert [row['rows'] for row in manifest.parts] == [2, 4]


@pytest.fixture
def graded_counts(monkeypatch):
  """Lengths of the lists that were really graded."""
  counts = []
  original = pool.Pool.grade

  def spy(self, items, *rest):
    counts.append(len(items))
    return original(self, items, *rest)

  monkeypatch.setattr(pool.Pool, 'grade', spy)
  return counts


def test_a_finished_folder_is_not_graded_again(run, graded_counts, capsys):
  run({'b': '2', 'a': '1'}, PARTS)
  run({'b': '2', 'a': '1'}, PARTS)
  assert graded_counts == [2, 4]
  assert 'done already' in capsys.readouterr().out


def test_growing_samples_grades_only_the_new_parts(run, graded_counts):
  run({'b': '2', 'a': '1'}, PARTS)
  more = [('b', 7, 'The answer is 2.')]
  found, manifest = run({'b': '2', 'a': '1'}, [*PARTS, more])
  assert graded_counts == [2, 4, 1]
  assert len(found) == manifest.statistics['samples'] == 7


def test_a_changed_answer_grades_its_parts_again(run, graded_counts):
  run({'b': '2', 'a': '1'}, PARTS[:1] + [[('a', 9, 'The answer is 1.')]])
  changed = PARTS[:1] + [[('a', 9, 'The answer is 1.')]]
  found, _ = run({'b': '1', 'a': '1'}, changed)
  assert graded_counts == [2, 1, 2]  # the second part knows no b
  assert found['b', 0].outcome == verdicts.CORRECT


def test_another_grader_on_the_same_folder_is_refused(run):
  run({'b': '2', 'a': '1'}, PARTS)
  with pytest.raises(fingerprints.FingerprintError, match='grader'):
    run({'b': '2', 'a': '1 '}, PARTS, grader='exact')


def test_another_version_of_a_grader_names_the_command(run, monkeypatch):
  run({'b': '2', 'a': '1'}, PARTS)
  another_version(monkeypatch)
  with pytest.raises(fingerprints.FingerprintError, match='rest-jax rescore'):
    run({'b': '2', 'a': '1'}, PARTS)


def another_version(monkeypatch):
  """An upgrade has brought a grader with another version of the same name."""
  row = registry.REGISTRY['number']
  newer = dataclasses.replace(row, version='newer')
  monkeypatch.setitem(registry.REGISTRY, 'number', newer)


@pytest.mark.parametrize('differs', [False, True])
def test_the_same_verdicts_of_a_newer_grader_keep_the_digest(
  run, monkeypatch, tmp_path, differs
):
  _, before = run({'b': '2', 'a': '1'}, PARTS)
  another_version(monkeypatch)
  (tmp_path / 'verdicts').rename(tmp_path / 'verdicts.superseded-1')
  if differs:
    grade = pool.Pool.grade

    def other(self, items, *more):
      first, *rest = grade(self, items, *more)
      changed = dataclasses.replace(first.verdict, answer='another')
      return [dataclasses.replace(first, verdict=changed), *rest]

    monkeypatch.setattr(pool.Pool, 'grade', other)
  found, after = run({'b': '2', 'a': '1'}, PARTS)
  assert {v.grader for v in found.values()} == {'number/newer'}
  assert (after.digest != before.digest) == differs


def test_an_interrupted_scoring_goes_on_and_gives_the_same(
  run, monkeypatch, graded_counts
):
  _, whole = run({'b': '2', 'a': '1'}, PARTS, name='-whole')
  calls = []

  def preempt(where):
    calls.append(where)
    if len(calls) == 2:
      raise preemption.Preempted(where)

  with monkeypatch.context() as patch:
    patch.setattr(preemption, 'check', preempt)
    with pytest.raises(preemption.Preempted):
      run({'b': '2', 'a': '1'}, PARTS)
  _, resumed = run({'b': '2', 'a': '1'}, PARTS)
  assert graded_counts == [2, 4, 2, 4]  # whole; the first; the second
  assert [p['content'] for p in resumed.parts] == [
    p['content'] for p in whole.parts
  ]
  assert resumed.statistics == whole.statistics


def test_a_sample_of_an_unknown_problem_is_named(run):
  with pytest.raises(configuration.ConfigurationError, match="'t/train/b'"):
    run({'a': '1'}, PARTS)


def test_harness_errors_raise_an_alarm_and_earn_nothing(run, capsys):
  found, manifest = run({'b': 'two', 'a': '1'}, PARTS, alarm_rate=0.3)
  assert found['b', 0].outcome == verdicts.HARNESS_ERROR
  assert found['b', 0].reward == 0
  assert (
    '2 of 6 samples of e_step are harness_error'
    in (manifest.statistics['alarm'])
  )
  assert 'ALARM' in capsys.readouterr().out
  _, quiet = run({'b': 'two', 'a': '1'}, PARTS, alarm_rate=0.4, name='-quiet')
  assert quiet.statistics['alarm'] is None


def test_a_grader_that_fails_on_every_sample_ends_the_stage(run, tmp_path):
  # The reference is no number, so that the grader can compare with none.
  with pytest.raises(configuration.ConfigurationError, match='every one of'):
    run({'a': 'one', 'b': 'two'}, PARTS)
  # The verdicts are not kept: with mended problems the same command grades.
  assert not list(tmp_path.glob('verdicts/*.parquet'))
  found, _ = run({'a': '1', 'b': '2'}, PARTS)
  assert found['a', 0].outcome == verdicts.CORRECT


def test_a_grader_of_ones_own_that_raises_names_the_sample(
  run, tmp_path, monkeypatch
):
  (tmp_path / 'raising_grader.py').write_text(
    'def grade(completion, reference, *, finish_reason=None):\n  return 1 / 0\n'
  )
  monkeypatch.syspath_prepend(tmp_path)
  with pytest.raises(configuration.ConfigurationError) as caught:
    run({'a': '1', 'b': '1'}, PARTS, grader='raising_grader:grade')
  said = str(caught.value)
  # The mended grader, which is another version, may grade in the same folder.
  assert not list((tmp_path / 'verdicts').glob('*.parquet'))
  assert 'sample 0 of the problem t/train/a' in said
  assert 'return 1 / 0' in said and 'ZeroDivisionError' in said


def test_programs_are_scored_by_their_tests_in_the_sandbox(run):
  try:
    with programs.Grader() as grader:
      assert grader.tier in ('A', 'B')
  except programs.SandboxUnavailable as error:
    pytest.skip(str(error))
  doubled = programs.Tests.stdin(['3\n', '5\n'], ['6\n', '10\n'])
  body = programs.Tests.check('up', 'assert up(1) == 2')
  body = dataclasses.replace(body, prompt='def up(x):\n')
  parts = [
    [
      ('a', 0, 'print(2 * int(input()))'),
      ('a', 1, 'print(6)'),
      ('a', 2, 'import os; os.kill(os.getppid(), 9)'),
      ('b', 0, '```python\ndef up(x):\n  return x + 1\n```'),
    ],
    [('b', 1, '    return x\n'), ('c', 0, 'print(1)')],
  ]
  answers = {'a': doubled.to_json(), 'b': body.to_json(), 'c': '{}'}
  found, manifest = run(answers, parts, grader='program')
  assert {key: verdict.outcome for key, verdict in found.items()} == {
    ('a', 0): verdicts.CORRECT,
    ('a', 1): verdicts.WRONG,
    ('a', 2): verdicts.CRASHED,
    ('b', 0): verdicts.CORRECT,
    ('b', 1): verdicts.WRONG,
    ('c', 0): verdicts.HARNESS_ERROR,
  }
  assert found['a', 0].grader == 'program/2'
  assert 'are harness_error' in manifest.statistics['alarm']


def test_without_a_sandbox_no_program_is_scored(run, monkeypatch):
  def none(*_, **__):
    raise programs.SandboxUnavailable('tier A: no; tier B: no')

  monkeypatch.setattr(program_grader, 'Sandbox', none)
  tests = programs.Tests.stdin(['3'], ['6']).to_json()
  with pytest.raises(configuration.ConfigurationError, match='tier B: no'):
    run({'a': tests}, [[('a', 0, 'print(6)')]], grader='program')


def test_several_tasks_are_scored_side_by_side(tmp_path):
  folders = {'samples_dirs': [], 'problems_dirs': [], 'verdicts_dirs': []}
  for task, answer in (('x', '1'), ('y', '3')):
    part = [('a', 0, 'The answer is 1.')]
    folders['samples_dirs'].append(
      sample_folders.samples(tmp_path / f's_{task}', [part])
    )
    folders['problems_dirs'].append(
      sample_folders.problems(tmp_path / f'p_{task}', {'a': answer})
    )
    folders['verdicts_dirs'].append(os.fspath(tmp_path / f'v_{task}'))
  score.score(**folders)
  found = [
    manifests.load(folder).records()[0].outcome
    for folder in folders['verdicts_dirs']
  ]
  assert found == [verdicts.CORRECT, verdicts.WRONG]
  with pytest.raises(configuration.ConfigurationError, match='same number'):
    score.score(**folders | {'problems_dirs': folders['problems_dirs'][:1]})


def test_the_last_line_is_short_and_says_the_reward(run, capsys):
  run({'b': '2', 'a': '1'}, PARTS)
  last = capsys.readouterr().out.strip().splitlines()[-1]
  assert last == 'score: t/train: mean reward e_step 0.3333'


def test_problems_that_are_none_are_refused(tmp_path):
  folder = sample_folders.samples(tmp_path / 'samples', PARTS)
  with pytest.raises(configuration.ConfigurationError, match='PROBLEMS_DIRS'):
    score.score(
      samples_dirs=[folder],
      problems_dirs=[folder],
      verdicts_dirs=[os.fspath(tmp_path / 'v')],
    )


WORKER = """
import sys
sys.path[:0] = sys.argv[5].split(':')
from rest_jax import score
score.score(
  samples_dirs=[sys.argv[1]], problems_dirs=[sys.argv[2]],
  verdicts_dirs=[sys.argv[3]], num_workers=1,
  worker_index=int(sys.argv[4]), all_workers=3,
)
"""


@pytest.mark.parametrize('indices', [(0, 1, 2), (1,)])
def test_workers_give_what_one_process_gives(run, tmp_path, indices):
  """All three, and one that takes over what is the others'."""
  answers = {str(i): str(i) for i in range(8)}
  parts = [
    [(str(i), index, f'It is {i + index}.') for index in range(3)]
    for i in range(8)
  ]
  _, alone = run(answers, parts)
  target = tmp_path / 'shared'
  workers = [
    subprocess.Popen(
      [
        *(sys.executable, '-c', WORKER, str(tmp_path / 'samples')),
        *(str(tmp_path / 'problems'), str(target), str(index)),
        ':'.join(filter(None, sys.path)),
      ]
    )
    for index in indices
  ]
  assert [worker.wait(timeout=120) for worker in workers] == [0] * len(indices)
  shared = manifests.load(target, stage='score')
  assert shared.digest == alone.digest
  assert [p['content'] for p in shared.parts] == [
    p['content'] for p in alone.parts
  ]
  assert not list(target.glob('.*.lease'))


def test_a_worker_that_there_is_not_is_refused(run):
  with pytest.raises(configuration.ConfigurationError, match='WORKER_INDEX'):
    run({'a': '1'}, [[('a', 0, '1')]], worker_index=3, all_workers=3)
