"""The evaluation of many checkpoints on many tasks, as a plan.

    prepare ─┬ NAME/sample_eval ─ NAME/score_eval ─ NAME/evaluate ─┬─ report
             └ … for each checkpoint                               ┘

A checkpoint's name is a function of its path alone, so that CHECKPOINTS may
grow: what was evaluated keeps its folder, RUN_DIR/models/NAME. TASKS may grow
too. Nothing runs here and nothing is read.
"""

import re
from collections.abc import Mapping, Sequence

from rest_jax.artifacts import model_formats, run_paths
from rest_jax.artifacts.run_paths import GREEDY, MODELS, RunPaths
from rest_jax.config import configuration
from rest_jax.executors.jobs import Job, Resources
from rest_jax.pipeline import job_builders

Checkpoints = Sequence[str | Mapping[str, str]] | Mapping[str, str]
_FROM_TRAIN = 'checkpoints'  # the folder that the stage train writes


@configuration.checked
def plan(
  *,
  run_dir: str,
  checkpoints: Checkpoints,
  tasks: Sequence[str],
  eval_streams: Sequence[str] = (GREEDY,),
  resources: Resources | None = None,
) -> tuple[Job, ...]:
  """The jobs of an evaluation, each after the jobs that it needs.

  Args:
    run_dir: everything is written below it.
    checkpoints: paths as of POLICY_DIR, all of one architecture and one
      vocabulary; {name: path} names them.
    tasks: 'task' (its split test) or 'task/split'.
    eval_streams: sampled of each checkpoint on each task.
    resources: of sampling.

  Raises:
    ConfigurationError: there is nothing to evaluate, or a name is not valid.
  """
  run_paths.check_tasks('TASKS', tasks)
  run_paths.check_streams(eval_streams)
  named = names(checkpoints)
  builder = job_builders.PlanBuilder(
    paths=RunPaths(run_dir.rstrip('/'), ()),
    eval_tasks=tuple(tasks),
    resources=resources or Resources(),
  )
  builder.prepare(corpus=False)
  for name, policy in named.items():
    folder = f'{MODELS}/{name}'
    builder.evaluate(name, 0, eval_streams, policy=policy, folder=folder)
  builder.report()
  return tuple(builder.jobs)


def names(checkpoints: Checkpoints) -> dict[str, str]:
  """Name to path of the checkpoints, in their order.

  Raises:
    ConfigurationError: there is none; a name is not valid or names two paths.
  """
  items = [checkpoints] if isinstance(checkpoints, Mapping) else checkpoints
  pairs = []
  for item in items:
    if isinstance(item, str):
      pairs.append((name_of(item), item.rstrip('/')))
    else:
      pairs += [(name, path.rstrip('/')) for name, path in item.items()]
  if not pairs:
    raise configuration.ConfigurationError(
      'CHECKPOINTS: got none; name at least one, such as '
      "['runs/x/iteration_01/checkpoints']."
    )
  found: dict[str, str] = {}
  for name, path in pairs:
    _check_name(name, path)
    if name in found:
      raise configuration.ConfigurationError(
        f'CHECKPOINTS: {found[name]} and {path} are both called {name!r}. '
        f"Name them: [{{'{name}': '{found[name]}'}}, {{'another': '{path}'}}]."
      )
    found[name] = path
  return found


def _is_reserved(name: str) -> bool:
  """Whether a run has a model or a job of this name already."""
  return run_paths.is_loop_model(name) or name in ('prepare', 'report')


def name_of(path: str) -> str:
  """What a checkpoint is called: readable, and a function of its path.

  runs/x/iteration_01/checkpoints is x-iteration_01; models/Llama-3.1-8B and
  models/Llama-3.1-8B.gguf are Llama-3.1-8B.
  """
  steps_down = path.rpartition('://')[2].split('/')
  parts = [part for part in steps_down if part not in ('', '.', '..')]
  chosen = parts[-1:]
  if chosen == [_FROM_TRAIN] and len(parts) > 1:
    chosen = parts[-3:-1]
  name = model_formats.without_suffix('-'.join(chosen))
  name = re.sub(r'[^A-Za-z0-9_.-]+', '_', name)
  name = name.lstrip('.-_') or 'model'
  return f'model-{name}' if _is_reserved(name) else name


def _check_name(name: str, path: str) -> None:
  if not path:
    raise configuration.ConfigurationError(
      f'CHECKPOINTS: {name!r} has no path.'
    )
  if not re.fullmatch(r'\w[\w.-]*', name, re.ASCII):
    raise configuration.ConfigurationError(
      f'CHECKPOINTS: the name {name!r} of {path}; allowed: letters, digits, '
      "_, - and '.', not first. Give it one: {'name': 'path'}."
    )
  if _is_reserved(name):
    raise configuration.ConfigurationError(
      f'CHECKPOINTS: the name {name!r} of {path} means a model or a job of '
      f"ReST^EM in a run; take another, such as 'my_{name}'."
    )
