"""The executor for Cloud TPU VMs: see executor.Executor.

A job on TPUs is a queued resource; its hosts run the job's container when they
are there (queued_resources.startup_script); others run on this machine. How a
job goes is read in RUN_DIR, where its hosts write it (agent.py).
"""

import dataclasses
import hashlib
import re
import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from rest_jax.artifacts import holders, storage
from rest_jax.config import configuration
from rest_jax.executors import exit_codes, topologies
from rest_jax.executors.executor import Ended, Task
from rest_jax.executors.ledger import FOLDER
from rest_jax.executors.local import LocalExecutor
from rest_jax.executors.orders import Order
from rest_jax.executors.tpu_vm import agent, queued_resources
from rest_jax.executors.tpu_vm.queued_resources import (
  QueuedResources,
  Request,
  Unreachable,
)
from rest_jax.executors.tpu_vm.settings import TpuVmConfig

POLL_SECONDS = 15.0
# For the other hosts of a program, after the first has ended with an error.
PEERS_SECONDS = 90.0
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


def record_of(run_dir: str, request: str) -> storage.Path:
  """The folder in which the hosts of an attempt say how it goes.

  Args:
    run_dir: of the run.
    request: the name of the queued resource.
  """
  return storage.path(run_dir) / FOLDER / 'tpu_vm' / request


def codes_in(record: storage.Path) -> list[int]:
  """The exit codes of the hosts that have ended.

  Args:
    record: of an attempt; it need not be there yet.
  """
  if not record.exists():
    return []
  return [
    storage.read_json(path)['exit_code']
    for path in sorted(record.glob('*.json'))
  ]


def worst(codes: Sequence[int]) -> int:
  """Of a program: what must not be tried again comes first."""
  for code in (exit_codes.CONFIGURATION, exit_codes.HELD):
    if code in codes:
      return code
  failed = [code for code in codes if code]
  # One that was killed takes the others with it, with codes of their own.
  return failed[0] if failed else exit_codes.DONE


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
        self.say(f'{order.name}: {request.name} is asked for already')
        return TpuVmTask(self, order, request.name, read)
      self.delete(request.name)
    script = queued_resources.startup_script(
      name, str(record_of(self.run_dir, name)), order, self.config
    )
    self._until_answered(lambda: self.cloud.create(name, order, script))
    return TpuVmTask(self, order, name, read)

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


class TpuVmTask:
  """An attempt on TPU VMs; see executor.Task."""

  def __init__(
    self,
    executor: TpuVmExecutor,
    order: Order,
    name: str,
    read: Callable[[str], None],
  ):
    """Args:
    executor: that asked for them.
    order: what was started.
    name: of the request.
    read: is called with each line of a host's output.
    """
    self._executor, self._name, self._read = executor, name, read
    self._folder = record_of(executor.run_dir, name)
    topology = topologies.parse(order.job.topology, 'TOPOLOGY')
    self._hosts = topology.hosts * order.job.slices
    self._started, self._looked = time.monotonic(), float('-inf')
    self._shown, self._state = 0, ''
    self._failed_since: float | None = None
    self._asked_to_stop = False

  def poll(self) -> Ended | None:
    """See executor.Task."""
    now = time.monotonic()
    if now - self._looked < min(agent.SECONDS, POLL_SECONDS):
      return None
    self._looked = now
    codes = codes_in(self._folder)[: self._hosts]
    self._show_log()
    if len(codes) == self._hosts:
      return self._end(worst(codes))
    if any(codes):
      self._failed_since = self._failed_since or now
      if now - self._failed_since > PEERS_SECONDS:
        return self._end(worst(codes))
    if self._executor.looked <= self._started:
      return None
    request = self._executor.seen.get(self._name)
    if request is None:
      self._read(f'{self._name} was deleted')
      return self._end(exit_codes.UNKNOWN)
    if request.state != self._state:
      self._state = request.state
      if request.state in queued_resources.WAITING:
        self._read(f'@phase {request.state.lower().replace("_", " ")}')
    if request.state in queued_resources.TAKEN:
      return self._end(exit_codes.PREEMPTED)
    if request.state == 'FAILED':
      self._read(f'{self._name}: {request.detail or "FAILED"}')
      return self._end(exit_codes.UNKNOWN)
    if self._asked_to_stop and request.state != queued_resources.ACTIVE:
      return self._end(exit_codes.PREEMPTED)  # it has not begun
    return None

  def stop(self) -> None:
    """See executor.Task."""
    self._asked_to_stop = True
    storage.write_bytes(self._folder / agent.STOP, b'')

  def kill(self) -> None:
    """See executor.Task."""
    self._executor.delete(self._name)
    for host in range(self._hosts):
      storage.write_json(
        self._folder / f'killed-{host}.json', {'exit_code': 137}
      )

  def _end(self, code: int) -> Ended:
    """Nothing is left billed."""
    self._show_log()
    self._executor.delete(self._name)
    if self._asked_to_stop and code != exit_codes.DONE:
      code = exit_codes.PREEMPTED
    return Ended(code)

  def _show_log(self) -> None:
    """Reads on in the output of the first host."""
    logs = sorted(self._folder.glob('*.log')) if self._folder.exists() else []
    if not logs:
      return
    new = logs[0].read_bytes()[self._shown :]
    whole = new.rpartition(b'\n')[0]
    if whole:
      self._shown += len(whole) + 1
      for line in whole.decode(errors='replace').split('\n'):
        self._read(line)


def _names(order: Order, run_dir: str) -> tuple[str, str]:
  """(how the names of this very job begin, the name of this attempt)."""
  job = stem_of(order.name, run_dir)
  stem = f'{job}-{_digest(repr(order.arguments))[:6]}'
  launch = order.environment[holders.RUN_TOKEN]
  return stem, f'{stem}-{_digest(f"{launch} {order.attempt}")[:6]}'


def _digest(text: str) -> str:
  return hashlib.sha256(text.encode()).hexdigest()
