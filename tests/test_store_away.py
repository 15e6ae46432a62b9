"""What each command does while gs:// does not answer."""

import pytest

from rest_jax import main
from rest_jax.artifacts import store_patience
from rest_jax.executors import exit_codes

FLAGS = [
  '--gin_file=runs/arithmetic.gin',
  *(f'--gin.NUM_{name}=8' for name in ('TRAIN', 'DVAL', 'TEST')),
  '--gin.CORPUS_DOCUMENTS=20',
]
WAITS = {
  'run': ['run', '--print_plan', '--until=prepare', *FLAGS],
  'prepare': ['prepare', *FLAGS],
}


def called(arguments):
  """The exit code of a command."""
  return main.exit_code(lambda: main.run(arguments), 'rest-jax')


@pytest.mark.parametrize('name', WAITS)
@pytest.mark.parametrize('times', [0, 40])
def test_a_launch_and_a_stage_wait_from_their_beginning(
  name, times, bucket, store, away, capsys
):
  away(times)
  run_dir = f'--gin.RUN_DIR={bucket}/run'
  assert called([*WAITS[name], run_dir]) == exit_codes.DONE
  said = ''.join(capsys.readouterr())
  assert ('gs://bucket has not answered since' in said) == bool(times)
  assert said.count('answers again') == said.count('has not answered')
  made = [key for key in store.objects if key.endswith('test/manifest.json')]
  assert bool(made) == (name == 'prepare')


@pytest.mark.parametrize('name', WAITS)
def test_where_it_does_not_come_back_they_end_so_as_to_be_started_again(
  name, bucket, away, capsys, monkeypatch
):
  monkeypatch.setattr(store_patience, 'WAIT_SECONDS', 0.1)
  away(10**6)
  run_dir = f'--gin.RUN_DIR={bucket}/run'
  assert called([*WAITS[name], run_dir]) == exit_codes.PREEMPTED
  error = capsys.readouterr().err
  assert 'Traceback' not in error
  last = error.splitlines()[-1]
  assert last.startswith('rest-jax: error: gs://bucket has not answered since')
  assert last.endswith('start the same command again once it does.')


@pytest.mark.parametrize('name', ['status', 'stop', 'view', 'compare'])
def test_a_command_that_looks_at_a_run_says_one_sentence(
  name, bucket, away, capsys
):
  away(10**6)
  runs = [f'{bucket}/run', f'{bucket}/other'][: 1 + (name == 'compare')]
  assert called([name, *runs]) == exit_codes.PREEMPTED
  assert capsys.readouterr().err.splitlines() == [
    'rest-jax: error: gs://bucket does not answer (a test says 503, 503). Try '
    'again once it does.'
  ]
