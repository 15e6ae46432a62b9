"""A job: one process of a run, as an executor sees it.

rest_em.py makes jobs, executors/ run them. Nothing else passes between the two,
so that an executor knows no algorithm and the plan knows no machine.
"""

import dataclasses
from collections.abc import Sequence
from typing import Literal

from rest_jax.config import configuration

# Exit codes of a job's process, beside 0: see main.py.
EXIT_CONFIGURATION, EXIT_PREEMPTED = 2, 42
EXIT_HELD = 75  # another process holds the folder; EX_TEMPFAIL of sysexits.h
EXIT_PEER = 1  # another process of the job failed; retried as any other


@dataclasses.dataclass(frozen=True, kw_only=True)
class Resources(configuration.Configuration):
  """What sampling and training run on; the other stages need a CPU host.

  Attributes:
    topology: of one TPU slice, such as 'v5litepod-16'; None: what is there.
    slices: how many of them.
    retries: of a job that dies for no reason of ours (a preemption does not
      count).
  """

  topology: str | None = None
  slices: int = 1
  retries: int = 2

  def check(self):
    self.require(self.slices >= 1, 'slices', 'at least 1')
    self.require(self.retries >= 0, 'retries', '>= 0')


@dataclasses.dataclass(frozen=True, kw_only=True)
class Job:
  """One process to run: `python -m rest_jax.main --run_mode=STAGE …`.

  Attributes:
    name: unique in the plan, such as 'iteration_01/sample'.
    stage: what --run_mode gets.
    arguments: gin flags of this job, after those of the user.
    environment: variables to set, where the user has not.
    accelerator: 'tpu' (or whatever jax finds) or 'cpu'.
    topology, slices: see Resources; of 'tpu' jobs.
    retries: how often to try again after an unexplained death.
    needs: names of the jobs that must be done before.
    inputs: folders that it reads.
    outputs: folders that it writes; each has a manifest when it is done.
  """

  name: str
  stage: str
  arguments: tuple[str, ...] = ()
  environment: tuple[tuple[str, str], ...] = ()
  accelerator: Literal['tpu', 'cpu'] = 'cpu'
  topology: str | None = None
  slices: int = 1
  retries: int = 2
  needs: tuple[str, ...] = ()
  inputs: tuple[str, ...] = ()
  outputs: tuple[str, ...] = ()


def until(jobs: Sequence[Job], last: str) -> tuple[Job, ...]:
  """The jobs up to `last`, whatever it does not need left out.

  Raises:
    ConfigurationError: no job has this name, or a name that begins so.
  """
  named = [job.name for job in jobs if f'{job.name}/'.startswith(f'{last}/')]
  if not named:
    known = ', '.join(job.name for job in jobs)
    raise configuration.ConfigurationError(
      f'no job is named {last!r}. The plan has: {known}.'
    )
  wanted = set(named)
  for job in reversed(jobs):
    if job.name in wanted:
      wanted.update(job.needs)
  return tuple(job for job in jobs if job.name in wanted)
