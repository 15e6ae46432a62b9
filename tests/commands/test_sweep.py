"""--sweep: a run for each combination of values, and a page of all."""

import pytest

from rest_jax import main
from rest_jax.commands import compare, sweep
from rest_jax.config import configuration
from rest_jax.pipeline import launcher


@pytest.fixture
def launched(monkeypatch):
  """The command lines of the launches and of compare; what launches return."""
  calls, codes = [], []

  def run(arguments):
    calls.append(list(arguments))
    return codes.pop(0) if codes else 0

  monkeypatch.setattr(launcher, 'run', run)
  monkeypatch.setattr(
    compare, 'run', lambda arguments: calls.append(['compare', *arguments]) or 0
  )
  return calls, codes


def test_each_combination_is_a_run_of_its_own(launched):
  calls, _ = launched
  code = main.run(
    [
      *('run', '--gin_file=x.gin', '--gin.RUN_DIR=runs/x', '--sweep'),
      *('TEMPERATURE=[0.5, 1.0]', '--sweep=LEARNING_RATES=[[1e-5], [1e-4]]'),
    ]
  )
  assert code == 0 and len(calls) == 5
  assert calls[1] == [
    '--gin_file=x.gin',
    '--gin.TEMPERATURE=0.5',
    '--gin.LEARNING_RATES=[0.0001]',
    '--gin.RUN_DIR=runs/x/TEMPERATURE=0.5,LEARNING_RATES=0.0001',
  ]
  folders = [call[-1].partition('=')[2] for call in calls[:4]]
  assert len(set(folders)) == 4
  assert calls[4] == ['compare', *folders, '--output=runs/x/compare.html']


def test_a_run_that_fails_ends_the_sweep(launched):
  calls, codes = launched
  codes += [0, 42]
  arguments = ['--gin.RUN_DIR=x', '--sweep=SEED=[1, 2, 3]']
  assert sweep.run(arguments) == 42 and len(calls) == 2


def test_a_dry_run_compares_nothing(launched):
  calls, _ = launched
  sweep.run(['--gin.RUN_DIR=x', '--dry_run', '--sweep=SEED=[1, 2]'])
  assert len(calls) == 2 and all('--dry_run' in call for call in calls)


@pytest.mark.parametrize(
  'arguments',
  [
    ['--sweep=SEED=[1, 2]'],
    ['--gin.RUN_DIR=x', '--sweep=SEED=3'],
    ['--gin.RUN_DIR=x', '--sweep=SEED=[1'],
    ['--gin.RUN_DIR=x', '--sweep=[1, 2]'],
    ['--gin.RUN_DIR=x', '--sweep=SEED=[1]'],
    ['--gin.RUN_DIR=x', '--sweep=SEED="ab"'],
    ['--gin.RUN_DIR=x', f'--sweep=SEED={list(range(99))}'],
  ],
)
def test_what_is_no_sweep_is_refused(launched, arguments):
  with pytest.raises(configuration.ConfigurationError, match='--sweep'):
    sweep.run(arguments)
  assert not launched[0]
