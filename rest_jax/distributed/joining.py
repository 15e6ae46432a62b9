"""How a process joins the others of its job, where there are any.

JAX_COORDINATOR_ADDRESS, JAX_NUM_PROCESSES, JAX_PROCESS_ID    anywhere
a TPU pod of several hosts (pods.py)                          found by jax
REST_JAX_DISTRIBUTED=1    always by jax; 0: never, this process works alone
"""

import contextlib
import os
import socket
import sys
import threading
from collections.abc import Iterator, Sequence

import jax

from rest_jax.config import configuration
from rest_jax.distributed import coordination, failures, pods, watchdog

_NAMES = ('JAX_COORDINATOR_ADDRESS', 'JAX_NUM_PROCESSES', 'JAX_PROCESS_ID')
_SWITCH = 'REST_JAX_DISTRIBUTED'
# For which a process waits until all have started: a pod's hosts start within
# minutes of each other, and each first imports and may pull an image.
JOIN_SECONDS = 600
_LIMITS = {
  'initialization_timeout': JOIN_SECONDS,
  'heartbeat_timeout_seconds': watchdog.HEARTBEAT_SECONDS,
}


def join() -> None:
  """Joins the job's other processes, if any. Call it before jax is first used.

  Raises:
    ConfigurationError: the environment is half set, or this is a host of a TPU
      pod on which jax finds no TPU.
    PeerError: the other processes cannot be reached.
  """
  if jax.distributed.is_initialized():
    return
  switch = os.environ.get(_SWITCH, '')
  if switch not in ('', '0', '1'):
    raise configuration.ConfigurationError(
      f'{_SWITCH}: got {switch!r}; allowed: 1 (join the hosts that jax finds), '
      '0 (work alone), or not set (join where this is a host of a pod).'
    )
  if switch == '0':
    return
  coordination.limit_seconds()
  found = [os.environ.get(name) for name in _NAMES]
  if any(found):
    _join_named(found)
  else:
    pod = pods.find(os.environ)
    if switch == '1' or pod is not None:
      _join_found(pod)


def _join_named(found: Sequence[str | None]) -> None:
  """Joins as the three variables of _NAMES say."""
  try:
    count, index = int(found[1]), int(found[2])
    if not found[0]:
      raise ValueError
  except (TypeError, ValueError):
    shown = ', '.join(f'{n}={v!r}' for n, v in zip(_NAMES, found, strict=True))
    raise configuration.ConfigurationError(
      f'several processes: got {shown}; set all three, the last two to '
      'numbers, or none.'
    ) from None
  if count > 1:
    # The CPU's collectives (gloo) wait for each other: two in flight, begun in
    # another order elsewhere, would wait for ever. A TPU runs them in order.
    jax.config.update('jax_cpu_enable_async_dispatch', False)
    with _waiting(f'process {index} of {count} waits for {found[0]}'):
      jax.distributed.initialize(found[0], count, index, **_LIMITS)


def _join_found(pod: pods.Pod | None) -> None:
  """Joins the hosts that jax finds by itself."""
  source = pod.source if pod else f'{_SWITCH}=1'
  try:
    with _waiting(f'a host of a pod ({source}) waits for the others'):
      jax.distributed.initialize(**_LIMITS)
  except ValueError as error:  # jax found no cluster that it knows
    raise configuration.ConfigurationError(
      f'{source}: this is one of several hosts, but jax finds no TPU on it '
      f"({error}). Install 'rest_jax[tpu]' and start the same command on every "
      f'host, or set {_SWITCH}=0 to work on this host alone.'
    ) from error
  except (RuntimeError, OSError) as error:
    raise failures.PeerError(
      f'{source}: the other hosts cannot be reached ({error}). Start the same '
      'command on every host.'
    ) from error


@contextlib.contextmanager
def _waiting(what: str) -> Iterator[None]:
  """Says what this process waits for while jax connects, which may abort it."""

  def warn() -> None:
    print(
      f'{socket.gethostname()}: {what}, and not all processes have joined yet. '
      'Start the same command on every host; a host whose log has no such line '
      'is the one that is missing.',
      file=sys.stderr,
      flush=True,
    )

  timers = [threading.Timer(t, warn) for t in (60, JOIN_SECONDS - 30)]
  for timer in timers:
    timer.daemon = True
    timer.start()
  try:
    yield
  finally:
    for timer in timers:
      timer.cancel()
