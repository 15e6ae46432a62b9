"""Runs the jobs of a plan with an executor: which is started when.

A job starts when the jobs that it needs are done and the executor has room; one
that can follow another starts beside it, and one that serves another with it,
whatever room there is. job_runs.py looks after a job from there to its end.
"""

import contextlib
import signal
import sys
import time
import types
import uuid
from collections.abc import Callable, Iterator, Sequence

from rest_jax.artifacts import store_patience
from rest_jax.executors import exit_codes, launch_record
from rest_jax.executors.console import Console
from rest_jax.executors.executor import Executor
from rest_jax.executors.job_runs import JobRun, Means
from rest_jax.executors.jobs import Job
from rest_jax.executors.ledger import Ledger
from rest_jax.executors.orders import Orders

_TICK_SECONDS = 0.5


class Scheduler:
  """Runs a plan; see `run`."""

  def __init__(
    self,
    run_dir: str,
    flags: Sequence[str],
    ledger: Ledger,
    console: Console,
    executor: Executor,
  ):
    """Args:
    run_dir: the run's folder.
    flags: the user's gin flags, handed to every job before its own.
    ledger: what was done before.
    console: where to show it.
    executor: starts the jobs.
    """
    # Every attempt of a launch has the same token.
    orders = Orders(
      run_dir, flags, token=uuid.uuid4().hex, digests=ledger.cache.path
    )
    self._means = Means(run_dir, ledger, console, executor, orders)
    self._stop_asked = 0  # signals so far
    self._stop_at = 0.0  # when what runs is killed
    self._leaves = False  # what runs goes on without this launcher
    self._running: list[JobRun] = []
    self._requests = launch_record.StopRequests(run_dir)

  def run(
    self,
    jobs: Sequence[Job],
    *,
    before: Callable[[Job], None] = lambda job: None,
    done: int = 0,
    total: int | None = None,
  ) -> int:
    """Runs the jobs; starts no more once one has failed.

    Args:
      jobs: each behind the jobs that it needs.
      before: called with each job that is about to start.
      done: jobs of the launch that were run before these.
      total: jobs of the launch, where these are only some of them.

    Returns:
      An exit code of exit_codes.py.
    """
    self._means.console.plan(total or len(jobs), done)
    with self._signals(), self._patience():
      try:
        return self._run(list(jobs), before)
      except store_patience.GivenUpError:
        self._leave()
        raise

  def _run(self, waiting: list[Job], before: Callable[[Job], None]) -> int:
    code = 0
    while self._running or (waiting and not code and not self._stop_asked):
      if self._leaves:
        self._leave()
        return exit_codes.PREEMPTED
      if not self._stop_asked:
        self._start_ready(waiting, before, has_failed=code != 0)
      if self._running:
        self._means.executor.wait(_TICK_SECONDS)
      for job in list(self._running):
        ended = job.look(self._stop_asked > 0)
        if ended is not None:
          self._running.remove(job)
          code = code or ended
          if ended:
            self._stop_with(job)
      self._means.console.tick()
      if not self._stop_asked and self._requests.asked():
        self._means.console.say('rest-jax stop was called')
        self._ask()
      if self._stop_asked == 1 and time.monotonic() > self._stop_at:
        self._ask()
    return code or (exit_codes.PREEMPTED if waiting else 0)

  def _leave(self) -> None:
    """Ends the lines of what goes on without this launcher."""
    for job in self._running:
      job.leave()

  def _patience(self) -> contextlib.AbstractContextManager[None]:
    """Waits for a store that is away, unless somebody ends that."""
    return store_patience.waiting(
      self._means.console.say,
      lambda: self._leaves or self._stop_asked > 1,
    )

  def _start_ready(
    self, waiting: list[Job], before: Callable[[Job], None], has_failed: bool
  ) -> None:
    """Starts what nothing stands against; skips what is done.

    After a failure only what serves a job that is being finished.
    """
    while True:
      taken = sum(not run.job.serves for run in self._running)
      has_room = not has_failed and taken < self._means.executor.room
      ready = [
        job
        for job in waiting
        if (has_room or self._serves_now(job)) and self._is_ready(job, waiting)
      ]
      if not ready:
        return
      job = ready[0]
      waiting.remove(job)
      if self._means.ledger.is_done(job):
        self._means.console.kept(
          job.name, self._means.ledger.read(job)['seconds']
        )
        continue
      before(job)
      self._running.append(JobRun(self._means, job))
      if self._stop_asked:  # a signal came before there was a task
        self._running[-1].stop()

  def _is_ready(self, job: Job, waiting: Sequence[Job]) -> bool:
    if any(other.name in job.needs for other in waiting):
      return False
    return all(
      run.job.name in job.follows
      # A job that is served makes all anew, once it has set aside what stood.
      and (run.can_be_followed or job.serves and run.stands_no_more())
      for run in self._running
      if run.job.name in job.needs
    )

  def _serves_now(self, job: Job) -> bool:
    """Whether a job that runs will wait for this one."""
    running = {run.job.name for run in self._running}
    return job.serves and bool(running.intersection(job.follows))

  def _stop_with(self, failed: JobRun) -> None:
    """Ends the jobs that wait for what a job would have done."""
    served = failed.job.follows if failed.job.serves else ()
    for run in self._running:
      if failed.job.name in run.job.follows or run.job.name in served:
        run.stop()

  def _ask(self) -> None:
    """Asks what runs to save its state; the second time, ends it."""
    self._stop_asked += 1
    self._stop_at = time.monotonic() + self._means.executor.stop_seconds
    for job in self._running:
      job.stop() if self._stop_asked == 1 else job.kill()

  def _is_told_to_leave(self) -> bool:
    """Asks the person at the terminal what becomes of jobs that could go on."""
    if (
      not self._means.executor.outlives or self._stop_asked or not self._running
    ):
      return False
    if not sys.stdin.isatty():
      return False
    answer = input('\nleave the jobs running? [Y/n] ').strip().lower()
    return answer in ('', 'y', 'yes')

  @contextlib.contextmanager
  def _signals(self) -> Iterator[None]:
    """SIGTERM and Ctrl-C ask the running stages to save their state.

    One that ignores it is killed after the executor's stop_seconds, or by a
    second signal; a third one ends the launcher wherever it is.
    """

    def ask(number: int, frame: types.FrameType | None) -> None:
      if self._stop_asked > 1:  # the launcher itself hangs
        raise KeyboardInterrupt
      if number == signal.SIGINT and self._is_told_to_leave():
        self._leaves = True
      else:
        self._ask()

    names = (signal.SIGTERM, signal.SIGINT)
    before = {name: signal.signal(name, ask) for name in names}
    try:
      yield
    finally:
      for name, handler in before.items():
        signal.signal(name, handler)
