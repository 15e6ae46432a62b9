"""Makes a plan from the command line and runs its jobs with an executor.

    flags ─ gin ─▶ plan ─ ledger ─▶ jobs to do ─ executor ─▶ results, a table

launch/rest_em.py runs the plan of ReST^EM. rest-jax evaluate runs the plan of
checkpoint_evaluation.py where CHECKPOINTS names what to evaluate. The same
command resumes an interrupted run. One launcher at a time holds RUN_DIR.
"""

import argparse
import dataclasses
import os
import shlex
import shutil
import sys
from collections.abc import Mapping, Sequence
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
from rest_jax.executors.machine import Machine
from rest_jax.pipeline import (
  automatic,
  checkpoint_evaluation,
  estimates,
  launch_checks,
  own_run,
  task_files,
)
from rest_jax.pipeline.sizes import Dial
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
  own_run.add_flags(result)
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
  launching = _Launch(program, flags, bindings, arguments)
  if flags.dry_run:
    launching.show()
    return 0
  return launching.run()


class _Launch:
  """One launch of a plan."""

  def __init__(
    self,
    program: Program,
    flags: argparse.Namespace,
    bindings: Sequence[str],
    arguments: Sequence[str],
  ):
    self._program, self._flags = program, flags
    self._bindings, self._arguments = list(bindings), arguments
    self._automatic = automatic.Automatic(
      stage=program.plan,
      gin_files=flags.gin_file,
      bindings=bindings,
      search_paths=gin_flags.search_paths(flags),
    )
    self._redo = [word for words in flags.redo for word in words.split(',')]
    launch_checks.check_paths(self._automatic.context)
    self._derived = self._automatic.before_plan()
    self._resolve()

  def _resolve(self) -> None:
    """Plans anew, with what has been derived so far."""
    with self._automatic.readable() as files:
      plan, bound = gin_parser.parse(
        self._program.plan,
        gin_files=files,
        bindings=self._bindings,
        search_paths=gin_flags.search_paths(self._flags),
      )
    self.run_dir = bound['run_dir'].rstrip('/')
    storage.require_folder(self.run_dir, 'RUN_DIR')
    self._planned = self._whole = plan(**bound)
    if self._flags.until:
      self._planned = jobs.until(self._planned, self._flags.until)
    self._ledger = Ledger(
      self.run_dir,
      Configuration(
        bindings=gin_parser.bindings(),
        others=[b for b in self._bindings if '.' in b.partition('=')[0]],
      ),
    )
    self._changes = changes.Changes(self._ledger, self._whole, self._planned)
    self._text = (
      f'# {self._program.name} {shlex.join(_repeatable(self._arguments))}\n'
      f'# which resolves to:\n\n{gin_parser.config_text()}'
    ).encode()

  def _check(self) -> None:
    """Resolves the bindings of all jobs to come, as these will."""
    with self._automatic.readable() as files:
      launch_checks.check_bindings(
        [job for job in self._planned if not self._ledger.is_done(job)],
        _flags_of_jobs(self._flags, files, self._bindings),
        self._automatic.pending,
      )

  def show(self) -> None:
    """Prints the plan, and what everything resolves to."""
    self._check()
    print(self._text.decode())
    _print_plan(self._planned, self._ledger, self._automatic.devices())
    refusal = self._changes.refusal(self._redo)
    if refusal:
      print(refusal)
    _print_derived(self._derived, self._automatic.pending)

  def run(self) -> int:
    """Runs what is not done yet; returns the exit code."""
    refusal = self._changes.refusal(self._redo)
    if refusal:
      raise configuration.ConfigurationError(refusal)
    config = _config(self.run_dir, self._program)
    _print_derived(self._derived, [])
    self._check()
    with leases.hold(self.run_dir, purpose=self._program.name):
      self._changes.begin(self._redo)
      self._automatic.write()
      code, done = 0, 0
      if self._automatic.pending:
        # Sizes follow from the problems, which prepare, the first job, writes.
        first = [job for job in self._planned if job.stage == 'prepare']
        code, done = self._execute(first, config, 0), len(first)
        if code == 0 and len(self._planned) > done:
          _print_derived(self._automatic.after_prepare(), [])
          self._automatic.write()
          self._resolve()
          self._changes.begin([])  # with the rest of what was asked for
          self._tell_needs()
          storage.write_bytes(config, self._text)
      if code == 0:
        code = self._execute(self._planned[done:], config, done)
      self._changes.end()
    if code == 0 and self._planned[-1].stage == 'report':
      print(results_table(self.run_dir))
      print(f'\nreport: {self.run_dir}/report/index.html')
      print(f'in a browser: {_command()} view {self.run_dir}')
    return code

  def _tell_needs(self) -> None:
    """Memory, disk and time; raises where the disk is too full."""
    needs = self._automatic.needs()
    if needs is None or self._program is not REST_EM:
      return
    estimates.require_disk(needs, self.run_dir)
    for line in estimates.lines(needs, self._automatic.devices()):
      print(line)

  def _execute(
    self, planned: Sequence[jobs.Job], config: storage.Path, done: int
  ) -> int:
    def before(job: jobs.Job) -> None:
      leases.check_all()  # another launcher may have taken the run over
      # A changed configuration replaces config.gin only once the stages have
      # accepted it, before the report, the last job, which shows it.
      if not config.exists() or job.stage == 'report':
        storage.write_bytes(config, self._text)
      self._changes.before(job)

    executor = EXECUTORS[self._flags.executor](
      self.run_dir,
      _flags_of_jobs(self._flags, self._automatic.files, self._bindings),
      self._ledger,
      Console([job.name for job in self._whole]),
    )
    return executor.run(
      planned, before=before, done=done, total=len(self._planned)
    )


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


def _command() -> str:
  """How this environment's rest-jax is called from the user's shell."""
  found = os.path.join(sys.prefix, 'bin', 'rest-jax')
  if shutil.which('rest-jax') or not os.path.exists(found):
    return 'rest-jax'
  return os.path.relpath(found)


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
  flags: argparse.Namespace, gin_files: Sequence[str], bindings: Sequence[str]
) -> list[str]:
  """What the user asked for, in the form that rest_jax.main takes."""
  result = [f'--gin_file={name}' for name in gin_files]
  if flags.gin_search_paths:
    result.append(f'--gin_search_paths={flags.gin_search_paths}')
  return [*result, *(f'--gin_bindings={binding}' for binding in bindings)]


def _print_derived(derived: Mapping[str, Dial], pending: Sequence[str]) -> None:
  """What was derived, a dial a line, each with its reason."""
  width = max(map(len, derived), default=0)
  for name, dial in derived.items():
    value = dial.value
    if dataclasses.is_dataclass(value):
      value = f'@{type(value).__name__}()'
    print(f'auto  {name:{width}} = {value}  ({dial.reason})')
  if pending:
    print(f'auto  after prepare: {", ".join(pending)}')


def _print_plan(
  planned: Sequence[jobs.Job], ledger: Ledger, machine: Machine
) -> None:
  width = max(len(job.name) for job in planned)
  for job in planned:
    state = 'done' if ledger.is_done(job) else 'to do'
    where = str(machine.kind if job.accelerator == 'tpu' else 'cpu')
    if job.topology:
      where = f'{job.slices} x {job.topology}'
    needs = ', '.join(job.needs) if job.stage != 'report' else 'all of these'
    print(f'{state:6} {job.name:{width}}  {where:5}  {needs}'.rstrip())
