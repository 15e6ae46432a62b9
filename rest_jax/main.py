"""The command line: one stage, configured by gin, in one process.

    rest-jax sample --gin_file=runs/arithmetic.gin --gin.RUN_DIR=runs/x
    python -m rest_jax.main --run_mode=sample --gin_file=...

Exit codes: 0 done; 2 wrong configuration or data, retrying will not help;
42 preempted, or the store (gs://) is away, what was done is kept: start it
again; 75 another process holds the folder, try again later; anything else may
be retried.
"""

import argparse
import importlib
import os
import sys
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from rest_jax import command_line
from rest_jax.config import gin_flags
from rest_jax.executors import exit_codes, standard_output

INPUT_GIN_FILE = 'tasks/own_problems.gin'  # of --input, where none is named
_WORKER_FLAGS = {'worker_index': 'WORKER_INDEX', 'num_workers': 'WORKERS'}


def run(arguments: Sequence[str]) -> int:
  """Runs a command or one stage; returns the exit code."""
  if arguments and arguments[0] in command_line.COMMANDS:
    module = importlib.import_module(
      f'rest_jax.commands.{command_line.COMMANDS[arguments[0]][0]}'
    )
    return module.run(arguments[1:])
  if arguments and arguments[0] == command_line.RUN:
    from rest_jax.commands import sweep
    from rest_jax.pipeline import launcher

    if sweep.is_asked(arguments):
      return sweep.run(arguments[1:])
    return launcher.run(arguments[1:])
  from rest_jax.artifacts import progress_lines, store_patience
  from rest_jax.distributed import preemption

  def say(line: str) -> None:
    print(progress_lines.warning(line), flush=True)

  with store_patience.waiting(say, preemption.asked):
    return _run_stage(arguments)


def _run_stage(arguments: Sequence[str]) -> int:
  """Parses, resolves and runs one stage; returns the exit code."""
  others, bindings = gin_flags.split(arguments)
  parser = command_line.parser()
  flags = parser.parse_args(others)
  stage = flags.run_mode or flags.stage
  if stage is None:
    parser.error(f'name a stage: {", ".join(command_line.STAGES)}')
  if flags.run_mode and flags.stage and flags.run_mode != flags.stage:
    parser.error(f'two stages: {flags.stage} and --run_mode={flags.run_mode}')
  if flags.input:
    if stage != 'prepare':
      parser.error('--input belongs to prepare')
    bindings = [f'INPUT={flags.input}', *bindings]
    flags.gin_file = flags.gin_file or [INPUT_GIN_FILE]
  if stage == 'prepare':  # TensorFlow tells how it was built
    os.environ.setdefault('TF_CPP_MIN_LOG_LEVEL', '2')
  if flags.tfds_data_dir:
    os.environ['TFDS_DATA_DIR'] = flags.tfds_data_dir
  if flags.task:
    if stage != 'prepare':
      parser.error('--task belongs to prepare')
    _build(flags)
    names = {binding.partition('=')[0].strip() for binding in bindings}
    if 'RUN_DIR' not in names:
      return 0  # the data set alone was asked for
    flags.gin_file = [f'tasks/{flags.task}.gin', *flags.gin_file]
  if flags.seqio_additional_cache_dirs:
    os.environ['SEQIO_ADDITIONAL_CACHE_DIRS'] = (
      flags.seqio_additional_cache_dirs
    )
  bindings = [*flags.gin_bindings, *bindings]
  for name, dial in _WORKER_FLAGS.items():
    if getattr(flags, name) is not None:
      if stage not in ('sample', 'score'):
        parser.error(f'--{name} belongs to sample and score')
      bindings.append(f'{dial}={getattr(flags, name)}')
  if flags.search:
    if stage != 'preflight':
      parser.error('--search belongs to preflight')
    bindings.append('PREFLIGHT_SEARCH=True')
  if stage == 'evaluate':
    from rest_jax.pipeline import launcher

    if launcher.is_batch(flags, bindings):
      return launcher.run_batch(flags, bindings, arguments)
  for name in ('until', 'redo', 'detach', 'print_plan', 'manifests_dir'):
    if getattr(flags, name):
      parser.error(f'--{name} belongs to evaluate with CHECKPOINTS')
  from rest_jax.config import configuration, gin_parser

  read = {
    'gin_files': flags.gin_file,
    'bindings': bindings,
    'search_paths': gin_flags.search_paths(flags),
  }
  try:
    function, bound = _parsed(stage, read)
  except configuration.ConfigurationError as error:
    if not str(error).startswith('--gin'):  # of what the user wrote
      _require_job(stage, read)
    raise
  if flags.dry_run:
    print(gin_parser.config_text())
    print(f'# {stage} would be called with:')
    for name, value in bound.items():
      print(f'#   {name} = {value!r}')
    return 0
  texts = gin_parser.bindings()  # _require_job reads the files anew
  _require_job(stage, read)
  try:
    function(**bound)
  except Exception as error:
    from rest_jax.executors import memory_errors

    if not memory_errors.is_out_of_memory(error):
      raise
    text = memory_errors.told(stage, texts, str(error))
    raise configuration.ConfigurationError(text) from error
  return 0


