"""D_val's verdicts: what stands, what counts, and programs in the sandbox."""

import pytest
import sample_folders

from rest_jax.artifacts import manifests, records, storage
from rest_jax.config import configuration
from rest_jax.rewards import dval_grading, registry, verdicts
from rest_jax.rewards.code import programs


def table(*rows):
  return sample_folders.table(rows)


@pytest.fixture
def graders(tmp_path):
  """Makes graders of folders of problems: {key: answer} and a grader's name."""

  def make(*tasks):
    folders = [
      sample_folders.problems(tmp_path / f'problems-{i}', answers, grader=name)
      for i, (answers, name) in enumerate(tasks)
    ]
    return dval_grading.Graders(
      [manifests.load(folder) for folder in folders], num_workers=1
    )

  return make


@pytest.fixture
def graded(monkeypatch):
  return sample_folders.graded(monkeypatch)


def test_answers_are_compared_and_the_unfinished_earn_nothing(
  graders, tmp_path
):
  samples = table(
    ('a', 0, 'The answer is 7.'),
    ('a', 1, 'The answer is 8.'),
    ('a', 2, 'The answer is 7.', 'length'),
  )
  with graders(({'a': '7'}, 'number')) as made:
    validation = made.write(storage.path(tmp_path / 'step_0'), [samples])
    (found,) = made.grade(validation)
  rows = records.to_records(records.Verdict, found)
  assert [verdict.outcome for verdict in rows] == [
    verdicts.CORRECT,
    verdicts.WRONG,
    verdicts.TRUNCATED,
  ]
  assert [verdict.sample_index for verdict in rows] == [0, 1, 2]
  assert {verdict.stream for verdict in rows} == {'dval'}
  assert {verdict.grader for verdict in rows} == {registry.get('number').label}
  assert dval_grading.reward(validation, [found]) == 1 / 3


def test_each_task_is_graded_by_its_own_grader_and_all_count(graders, tmp_path):
  with graders(({'a': '7'}, 'number'), ({'a': 'yes'}, 'exact')) as made:
    validation = made.write(
      storage.path(tmp_path / 'step_0'),
      [table(('a', 0, 'The answer is 7.')), table(('a', 0, 'no'))],
    )
    found = made.grade(validation)
  assert [one['grader'][0].as_py().split('/')[0] for one in found] == [
    *('number', 'exact')
  ]
  assert dval_grading.reward(validation, found) == 0.5


def test_verdicts_stand_until_samples_answers_or_the_grader_change(
  graders, graded, tmp_path, monkeypatch
):
  folder = storage.path(tmp_path / 'step_0')
  samples = table(('a', 0, 'The answer is 7.'), ('a', 1, 'no'))
  first = graders(({'a': '7'}, 'number'))
  found = first.grade(first.write(folder, [samples]))
  assert len(graded) == 2
  again = graders(({'a': '7'}, 'number'))
  validation = again.write(folder, [samples])
  assert dval_grading.standing(validation)[0].equals(found[0])
  assert again.grade(validation)[0].equals(found[0]) and len(graded) == 2
  changed = again.write(folder, [table(('a', 0, 'The answer is 7.'))])
  assert dval_grading.standing(changed) is None
  assert again.grade(changed)[0].num_rows == 1 and len(graded) == 3
  newer = registry.REGISTRY['number'].__class__(
    name='number',
    version='newer',
    path=registry.REGISTRY['number'].path,
    bounded=True,
  )
  monkeypatch.setitem(registry.REGISTRY, 'number', newer)
  other = graders(({'a': '7'}, 'number'))
  changed = other.write(folder, [table(('a', 0, 'The answer is 7.'))])
  assert dval_grading.standing(changed) is None


def test_what_was_cut_short_goes_on_with_the_missing_tasks(
  graders, graded, tmp_path
):
  folder = storage.path(tmp_path / 'step_0')
  tasks = ({'a': '7'}, 'number'), ({'a': '8'}, 'number')
  samples = [table(('a', 0, 'first')), table(('a', 1, 'second'))]
  with graders(*tasks) as made:
    validation = made.write(folder, samples)
    made.grade(validation)
    (folder / 'verdicts' / validation.parts[1].name).unlink()
    assert dval_grading.standing(validation) is None
    told = []
    made.grade(validation, told.append)
  assert [name.split()[1] for name in graded] == ['0', '1', '1']
  assert told[0] == 1 and told[-1] == 2 and told == sorted(told)


def test_harness_errors_do_not_count_unless_there_is_nothing_else(
  graders, tmp_path, monkeypatch
):
  def fails(completion, reference, *, finish_reason=None):
    if 'bad' in completion:
      raise RuntimeError('no such tool')
    return verdicts.Verdict(outcome=verdicts.CORRECT, reward=1.0, answer='7')

  monkeypatch.setattr(registry, 'load', lambda path: fails)
  folder = storage.path(tmp_path / 'step_0')
  with graders(({'a': '7'}, 'number')) as made:
    some = made.write(folder, [table(('a', 0, 'bad'), ('a', 1, 'good'))])
    assert dval_grading.reward(some, made.grade(some)) == 1.0
    none = made.write(folder, [table(('a', 0, 'bad'), ('a', 1, 'bad'))])
    with pytest.raises(configuration.ConfigurationError, match='no such tool'):
      dval_grading.reward(none, made.grade(none))
    # Nothing stands in the way of the mended grader.
    assert dval_grading.standing(none) is None


def test_programs_run_in_the_sandbox(graders, tmp_path):
  try:
    with programs.Grader() as grader:
      assert grader.tier
  except programs.SandboxUnavailable as error:
    pytest.skip(str(error))
  tests = programs.Tests.stdin(['3\n'], ['6\n']).to_json()
  samples = table(
    ('a', 0, 'print(2 * int(input()))'), ('a', 1, 'print(input())')
  )
  with graders(({'a': tests}, 'program')) as made:
    made.require()
    validation = made.write(storage.path(tmp_path / 'step_0'), [samples])
    (found,) = made.grade(validation)
  assert found['reward'].to_pylist() == [1.0, 0.0]
