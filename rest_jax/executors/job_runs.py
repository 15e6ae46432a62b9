"""A job of a launch, from its first attempt to its end.

A job of several workers is done when one of them says so, which each does only
once the whole folder is done; a worker that is given up costs the others its
share of the work.
"""

import shlex
import time
from typing import NamedTuple

from rest_jax.artifacts import progress_lines
from rest_jax.executors import exit_codes, memory_errors, retry_policy
from rest_jax.executors.console import Console
from rest_jax.executors.executor import Ended, Executor, Task
from rest_jax.executors.job_logs import JobLog
from rest_jax.executors.jobs import Job
from rest_jax.executors.ledger import Ledger
from rest_jax.executors.orders import Orders, named

_LOOK_SECONDS = 5.0  # between two looks at what stood
LAST_LINES = 15  # of its log, shown when a job fails
# What a job that was given up ends the launch with; all others are UNKNOWN.
_FINAL = (exit_codes.CONFIGURATION, exit_codes.HELD)


class Means(NamedTuple):
  """What jobs of a launch are run with.

  Attributes:
    run_dir: the run's folder.
    ledger: what was done before.
    console: where to show it.
    executor: starts attempts.
    orders: says what it starts.
  """

  run_dir: str
  ledger: Ledger
  console: Console
  executor: Executor
  orders: Orders


class JobRun:
  """A job of this launch, from its first attempt to its end."""

  def __init__(self, means: Means, job: Job):
    self.job, self._ledger = job, means.ledger
    self._console = means.console
    self._workers = [_Worker(means, job, i) for i in range(job.workers)]
    self._done: _Worker | None = None  # the first that said so
    self._is_stopped = False
    self._is_open = False
    self._looked = float('-inf')  # at what stood, by time.monotonic()
    for worker in self._workers:
      self._start(worker)

  def look(self, stopping: bool) -> int | None:
    """Looks at the workers; the launch's exit code once the job has ended.

    Args:
      stopping: nothing is started again.
    """
    stopping = stopping or self._is_stopped
    for worker in self._workers:
      ended = worker.poll()
      if ended is not None:
        self._take(worker, ended, stopping)
      elif worker.is_due() and not stopping and self._done is None:
        self._start(worker)
    for worker in self._workers:  # once it is known which of them are done
      if stopping or self._done is not None or worker.again_at is None:
        worker.release()
    if any(worker.task is not None for worker in self._workers):
      return None
    if self._done is not None:
      self._close('done', self._done.last, exit_codes.DONE)
      return exit_codes.DONE
    if stopping:
      if self._is_open:
        text = 'start the same command again'
        self._close('stopped', text, self._workers[-1].code)
      return exit_codes.PREEMPTED
    if any(worker.again_at is not None for worker in self._workers):
      return None
    return self._failed()

  @property
  def can_be_followed(self) -> bool:
    """Whether a folder of its outputs that is done will not change any more.

    That is so where none was done when it started, or once it says so.
    """
    return not any(self._standing.values()) or any(
      worker.is_settled for worker in self._workers
    )

  def stands_no_more(self) -> bool:
    """Whether what it had written before was set aside; looks now and then."""
    if time.monotonic() - self._looked < _LOOK_SECONDS:
      return False
    self._looked = time.monotonic()
    return not any(self._ledger.outputs(self.job).values())

  def leave(self) -> None:
    """Ends the job's line; the job itself goes on."""
    if self._is_open:
      self._console.end(
        self.job.name, 'left', 'goes on; the same command watches it again'
      )

  def stop(self) -> None:
    """Asks what runs to save its state; nothing is started again."""
    self._is_stopped = True
    self._stop_workers()

  def kill(self) -> None:
    """Ends what runs at once."""
    for worker in self._workers:
      if worker.task is not None:
        worker.task.kill()

  def _stop_workers(self) -> None:
    for worker in self._workers:
      worker.stop()

  def _start(self, worker: '_Worker') -> None:
    if not self._is_open:
      self._is_open = True
      self._standing = self._ledger.outputs(self.job)
      self._started = time.monotonic()
      self._console.start(self.job.name)
    worker.start()

  def _take(self, worker: '_Worker', ended: Ended, stopping: bool) -> None:
    """What an attempt's end leads to."""
    if ended.exit_code == exit_codes.DONE:
      if self._done is None:
        self._done = worker
        self._stop_workers()  # the others find nothing more to do
      return
    if stopping or self._done is not None:
      return
    decision = worker.attempts.ended(
      ended.exit_code, self._advice() if ended.out_of_memory else ''
    )
    state = 'again' if decision.again else 'failed'
    if decision.again:
      worker.again_at = time.monotonic() + decision.pause_seconds
    elif ended.out_of_memory:
      worker.code = exit_codes.CONFIGURATION
    if len(self._workers) > 1:
      self._console.say(f'{worker.name}: {state}: {decision.reason}')
    else:
      self._close(state, decision.reason, ended.exit_code)

  def _close(self, state: str, text: str, code: int) -> None:
    """Ends the job's line, and writes its record."""
    self._is_open = False
    self._ledger.write(
      self.job,
      before=self._standing,
      seconds=time.monotonic() - self._started,
      exit_code=code,
    )
    self._console.end(self.job.name, state, text)

  def _failed(self) -> int:
    """What the launch ends with; shows why."""
    last = self._workers[-1]
    if self._is_open:
      self._close('failed', retry_policy.why(last.code), last.code)
    last.show_log(self._console)
    return last.code if last.code in _FINAL else exit_codes.UNKNOWN

  def _advice(self) -> str:
    """What to do about a job that was killed for its memory."""
    bindings = dict(self._ledger.configuration.bindings)
    for argument in self.job.arguments:  # of this job: ROW_LENGTH of the base
      name, _, value = argument.removeprefix('--gin.').partition('=')
      bindings[name] = bindings.get(value.removeprefix('%'), value)
    return memory_errors.told(self.job.stage, bindings)


