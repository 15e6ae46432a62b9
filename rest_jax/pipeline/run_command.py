"""The command that made a run: the first line of RUN_DIR/config.gin.

Behind it stands what the command resolved to. The same command resumes the run;
rest-jax rescore reads it here and gives it again.
"""

import dataclasses
import shlex
from collections.abc import Sequence

from rest_jax.artifacts import storage
from rest_jax.config import configuration


@dataclasses.dataclass(frozen=True, kw_only=True)
class Program:
  """A command that launches.

  Attributes:
    name: how it is called; the first words of the run's config.gin.
    plan: the key of gin_parser.STAGES whose function makes the jobs.
  """

  name: str
  plan: str


REST_EM = Program(name='launch/rest_em.py', plan='rest_em')
BATCH = Program(name='rest-jax evaluate', plan='batch')


def text(program: Program, arguments: Sequence[str], resolved: str) -> str:
  """What config.gin holds.

  Args:
    program: that launches.
    arguments: its command line.
    resolved: the bindings that these resolve to, as gin text.
  """
  return (
    f'# {program.name} {shlex.join(_repeatable(arguments))}\n'
    f'# which resolves to:\n\n{resolved}'
  )


def config_of(run_dir: str, program: Program) -> storage.Path:
  """The path of a run's config.gin, which may not be written yet.

  Raises:
    ConfigurationError: the run is another program's, or not ours.
  """
  config = storage.path(run_dir) / 'config.gin'
  start = config.read_text() if config.exists() else f'# {program.name} '
  if start.startswith(f'# {program.name} '):
    return config
  for other in (REST_EM, BATCH):
    if start.startswith(f'# {other.name} '):
      raise configuration.ConfigurationError(
        f'{run_dir}: is a run of {other.name}. Set RUN_DIR to another folder.'
      )
  raise configuration.ConfigurationError(
    f'{config}: not written by rest_jax, so RUN_DIR holds something else. '
    'Set RUN_DIR to a new folder, or move that file away.'
  )


def read(run_dir: str) -> tuple[Program, list[str]]:
  """The program that made a run, and the flags that it was given last.

  Raises:
    ConfigurationError: RUN_DIR holds no run.
  """
  config = storage.path(run_dir) / 'config.gin'
  start = config.read_text().partition('\n')[0] if config.exists() else ''
  for program in (REST_EM, BATCH):
    if start.startswith(f'# {program.name}'):
      return program, shlex.split(start.removeprefix(f'# {program.name}'))
  raise configuration.ConfigurationError(
    f'{run_dir}: there is no run (no {config.name} that a launcher wrote). Set '
    'RUN_DIR to the folder of one.'
  )


def _repeatable(arguments: Sequence[str]) -> list[str]:
  """A command line without --redo, which is for one launch."""
  iterator, result = iter(arguments), []
  for argument in iterator:
    if argument == '--redo':
      next(iterator, None)
    elif not argument.startswith('--redo='):
      result.append(argument)
  return result
