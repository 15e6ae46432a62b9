"""The jobs of a plan as they are added: what each needs, what it runs on."""

import dataclasses
from collections.abc import Mapping, Sequence
from typing import Any

from rest_jax.executors.jobs import Job, Resources


@dataclasses.dataclass
class JobList:
  """Collects jobs, in an order in which they can run.

  A job needs those before it that write its inputs; nothing else has to be said
  about their order.

  Attributes:
    resources: what sampling and training run on.
    jobs: the jobs so far.
  """

  resources: Resources
  jobs: list[Job] = dataclasses.field(default_factory=list, kw_only=True)

  def add(
    self,
    name: str,
    stage: str,
    *,
    model: str,
    iteration: int,
    bindings: Mapping[str, Any],
    inputs: Sequence[str],
    outputs: Sequence[str],
    follows: Sequence[str] = (),
    serves: bool = False,
  ) -> Job:
    """Appends one job.

    Args:
      name: unique in the plan.
      stage: of the command line.
      model: the model that it is about: base, sft_human or iteration_NN.
      iteration: of the loop, from 1; 0 before it.
      bindings: gin macros of this job alone.
      inputs: folders that it reads.
      outputs: folders that it writes.
      follows: names of jobs beside which it may run.
      serves: whether these wait for it, as of Job.

    Returns:
      The job, which needs the earlier jobs that write its inputs.
    """
    makers = {folder: job.name for job in self.jobs for folder in job.outputs}
    needs = [makers[folder] for folder in inputs if folder in makers]
    bindings = {'MODEL_NAME': model, 'ITERATION': iteration, **bindings}
    heavy = stage in ('sample', 'train')
    resources = self.resources.of_stage(stage)
    self.jobs.append(
      Job(
        name=name,
        stage=stage,
        arguments=tuple(
          f'--gin.{key}={value}' for key, value in bindings.items()
        ),
        # SeqIO imports jax too: it must not take the TPU.
        environment=() if heavy else (('JAX_PLATFORMS', 'cpu'),),
        accelerator='tpu' if heavy else 'cpu',
        topology=resources.topology if heavy else None,
        slices=resources.slices if heavy else 1,
        workers={
          'sample': self.resources.workers,
          'score': self.resources.score_workers,
        }.get(stage, 1),
        retry=self.resources.retry,
        needs=tuple(dict.fromkeys(needs)),
        follows=tuple(follows),
        serves=serves,
        inputs=tuple(inputs),
        outputs=tuple(outputs),
      )
    )
    return self.jobs[-1]
