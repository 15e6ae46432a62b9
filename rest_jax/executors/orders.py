"""What a scheduler asks of an executor: one attempt of a job to be started."""

import dataclasses
from collections.abc import Mapping, Sequence
from typing import Any

from rest_jax.artifacts import file_digests, holders
from rest_jax.executors.jobs import Job
from rest_jax.executors.retry_policy import RetryPolicy

# XLA on a CPU maps its buffers afresh at every step; in huge pages a training
# step takes a fifth less time on one core (LOG.md). Others ignore it.
HUGE_PAGES = {'GLIBC_TUNABLES': 'glibc.malloc.hugetlb=1'}


@dataclasses.dataclass(frozen=True, kw_only=True)
class Order:
  """One attempt of a job, or of one of its workers.

  Attributes:
    job: what it is of.
    worker: which of the job's workers.
    attempt: how many were before, in this launch.
    arguments: of `python -m rest_jax.main`.
    environment: variables that are set, whatever the surroundings say.
    defaults: variables that are set where the surroundings say nothing.
  """

  job: Job
  worker: int
  attempt: int
  arguments: tuple[str, ...]
  environment: Mapping[str, str]
  defaults: Mapping[str, str]

  @property
  def name(self) -> str:
    """Of the job; of a job of several workers, with the worker's number."""
    return named(self.job, self.worker)


def named(job: Job, worker: int) -> str:
  """What one worker of a job is called: 'iteration_01/sample.2'."""
  return numbered(job.name, worker, job.workers)


def numbered(job: str, worker: int, workers: int) -> str:
  """The same, of a job by its name and the number of its workers."""
  return job if workers == 1 else f'{job}.{worker}'


def parsed(value: Mapping[str, Any]) -> Order:
  """The order that dataclasses.asdict, and JSON, have made this of."""
  job = dict(value['job'])
  for name in ('arguments', 'needs', 'follows', 'inputs', 'outputs'):
    job[name] = tuple(job[name])
  job['environment'] = tuple(map(tuple, job['environment']))
  job['retry'] = RetryPolicy(**job['retry'])
  arguments = tuple(value['arguments'])
  return Order(**{**value, 'job': Job(**job), 'arguments': arguments})


class Orders:
  """Makes the orders of one launch."""

  def __init__(
    self, run_dir: str, flags: Sequence[str], *, token: str, digests: str
  ):
    """Args:
    run_dir: the run's folder.
    flags: the user's gin flags, handed to every job before its own.
    token: of the launch, see leases.py.
    digests: the file of what is known of the user's files.
    """
    self._run_dir, self._flags = run_dir, tuple(flags)
    self._token, self._digests = token, digests

  def make(self, job: Job, worker: int = 0, attempt: int = 0) -> Order:
    """The order for an attempt."""
    # WORKERS, which the flags may hold, is about sampling.
    divided = job.workers > 1 or job.stage == 'score'
    workers = (f'--worker_index={worker}', f'--num_workers={job.workers}')
    return Order(
      job=job,
      worker=worker,
      attempt=attempt,
      arguments=(
        f'--run_mode={job.stage}',
        *self._flags,
        *job.arguments,
        *(workers if divided else ()),
      ),
      environment={
        'PYTHONUNBUFFERED': '1',
        holders.JOB: job.name,
        holders.RUN_TOKEN: self._token,
        file_digests.CACHE: self._digests,
      },
      defaults={
        'JAX_COMPILATION_CACHE_DIR': f'{self._run_dir}/compilation_cache',
        # Every job starts anew: small programs are worth keeping too.
        'JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS': '0',
        **HUGE_PAGES,
        **dict(job.environment),
      },
    )
