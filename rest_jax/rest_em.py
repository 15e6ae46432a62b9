"""ReST^EM (Singh et al. 2023, Algorithm 1) as a plan: which job follows which.

    prepare ─ base/train ─┬ base/sample_eval ─ score_eval ─ evaluate
                          ├ base/sample_difficulty ─ score_difficulty
                          ├ sft_human/select ─ train ─ sample_eval ─ …
                          └ iteration_01/sample ─ score ─ select ─ train ─ …
                              iteration_02/sample ─ …                  ─ report

Nothing runs here and nothing is read: a plan is a pure function of its
arguments, and an executor (executors/) sees jobs and nothing else.
"""

from collections.abc import Sequence
from typing import Literal

from rest_jax.artifacts import run_paths
from rest_jax.artifacts.run_paths import BASE, GREEDY, SFT_HUMAN, RunPaths
from rest_jax.config import configuration
from rest_jax.executors.jobs import Job, Resources
from rest_jax.pipeline import job_builders


@configuration.checked
def plan(
  *,
  run_dir: str,
  num_iterations: int,
  tasks: Sequence[str],
  eval_tasks: Sequence[str],
  eval_streams: Sequence[str] = (GREEDY,),
  sft_baseline: bool = False,
  difficulty_samples: int = 0,
  init_from: Literal['base', 'previous'] = 'base',
  base_checkpoint_path: str | None = None,
  resources: Resources | None = None,
) -> tuple[Job, ...]:
  """The jobs of a run, each after the jobs that it needs.

  Args:
    run_dir: everything is written below it.
    num_iterations: of the loop; 0 evaluates the base model (and the SFT
      baseline) only.
    tasks: training tasks, whose problems the E-step samples.
    eval_tasks: 'task' (its split test) or 'task/split'.
    eval_streams: evaluation of the base and of the final model; the others
      get eval/greedy alone.
    sft_baseline: also fine-tune the base on the human solutions.
    difficulty_samples: 0: without the base model's difficulty stream.
    init_from: where an M-step starts: 'base' (ReST^EM) or 'previous' (ReST).
    base_checkpoint_path: the base policy; None: pretrained by this run.
    resources: of sampling and training.

  Raises:
    ConfigurationError: there is nothing to train on, or a name is not valid.
  """
  if num_iterations < 0:
    raise configuration.ConfigurationError(
      f'NUM_ITERATIONS: got {num_iterations}; allowed: >= 0.'
    )
  run_paths.check_tasks('TASKS', tasks)
  run_paths.check_tasks('EVAL_TASKS', eval_tasks)
  run_paths.check_streams(eval_streams)
  builder = job_builders.PlanBuilder(
    paths=RunPaths(run_dir.rstrip('/'), tuple(tasks), base_checkpoint_path),
    eval_tasks=tuple(eval_tasks),
    resources=resources or Resources(),
  )
  builder.prepare(corpus=base_checkpoint_path is None)
  if base_checkpoint_path is None:
    builder.pretrain()
  builder.evaluate(BASE, 0, eval_streams)
  if difficulty_samples and num_iterations:
    builder.difficulty()
  if sft_baseline:
    builder.select(SFT_HUMAN, 0, human=True)
    builder.train(SFT_HUMAN, 0, init=builder.paths.policy(BASE))
    builder.evaluate(SFT_HUMAN, 0, [GREEDY])
  previous = BASE
  for iteration in range(1, num_iterations + 1):
    name = run_paths.iteration(iteration)
    builder.expectation(name, iteration, previous)
    builder.select(name, iteration)
    start = previous if init_from == 'previous' else BASE
    builder.train(name, iteration, init=builder.paths.policy(start))
    final = iteration == num_iterations
    builder.evaluate(name, iteration, eval_streams if final else [GREEDY])
    previous = name
  builder.report()
  return tuple(builder.jobs)
