"""The executor for Cloud TPU VMs: see executor.Executor.

A job on TPUs is a queued resource; its hosts run the job's container when they
are there (queued_resources.startup_script); others run on this machine. How a
job goes is read in RUN_DIR, where its hosts write it (reports.py). The VMs stay
for the next attempt, as long as there may be one.
"""

import dataclasses
import hashlib
import re
import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from rest_jax.artifacts import holders
from rest_jax.config import configuration
from rest_jax.executors import exit_codes
from rest_jax.executors.executor import Task
from rest_jax.executors.local import LocalExecutor
from rest_jax.executors.orders import Order
from rest_jax.executors.tpu_vm import attempts, queued_resources, reports
from rest_jax.executors.tpu_vm.attempts import TpuVmTask
from rest_jax.executors.tpu_vm.queued_resources import (
  QueuedResources,
  Request,
  Unreachable,
)
from rest_jax.executors.tpu_vm.reports import Wanted
from rest_jax.executors.tpu_vm.settings import TpuVmConfig

POLL_SECONDS = 15.0
_SAY_SECONDS = 60.0
_RETRY_SECONDS = 5.0


def prefix_of(run_dir: str) -> str:
  """What the names of a run's queued resources begin with."""
  return f'rj-{_digest(run_dir.rstrip("/"))[:8]}-'


def stem_of(name: str, run_dir: str) -> str:
  """What the names of a job's, or of one of its workers', begin with.

  Args:
    name: Order.name.
    run_dir: of the run.
  """
  words = re.sub(r'[^a-z0-9]+', '-', name.lower()).strip('-')
  return f'{prefix_of(run_dir)}{words[:20].strip("-")}-{_digest(name)[:4]}'


class TpuVmExecutor:
  """Starts jobs on TPU VMs, which outlive the launcher.

  A launcher that starts again finds what was asked for and goes on with it.
  """

  name, outlives, stop_seconds = 'tpu_vm', True, 300.0
  room = 1000
  command: Sequence[str] = ('python3', '-m', 'rest_jax.main')

  def __init__(
    self,
    config: TpuVmConfig,
    run_dir: str,
    say: Callable[[str], None] = print,
    local: LocalExecutor | None = None,
  ):
    """Asks nothing of Cloud yet.

    Args:
      config: of the VMs.
      run_dir: of the run.
      say: shows a line to the person who watches.
      local: runs the jobs that need no TPU; by default as always.
    """
    self.settings: Mapping[str, Any] = dataclasses.asdict(config)
    self.config, self.say, self.run_dir = config, say, run_dir
    self.cloud = QueuedResources(config)
    self.seen: dict[str, Request] = {}
    self.looked = self._asked = float('-inf')
    self._said = 0.0
    self._local = local or LocalExecutor()

  def start(self, order: Order, read: Callable[[str], None]) -> Task:
    """See executor.Executor. What was asked for already is gone on with."""
    if order.job.accelerator == 'cpu':
      return self._local.start(order, read)
    if order.job.topology is None:
      raise configuration.ConfigurationError(
        f'{order.name}: a job on TPUs, and TOPOLOGY says not on which: '
        '--gin.TOPOLOGY=v5e:4x4.'
      )
    self._until_answered(self.look)
    stem, name = _names(order, self.run_dir)
    for request in self.seen.values():
      if not request.name.startswith(stem.rpartition('-')[0]):
        continue
      standing = request.state in (*queued_resources.WAITING, 'ACTIVE')
      if standing and request.name.startswith(stem):
        attempt = self._attempt_on(request, order)
        if attempt is not None:
          return TpuVmTask(self, order, request.name, attempt, read)
      self.delete(request.name)
    record = reports.record_of(self.run_dir, name)
    script = queued_resources.startup_script(name, record, order, self.config)
    self._until_answered(lambda: self.cloud.create(name, order, script))
    return TpuVmTask(self, order, name, 0, read)

  def _attempt_on(self, request: Request, order: Order) -> int | None:
    """The attempt that runs on VMs that are there, or is asked for now.

    Returns:
      Its number; None: these VMs can run none.
    """
    record = reports.record_of(self.run_dir, request.name)
    attempt, found = record.wanted().attempt, record.reports()
    if any(report.attempt is None for report in found.values()):
      return None
    codes = reports.codes(found, attempt)
    if (
      len(codes) < attempts.hosts_of(order)
      or reports.worst(codes) == exit_codes.DONE
    ):
      self.say(f'{order.name}: {request.name} is asked for already')
      return attempt
    # No process of the attempt before is left: all hosts have said so.
    record.want(Wanted(attempt=attempt + 1))
    self.say(f'{order.name}: starts again on {request.name}')
    return attempt + 1

  def wait(self, seconds: float) -> None:
    """See executor.Executor."""
    end = time.monotonic() + seconds
    self._local.wait(seconds)
    time.sleep(max(0.0, min(end - time.monotonic(), seconds)))
    if time.monotonic() - self._asked >= POLL_SECONDS:
      try:
        self.look()
      except Unreachable as error:
        self._silent(error)

  def look(self) -> None:
    """Asks for the state of all requests of the run."""
    self._asked = began = time.monotonic()
    self.seen = self.cloud.listed(prefix_of(self.run_dir))
    self.looked = began

  def delete(self, name: str) -> None:
    """Deletes a request and its VMs."""
    self._until_answered(lambda: self.cloud.delete(name))

  def _until_answered(self, ask: Callable[[], None]) -> None:
    while True:
      try:
        return ask()
      except Unreachable as error:
        self._silent(error)
        time.sleep(_RETRY_SECONDS)

  def _silent(self, error: Unreachable) -> None:
    now = time.monotonic()
    if now - self._said >= _SAY_SECONDS:
      self._said = now
      self.say(f'Google Cloud does not answer ({error}); what runs goes on')


def _names(order: Order, run_dir: str) -> tuple[str, str]:
  """(how the names of this very job begin, the name of this attempt)."""
  job = stem_of(order.name, run_dir)
  stem = f'{job}-{_digest(repr(order.arguments))[:6]}'
  launch = order.environment[holders.RUN_TOKEN]
  return stem, f'{stem}-{_digest(f"{launch} {order.attempt}")[:6]}'


def _digest(text: str) -> str:
  return hashlib.sha256(text.encode()).hexdigest()
