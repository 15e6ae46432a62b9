"""Runs ReST^EM: base model, E-steps, M-steps, evaluation, report.

    python launch/rest_em.py --executor=local --gin_file=runs/arithmetic.gin \\
        --gin.RUN_DIR=runs/arithmetic [--gin.NAME=VALUE …]

Give the same command again after a crash, a kill or a preemption: it goes on
where it stopped. A larger NUM_ITERATIONS, NUM_SAMPLES or EVAL_SAMPLES extends
the run; any other change is refused by the stage that it would change.

    --until=iteration_01/select   stops there (and leaves out what that does
                                  not need); a folder's name means all its jobs
    --dry_run                     prints the plan and what is left to do
"""

import argparse
import os
import shlex
import sys
from collections.abc import Sequence

_ROOT = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
if os.path.isdir(os.path.join(_ROOT, 'rest_jax')):
  sys.path.insert(1, _ROOT)  # a checkout runs its own code, installed or not

from executors.console import Console  # noqa: E402
from executors.ledger import Configuration, Ledger  # noqa: E402
from executors.local import LocalExecutor  # noqa: E402
from executors.table import results_table  # noqa: E402
from rest_jax import (  # noqa: E402
  configuration,
  gin_utils,
  jobs,
  leases,
  main,
  records,
  storage,
)

EXECUTORS = {'local': LocalExecutor}
_CONFIG_START = '# launch/rest_em.py'


def parser() -> argparse.ArgumentParser:
  """The launcher's flags; --gin.NAME=VALUE flags are taken out before."""
  result = argparse.ArgumentParser(
    prog='launch/rest_em.py',
    description=__doc__,
    formatter_class=argparse.RawDescriptionHelpFormatter,
  )
  result.add_argument('--executor', choices=list(EXECUTORS), default='local')
  main.add_gin_flags(result)
  result.add_argument('--until', metavar='JOB', help='the last job to run')
  result.add_argument('--dry_run', action='store_true', help='print the plan')
  return result


def run(arguments: Sequence[str]) -> int:
  """Plans, then runs or prints; returns the exit code."""
  others, bindings = main.split_gin_flags(arguments)
  flags = parser().parse_args(others)
  bindings = [*flags.gin_bindings, *bindings]
  plan, bound = gin_utils.parse(
    'rest_em',
    gin_files=flags.gin_file,
    bindings=bindings,
    search_paths=[p for p in flags.gin_search_paths.split(',') if p],
  )
  run_dir = bound['run_dir'].rstrip('/')
  planned = whole = plan(**bound)
  if flags.until:
    planned = jobs.until(planned, flags.until)
  ledger = Ledger(
    run_dir,
    Configuration(
      bindings=gin_utils.bindings(),
      others=[b for b in bindings if '.' in b.partition('=')[0]],
    ),
  )
  if flags.dry_run:
    _print_plan(planned, ledger)
    return 0
  asked = f'{_CONFIG_START} {shlex.join(arguments)}\n'
  config = storage.path(run_dir) / 'config.gin'
  if config.exists() and not config.read_text().startswith(_CONFIG_START):
    raise configuration.ConfigurationError(
      f'{config}: not written by rest_jax, so RUN_DIR holds something else. '
      'Set RUN_DIR to a new folder, or move that file away.'
    )
  text = f'{asked}# which resolves to:\n\n{gin_utils.config_text()}'.encode()

  def before(job: jobs.Job) -> None:
    # Not before the stages have agreed to this configuration; and the report,
    # which shows it, comes last.
    if not config.exists() or job.stage == 'report':
      storage.write_bytes(config, text)

  with leases.hold(run_dir, purpose='launch/rest_em.py'):
    executor = EXECUTORS[flags.executor](
      run_dir,
      _flags_of_jobs(flags, bindings),
      ledger,
      Console([job.name for job in whole]),
    )
    code = executor.run(planned, before=before)
  if code == 0 and planned[-1].stage == 'report':
    print(results_table(run_dir))
    print(f'\nreport: {run_dir}/report/index.html')
  return code


def _flags_of_jobs(
  flags: argparse.Namespace, bindings: Sequence[str]
) -> list[str]:
  """What the user asked for, in the form that rest_jax.main takes."""
  result = [f'--gin_file={name}' for name in flags.gin_file]
  if flags.gin_search_paths:
    result.append(f'--gin_search_paths={flags.gin_search_paths}')
  return [*result, *(f'--gin_bindings={binding}' for binding in bindings)]


def _print_plan(planned: Sequence[jobs.Job], ledger: Ledger) -> None:
  width = max(len(job.name) for job in planned)
  for job in planned:
    state = 'done' if ledger.is_done(job) else 'to do'
    where = job.accelerator
    if job.topology:
      where = f'{job.slices} x {job.topology}'
    needs = ', '.join(job.needs) if job.stage != 'report' else 'all of these'
    print(f'{state:6} {job.name:{width}}  {where:5}  {needs}'.rstrip())


def run_and_exit(arguments: Sequence[str]) -> None:
  """Turns errors into exit codes, as rest_jax.main does."""
  try:
    code = run(arguments)
  except (configuration.ConfigurationError, records.CorruptPartError) as error:
    print(f'launch/rest_em.py: error: {error}', file=sys.stderr)
    code = main.EXIT_CONFIGURATION
  except OSError as error:
    if error.errno not in storage.FINAL_ERRNOS:
      raise
    print(f'launch/rest_em.py: error: {error}', file=sys.stderr)
    code = main.EXIT_CONFIGURATION
  sys.exit(code)


if __name__ == '__main__':
  run_and_exit(sys.argv[1:])
