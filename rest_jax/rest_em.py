"""ReST^EM (Singh et al. 2023, Algorithm 1) as a plan: which job follows which.

    prepare ─ base/train ─┬ base/sample_eval ─ score_eval ─ evaluate
                          ├ base/sample_difficulty ─ score_difficulty
                          ├ sft_human/select ─ train ─ sample_eval ─ …
                          └ iteration_01/sample ─ score ─ select ─ train ─ …
                              iteration_02/sample ─ …                  ─ report

Nothing runs here and nothing is read: a plan is a pure function of its
arguments, and an executor (executors/) sees jobs and nothing else.
"""

import dataclasses
from collections.abc import Sequence
from typing import Literal

from rest_jax import configuration, layout
from rest_jax.jobs import Job, Resources
from rest_jax.layout import BASE, EVAL_PREFIX, SFT_HUMAN, Layout

GREEDY = 'eval/greedy'


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
  _check(num_iterations, tasks, eval_tasks, eval_streams)
  builder = _Builder(
    layout=Layout(run_dir.rstrip('/'), tuple(tasks), base_checkpoint_path),
    eval_tasks=tuple(eval_tasks),
    resources=resources or Resources(),
  )
  builder.prepare()
  if base_checkpoint_path is None:
    builder.pretrain()
  builder.evaluate(BASE, 0, eval_streams)
  if difficulty_samples and num_iterations:
    builder.difficulty()
  if sft_baseline:
    builder.select(SFT_HUMAN, 0, human=True)
    builder.train(SFT_HUMAN, 0, init=builder.layout.policy(BASE))
    builder.evaluate(SFT_HUMAN, 0, [GREEDY])
  previous = BASE
  for iteration in range(1, num_iterations + 1):
    name = layout.iteration(iteration)
    builder.expectation(name, iteration, previous)
    builder.select(name, iteration)
    start = previous if init_from == 'previous' else BASE
    builder.train(name, iteration, init=builder.layout.policy(start))
    final = iteration == num_iterations
    builder.evaluate(name, iteration, eval_streams if final else [GREEDY])
    previous = name
  builder.report()
  return tuple(builder.jobs)


def _check(num_iterations, tasks, eval_tasks, eval_streams) -> None:
  if num_iterations < 0:
    raise configuration.ConfigurationError(
      f'NUM_ITERATIONS: got {num_iterations}; allowed: >= 0.'
    )
  for name, values in (('TASKS', tasks), ('EVAL_TASKS', eval_tasks)):
    if not values or len(set(values)) != len(values):
      raise configuration.ConfigurationError(
        f'{name}: got {list(values)}; name at least one task, none twice.'
      )
  folders = [layout.eval_folder(task) for task in eval_tasks]
  if len(set(folders)) != len(folders):
    raise configuration.ConfigurationError(
      f'EVAL_TASKS: got {list(eval_tasks)}; two of them are the same split.'
    )
  if not eval_streams or any(
    not s.startswith(EVAL_PREFIX) for s in eval_streams
  ):
    raise configuration.ConfigurationError(
      f'EVAL_STREAMS: got {list(eval_streams)}; allowed: streams named '
      'eval/<name>, at least one.'
    )


@dataclasses.dataclass
class _Builder:
  """Collects jobs; knows which of them makes which folder."""

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
        retries=self.resources.retries,
        needs=tuple(dict.fromkeys(needs)),
        inputs=tuple(fields['inputs']),
        outputs=tuple(fields['outputs']),
      )
    )

  def tests(self):
    return [self.layout.eval_problems(task) for task in self.eval_tasks]

  def prepare(self):
    splits = [self.layout.problems(split) for split in ('train', 'dval')]
    pretrained = self.layout.base is None
    corpus = [self.layout.at(BASE, 'examples')] if pretrained else []
    self.add(
      'prepare',
      'prepare',
      model=BASE,
      iteration=0,
      bindings={},
      inputs=[],
      outputs=dict.fromkeys([*splits[0], *splits[1], *self.tests(), *corpus]),
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

  def evaluate(self, model, iteration, streams):
    policy = self.layout.policy(model)
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
        self.layout.evaluation(model, task, stream) for task, stream in asked
      ],
    )
    samples, verdicts = self.jobs[-2].outputs, self.jobs[-1].outputs
    self.add(
      f'{model}/evaluate',
      'evaluate',
      model=model,
      iteration=iteration,
      bindings={
        'PROBLEMS_DIRS': problems,
        'SAMPLES_DIRS': list(samples),
        'VERDICTS_DIRS': list(verdicts),
        'RESULTS_DIR': self.layout.at(model, 'evaluation', 'results'),
        'POLICY_DIR': policy,
      },
      inputs=[*dict.fromkeys(problems), *samples, *verdicts],
      outputs=[self.layout.at(model, 'evaluation', 'results')],
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
