"""The steps that plans are made of: jobs with what they read and write.

rest_em.py puts them together to Algorithm 1, checkpoint_evaluation.py to the
evaluation of many checkpoints. Nothing runs here and nothing is read.
"""

import dataclasses
from collections.abc import Sequence

from rest_jax.artifacts import run_paths
from rest_jax.artifacts.run_paths import BASE, EVAL_PREFIX, Layout
from rest_jax.config import configuration
from rest_jax.executors.jobs import Job, Resources

GREEDY = 'eval/greedy'


def check_tasks(name: str, tasks: Sequence[str]) -> None:
  """Raises unless there is a task, and no split of one twice.

  Args:
    name: of the macro, for the message.
    tasks: 'task' or 'task/split'.
  """
  if not tasks or len(set(tasks)) != len(tasks):
    raise configuration.ConfigurationError(
      f'{name}: got {list(tasks)}; name at least one task, none twice.'
    )
  folders = [run_paths.eval_folder(task) for task in tasks]
  if len(set(folders)) != len(folders):
    raise configuration.ConfigurationError(
      f'{name}: got {list(tasks)}; two of them are the same split.'
    )


def check_streams(streams: Sequence[str]) -> None:
  """Raises unless these are streams of an evaluation."""
  if not streams or any(not s.startswith(EVAL_PREFIX) for s in streams):
    raise configuration.ConfigurationError(
      f'EVAL_STREAMS: got {list(streams)}; allowed: streams named '
      'eval/<name>, at least one.'
    )


