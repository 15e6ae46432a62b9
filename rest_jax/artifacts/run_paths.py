"""Where the plan of a run puts its folders.

    problems/<task>/<split>                   of prepare
    <model>/{samples,verdicts,examples,checkpoints}
    <model>/evaluation/<task>[_<split>]/<stream>/{samples,verdicts}
    <model>/evaluation/results
    base/difficulty/{samples,verdicts}
    models/<name>/evaluation/…          of an evaluation of checkpoints
    report

A model is base, sft_human or iteration_NN. With several training tasks the
E-step's samples and verdicts have a folder for each, below the one above.
"""

import dataclasses
import re
from collections.abc import Sequence

from rest_jax.config import configuration

MODELS = 'models'  # below it: checkpoints that are no model of the loop
EVAL_PREFIX = 'eval/'
VOCABULARY = 'vocabulary.model'  # below problems, where a run trains its own
BASE, SFT_HUMAN = 'base', 'sft_human'
# Names of streams; the others of an evaluation begin with EVAL_PREFIX too.
E_STEP, DIFFICULTY, GREEDY = 'e_step', 'difficulty', 'eval/greedy'


def iteration(number: int) -> str:
  """The name of an iteration's model, such as iteration_01."""
  return f'iteration_{number:02d}'


def iteration_number(model: str) -> int | None:
  """The inverse of `iteration`; None for every other model's name."""
  found = re.fullmatch(r'iteration_(\d+)', model)
  return int(found[1]) if found else None


def is_loop_model(name: str) -> bool:
  """Whether ReST^EM makes a model of that name: base, SFT or an iteration."""
  return name in (BASE, SFT_HUMAN) or iteration_number(name) is not None


def model_folder(key: str) -> str:
  """The model's folder in a path relative to the run, such as models/NAME."""
  parts = key.split('/')
  return '/'.join(parts[: 2 if parts[0] == MODELS else 1])


def samples_of(verdicts: str) -> str:
  """The folder of the samples that a folder of verdicts is about."""
  head, _, tail = verdicts.rpartition('verdicts')
  return f'{head}samples{tail}'


def eval_split(task: str) -> tuple[str, str]:
  """(task, split) of 'task' (its split test) or of 'task/split'."""
  name, _, split = task.partition('/')
  return name, split or 'test'


def eval_folder(task: str) -> str:
  """The folder of an evaluated task's results."""
  name, split = eval_split(task)
  return name if split == 'test' else f'{name}_{split}'


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
  folders = [eval_folder(task) for task in tasks]
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


@dataclasses.dataclass(frozen=True)
class RunPaths:
  """The folders of a run.

  Attributes:
    run_dir: the run's folder, without a slash at its end.
    tasks: the training tasks.
    base: the base policy, if it does not lie in the run.
  """

  run_dir: str
  tasks: tuple[str, ...]
  base: str | None = None

  def at(self, *names: str) -> str:
    """A path below the run's folder."""
    return '/'.join([self.run_dir, *names])

  def per_task(self, *names: str) -> list[str]:
    """One folder, or one a task below it where there are several."""
    if len(self.tasks) == 1:
      return [self.at(*names)]
    return [self.at(*names, task) for task in self.tasks]

  def problems(self, split: str) -> list[str]:
    """The problems of each training task."""
    return [self.at('problems', task, split) for task in self.tasks]

  def eval_problems(self, task: str) -> str:
    """The problems of an evaluated task."""
    return self.at('problems', *eval_split(task))

  def evaluation(self, model: str, task: str, stream: str) -> str:
    """A stream of an evaluation; '@' stands for samples or verdicts."""
    short = stream.removeprefix(EVAL_PREFIX)
    return self.at(model, 'evaluation', eval_folder(task), short, '@')

  def policy(self, model: str) -> str:
    """The checkpoint of a model."""
    if model == BASE and self.base is not None:
      return self.base
    return self.at(model, 'checkpoints')
