"""Where D_val is graded in a launch: what DVAL_GRADING = 'auto' means.

The grader `program` runs what a model wrote, in a sandbox (docs/sandbox.md);
one of the user's own may. On a cluster or TPU VMs that happens on a CPU host,
in a job beside the training: not on the host that holds the weights and the
rights of the training, and not with its cores. A bounded grader only reads
text: it takes less time than a job would to notice the samples. On this machine
there is one host, and everything runs on it.
"""

import dataclasses
from collections.abc import Mapping
from typing import Any, NamedTuple

from rest_jax.artifacts import manifests, task_card
from rest_jax.artifacts.run_paths import RunPaths
from rest_jax.pipeline.sizes import AUTO, Dial
from rest_jax.rewards import registry

DIAL = 'DVAL_GRADING'


class Placed(NamedTuple):
  """The arguments of a plan that knows where D_val is graded.

  Attributes:
    arguments: of rest_em.plan.
    derived: what 'auto' was taken for, by its dial.
    is_open: whether only the problems will tell, which are not prepared: the
      plan has the jobs that it may come to need.
  """

  arguments: dict[str, Any]
  derived: dict[str, Dial]
  is_open: bool


def place(arguments: Mapping[str, Any], executor: str) -> Placed:
  """Decides where D_val is graded.

  Args:
    arguments: of rest_em.plan, as gin binds them.
    executor: its name.
  """
  resources = arguments['resources']
  dial = None
  if resources.dval_grading == AUTO:
    dial = _derived(arguments, executor)
    value = 'beside' if dial is None else dial.value
    resources = dataclasses.replace(resources, dval_grading=value)
  return Placed(
    {**arguments, 'resources': resources},
    {} if dial is None or executor == 'local' else {DIAL: dial},
    is_open=arguments['resources'].dval_grading == AUTO and dial is None,
  )


def _derived(arguments: Mapping[str, Any], executor: str) -> Dial | None:
  """What 'auto' means; None: the problems are not prepared."""
  if executor == 'local':
    return Dial('here', 'one host')
  run_dir = arguments['run_dir'].rstrip('/')
  paths = RunPaths(run_dir, tuple(arguments['tasks']))
  names = []
  for folder in paths.problems('dval'):
    manifest = manifests.load_if_done(folder)
    if manifest is None:
      return None
    names.append(task_card.of(manifest).grader)
  for name in names:
    row = registry.REGISTRY.get(name)  # one of the user's own is not looked up
    if row is None or not row.bounded:
      return Dial('beside', f'the grader {name} may run programs')
  return Dial('here', f'{", ".join(dict.fromkeys(names))}: reads text alone')