def _parsed(
  stage: str, read: Mapping[str, Any]
) -> tuple[Callable[..., Any], dict[str, Any]]:
  """The stage's function and its arguments.

  Args:
    stage: of the command line.
    read: the arguments of gin_parser.parse.
  """
  if stage == 'preflight':  # no launcher has derived the dials that are 'auto'
    from rest_jax.costs import foreseen

    return foreseen.parse(**read)
  from rest_jax.config import gin_parser

  return gin_parser.parse(stage, **read)


# What the plan of a run sets for each job: where a stage reads and writes.
_JOB_DIALS = {
  'sample': ('POLICY_DIR', 'PROBLEMS_DIRS', 'SAMPLES_DIRS', 'STREAMS'),
  'score': ('PROBLEMS_DIRS', 'SAMPLES_DIRS', 'VERDICTS_DIRS'),
  'select': ('PROBLEMS_DIRS', 'EXAMPLES_DIR'),
  'train': ('EXAMPLES_DIR', 'CHECKPOINTS_DIR'),
  'grade_dval': ('CHECKPOINTS_DIR', 'DVAL_DIRS'),
  'evaluate': ('SAMPLES_DIRS', 'VERDICTS_DIRS', 'RESULTS_DIR'),
}


def _require_job(stage: str, read: Mapping[str, Any]) -> None:
  """Raises where a stage is called alone, without any of a job's folders.

  Args:
    stage: of the command line.
    read: the arguments of gin_parser.parse.
  """
  from rest_jax.config import configuration, gin_parser

  if stage not in _JOB_DIALS:
    return
  dials = _JOB_DIALS[stage]
  if not any(gin_parser.macros(stage, dials, **read).values()):
    raise configuration.ConfigurationError(
      f'{stage}: one stage of a run, whose plan sets what it reads and writes: '
      'python launch/rest_em.py --gin_file=… --gin.RUN_DIR=… '
      f'--until=iteration_01/{stage} runs it and what it needs. Alone it needs '
      f'{", ".join(f"--gin.{name}=…" for name in dials)}.'
    )


def _build(flags: argparse.Namespace) -> None:
  """Makes the TFDS data sets that a published task needs."""
  from rest_jax.tasks.benchmarks import catalogue, preparation

  row = catalogue.get(flags.task)
  for name in dict.fromkeys((row.exemplars_from, row.data or row.name)):
    if name is not None:
      preparation.build(
        name,
        manual_dir=flags.manual_dir,
        download=flags.download,
        allow_partial=flags.allow_partial,
        overwrite=flags.overwrite,
      )


def exit_code(work: Callable[[], int], name: str) -> int:
  """Runs `work` and turns what it raises into an exit code and one line.

  Args:
    work: returns its own exit code.
    name: of the command, before the message.

  Raises:
    Exception: what nobody expected, with its traceback; Python's exit code for
      it is 1, which may be retried.
  """
  with standard_output.lasting():
    try:
      return work()
    except SystemExit:
      raise
    except BaseException as error:
      from rest_jax.distributed import failures

      code = _code_of(error)
      if code not in (None, _INTERRUPTED):
        print(f'{name}: {_message(error)}', file=sys.stderr, flush=True)
      failures.leave(error, code)
      if code is None:
        raise
      return code


_INTERRUPTED = 130


def _code_of(error: BaseException) -> int | None:
  """The exit code of an error that is expected; None: of no such."""
  from rest_jax.artifacts import (
    held_folders,
    records,
    storage,
    store_patience,
  )
  from rest_jax.config import configuration
  from rest_jax.distributed import failures, preemption

  if isinstance(error, KeyboardInterrupt):
    return _INTERRUPTED
  if isinstance(error, preemption.Preempted):
    return exit_codes.PREEMPTED
  if isinstance(error, held_folders.LeaseError):
    return exit_codes.HELD
  if isinstance(error, failures.GoneError):
    return exit_codes.LOST
  if isinstance(error, (store_patience.GivenUpError, store_patience.AwayError)):
    return exit_codes.PREEMPTED
  if isinstance(error, failures.PeerError):
    return exit_codes.UNKNOWN
  final = (configuration.ConfigurationError, records.CorruptPartError)
  if (
    isinstance(error, final)
    or getattr(error, 'errno', None) in storage.FINAL_ERRNOS
    or _cannot_be_written(error)
  ):
    return exit_codes.CONFIGURATION
  return None


def _cannot_be_written(error: BaseException) -> bool:
  """Whether a folder cannot be made, as below /proc."""
  missing = isinstance(error, FileNotFoundError)
  return missing and getattr(error, 'has_advice', False)


def _message(error: BaseException) -> str:
  from rest_jax.artifacts import storage
  from rest_jax.distributed import preemption

  if isinstance(error, preemption.Preempted):
    return str(error)
  if isinstance(error, OSError):
    error = storage.with_advice(error)
  return f'error: {error}'


def main(arguments: Sequence[str] | None = None) -> None:
  """Entry point of `rest-jax`."""
  given = sys.argv[1:] if arguments is None else arguments
  sys.exit(exit_code(lambda: run(given), 'rest-jax'))


if __name__ == '__main__':
  main()
