"""Where D_val is graded: beside on clusters where programs run, else here."""

import pytest
import sample_folders

from rest_jax.executors.jobs import Resources
from rest_jax.pipeline import dval_places


@pytest.fixture
def place(tmp_path):
  """Decides for a run of tasks, {name: grader}, or None: not prepared."""

  def place(executor, asked='auto', **tasks):
    for name, grader in tasks.items():
      if grader is not None:
        sample_folders.problems(
          tmp_path / 'problems' / name / 'dval', {'a': '7'}, grader=grader
        )
    arguments = {
      'run_dir': f'{tmp_path}/',
      'tasks': list(tasks),
      'resources': Resources(dval_grading=asked, workers=3),
    }
    return dval_places.place(arguments, executor)

  return place


@pytest.mark.parametrize('executor', ['gke', 'tpu_vm'])
@pytest.mark.parametrize(
  ('graders', 'expected'),
  [
    (['math'], 'here'),
    (['number', 'bbh'], 'here'),
    (['program'], 'beside'),
    (['math', 'program'], 'beside'),
    (['no_such_module:grade'], 'beside'),  # not imported: it may run programs
  ],
)
def test_beside_on_other_hosts_where_a_grader_may_run_programs(
  place, executor, graders, expected
):
  tasks = {f't{i}': grader for i, grader in enumerate(graders)}
  found = place(executor, **tasks)
  resources = found.arguments['resources']
  assert resources.dval_grading == expected and resources.workers == 3
  assert found.derived['DVAL_GRADING'].value == expected
  assert not found.is_open


def test_on_this_machine_everything_runs_on_its_one_host(place):
  found = place('local', t='program')
  assert found.arguments['resources'].dval_grading == 'here'
  assert not found.derived and not found.is_open


def test_before_prepare_the_plan_has_the_jobs_that_it_may_come_to_need(place):
  found = place('gke', t='math', u=None)
  assert found.arguments['resources'].dval_grading == 'beside'
  assert found.is_open and not found.derived
  assert not place('local', t='math', u=None).is_open


@pytest.mark.parametrize('executor', ['local', 'gke'])
@pytest.mark.parametrize('asked', ['here', 'beside'])
def test_what_the_user_says_is_done(place, executor, asked):
  found = place(executor, asked, t='program', u=None)
  assert found.arguments['resources'].dval_grading == asked
  assert not found.derived and not found.is_open