class _Worker:
  """One of a job's workers, attempt after attempt.

  Attributes:
    name: of the job and of the worker.
    attempts: decides whether there is another.
    task: the attempt that runs, if one does.
    again_at: when the next one starts, by time.monotonic().
    code: the last attempt's exit code.
    last: the last line of its output.
    is_settled: see progress_lines.Settled.
  """

  def __init__(self, means: Means, job: Job, index: int):
    self.name = named(job, index)
    self.attempts = retry_policy.Attempts(job.retry)
    self.task: Task | None = None
    self._last: Task | None = None  # that ended, and may have kept something
    self.again_at: float | None = None
    self.code, self.last = exit_codes.UNKNOWN, ''
    self.is_settled = False
    self._means, self._job, self._index = means, job, index
    self._console, self._started = means.console, 0
    self._log: JobLog | None = None

  def start(self) -> None:
    """Starts an attempt."""
    means = self._means
    order = means.orders.make(self._job, self._index, self._started)
    self._started += 1
    self.again_at, self.last = None, ''
    self._log = JobLog(means.run_dir, self.name)
    command = [*means.executor.command, *order.arguments]
    self._log.write(f'$ {shlex.join(command)}')
    self.task = means.executor.start(order, self._read)

  def poll(self) -> Ended | None:
    """How the attempt ended; None while it runs, or where none does."""
    ended = self.task.poll() if self.task is not None else None
    if ended is not None:
      self.task, self._last = None, self.task
      self.code = ended.exit_code
      self._log.write(f'[exit code {ended.exit_code}]')
      self._log.close()
    return ended

  def is_due(self) -> bool:
    """Whether the pause before the next attempt is over."""
    return self.again_at is not None and time.monotonic() >= self.again_at

  def stop(self) -> None:
    """Asks the attempt to save its state, if one runs."""
    if self.task is not None:
      self.task.stop()

  def release(self) -> None:
    """Gives back what the last attempt has kept; none follows it."""
    if self.task is None and self._last is not None:
      self._last.release()
      self._last = None

  def show_log(self, console: Console) -> None:
    """Shows the last lines of the last attempt."""
    console.say(f'\nThe last lines of {self._log.name}:')
    for line in self._log.tail(LAST_LINES):
      console.say(f'  {line}')

  def _read(self, line: str) -> None:
    """Takes a line of output."""
    if self._console.line(self._job.name, line):
      return
    told = progress_lines.parse(line)
    if isinstance(told, progress_lines.Settled):
      self.is_settled = True
      return
    if isinstance(told, progress_lines.Shown):
      line = told.words
    self._log.write(line)
    if told is None:  # what is shown already is not shown as the result
      self.last = line.strip() or self.last
