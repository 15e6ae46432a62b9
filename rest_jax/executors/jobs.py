"""A job: a step of a run, as an executor sees it.

A plan (rest_em.py, pipeline/) is a sequence of jobs, and an executor runs them.
An executor knows no algorithm, and a plan knows no machine.
"""

import dataclasses
from collections.abc import Iterable, Sequence
from typing import Literal

from rest_jax.config import configuration
from rest_jax.executors import topologies
from rest_jax.executors.retry_policy import RetryPolicy


@dataclasses.dataclass(frozen=True, kw_only=True)
class Resources(configuration.Configuration):
  """What sampling and training run on, and how often a job is started again.

  The other stages need a host with CPUs only.

  Attributes:
    topology: of one TPU slice, such as 'v5e:4x4'; a type of Google Cloud
      ('v5litepod-16') becomes its name here. None: what is there.
    slices: how many of them train one model.
    sample_topology: of the slice of one worker that samples; None: `slices` of
      `topology`.
    workers: that share the work of sampling (docs/sampling.md), each with
      devices of its own.
    score_workers: that share the work of grading, each on a host of its own.
    score_beside: whether grading may go on beside the sampling, where there is
      room for both.
    dval_grading: where D_val's samples are graded: 'here', by the training
      itself; or 'beside' it, by a job of its own. 'auto', which the launcher
      resolves (pipeline/dval_places.py), is 'here' to a plan.
    retry: of all jobs, those on CPUs too.
  """

  topology: str | None = None
  slices: int = 1
  sample_topology: str | None = None
  workers: int = 1
  score_workers: int = 1
  score_beside: bool = True
  dval_grading: Literal['auto', 'here', 'beside'] = 'auto'
  retry: RetryPolicy = RetryPolicy()

  def check(self) -> None:
    self.require(self.slices >= 1, 'slices', 'at least 1')
    self.require(self.workers >= 1, 'workers', 'at least 1')
    self.require(self.score_workers >= 1, 'score_workers', 'at least 1')
    for name in ('topology', 'sample_topology'):
      if getattr(self, name) is not None:
        named = topologies.parse(getattr(self, name), name.upper())
        object.__setattr__(self, name, str(named))

  def of_stage(self, stage: str) -> 'Resources':
    """What the jobs of sample, or of train, run on."""
    if stage == 'sample' and self.sample_topology is not None:
      return dataclasses.replace(
        self, topology=self.sample_topology, slices=1, sample_topology=None
      )
    return self


@dataclasses.dataclass(frozen=True, kw_only=True)
class Job:
  """A process to run: `python -m rest_jax.main --run_mode=STAGE …`; or several.

  Attributes:
    name: unique in the plan, such as 'iteration_01/sample'.
    stage: what --run_mode gets.
    arguments: gin flags of this job, after those of the user.
    environment: variables to set, where the user has not.
    accelerator: 'tpu' (or whatever jax finds) or 'cpu'.
    topology, slices: see Resources; of 'tpu' jobs.
    workers: processes that share its work, each with devices of its own.
    retry: how often it is started again.
    needs: names of the jobs that must be done before.
    follows: those of them beside which it may run already: it waits for the
      rest of what they write.
    serves: whether those that it follows wait for it, too. It is started with
      them whatever room there is, and neither goes on where the other fails.
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
  workers: int = 1
  retry: RetryPolicy = RetryPolicy()
  needs: tuple[str, ...] = ()
  follows: tuple[str, ...] = ()
  serves: bool = False
  inputs: tuple[str, ...] = ()
  outputs: tuple[str, ...] = ()


def named(jobs: Sequence[Job], word: str) -> list[str]:
  """The names of the jobs that a word means: a name, or how names begin.

  Raises:
    ConfigurationError: it means none.
  """
  found = [job.name for job in jobs if f'{job.name}/'.startswith(f'{word}/')]
  if not found:
    known = ', '.join(job.name for job in jobs)
    raise configuration.ConfigurationError(
      f'no job is named {word!r}. The plan has: {known}.'
    )
  return found


def behind(jobs: Sequence[Job], names: Iterable[str]) -> list[str]:
  """The jobs that need one of these, directly or through others; in order.

  Args:
    jobs: of a plan, each behind the jobs that it needs.
    names: of some of them, which are not part of the result.
  """
  reached = set(names)
  found = []
  for job in jobs:
    if job.name not in reached and reached.intersection(job.needs):
      reached.add(job.name)
      found.append(job.name)
  return found


def until(jobs: Sequence[Job], last: str) -> tuple[Job, ...]:
  """The jobs up to `last`, whatever it does not need left out.

  What serves one of them is needed, though it stands behind it.

  Raises:
    ConfigurationError: no job has this name, or a name that begins so.
  """
  wanted = set(named(jobs, last))
  for job in reversed(jobs):
    if job.serves and wanted.intersection(job.follows):
      wanted.add(job.name)
    if job.name in wanted:
      wanted.update(job.needs)
  return tuple(job for job in jobs if job.name in wanted)
