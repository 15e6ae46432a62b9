"""An attempt of a job on TPU VMs, watched from outside; see executor.Task."""

import time
from collections.abc import Callable, Mapping
from typing import Protocol

from rest_jax.executors import exit_codes, topologies
from rest_jax.executors.executor import Ended
from rest_jax.executors.orders import Order
from rest_jax.executors.tpu_vm import agent, queued_resources, reports
from rest_jax.executors.tpu_vm.queued_resources import Request
from rest_jax.executors.tpu_vm.reports import Report, Wanted

# For the other hosts of a program, after the first has ended with an error.
PEERS_SECONDS = 90.0
# For these to be killed then, before their VMs are given up.
KILL_SECONDS = 120.0
# For a host to say anything, from when its VMs are there. It pulls the image
# first, and then says something every reports.BEAT_SECONDS.
SILENT_SECONDS = 900.0


class Requests(Protocol):
  """The queued resources of a run, as its executor saw them last.

  Attributes:
    run_dir: of the run.
    seen: name to what it is.
    looked: when that was asked for, by time.monotonic().
  """

  run_dir: str
  seen: Mapping[str, Request]
  looked: float

  def delete(self, name: str) -> None:
    """Deletes a request and its VMs."""


class TpuVmTask:
  """An attempt on TPU VMs; see executor.Task."""

  def __init__(
    self,
    requests: Requests,
    order: Order,
    name: str,
    attempt: int,
    read: Callable[[str], None],
  ):
    """Args:
    requests: of the run.
    order: what was started.
    name: of the request.
    attempt: its number on these VMs.
    read: is called with each line of a host's output.
    """
    self._requests, self._name, self._read = requests, name, read
    self._record = reports.record_of(requests.run_dir, name)
    self._attempt, self._hosts = attempt, hosts_of(order)
    self._started, self._looked = time.monotonic(), float('-inf')
    self._shown, self._state = 0, ''
    self._failed_since: float | None = None
    self._silence = _Silence(self._hosts)
    self._end = ''  # what was asked of the hosts, see Wanted
    self._lost_with: int | None = None  # the code, once the VMs are given up
    self._asked_to_stop = self._is_killed = self._is_released = False

  def poll(self) -> Ended | None:
    """See executor.Task."""
    if self._is_killed:
      return Ended(exit_codes.PREEMPTED)
    if self._lost_with is not None:
      return self._once_gone(self._lost_with)
    now = time.monotonic()
    if now - self._looked < agent.SECONDS:
      return None
    self._looked = now
    found = self._record.reports()
    codes = reports.codes(found, self._attempt)
    self._show_log()
    if len(codes) >= self._hosts:
      self._show_why(found)
      return self._ended(reports.worst(codes))
    if any(codes) and self._outlasts(now):
      self._show_why(found)
      self._read(f'{self._name}: a host does not end; its VMs are given up')
      return self._lost(reports.worst(codes))
    return self._of_request(found, now)

  def stop(self) -> None:
    """See executor.Task."""
    self._asked_to_stop = True
    self._ask('stop')

  def kill(self) -> None:
    """See executor.Task."""
    self._is_killed = True
    self.release()

  def release(self) -> None:
    """See executor.Task. Nothing is left billed."""
    if not self._is_released:
      self._is_released = True
      self._requests.delete(self._name)

  def _ask(self, end: str) -> None:
    self._end = end
    self._record.want(Wanted(attempt=self._attempt, end=end))

  def _outlasts(self, now: float) -> bool:
    """Whether some hosts go on though another has failed long ago."""
    self._failed_since = self._failed_since or now
    since = now - self._failed_since
    # They hang in what they wait for, and would live on beside the next ones.
    if since > PEERS_SECONDS and self._end != 'kill':
      self._ask('kill')
    return since > PEERS_SECONDS + KILL_SECONDS

  def _of_request(self, found: dict[str, Report], now: float) -> Ended | None:
    """What the state of the queued resource says."""
    if self._requests.looked <= self._started:
      return None
    request = self._requests.seen.get(self._name)
    if request is None:
      self._read(f'{self._name} was deleted')
      self._is_released = True
      return self._ended(exit_codes.UNKNOWN)
    if request.state != self._state:
      self._state = request.state
      if request.state in queued_resources.WAITING:
        self._read(f'@phase {request.state.lower().replace("_", " ")}')
    if request.state in queued_resources.TAKEN:
      return self._lost(exit_codes.PREEMPTED)
    if request.state == 'FAILED':
      self._read(f'{self._name}: {request.detail or "FAILED"}')
      return self._lost(exit_codes.UNKNOWN)
    if request.state != queued_resources.ACTIVE:
      # It has not begun.
      return self._ended(exit_codes.PREEMPTED) if self._asked_to_stop else None
    host, seconds = self._silence.longest(found, now)
    if seconds > SILENT_SECONDS:
      self._read(
        f'{self._name}: {host} has said nothing for {seconds:.0f} s; its VMs '
        'are given up'
      )
      return self._lost(exit_codes.UNKNOWN)
    return None

  def _ended(self, code: int) -> Ended:
    """The attempt is over; its VMs stay until `release`."""
    self._show_log()
    if self._asked_to_stop and code != exit_codes.DONE:
      code = exit_codes.PREEMPTED
    return Ended(code)

  def _lost(self, code: int) -> Ended | None:
    """The VMs are taken away, or of no use."""
    self.release()
    self._read('@phase its VMs are being deleted')
    self._lost_with, self._started = code, time.monotonic()
    return self._once_gone(code)

  def _once_gone(self, code: int) -> Ended | None:
    """Ended, once nothing can live on beside the next attempt."""
    is_known = self._requests.looked > self._started
    if not is_known or self._name in self._requests.seen:
      return None
    return self._ended(code)

  def _show_log(self) -> None:
    """Reads on in the output of the first host."""
    log = self._record.first_log(self._attempt)
    if log is None:
      return
    new = log.read_bytes()[self._shown :]
    whole = new.rpartition(b'\n')[0]
    if whole:
      self._shown += len(whole) + 1
      for line in whole.decode(errors='replace').split('\n'):
        self._read(line)

  def _show_why(self, found: dict[str, Report]) -> None:
    for host, report in sorted(found.items()):
      if report.why:
        self._read(f'{host}: {report.why}')


class _Silence:
  """For how long hosts have said nothing."""

  def __init__(self, hosts: int):
    self._hosts = hosts
    self._last: dict[str, Report] = {}
    self._seconds: dict[str, float] = {}
    self._looked: float | None = None

  def longest(self, found: dict[str, Report], now: float) -> tuple[str, float]:
    """(the most silent host, its seconds of silence).

    Args:
      found: what the hosts say now.
      now: by time.monotonic(). Between two looks no more than one sign of life
        counts as missed: the store may have been away for both sides.
    """
    passed = now - (now if self._looked is None else self._looked)
    passed = min(passed, reports.BEAT_SECONDS)
    self._looked = now
    missing = f'one of {self._hosts} hosts'
    names = [*found, *([missing] if len(found) < self._hosts else [])]
    self._seconds = {
      name: self._seconds.get(name, 0.0) + passed
      if found.get(name) == self._last.get(name)
      else 0.0
      for name in names
    }
    self._last = dict(found)
    host = max(self._seconds, key=self._seconds.get)
    return host, self._seconds[host]


def hosts_of(order: Order) -> int:
  """How many hosts run a job."""
  topology = topologies.parse(order.job.topology, 'TOPOLOGY')
  return topology.hosts * order.job.slices
