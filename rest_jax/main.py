"""The command line: one stage, configured by gin, in one process.

    rest-jax sample --gin_file=runs/arithmetic.gin --gin.RUN_DIR=runs/x
    python -m rest_jax.main --run_mode=sample --gin_file=...

Exit codes: 0 done; 2 wrong configuration or data, retrying will not help;
42 preempted with its state saved, start it again; 75 another process holds the
folder, try again later; anything else may be retried.
"""

import argparse
import importlib
import os
import sys
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import rest_jax
from rest_jax.config import gin_flags, packaged_gin
from rest_jax.executors import exit_codes, standard_output

INPUT_GIN_FILE = 'tasks/own_problems.gin'  # of --input, where none is named

STAGES = {
  'prepare': 'turn a task, or your JSONL, into problems (and a corpus)',
  'sample': 'E-step: draw solutions from a policy',
  'score': "grade samples with the task's reward",
  'select': 'keep correct solutions as training examples',
  'train': 'M-step: fine-tune the base model on them',
  'grade_dval': "grade an M-step's D_val samples, beside it",
  'evaluate': 'pass@1, pass@k, maj@k; or all CHECKPOINTS on all TASKS',
  'report': 'one HTML page and results.json',
  'preflight': "compile a run's programs for TPUs that are not here",
}
_WORKER_FLAGS = {'worker_index': 'WORKER_INDEX', 'num_workers': 'WORKERS'}
RUN = 'run'  # all stages, one after the other
# Without gin and without a run: their module has a `run(arguments)`.
COMMANDS = {
  'grade': ('grade', "grade anybody's completions: JSONL in, JSONL out"),
  'grading-sheet': (
    'grading_sheet',
    'a sheet for exams that a person grades, and back',
  ),
  'rescore': ('rescore', "grade a run's samples again, sampling nothing"),
  'check-task': ('check_task', 'try the tests of code problems on references'),
  'tasks': ('tasks', 'list the tasks that come with the package'),
  'import': ('import_checkpoint', 'a published model as an Orbax checkpoint'),
  'export': ('export_checkpoint', 'a model for transformers, vLLM, llama.cpp'),
  'models': ('models', 'list what can be a base model'),
  'view': ('view', "serve a run's page, while it goes and after"),
  'status': ('status', 'what a run is doing, from any machine'),
  'stop': ('stop', 'stop a run, from any machine; nothing is lost'),
  'compare': ('compare', 'several runs on one page'),
}


def parser() -> argparse.ArgumentParser:
  """The flags, named as T5X names them."""
  text = '\n'.join(f'  {name:14}{what}' for name, what in STAGES.items())
  more = '\n'.join(f'  {name:14}{what}' for name, (_, what) in COMMANDS.items())
  result = argparse.ArgumentParser(
    prog='rest-jax',
    formatter_class=argparse.RawDescriptionHelpFormatter,
    description='ReST^EM self-training of language models in JAX.\n\n'
    'the whole loop, on your own model and problems:\n'
    '  rest-jax run --model=model.gguf --problems=problems.jsonl\n'
    'and with a run file (rest-jax run --help):\n'
    '  rest-jax run --gin_file=runs/math.gin --gin.RUN_DIR=runs/math …\n\n'
    f'one stage of a run:\n{text}\n\n'
    f'commands of their own (rest-jax NAME --help):\n{more}\n\n'
    f'run files, below gin/:\n{packaged_gin.listed("runs")}',
    epilog='Any dial of gin/defaults.gin: --gin.NAME=VALUE, for example '
    '--gin.TEMPERATURE=0.7 --gin.RUN_DIR=runs/x',
  )
  result.add_argument(
    '--version', action='version', version=f'rest_jax {rest_jax.__version__}'
  )
  result.add_argument('stage', nargs='?', choices=list(STAGES), metavar='STAGE')
  result.add_argument('--run_mode', choices=list(STAGES), metavar='STAGE')
  result.add_argument('--input', help='prepare: your problems.jsonl')
  result.add_argument(
    '--task', help='prepare: a published task, such as math (docs/data.md)'
  )
  result.add_argument(
    '--manual_dir', help='prepare: the files of the published task'
  )
  for name, text in (
    ('download', 'fetch them where that can be done'),
    ('allow_partial', 'some of its problems will do'),
    ('overwrite', 'build its TFDS data set anew'),
  ):
    result.add_argument(f'--{name}', action='store_true', help=text)
  for name, text in (
    ('worker_index', 'which of the workers this is, from 0'),
    ('num_workers', 'how many fill the same folders'),
  ):
    result.add_argument(f'--{name}', type=int, help=f'sample, score: {text}')
  result.add_argument(
    '--search', action='store_true', help='preflight: try other dials too'
  )
  gin_flags.add(result)
  result.add_argument(
    '--dry_run', action='store_true', help='print what is bound and stop'
  )
  result.add_argument(
    '--until', metavar='JOB', help='evaluate with CHECKPOINTS: the last job'
  )
  result.add_argument(
    '--executor',
    default='local',
    help='evaluate with CHECKPOINTS: what runs its jobs',
  )
  for name, text in (
    ('detach', 'launch in the background'),
    ('print_plan', 'print the jobs as JSON'),
  ):
    result.add_argument(
      f'--{name}',
      action='store_true',
      help=f'evaluate with CHECKPOINTS: {text}',
    )
  result.add_argument(
    '--manifests_dir', help="evaluate with CHECKPOINTS: for a cluster's objects"
  )
  result.add_argument(
    '--redo',
    metavar='STAGE|JOB',
    action='append',
    default=[],
    help='evaluate with CHECKPOINTS: set aside and make again',
  )
  result.add_argument('--tfds_data_dir', help='where TFDS keeps its data')
  result.add_argument(
    '--seqio_additional_cache_dirs', default='', help='comma-separated'
  )
  return result


