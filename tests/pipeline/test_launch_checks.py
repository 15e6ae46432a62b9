"""A launch refuses before its first job what a later one would refuse."""

import pytest

from rest_jax.config import configuration, gin_parser
from rest_jax.pipeline import launch_checks


@pytest.fixture(scope='module')
def planned():
  plan, bound = gin_parser.parse(
    'rest_em',
    gin_files=['runs/arithmetic.gin'],
    bindings=['RUN_DIR=nowhere', 'NUM_ITERATIONS=1'],
  )
  return plan(**bound)


def check(planned, *bindings, pending=('MICROBATCHES',)):
  flags = ['--gin_file=runs/arithmetic.gin', '--gin_bindings=RUN_DIR=nowhere']
  flags += [f'--gin_bindings={binding}' for binding in bindings]
  launch_checks.check_bindings(planned, flags, pending)


def test_a_run_file_that_is_right_passes(planned):
  check(planned, 'LEARNING_RATES=3e-4')  # one is a list of one


@pytest.mark.parametrize(
  'binding, text',
  [
    ('NUM_SAMPLES=four', "num_samples: got 'four'"),
    ('MAX_STEPS=1.5', 'max_steps: got 1.5'),
    ('CORPUS_DOCUMENTS=3OO', "got '3OO'"),
    ('BATCH_ROWS=0', 'batch_rows: got 0'),
    ('BOOTSTRAP_RESAMPLES=none', "got 'none'"),
  ],
)
def test_what_a_late_job_would_refuse_is_refused(planned, binding, text):
  with pytest.raises(configuration.ConfigurationError, match=text):
    check(planned, binding)


def test_a_dial_that_is_not_derived_yet_is_no_error(planned):
  auto = "MICROBATCHES='auto'"
  check(planned, auto)
  with pytest.raises(configuration.ConfigurationError, match="'auto'"):
    check(planned, auto, pending=())


@pytest.mark.parametrize(
  'values, text',
  [
    ({'INPUT': 'nix.jsonl'}, 'INPUT: nix.jsonl is not there'),
    ({'INPUT_TEST': 'nix.jsonl'}, 'INPUT_TEST: nix.jsonl is not there'),
    ({'BASE_CHECKPOINT_PATH': 'nix.gguf'}, 'no checkpoint is there'),
  ],
)
def test_a_path_that_leads_nowhere_is_named(values, text):
  with pytest.raises(configuration.ConfigurationError, match=text):
    launch_checks.check_paths(values)


def test_paths_that_are_not_set_are_no_error():
  launch_checks.check_paths({'INPUT': None})
