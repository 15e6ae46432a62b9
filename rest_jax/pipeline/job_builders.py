"""Builds the jobs of a plan: what each reads and writes.

rest_em.py combines them to Algorithm 1, checkpoint_evaluation.py to the
evaluation of many checkpoints. Nothing runs here and no file is read.
"""

import dataclasses
from collections.abc import Mapping, Sequence
from typing import Any

from rest_jax.artifacts.run_paths import BASE, DIFFICULTY, E_STEP, RunPaths
from rest_jax.pipeline.job_lists import JobList


@dataclasses.dataclass
class PlanBuilder(JobList):
  """Adds the jobs of a plan; each method one or several.

  Attributes:
    resources, jobs: see JobList.
    paths: the run's folders.
    eval_tasks: the evaluated tasks, 'task' (its split test) or 'task/split'.
  """

  paths: RunPaths
  eval_tasks: tuple[str, ...]

  def _eval_problems(self) -> list[str]:
    return [self.paths.eval_problems(task) for task in self.eval_tasks]

  def prepare(self, *, corpus: bool) -> None:
    """All problems, and with `corpus` the pretraining corpus of the base."""
    splits = [self.paths.problems(split) for split in ('train', 'dval')]
    examples = [self.paths.at(BASE, 'examples')] if corpus else []
    self.add(
      'prepare',
      'prepare',
      model=BASE,
      iteration=0,
      bindings={},
      inputs=[],
      outputs=dict.fromkeys(
        [
          self.paths.at('problems'),  # about the vocabulary
          *splits[0],
          *splits[1],
          *self._eval_problems(),
          *examples,
        ]
      ),
    )

  def pretrain(self) -> None:
    """The base model, from the corpus, by the stage train without D_val."""
    bindings = {
      'MAX_STEPS': '%PRETRAIN_STEPS',
      'MAX_EPOCHS': 0,
      'LEARNING_RATES': '[%PRETRAIN_LEARNING_RATE]',
      'BATCH_ROWS': '%PRETRAIN_BATCH_ROWS',
      'ROW_LENGTH': '%PRETRAIN_ROW_LENGTH',
      'MICROBATCHES': '%PRETRAIN_MICROBATCHES',
      'OPTIMIZER': '%PRETRAIN_OPTIMIZER',
      'OPTIMIZER_OPTIONS': '%PRETRAIN_OPTIMIZER_OPTIONS',
      'SCHEDULE': '%PRETRAIN_SCHEDULE',
      'WARMUP_STEPS': '%PRETRAIN_WARMUP_STEPS',
      'LOSS_NORMALIZER': 'token',
      'LORA_RANK': 0,
    }
    self.train(BASE, 0, init=None, bindings=bindings, validate=False)

  def train(
    self,
    model: str,
    iteration: int,
    *,
    init: str | None,
    bindings: Mapping[str, Any] | None = None,
    validate: bool = True,
  ) -> None:
    """An M-step on the model's examples, and a job that grades its D_val.

    Args:
      model, iteration: see `add`.
      init: the checkpoint that it starts from; None: fresh weights.
      bindings: further macros.
      validate: whether the reward on D_val decides when to stop.
    """
    examples = self.paths.at(model, 'examples')
    checkpoints = self.paths.at(model, 'checkpoints')
    dval = self.paths.problems('dval') if validate else []
    is_beside = validate and self.resources.dval_grading == 'beside'
    training = self.add(
      f'{model}/train',
      'train',
      model=model,
      iteration=iteration,
      bindings={
        'EXAMPLES_DIR': examples,
        'CHECKPOINTS_DIR': checkpoints,
        'INIT_PATH': init,
        'DVAL_DIRS': dval,
        'DVAL_GRADING': 'beside' if is_beside else 'here',
      }
      | (bindings or {}),
      inputs=[examples, *dval, *([init] if init else [])],
      outputs=[checkpoints],
    )
    if is_beside:
      self.add(
        f'{model}/grade_dval',
        'grade_dval',
        model=model,
        iteration=iteration,
        bindings={'CHECKPOINTS_DIR': checkpoints, 'DVAL_DIRS': dval},
        inputs=[*dval, checkpoints],
        outputs=[],
        follows=[training.name],
        serves=True,
      )

  def draw(
    self,
    name: str,
    model: str,
    iteration: int,
    *,
    policy: str,
    streams: Sequence[str],
    problems: Sequence[str],
    to: Sequence[str],
  ) -> None:
    """A sampling job, and a job that scores its samples.

    Args:
      name: what follows 'sample' and 'score' in the jobs' names.
      model, iteration: see `add`.
      policy: the checkpoint that is sampled.
      streams: one for each folder of problems.
      problems: the folders of problems.
      to: where samples and verdicts go, one for each folder of problems; '@'
        in it stands for 'samples' or 'verdicts'.
    """
    samples = [folder.replace('@', 'samples') for folder in to]
    verdicts = [folder.replace('@', 'verdicts') for folder in to]
    folders = {'PROBLEMS_DIRS': problems, 'SAMPLES_DIRS': samples}
    sampling = self.add(
      f'{model}/sample{name}',
      'sample',
      model=model,
      iteration=iteration,
      bindings={'POLICY_DIR': policy, 'STREAMS': list(streams), **folders},
      inputs=[*dict.fromkeys(problems), policy],
      outputs=samples,
    )
    self.add(
      f'{model}/score{name}',
      'score',
      model=model,
      iteration=iteration,
      bindings={
        **folders,
        'VERDICTS_DIRS': verdicts,
        'AWAIT_SAMPLES': self.resources.score_beside,
      },
      inputs=[*dict.fromkeys(problems), *samples],
      outputs=verdicts,
      follows=[sampling.name] if self.resources.score_beside else [],
    )

  def difficulty(self) -> None:
    """The base model's samples at T = 1, for the bins of difficulty."""
    self.draw(
      '_difficulty',
      BASE,
      0,
      policy=self.paths.policy(BASE),
      streams=[DIFFICULTY] * len(self.paths.tasks),
      problems=self.paths.problems('train'),
      to=self.paths.per_task(BASE, 'difficulty', '@'),
    )

  def expectation(self, model: str, iteration: int, previous: str) -> None:
    """The E-step: samples of the model `previous`, and their rewards."""
    self.draw(
      '',
      model,
      iteration,
      policy=self.paths.policy(previous),
      streams=[E_STEP] * len(self.paths.tasks),
      problems=self.paths.problems('train'),
      to=self.paths.per_task(model, '@'),
    )

  def select(self, model: str, iteration: int, *, human: bool = False) -> None:
    """The examples of an M-step: correct samples, or the human solutions."""
    problems = self.paths.problems('train')
    # Test problems are read only to count what kept solutions share with them.
    tests = self._eval_problems()
    samples = [] if human else self.paths.per_task(model, 'samples')
    verdicts = [] if human else self.paths.per_task(model, 'verdicts')
    folder = self.paths.at(BASE, 'difficulty', 'verdicts')
    drawn = any(job.name == 'base/score_difficulty' for job in self.jobs)
    binned = self.paths.per_task(BASE, 'difficulty', 'verdicts')
    if human or not drawn:
      binned = []
    self.add(
      f'{model}/select',
      'select',
      model=model,
      iteration=iteration,
      bindings={
        'SELECT_FROM': 'human' if human else 'samples',
        'PROBLEMS_DIRS': problems,
        'SAMPLES_DIRS': samples,
        'VERDICTS_DIRS': verdicts,
        'DIFFICULTY_DIR': folder if binned else None,
        'EXAMPLES_DIR': self.paths.at(model, 'examples'),
        'EVAL_PROBLEMS_DIRS': tests,
      },
      inputs=[*problems, *samples, *verdicts, *binned, *tests],
      outputs=[self.paths.at(model, 'examples')],
    )

  def evaluate(
    self,
    model: str,
    iteration: int,
    streams: Sequence[str],
    *,
    policy: str | None = None,
    folder: str | None = None,
  ) -> None:
    """Samples, verdicts and results of a model on the evaluated tasks.

    Args:
      model, iteration: see `add`.
      streams: drawn of each evaluated task.
      policy: the checkpoint, where it is not that of a model of the loop.
      folder: the model's folder below the run's, where it is not `model`.
    """
    folder, policy = folder or model, policy or self.paths.policy(model)
    asked = [(task, stream) for task in self.eval_tasks for stream in streams]
    problems = [self.paths.eval_problems(task) for task, _ in asked]
    self.draw(
      '_eval',
      model,
      iteration,
      policy=policy,
      streams=[stream for _, stream in asked],
      problems=problems,
      to=[
        self.paths.evaluation(folder, task, stream) for task, stream in asked
      ],
    )
    samples, verdicts = self.jobs[-2].outputs, self.jobs[-1].outputs
    results = self.paths.at(folder, 'evaluation', 'results')
    self.add(
      f'{model}/evaluate',
      'evaluate',
      model=model,
      iteration=iteration,
      bindings={
        'PROBLEMS_DIRS': problems,
        'SAMPLES_DIRS': list(samples),
        'VERDICTS_DIRS': list(verdicts),
        'RESULTS_DIR': results,
        'POLICY_DIR': policy,
        # Of the user's flags: with it, evaluate would plan an evaluation again.
        'CHECKPOINTS': [],
      },
      inputs=[*dict.fromkeys(problems), *samples, *verdicts],
      outputs=[results],
    )

  def report(self) -> None:
    """The page and the table of everything before it."""
    self.add(
      'report',
      'report',
      model=BASE,
      iteration=0,
      bindings={},
      inputs=[f for job in self.jobs for f in job.outputs],
      outputs=[self.paths.at('report')],
    )
