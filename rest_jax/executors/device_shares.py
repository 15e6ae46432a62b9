"""The devices of one machine, divided among the workers of a job.

A process of jax takes all devices that it sees, so that each worker must see
its own alone. What is set, for worker i of several with C chips each:

    GPU  CUDA_VISIBLE_DEVICES            its C of those that are visible here
    TPU  TPU_VISIBLE_CHIPS               i*C, …, i*C + C-1
         TPU_CHIPS_PER_PROCESS_BOUNDS    how these lie, see _BOUNDS
         TPU_PROCESS_BOUNDS              1,1,1: it works with no other process
         TPU_PROCESS_ADDRESSES, _PORT    a port of its own
         CLOUD_TPU_TASK_ID               0, the only one
         ALLOW_MULTIPLE_LIBTPU_LOAD      1: else one process holds all of libtpu

Workers on CPUs share the cores.

https://gist.github.com/skye/f82ba45d2445bb19d53545538754f9a3 (non-communicating
processes); the same variables as in jax's own tests of several processes.
"""

import os
from collections.abc import Mapping

from rest_jax.config import configuration
from rest_jax.executors import machine, topologies
from rest_jax.executors.jobs import Job

_FIRST_PORT = 8476
# Chips of a process to their box; chips that are neighbours by number.
_BOUNDS = {1: '1,1,1', 2: '1,2,1', 4: '2,2,1', 8: '2,4,1'}


def of_worker(
  job: Job, worker: int, environment: Mapping[str, str] = os.environ
) -> dict[str, str]:
  """The variables by which a worker sees its own devices alone.

  Args:
    job: that the worker is of.
    worker: which of them.
    environment: of the launcher.

  Returns:
    {} where the job's one process has all devices, and on CPUs.

  Raises:
    ConfigurationError: the devices cannot be divided so.
  """
  if job.workers == 1 or job.accelerator != 'tpu':
    return {}
  kind, devices = machine.visible(environment)
  if kind == 'cpu':
    return {}
  number = _share(job, kind, len(devices))
  own = ','.join(devices[worker * number : (worker + 1) * number])
  if kind == 'gpu':
    return {'CUDA_VISIBLE_DEVICES': own}
  port = str(_FIRST_PORT + worker)
  return {
    'TPU_VISIBLE_CHIPS': own,
    'TPU_CHIPS_PER_PROCESS_BOUNDS': _BOUNDS[number],
    'TPU_PROCESS_BOUNDS': '1,1,1',
    'TPU_PROCESS_ADDRESSES': f'localhost:{port}',
    'TPU_PROCESS_PORT': port,
    'CLOUD_TPU_TASK_ID': '0',
    'ALLOW_MULTIPLE_LIBTPU_LOAD': '1',
  }


def _share(job: Job, kind: str, devices: int) -> int:
  """How many devices each worker has."""
  number, rest = divmod(devices, job.workers)
  if rest or not number or (kind == 'tpu' and number not in _BOUNDS):
    fitting = [
      n
      for n in range(1, devices + 1)
      if devices % n == 0 and (kind == 'gpu' or devices // n in _BOUNDS)
    ]
    raise configuration.ConfigurationError(
      f'WORKERS: got {job.workers}, which cannot share the {devices} '
      f'{kind.upper()}s of this machine; allowed: '
      f'{", ".join(map(str, fitting))}.'
    )
  if job.topology and kind == 'tpu':
    named = topologies.parse(job.topology, 'SAMPLE_TOPOLOGY')
    if named.chips != number:
      grid = _BOUNDS[number].removesuffix(',1').replace(',', 'x')
      raise configuration.ConfigurationError(
        f'SAMPLE_TOPOLOGY: got {named} ({named.chips} chips), and each of the '
        f'{job.workers} workers of this machine has {number}: '
        f'--gin.SAMPLE_TOPOLOGY={named.generation.name}:{grid}'
      )
  return number
