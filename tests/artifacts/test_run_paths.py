"""Names of models, made and read in one place."""

import pytest

from rest_jax.artifacts import run_paths


@pytest.mark.parametrize('number', [1, 9, 10, 123])
def test_the_name_of_an_iteration_is_read_as_it_was_made(number):
  name = run_paths.iteration(number)
  assert run_paths.iteration_number(name) == number
  assert run_paths.is_loop_model(name)


@pytest.mark.parametrize(
  'name',
  ['iteration_best', 'iteration_', 'my_iteration_01', 'iteration_01x', ''],
)
def test_a_name_that_is_like_an_iterations_is_none(name):
  assert run_paths.iteration_number(name) is None
  assert not run_paths.is_loop_model(name)


@pytest.mark.parametrize(
  ('path', 'folder'),
  [
    ('base/difficulty/verdicts', 'base'),
    ('models/ours/evaluation/results', 'models/ours'),
    ('iteration_01/samples/task', 'iteration_01'),
  ],
)
def test_a_path_lies_in_the_folder_of_its_model(path, folder):
  assert run_paths.model_folder(path) == folder


@pytest.mark.parametrize('tail', ['', '/arithmetic'])
def test_samples_lie_beside_their_verdicts(tail):
  found = run_paths.samples_of(f'a/verdicts/x/verdicts{tail}')
  assert found == f'a/verdicts/x/samples{tail}'