@dataclasses.dataclass
class Steps:
  """Collects jobs; knows which of them makes which folder.

  Attributes:
    layout: where the folders are.
    eval_tasks: 'task' (its split test) or 'task/split', of `evaluate`.
    resources: of sampling and training.
    jobs: what was collected.
  """

  layout: Layout
  eval_tasks: tuple[str, ...]
  resources: Resources
  jobs: list[Job] = dataclasses.field(default_factory=list)

  def add(self, name, stage, *, model, iteration, bindings, **fields):
    """Appends a job that needs whichever jobs write its inputs."""
    makers = {folder: job.name for job in self.jobs for folder in job.outputs}
    needs = [makers[folder] for folder in fields['inputs'] if folder in makers]
    bindings = {'MODEL_NAME': model, 'ITERATION': iteration} | bindings
    heavy = stage in ('sample', 'train')
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
        topology=self.resources.topology if heavy else None,
        slices=self.resources.slices if heavy else 1,
        retry=self.resources.retry,
        needs=tuple(dict.fromkeys(needs)),
        inputs=tuple(fields['inputs']),
        outputs=tuple(fields['outputs']),
      )
    )

  def tests(self):
    return [self.layout.eval_problems(task) for task in self.eval_tasks]

  def prepare(self, *, corpus: bool):
    """All problems; and the corpus, if a base model learns from it here."""
    splits = [self.layout.problems(split) for split in ('train', 'dval')]
    examples = [self.layout.at(BASE, 'examples')] if corpus else []
    self.add(
      'prepare',
      'prepare',
      model=BASE,
      iteration=0,
      bindings={},
      inputs=[],
      outputs=dict.fromkeys([*splits[0], *splits[1], *self.tests(), *examples]),
    )

  def pretrain(self):
    """The base model, by the trainer of the M-step and without D_val."""
    bindings = {
      'MAX_STEPS': '%PRETRAIN_STEPS',
      'MAX_EPOCHS': 0,
      'LEARNING_RATES': '[%PRETRAIN_LEARNING_RATE]',
      'BATCH_ROWS': '%PRETRAIN_BATCH_ROWS',
      'ROW_LENGTH': '%PRETRAIN_ROW_LENGTH',
      'SCHEDULE': '%PRETRAIN_SCHEDULE',
      'WARMUP_STEPS': '%PRETRAIN_WARMUP_STEPS',
      'LOSS_NORMALIZER': 'token',
    }
    self.train(BASE, 0, init=None, bindings=bindings, validate=False)

  def train(self, model, iteration, *, init, bindings=None, validate=True):
    examples = self.layout.at(model, 'examples')
    dval = self.layout.problems('dval') if validate else []
    self.add(
      f'{model}/train',
      'train',
      model=model,
      iteration=iteration,
      bindings={
        'EXAMPLES_DIR': examples,
        'CHECKPOINTS_DIR': self.layout.at(model, 'checkpoints'),
        'INIT_PATH': init,
        'DVAL_DIRS': dval,
      }
      | (bindings or {}),
      inputs=[examples, *dval, *([init] if init else [])],
      outputs=[self.layout.at(model, 'checkpoints')],
    )

  def draw(self, name, model, iteration, *, policy, streams, problems, to):
    """A sampling job and the scoring of what it drew.

    streams, problems and to are parallel: the stream to['@' = 'samples'] of
    these problems.
    """
    samples = [folder.replace('@', 'samples') for folder in to]
    verdicts = [folder.replace('@', 'verdicts') for folder in to]
    folders = {'PROBLEMS_DIRS': problems, 'SAMPLES_DIRS': samples}
    self.add(
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
      bindings={**folders, 'VERDICTS_DIRS': verdicts},
      inputs=[*dict.fromkeys(problems), *samples],
      outputs=verdicts,
    )

  def difficulty(self):
    self.draw(
      '_difficulty',
      BASE,
      0,
      policy=self.layout.policy(BASE),
      streams=['difficulty'] * len(self.layout.tasks),
      problems=self.layout.problems('train'),
      to=self.layout.per_task(BASE, 'difficulty', '@'),
    )

  def expectation(self, model, iteration, previous):
    """The E-step: samples of the previous policy, and their rewards."""
    self.draw(
      '',
      model,
      iteration,
      policy=self.layout.policy(previous),
      streams=['e_step'] * len(self.layout.tasks),
      problems=self.layout.problems('train'),
      to=self.layout.per_task(model, '@'),
    )

  def select(self, model, iteration, *, human=False):
    problems = self.layout.problems('train')
    # Read for what they share with the kept solutions, and to no other end.
    tests = self.tests()
    samples = [] if human else self.layout.per_task(model, 'samples')
    verdicts = [] if human else self.layout.per_task(model, 'verdicts')
    folder = self.layout.at(BASE, 'difficulty', 'verdicts')
    drawn = any(job.name == 'base/score_difficulty' for job in self.jobs)
    binned = self.layout.per_task(BASE, 'difficulty', 'verdicts')
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
        'EXAMPLES_DIR': self.layout.at(model, 'examples'),
        'EVAL_PROBLEMS_DIRS': tests,
      },
      inputs=[*problems, *samples, *verdicts, *binned, *tests],
      outputs=[self.layout.at(model, 'examples')],
    )

  def evaluate(self, model, iteration, streams, *, policy=None, folder=None):
    """Samples, verdicts and results of a model on the evaluated tasks.

    policy and folder: of a checkpoint that is no model of this run's loop.
    """
    folder, policy = folder or model, policy or self.layout.policy(model)
    asked = [(task, stream) for task in self.eval_tasks for stream in streams]
    problems = [self.layout.eval_problems(task) for task, _ in asked]
    self.draw(
      '_eval',
      model,
      iteration,
      policy=policy,
      streams=[stream for _, stream in asked],
      problems=problems,
      to=[
        self.layout.evaluation(folder, task, stream) for task, stream in asked
      ],
    )
    samples, verdicts = self.jobs[-2].outputs, self.jobs[-1].outputs
    results = self.layout.at(folder, 'evaluation', 'results')
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
        'CHECKPOINTS': [],  # this one stage: not another batch
      },
      inputs=[*dict.fromkeys(problems), *samples, *verdicts],
      outputs=[results],
    )

  def report(self):
    self.add(
      'report',
      'report',
      model=BASE,
      iteration=0,
      bindings={},
      inputs=[f for job in self.jobs for f in job.outputs],
      outputs=[self.layout.at('report')],
    )
