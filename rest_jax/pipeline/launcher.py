"""The commands that make a plan and have its jobs run (launch.py).

launch/rest_em.py runs the plan of ReST^EM. rest-jax evaluate runs the plan of
checkpoint_evaluation.py where CHECKPOINTS names what to evaluate. The same
command resumes an interrupted run. One launcher at a time holds RUN_DIR.
"""

import argparse
import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from typing import Any

from rest_jax.artifacts import model_formats, storage, store_patience
from rest_jax.config import configuration, gin_flags, gin_parser
from rest_jax.executors.by_name import EXECUTORS
from rest_jax.pipeline import (
  checkpoint_evaluation,
  launch_flags,
  own_run,
  run_command,
  task_files,
)
from rest_jax.pipeline.launch import Launch
from rest_jax.tokenizers import vocabulary_files


def parser(name: str, description: str) -> argparse.ArgumentParser:
  """The launcher's flags; --gin.NAME=VALUE flags are taken out before."""
  result = argparse.ArgumentParser(
    prog=name,
    description=description,
    formatter_class=argparse.RawDescriptionHelpFormatter,
  )
  own_run.add_flags(result)
  gin_flags.add(result)
  launch_flags.add(result)
  return result


@store_patience.waiting()
def run(
  arguments: Sequence[str],
  description: str = own_run.__doc__,
  name: str = 'rest-jax run',
) -> int:
  """Plans ReST^EM, then runs or prints it; returns the exit code.

  Args:
    arguments: the command line.
    description: of its --help.
    name: of the command, in its --help.
  """
  others, bindings = gin_flags.split(arguments)
  flags = parser(name, description).parse_args(others)
  bindings = [*flags.gin_bindings, *bindings]
  flags.gin_file, bindings = own_run.expand(flags, bindings)
  return launch(run_command.REST_EM, flags, bindings, arguments)


@store_patience.waiting()
def launch(
  program: run_command.Program,
  flags: argparse.Namespace,
  bindings: Sequence[str],
  arguments: Sequence[str],
) -> int:
  """Plans, then runs or prints; returns the exit code.

  Args:
    program: whose plan it is.
    flags: executor, until, dry_run, redo and those of gin_flags.
    bindings: all gin bindings of the command line, as NAME=VALUE.
    arguments: the command line, for the run's config.gin.

  Raises:
    ConfigurationError: no plan can be made, or RUN_DIR is another program's.
    LeaseError: another launcher works on RUN_DIR.
  """
  if flags.executor not in EXECUTORS:
    raise configuration.ConfigurationError(
      f'--executor: got {flags.executor!r}; allowed: {", ".join(EXECUTORS)}.'
    )
  launching = Launch(program, flags, bindings, arguments)
  if flags.print_plan:
    print(json.dumps(launching.plan(), indent=1))
    return 0
  if flags.dry_run:
    launching.show()
    return 0
  if flags.detach:
    launching.check_places()  # its log would say it, where nobody looks
    return _detach(program, flags, launching.run_dir, arguments)
  return launching.run()


def is_batch(flags: argparse.Namespace, bindings: Sequence[str]) -> bool:
  """Whether CHECKPOINTS names any: evaluate is then a plan, no stage."""
  return bool(_macros(['CHECKPOINTS'], flags, bindings).get('CHECKPOINTS'))


@store_patience.waiting()
def run_batch(
  flags: argparse.Namespace, bindings: Sequence[str], arguments: Sequence[str]
) -> int:
  """rest-jax evaluate with CHECKPOINTS: the plan of checkpoint_evaluation.py.

  The gin files of the tasks that TASKS names are found here, and a vocabulary
  where none is named: that of the first checkpoint that has one.

  Raises:
    ConfigurationError: a checkpoint, a task or the model is not there.
  """
  names = ['CHECKPOINTS', 'VOCABULARY', 'BASE_CHECKPOINT_PATH']
  asked = _macros(names, flags, bindings)
  policies = checkpoint_evaluation.names(asked['CHECKPOINTS']).values()
  lost = [path for path in policies if not storage.path(path).exists()]
  if lost and not flags.dry_run:
    raise configuration.ConfigurationError(
      f'CHECKPOINTS: nothing is at {", ".join(lost)}. Expected '
      f'{model_formats.expected_weights()}.'
    )
  found = next(filter(None, map(vocabulary_files.lying_with, policies)), None)
  if (
    found and 'VOCABULARY' not in asked and 'BASE_CHECKPOINT_PATH' not in asked
  ):
    bindings = [f'VOCABULARY={found}', *bindings]
  flags.gin_file, bindings = task_files.expand(
    gin_files=flags.gin_file,
    bindings=bindings,
    search_paths=gin_flags.search_paths(flags),
  )
  named = ('evaluate', '--run_mode=evaluate')  # which BATCH's name says
  rest = [argument for argument in arguments if argument not in named]
  return launch(run_command.BATCH, flags, bindings, rest)


def _detach(
  program: run_command.Program,
  flags: argparse.Namespace,
  run_dir: str,
  arguments: Sequence[str],
) -> int:
  """Starts the launcher anew, in a session of its own."""
  word = 'run' if program is run_command.REST_EM else 'evaluate'
  if storage.is_remote(run_dir):
    log = f'{tempfile.mkdtemp()}/launcher.log'
  else:
    os.makedirs(run_dir, exist_ok=True)
    log = f'{run_dir}/launcher.log'
  rest = [argument for argument in arguments if argument != '--detach']
  rest += [f'--redo={what}' for what in flags.redo]  # rescore has added one
  with open(log, 'ab') as file:
    child = subprocess.Popen(
      [sys.executable, '-m', 'rest_jax.main', word, *rest],
      stdin=subprocess.DEVNULL,
      stdout=file,
      stderr=subprocess.STDOUT,
      start_new_session=True,
    )
  print(f'launched as process {child.pid}; what it says is in {log}')
  print(f'rest-jax status {run_dir}\nrest-jax stop {run_dir}')
  return 0


def _macros(
  names: Sequence[str], flags: argparse.Namespace, bindings: Sequence[str]
) -> dict[str, Any]:
  return gin_parser.macros(
    'evaluate',
    names,
    gin_files=flags.gin_file,
    bindings=bindings,
    search_paths=gin_flags.search_paths(flags),
  )