def run(arguments: Sequence[str]) -> int:
  """Parses, resolves and runs one stage; returns the exit code."""
  if arguments and arguments[0] in COMMANDS:
    module = importlib.import_module(
      f'rest_jax.commands.{COMMANDS[arguments[0]][0]}'
    )
    return module.run(arguments[1:])
  if arguments and arguments[0] == RUN:
    from rest_jax.commands import sweep
    from rest_jax.pipeline import launcher

    if sweep.is_asked(arguments):
      return sweep.run(arguments[1:])
    return launcher.run(arguments[1:])
  others, bindings = gin_flags.split(arguments)
  flags = parser().parse_args(others)
  stage = flags.run_mode or flags.stage
  if stage is None:
    parser().error(f'name a stage: {", ".join(STAGES)}')
  if flags.run_mode and flags.stage and flags.run_mode != flags.stage:
    parser().error(f'two stages: {flags.stage} and --run_mode={flags.run_mode}')
  if flags.input:
    if stage != 'prepare':
      parser().error('--input belongs to prepare')
    bindings = [f'INPUT={flags.input}', *bindings]
    flags.gin_file = flags.gin_file or [INPUT_GIN_FILE]
  if stage == 'prepare':  # TensorFlow tells how it was built
    os.environ.setdefault('TF_CPP_MIN_LOG_LEVEL', '2')
  if flags.tfds_data_dir:
    os.environ['TFDS_DATA_DIR'] = flags.tfds_data_dir
  if flags.task:
    if stage != 'prepare':
      parser().error('--task belongs to prepare')
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
        parser().error(f'--{name} belongs to sample and score')
      bindings.append(f'{dial}={getattr(flags, name)}')
  if flags.search:
    if stage != 'preflight':
      parser().error('--search belongs to preflight')
    bindings.append('PREFLIGHT_SEARCH=True')
  if stage == 'evaluate':
    from rest_jax.pipeline import launcher

    if launcher.is_batch(flags, bindings):
      return launcher.run_batch(flags, bindings, arguments)
  for name in ('until', 'redo', 'detach', 'print_plan', 'manifests_dir'):
    if getattr(flags, name):
      parser().error(f'--{name} belongs to evaluate with CHECKPOINTS')
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
  from rest_jax.artifacts import leases, records, storage
  from rest_jax.config import configuration
  from rest_jax.distributed import failures, preemption

  if isinstance(error, KeyboardInterrupt):
    return _INTERRUPTED
  if isinstance(error, preemption.Preempted):
    return exit_codes.PREEMPTED
  if isinstance(error, leases.LeaseError):
    return exit_codes.HELD
  if isinstance(error, failures.GoneError):
    return exit_codes.LOST
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
