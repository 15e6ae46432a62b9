"""Makes a plan from the command line and runs its jobs with an executor.

    flags ─ gin ─▶ plan ─ ledger ─▶ jobs to do ─ executor ─▶ results, a table

launch/rest_em.py runs the plan of ReST^EM. rest-jax evaluate runs the plan of
checkpoint_evaluation.py where CHECKPOINTS names what to evaluate. The same
command resumes an interrupted run. One launcher at a time holds RUN_DIR.
"""

import argparse
import dataclasses
import shlex
from collections.abc import Sequence
from typing import Any

from rest_jax.artifacts import (
  leases,
  manifests,
  model_formats,
  run_paths,
  storage,
)
from rest_jax.config import configuration, gin_flags, gin_parser
from rest_jax.executors import changes, jobs
from rest_jax.executors.console import Console
from rest_jax.executors.ledger import Configuration, Ledger
from rest_jax.executors.local import LocalExecutor
from rest_jax.pipeline import checkpoint_evaluation, task_files
from rest_jax.reporting.terminal_table import results_table

EXECUTORS = {'local': LocalExecutor}


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


def parser(name: str, description: str) -> argparse.ArgumentParser:
  """The launcher's flags; --gin.NAME=VALUE flags are taken out before."""
  result = argparse.ArgumentParser(
    prog=name,
    description=description,
    formatter_class=argparse.RawDescriptionHelpFormatter,
  )
  result.add_argument('--executor', choices=list(EXECUTORS), default='local')
  gin_flags.add(result)
  result.add_argument('--until', metavar='JOB', help='the last job to run')
  result.add_argument('--dry_run', action='store_true', help='print the plan')
  add_redo(result)
  return result


def add_redo(target: argparse.ArgumentParser) -> None:
  """Adds the flag --redo."""
  target.add_argument(
    '--redo',
    metavar='STAGE|JOB',
    action='append',
    default=[],
    help='set aside what these have made, and make it again; comma-separated',
  )


def run(arguments: Sequence[str], description: str) -> int:
  """launch/rest_em.py: plans, then runs or prints; returns the exit code.

  Args:
    arguments: its command line.
    description: of its --help.
  """
  others, bindings = gin_flags.split(arguments)
  flags = parser(REST_EM.name, description).parse_args(others)
  bindings = [*flags.gin_bindings, *bindings]
  return launch(REST_EM, flags, bindings, arguments)


def launch(
  program: Program,
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
  plan, bound = gin_parser.parse(
    program.plan,
    gin_files=flags.gin_file,
    bindings=bindings,
    search_paths=gin_flags.search_paths(flags),
  )
  run_dir = bound['run_dir'].rstrip('/')
  planned = whole = plan(**bound)
  if flags.until:
    planned = jobs.until(planned, flags.until)
  ledger = Ledger(
    run_dir,
    Configuration(
      bindings=gin_parser.bindings(),
      others=[b for b in bindings if '.' in b.partition('=')[0]],
    ),
  )
  redo = [word for words in flags.redo for word in words.split(',')]
  made_again = changes.Changes(ledger, whole, planned)
  refusal = made_again.refusal(redo)
  if flags.dry_run:
    _print_plan(planned, ledger)
    if refusal:
      print(refusal)
    return 0
  if refusal:
    raise configuration.ConfigurationError(refusal)
  config = _config(run_dir, program)
  text = (
    f'# {program.name} {shlex.join(_repeatable(arguments))}\n'
    f'# which resolves to:\n\n'
    f'{gin_parser.config_text()}'
  ).encode()

  def before(job: jobs.Job) -> None:
    leases.check_all()  # another launcher may have taken the run over
    # A changed configuration replaces config.gin only once the stages have
    # accepted it, before the report, the last job, which shows it.
    if not config.exists() or job.stage == 'report':
      storage.write_bytes(config, text)
    made_again.before(job)

  with leases.hold(run_dir, purpose=program.name):
    made_again.begin(redo)
    executor = EXECUTORS[flags.executor](
      run_dir,
      _flags_of_jobs(flags, bindings),
      ledger,
      Console([job.name for job in whole]),
    )
    code = executor.run(planned, before=before)
    made_again.end()
  if code == 0 and planned[-1].stage == 'report':
    print(results_table(run_dir))
    print(f'\nreport: {run_dir}/report/index.html')
  return code


def is_batch(flags: argparse.Namespace, bindings: Sequence[str]) -> bool:
  """Whether CHECKPOINTS names any: evaluate is then a plan, no stage."""
  return bool(_macros(['CHECKPOINTS'], flags, bindings).get('CHECKPOINTS'))


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
  if gin_parser.bindings()['MODEL'] == '%gin.REQUIRED':
    raise configuration.ConfigurationError(
      'evaluate: MODEL must be set, the one network of all CHECKPOINTS: no '
      '--gin_file does. gin/models/ has some.'
    )
  policies = checkpoint_evaluation.names(asked['CHECKPOINTS']).values()
  lost = [path for path in policies if not storage.path(path).exists()]
  if lost and not flags.dry_run:
    raise configuration.ConfigurationError(
      f'CHECKPOINTS: nothing is at {", ".join(lost)}. Expected '
      f'{model_formats.expected_weights()}.'
    )
  found = next(filter(None, map(_vocabulary, policies)), None)
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
  return launch(BATCH, flags, bindings, rest)


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


def _vocabulary(policy: str) -> str | None:
  """The vocabulary that comes with a checkpoint, if one does.

  Some formats hold one (artifacts/model_formats.py); a checkpoint that still
  lies in its run, <run>/<model>/checkpoints, has the run's.
  """
  path = storage.path(policy)
  if model_formats.of_vocabulary(path):
    return policy
  problems = path.parent.parent / 'problems'
  if (problems / run_paths.VOCABULARY).exists():
    return str(problems / run_paths.VOCABULARY)
  prepared = manifests.load_if_done(problems)
  return prepared.recorded.get('spec') if prepared else None


def _config(run_dir: str, program: Program) -> storage.Path:
  """The run's config.gin; raises where it is not this program's."""
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


def command_of(run_dir: str) -> tuple[Program, list[str]]:
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
