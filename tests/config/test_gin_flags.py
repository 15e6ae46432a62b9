"""The flags for gin in a command line."""

import pytest

from rest_jax.config import configuration, gin_flags


def test_bindings_are_taken_out_of_a_command_line():
  others, bindings = gin_flags.split(
    ['score', '--gin.A=1', '--gin.B', '2', '--gin_file=x.gin', '--dry_run']
  )
  assert others == ['score', '--gin_file=x.gin', '--dry_run']
  assert bindings == ['A=1', 'B=2']


@pytest.mark.parametrize(
  'argument', ['--RUN_DIR=x', '--RUN_DIR', '-NUM_SAMPLES=3', 'NUM_SAMPLES=3']
)
def test_a_dial_without_gin_is_named_as_it_should_be_written(argument):
  said = f'did you mean --gin.{argument.lstrip("-")}\\?'
  with pytest.raises(configuration.ConfigurationError, match=said):
    gin_flags.split(['prepare', argument])
