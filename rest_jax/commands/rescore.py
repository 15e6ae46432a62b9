"""Grades all samples of a run again, and makes again what that changes.

    rest-jax rescore --gin.RUN_DIR=runs/x

For a grader that you have edited, or a newer version of this package. Nothing
is sampled again. The verdicts that stand are set aside; where the new ones say
the same, everything made of them is kept. Where they differ, the selection, the
M-step and what follows are made again.

The command that made the run stands in its config.gin, and is used again; your
own flags come behind it. Start it in the folder where you started that one.
"""

from collections.abc import Sequence

from rest_jax.config import configuration, gin_flags
from rest_jax.pipeline import launcher, own_run, run_command

_WORDS = {'evaluate', '--run_mode=evaluate'}  # of rest-jax evaluate


def run(arguments: Sequence[str]) -> int:
  """Launches the run again, with its samples graded anew.

  Args:
    arguments: the command line behind `rescore`.

  Returns:
    The exit code of the launcher.

  Raises:
    ConfigurationError: RUN_DIR is not set, or holds no run.
  """
  others, bindings = gin_flags.split(arguments)
  parser = launcher.parser('rest-jax rescore', __doc__)
  flags = parser.parse_args(others)
  run_dir = _run_dir([*flags.gin_bindings, *bindings])
  program, before = run_command.read(run_dir)
  before = [argument for argument in before if argument not in _WORDS]
  known, earlier = gin_flags.split(before)
  stood = parser.parse_args(known)
  stood.gin_file, earlier = own_run.expand(
    stood, [*stood.gin_bindings, *earlier]
  )
  for name in ('gin_file', 'gin_search_paths'):
    if not getattr(flags, name):
      setattr(flags, name, getattr(stood, name))
  flags.redo = flags.redo or ['score']
  everything = [*earlier, *flags.gin_bindings, *bindings]
  command = [
    *(f'--gin_file={name}' for name in flags.gin_file),
    *(f'--gin.{binding}' for binding in everything),
  ]
  if flags.gin_search_paths:
    command.append(f'--gin_search_paths={flags.gin_search_paths}')
  if program == run_command.BATCH:
    return launcher.run_batch(flags, everything, command)
  return launcher.launch(program, flags, everything, command)


def _run_dir(bindings: Sequence[str]) -> str:
  for binding in reversed(bindings):
    name, _, value = binding.partition('=')
    if name.strip() == 'RUN_DIR':
      return value.strip().strip('\'"').rstrip('/')
  raise configuration.ConfigurationError(
    'rescore: name the run: rest-jax rescore --gin.RUN_DIR=runs/x'
  )
