"""Runs jobs on this machine, one after the other, each as its own process.

A stage that crashes, or uses up the memory, does not end the launcher. Where
the launcher is killed the kernel kills its stage too (PR_SET_PDEATHSIG), so
that the same command can be given again at once.
"""

import contextlib
import ctypes
import os
import selectors
import shlex
import signal
import subprocess
import sys
import time
import types
import uuid
from collections.abc import Callable, Iterator, Sequence
from typing import BinaryIO

from rest_jax.artifacts import file_digests, holders, progress_lines, storage
from rest_jax.executors import exit_codes, memory_errors, retry_policy
from rest_jax.executors.console import Console
from rest_jax.executors.jobs import Job
from rest_jax.executors.ledger import Ledger

STOP_SECONDS = 120.0  # that a stage has for saving its state
LAST_LINES = 15  # of its log, shown when a job fails
_PR_SET_PDEATHSIG = 1


class LocalExecutor:
  """Runs a plan on this machine.

  Args:
    run_dir: the run's folder.
    flags: the user's gin flags, handed to every job before its own.
    ledger: what was done before.
    console: where to show it.
    command: the process of a stage; tests put their own here.
  """

  def __init__(
    self,
    run_dir: str,
    flags: Sequence[str],
    ledger: Ledger,
    console: Console,
    *,
    command: Sequence[str] = (sys.executable, '-m', 'rest_jax.main'),
  ):
    self.run_dir, self.flags = run_dir, list(flags)
    self.ledger, self.console = ledger, console
    self.command = list(command)
    self._run_token = uuid.uuid4().hex  # of this launch, see leases.py
    self._stop = False
    self._child: subprocess.Popen | None = None
    self._memory: memory_errors.KillWatch | None = None
    self._log_start = 0  # of the last attempt, in bytes of its log

  def run(
    self,
    jobs: Sequence[Job],
    *,
    before: Callable[[Job], None] = lambda job: None,
    done: int = 0,
    total: int | None = None,
  ) -> int:
    """Runs the jobs in their order; stops at the first that fails.

    Args:
      jobs: each behind the jobs that it needs.
      before: called with each job that is about to start.
      done: jobs of the launch that were run before these.
      total: jobs of the launch, where these are only some of them.

    Returns:
      An exit code of exit_codes.py.
    """
    self.console.plan(total or len(jobs), done)
    with self._signals():
      for job in jobs:
        if self.ledger.is_done(job):
          self.console.kept(job.name, self.ledger.read(job)['seconds'])
          continue
        before(job)
        code = self._run_until_settled(job)
        if code != 0:
          return code
    return 0

  def _run_until_settled(self, job: Job) -> int:
    """Starts a job until it is done or its retries are used up."""
    attempts = retry_policy.Attempts(job.retry)
    while True:
      if self._stop:
        return exit_codes.PREEMPTED
      code, last = self._attempt(job)
      if code == exit_codes.DONE:
        self.console.end('done', last)
        return code
      if self._stop:
        self.console.end('stopped', 'start the same command again')
        return exit_codes.PREEMPTED
      killed = self._memory is not None and self._memory.killed(code)
      decision = attempts.ended(code, self._advice(job) if killed else '')
      self.console.end('again' if decision.again else 'failed', decision.reason)
      if not decision.again:
        self._show_log(job)
        final = (exit_codes.CONFIGURATION, exit_codes.HELD)
        if killed:
          return exit_codes.CONFIGURATION
        return code if code in final else exit_codes.UNKNOWN
      end = time.monotonic() + decision.pause_seconds
      while not self._stop and time.monotonic() < end:
        time.sleep(0.05)  # a signal must not wait for the end of the pause

  def _advice(self, job: Job) -> str:
    """What to do about a job that was killed for its memory."""
    bindings = dict(self.ledger.configuration.bindings)
    for argument in job.arguments:  # of this job alone: ROW_LENGTH of the base
      name, _, value = argument.removeprefix('--gin.').partition('=')
      bindings[name] = bindings.get(value.removeprefix('%'), value)
    return memory_errors.told(job.stage, bindings)

  def _attempt(self, job: Job) -> tuple[int, str]:
    """Runs a job once and records it; (exit code, last line of output)."""
    standing = self.ledger.outputs(job)
    started = time.monotonic()
    self.console.start(job.name)
    code, last = self._run_once(job)
    self.ledger.write(
      job,
      before=standing,
      seconds=time.monotonic() - started,
      exit_code=code,
    )
    return code, last

  def _run_once(self, job: Job) -> tuple[int, str]:
    """(exit code, the last line of output) of one process."""
    command = [
      *self.command,
      f'--run_mode={job.stage}',
      *self.flags,
      *job.arguments,
    ]
    with self._log(job) as log:
      self._log_start = log.tell()
      log.write(f'$ {shlex.join(command)}\n'.encode())
      log.flush()
      self._child = subprocess.Popen(
        command,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        env=self._environment(job),
        # Ctrl-C reaches the launcher alone, which asks the stage to save.
        process_group=0,
        preexec_fn=_die_with_parent(os.getpid()),
      )
      self._memory = memory_errors.KillWatch(self._child.pid)
      if self._stop:  # a signal came before there was a process
        self._child.terminate()
      last = self._follow(self._child, log)
      code = self._child.wait()
      self._child = None
      log.write(f'[exit code {code}]\n'.encode())
    return code, last

  def _follow(self, child: subprocess.Popen, log: BinaryIO) -> str:
    """Copies the output to the log until it ends; shows the progress."""
    last, rest = '', b''
    with selectors.DefaultSelector() as selector:
      selector.register(child.stdout, selectors.EVENT_READ)
      # A process that the stage started may keep the pipe open after it.
      while True:
        ready = selector.select(timeout=0.5)
        data = os.read(child.stdout.fileno(), 65536) if ready else b''
        *lines, rest = (rest + data).split(b'\n')
        for line in lines:
          text = line.decode(errors='replace')
          if self.console.line(text):
            continue
          self._memory.read(text)
          told = progress_lines.parse(text)
          if isinstance(told, progress_lines.Shown):
            line = told.words.encode()
          log.write(line + b'\n')
          if told is None:  # what is shown already is not shown as the result
            last = text.strip() or last
        log.flush()
        if (ready and not data) or (not ready and child.poll() is not None):
          log.write(rest)
          child.stdout.close()
          return last
        self._memory.look()
        self.console.tick()

  def _environment(self, job: Job) -> dict[str, str]:
    root = os.path.dirname(os.path.dirname(os.path.dirname(__file__)))
    paths = [root, *filter(None, [os.environ.get('PYTHONPATH')])]
    defaults = {
      'JAX_COMPILATION_CACHE_DIR': f'{self.run_dir}/compilation_cache',
      # Every job starts anew: small programs are worth keeping too.
      'JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS': '0',
      # XLA on a CPU maps its buffers afresh at every step; in huge pages that
      # costs a third less of a training step (LOG.md). Others ignore it.
      'GLIBC_TUNABLES': 'glibc.malloc.hugetlb=1',
      **dict(job.environment),
    }
    forced = {
      'PYTHONPATH': os.pathsep.join(paths),
      'PYTHONUNBUFFERED': '1',
      holders.JOB: job.name,
      holders.RUN_TOKEN: self._run_token,
      file_digests.CACHE: self.ledger.cache.path,
    }
    return {**defaults, **os.environ, **forced}

  # ---- logs -----------------------------------------------------------------

  @contextlib.contextmanager
  def _log(self, job: Job) -> Iterator[BinaryIO]:
    """RUN_DIR/logs/<job>.log; for a remote run a copy of a local one."""
    target = storage.path(self._log_name(job))
    local = target
    if storage.is_remote(self.run_dir):
      import tempfile

      local = storage.path(tempfile.mkdtemp()) / 'log'
    local.parent.mkdir(parents=True, exist_ok=True)
    with open(os.fspath(local), 'ab') as file:
      yield file
    if local != target:
      before = target.read_bytes() if target.exists() else b''
      self._log_start = len(before)
      storage.write_bytes(target, before + local.read_bytes())

  def _log_name(self, job: Job) -> str:
    return f'{self.run_dir}/logs/{job.name}.log'

  def _show_log(self, job: Job) -> None:
    name = self._log_name(job)
    log = storage.path(name).read_bytes()[self._log_start :]
    lines = log.decode(errors='replace')
    shown = [
      line
      for line in lines.rstrip().splitlines()
      if not line.startswith(('$ ', '[exit code '))
    ]
    self.console.say(f'\nThe last lines of {name}:')
    for line in shown[-LAST_LINES:]:
      self.console.say(f'  {line}')

  # ---- signals --------------------------------------------------------------

  @contextlib.contextmanager
  def _signals(self) -> Iterator[None]:
    """SIGTERM and Ctrl-C ask the running stage to save its state."""

    def ask(number: int, frame: types.FrameType | None) -> None:
      again, self._stop = self._stop, True
      if self._child is not None:
        self._child.send_signal(signal.SIGKILL if again else signal.SIGTERM)
        # A stage that ignores the signal is killed after this time.
        signal.setitimer(signal.ITIMER_REAL, STOP_SECONDS)

    def kill(number: int, frame: types.FrameType | None) -> None:
      if self._child is not None:
        self._child.kill()

    names = {signal.SIGTERM: ask, signal.SIGINT: ask, signal.SIGALRM: kill}
    before = {name: signal.signal(name, f) for name, f in names.items()}
    try:
      yield
    finally:
      signal.setitimer(signal.ITIMER_REAL, 0)
      for name, handler in before.items():
        signal.signal(name, handler)


def _die_with_parent(parent: int) -> Callable[[], None] | None:
  """A preexec_fn by which the kernel kills the child when its parent ends."""
  if not sys.platform.startswith('linux'):
    return None
  prctl = ctypes.CDLL(None).prctl

  def set_death_signal() -> None:
    prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
    if os.getppid() != parent:  # the parent ended before the call
      os._exit(1)

  return set_death_signal
