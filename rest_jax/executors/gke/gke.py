"""The executor for GKE: see executor.Executor."""

import dataclasses
import queue
import threading
import time
from collections.abc import Callable, Sequence

from rest_jax.executors import exit_codes
from rest_jax.executors.executor import Ended
from rest_jax.executors.gke import objects
from rest_jax.executors.gke.cluster import Cluster, Unreachable
from rest_jax.executors.gke.seen import Seen
from rest_jax.executors.gke.settings import GkeConfig
from rest_jax.executors.orders import Order

POLL_SECONDS = 5.0
# A pod whose image cannot be had is given up after this time: a registry may
# have failed for a moment.
HOPELESS_SECONDS = 120.0
_SAY_SECONDS = 60.0  # between two lines of what does not go on
_RECONNECT_SECONDS = 2.0


class GkeExecutor:
  """Starts jobs on a cluster, where they outlive the launcher.

  A launcher that starts again finds what runs there and goes on with it.
  """

  name, outlives = 'gke', True
  room = 1000  # the cluster, or its queue, holds back what has no room

  def __init__(
    self,
    config: GkeConfig,
    run_dir: str,
    say: Callable[[str], None] = print,
    command: Sequence[str] = objects.COMMAND,
  ):
    """Connects to the cluster.

    Args:
      config: of the cluster.
      run_dir: of the run.
      say: shows a line to the person who watches.
      command: of a job's process.

    Raises:
      ConfigurationError: there is no cluster.
    """
    self.command, self.config, self.say = command, config, say
    self.settings = dataclasses.asdict(config)
    self.stop_seconds = config.grace_seconds + 30.0  # the cluster's own, first
    self.cluster = Cluster(config, run_dir)
    self._run_dir = run_dir
    self.seen: dict[str, Seen] = {}
    self.looked = 0.0  # when the last good look began, by time.monotonic()
    self._asked = 0.0
    self._silent_since: float | None = None
    self._said = 0.0

  def start(self, order: Order, read: Callable[[str], None]) -> 'GkeTask':
    """See executor.Executor. What already runs there is gone on with."""
    body = objects.of_order(order, self._run_dir, self.command, self.config)
    digest = body['metadata']['annotations'][objects.DIGEST]
    while not self._look():
      time.sleep(_RECONNECT_SECONDS)
    for seen in self.seen.values():
      if seen.job != objects.job_label(order.name) or seen.state == 'ending':
        continue
      if seen.state == 'running' and seen.digest == digest:
        self.say(f'{order.name}: {seen.name} runs already')
        return GkeTask(self, order, seen.name, read)
      self._delete(seen)
    while True:
      try:
        self.cluster.create(body)
        break
      except Unreachable as error:
        self._silent(error)
        time.sleep(_RECONNECT_SECONDS)
    return GkeTask(self, order, body['metadata']['name'], read)

  def wait(self, seconds: float) -> None:
    """See executor.Executor."""
    time.sleep(seconds)
    if time.monotonic() - self._asked >= POLL_SECONDS:
      self._look()

  def _look(self) -> bool:
    """Asks the cluster; returns whether it has answered."""
    self._asked = began = time.monotonic()
    try:
      self.seen = self.cluster.look()
    except Unreachable as error:
      self._silent(error)
      return False
    if self._silent_since is not None and self._said > self._silent_since:
      self.say('the cluster answers again')
    self.looked, self._silent_since = began, None
    return True

  def _silent(self, error: Unreachable) -> None:
    """Says now and then that the cluster does not answer."""
    now = time.monotonic()
    if self._silent_since is None:
      self._silent_since = now
    since = now - self._silent_since
    if since >= 10 and now - self._said >= _SAY_SECONDS:
      self._said = now
      self.say(
        f'the cluster has not answered for {since:.0f} s ({error}); what runs '
        'there goes on'
      )

  def _delete(self, seen: Seen | str, grace_seconds: int | None = None) -> None:
    try:
      self.cluster.delete(seen, grace_seconds=grace_seconds)
    except Unreachable as error:
      self._silent(error)

  def end(self, name: str, *, grace_seconds: int | None = None) -> None:
    """Deletes an object and its pods."""
    self._delete(name, grace_seconds)


