"""rest-jax rescore gives the run's own command again."""

import pytest

from rest_jax import main
from rest_jax.config import configuration
from rest_jax.pipeline import launcher, run_command


@pytest.fixture
def launched(monkeypatch):
  """(program, flags, bindings, command line) of each launch."""
  found = []

  def launch(program, flags, bindings, arguments):
    found.append((program, flags, list(bindings), list(arguments)))
    return 7

  monkeypatch.setattr(launcher, 'launch', launch)
  return found


def config(folder, command):
  folder.mkdir()
  (folder / 'config.gin').write_text(f'# {command}\n# which resolves to:\n')
  return str(folder)


def test_the_command_of_the_run_is_given_again(tmp_path, launched):
  run_dir = config(
    tmp_path / 'run',
    'launch/rest_em.py --executor=local --gin_file=a.gin --gin_file=b.gin '
    "--gin.RUN_DIR=old --gin.STOP='[\"a b\"]' --gin_bindings='SEED = 3' "
    '--until=iteration_01/score --redo=prepare',
  )
  code = main.run(['rescore', f'--gin.RUN_DIR={run_dir}', '--gin.SEED=4'])
  assert code == 7
  [(program, flags, bindings, command)] = launched
  assert program == run_command.REST_EM
  assert flags.redo == ['score'] and flags.until is None
  assert flags.gin_file == ['a.gin', 'b.gin']
  assert bindings == [
    'SEED = 3',
    'RUN_DIR=old',
    'STOP=["a b"]',
    f'RUN_DIR={run_dir}',
    'SEED=4',
  ]
  # What is written into config.gin is a command that makes the run.
  assert not [word for word in command if 'redo' in word or 'until' in word]
  assert [f'--gin.{binding}' for binding in bindings] == command[2:]


def test_a_folder_without_a_run_is_refused(tmp_path, launched):
  for run_dir in (tmp_path, config(tmp_path / 'mine', 'something else')):
    with pytest.raises(configuration.ConfigurationError, match='no run'):
      main.run(['rescore', f'--gin.RUN_DIR={run_dir}'])
  with pytest.raises(configuration.ConfigurationError, match='RUN_DIR=runs/x'):
    main.run(['rescore'])
  assert not launched


def test_redo_is_no_part_of_a_runs_command():
  given = ['--redo', 'train', '--gin_file=a.gin', '--redo=score', '--until=x']
  assert run_command._repeatable(given) == ['--gin_file=a.gin', '--until=x']


def test_redo_belongs_to_launchers():
  with pytest.raises(SystemExit):
    main.run(['score', '--redo=score', '--gin.RUN_DIR=x'])
