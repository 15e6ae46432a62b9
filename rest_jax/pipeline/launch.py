"""One launch of a plan: plans, says what is to do, and has it done.

flags ─ gin ─▶ plan ─ ledger ─▶ jobs to do ─ executor ─▶ results, a table
"""

import argparse
from collections.abc import Sequence
from typing import Any

from rest_jax.artifacts import held_folders, leases, storage
from rest_jax.config import configuration, gin_flags, gin_parser
from rest_jax.executors import (
  by_name,
  changes,
  device_shares,
  jobs,
  launch_record,
  orders,
  scheduler,
)
from rest_jax.executors.console import Console
from rest_jax.executors.executor import Executor
from rest_jax.executors.ledger import Configuration, Ledger
from rest_jax.executors.work_units import work_units
from rest_jax.pipeline import (
  automatic,
  dval_places,
  estimates,
  launch_checks,
  launch_lines,
  remote_paths,
  run_command,
)
from rest_jax.reporting.terminal_table import results_table


class Launch:
  """One launch of a plan.

  Args:
    program: whose plan it is.
    flags: executor, until, dry_run, redo and those of gin_flags.
    bindings: all gin bindings of the command line, as NAME=VALUE.
    arguments: the command line, for the run's config.gin.

  Attributes:
    run_dir: the folder of the run.

  Raises:
    ConfigurationError: no plan can be made, or RUN_DIR is another program's.
  """

  def __init__(
    self,
    program: run_command.Program,
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
        bindings=self._automatic.remaining,
        search_paths=gin_flags.search_paths(self._flags),
      )
    self.run_dir = bound['run_dir'].rstrip('/')
    storage.require_folder(self.run_dir, 'RUN_DIR')
    self._placed = None
    if self._program is run_command.REST_EM:
      self._placed = dval_places.place(bound, self._flags.executor)
      bound = self._placed.arguments
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
    self._text = run_command.text(
      self._program, self._arguments, gin_parser.config_text()
    )

  def _check(self) -> None:
    """Resolves the bindings of all jobs to come, as these will."""
    self._automatic.asked()  # raises where LORA_TARGETS does not fit MODEL
    with self._automatic.readable() as files:
      launch_checks.check_bindings(
        [job for job in self._planned if not self._ledger.is_done(job)],
        _flags_of_jobs(self._flags, files, self._automatic.remaining),
        self._automatic.pending,
      )

  def check_places(self) -> None:
    """Raises where jobs would not find their files, or their devices."""
    if self._flags.executor == 'local':
      for job in self._planned:
        device_shares.of_worker(job, 0)
      return
    remote_paths.check(
      self._flags.executor,
      self._executor_config(),
      ledger=self._ledger,
      planned=self._planned,
      gin_files=self._flags.gin_file,
      search_paths=gin_flags.search_paths(self._flags),
    )

  def plan(self) -> list[dict[str, Any]]:
    """The jobs, JSON-ready, each behind those that it needs."""
    self._check()
    return [
      {
        'name': job.name,
        'stage': job.stage,
        'needs': list(job.needs),
        'follows': list(job.follows),
        'serves': job.serves,
        'accelerator': job.accelerator,
        'topology': job.topology,
        'slices': job.slices,
        'workers': job.workers,
        'done': self._ledger.is_done(job),
      }
      for job in self._planned
    ]

  def show(self) -> None:
    """Prints the plan, and what everything resolves to."""
    self._check()
    print(self._text)
    devices = self._automatic.devices()
    print(*launch_lines.plan(self._planned, self._ledger, devices), sep='\n')
    refusal = self._changes.refusal(self._redo)
    if refusal:
      print(refusal)
    try:
      self.check_places()
    except configuration.ConfigurationError as error:
      print(error)  # the plan and the objects are worth seeing all the same
    self._print_derived(self._pending)
    if self._flags.executor == 'gke':
      self._show_objects()

  def run(self) -> int:
    """Runs what is not done yet; returns the exit code."""
    refusal = self._changes.refusal(self._redo)
    if refusal:
      raise configuration.ConfigurationError(refusal)
    self.check_places()
    config = run_command.config_of(self.run_dir, self._program)
    self._print_derived()
    self._check()
    with leases.hold(self.run_dir, purpose=self._program.name):
      self._changes.begin(self._redo)
      self._automatic.write()
      code, done = 0, 0
      if self._pending:
        # Sizes follow from the problems, which prepare, the first job, writes.
        first = [job for job in self._planned if job.stage == 'prepare']
        code, done = self._execute(first, config, 0), len(first)
        if code == 0 and len(self._planned) > done:
          self._after_prepare(config)
      if code == 0:
        code = self._execute(self._planned[done:], config, done)
      self._changes.end()
    if code == 0 and self._planned[-1].stage == 'report':
      print(results_table(self.run_dir))
      print('', *launch_lines.of_report(self.run_dir), sep='\n')
    return code

  @property
  def _pending(self) -> list[str]:
    """The dials that are 'auto' and follow from the prepared problems."""
    pending = list(self._automatic.pending)
    placed = self._placed
    if placed and (placed.is_open or placed.derived):
      # Problems that are made anew may have another grader.
      to_do = [job for job in self._planned if job.stage == 'prepare']
      if not all(map(self._ledger.is_done, to_do)):
        pending.append(dval_places.DIAL)
    return pending

  def _print_derived(self, pending: Sequence[str] = ()) -> None:
    placed = self._placed.derived if self._placed else {}
    launch_lines.print_derived(self._derived | placed, pending)

  def _after_prepare(self, config: storage.Path) -> None:
    """Derives the rest of the sizes, and plans with them."""
    self._derived = self._automatic.after_prepare()
    self._automatic.write()
    self._resolve()
    self._print_derived()
    self._changes.begin([])  # with the rest of what was asked for
    self._tell_needs()
    storage.write_bytes(config, self._text.encode())

  def _tell_needs(self) -> None:
    """Memory, disk and time; raises where the disk is too full."""
    needs = self._automatic.needs()
    if needs is None or self._program is not run_command.REST_EM:
      return
    estimates.require_disk(needs, self.run_dir)
    for line in estimates.lines(needs, self._automatic.devices()):
      print(line)

  def _execute(
    self, planned: Sequence[jobs.Job], config: storage.Path, done: int
  ) -> int:
    def before(job: jobs.Job) -> None:
      held_folders.check_all()  # another launcher may have taken the run over
      # A changed configuration replaces config.gin only once the stages have
      # accepted it, before the report, the last job, which shows it.
      if not config.exists() or job.stage == 'report':
        storage.write_bytes(config, self._text.encode())
      self._changes.before(job)

    console = Console([job.name for job in self._whole])
    executor = self._executor(console)
    launch_record.write(
      self.run_dir, self._planned, executor.name, executor.settings
    )
    work = scheduler.Scheduler(
      self.run_dir, self._flags_of_jobs(), self._ledger, console, executor
    )
    return work.run(planned, before=before, done=done, total=len(self._planned))

  def _executor(self, console: Console) -> Executor:
    """What --executor names."""
    name = self._flags.executor
    config = None if name == 'local' else self._executor_config()
    found = by_name.make(name, config, self.run_dir, console.say)
    return work_units.instead_of(found, self.run_dir, console.say)

  def _executor_config(self) -> Any:
    """What the dials say of the executor."""
    with self._automatic.readable() as files:
      _, bound = gin_parser.parse(
        self._flags.executor,
        gin_files=files,
        bindings=self._automatic.remaining,
        search_paths=gin_flags.search_paths(self._flags),
      )
    return bound['config']

  def _flags_of_jobs(self) -> list[str]:
    made = self._automatic
    return _flags_of_jobs(self._flags, made.files, made.remaining)

  def _show_objects(self) -> None:
    """Prints the objects of a cluster, or writes a file for each."""
    import yaml

    from rest_jax.executors.gke import objects

    config, digests = self._executor_config(), self._ledger.cache.path
    make = orders.Orders(
      self.run_dir, self._flags_of_jobs(), token='by-hand', digests=digests
    ).make
    for order in [make(j, i) for j in self._planned for i in range(j.workers)]:
      body = objects.of_order(order, self.run_dir, objects.COMMAND, config)
      text = yaml.safe_dump(body, sort_keys=False)
      if self._flags.manifests_dir is None:
        print(f'---\n{text}', end='')
      else:
        name = f'{order.name.replace("/", "-")}.yaml'
        target = storage.path(self._flags.manifests_dir) / name
        storage.write_bytes(target, text.encode())
        print(target)


def _flags_of_jobs(
  flags: argparse.Namespace, gin_files: Sequence[str], bindings: Sequence[str]
) -> list[str]:
  """What the user asked for, in the form that rest_jax.main takes."""
  result = [f'--gin_file={name}' for name in gin_files]
  if flags.gin_search_paths:
    result.append(f'--gin_search_paths={flags.gin_search_paths}')
  return [*result, *(f'--gin_bindings={binding}' for binding in bindings)]