class GkeTask:
  """An attempt on the cluster; see executor.Task."""

  def __init__(
    self,
    executor: GkeExecutor,
    order: Order,
    name: str,
    read: Callable[[str], None],
  ):
    """Args:
    executor: that started it.
    order: what was started.
    name: of the object.
    read: is called with each line of process 0's output.
    """
    self._executor, self._order, self._name = executor, order, name
    self._read, self._started = read, time.monotonic()
    self._lines: queue.SimpleQueue[str] = queue.SimpleQueue()
    self._pod: str | None = None
    self._pod_ends = threading.Event()
    self._follower: threading.Thread | None = None
    self._hopeless_since: float | None = None
    self._restarts, self._said, self._asked_to_stop = 0, '', False

  def poll(self) -> Ended | None:
    """See executor.Task."""
    self._show()
    seen = self._executor.seen.get(self._name)
    if self._executor.looked <= self._started:
      return None
    if seen is None:
      return self._gone()
    self._follow(seen)
    if seen.restarts > self._restarts:
      self._restarts = seen.restarts
      self._executor.say(
        f'{self._order.name}: started again by the cluster ({seen.restarts})'
      )
    if seen.state == 'running':
      return self._hopeless(seen)
    if seen.state == 'ending':
      return None
    self._finish_log()
    if seen.state == 'done':
      return Ended(exit_codes.DONE)
    return Ended(_code(seen), seen.out_of_memory())

  def stop(self) -> None:
    """See executor.Task."""
    self._asked_to_stop = True
    self._executor.end(self._name)

  def kill(self) -> None:
    """See executor.Task."""
    self._asked_to_stop = True
    self._executor.end(self._name, grace_seconds=0)

  def release(self) -> None:
    """See executor.Task. Nothing is kept: pods are made anew."""

  def _gone(self) -> Ended:
    """The object was deleted: by `stop`, or by somebody else."""
    self._finish_log()
    if self._asked_to_stop:
      return Ended(exit_codes.PREEMPTED)
    self._read(f'{self._name} was deleted from the cluster')
    return Ended(exit_codes.UNKNOWN)

  def _hopeless(self, seen: Seen) -> Ended | None:
    """Ends what will never start; says what it waits for."""
    why = seen.hopeless()
    now = time.monotonic()
    if not why:
      self._hopeless_since = None
      waits = seen.waits()
      if waits and waits != self._said:
        self._read(f'@phase waits: {waits}')
      self._said = waits
      return None
    if self._hopeless_since is None:
      self._hopeless_since = now
    if now - self._hopeless_since < HOPELESS_SECONDS:
      return None
    self._executor.end(self._name, grace_seconds=0)
    self._read(
      f'{self._name} cannot start: {why}. Set IMAGE to an image that the '
      "cluster's nodes can pull."
    )
    return Ended(exit_codes.CONFIGURATION)

  # ---- the log --------------------------------------------------------------

  def _follow(self, seen: Seen) -> None:
    """Reads the output of process 0 in a thread; of its latest pod."""
    pod = seen.first_pod()
    if pod is None or pod == self._pod:
      return
    self._pod_ends.set()
    self._pod, self._pod_ends = pod, threading.Event()
    self._follower = threading.Thread(
      target=self._read_log, args=(self._pod, self._pod_ends), daemon=True
    )
    self._follower.start()

  def _read_log(self, pod: str, ends: threading.Event) -> None:
    last = ''
    while True:
      try:
        for when, line in self._executor.cluster.log(pod, ends):
          if when > last:  # a new connection begins with the first line
            last = when
            self._lines.put(line)
        return
      except Exception:  # not started yet, or the connection is lost
        if ends.wait(_RECONNECT_SECONDS):
          return

  def _finish_log(self) -> None:
    """Waits a moment for the last lines."""
    if self._follower is not None:
      self._follower.join(timeout=10)
    self._pod_ends.set()
    self._show()

  def _show(self) -> None:
    while True:
      try:
        self._read(self._lines.get_nowait())
      except queue.Empty:
        return


def _code(seen: Seen) -> int:
  """The exit code of what failed: what must not be tried again comes first."""
  codes = [code for code in seen.exit_codes() if code]
  for code in (exit_codes.CONFIGURATION, exit_codes.HELD):
    if code in codes:
      return code
  if not codes:
    return exit_codes.UNKNOWN
  return -9 if codes[-1] == 137 else codes[-1]
