"""All sizes that follow from the model, the problems and the devices."""

import math
from collections.abc import Mapping

from rest_jax.executors import machine
from rest_jax.pipeline import (
  own_defaults,
  sampling_sizes,
  sizes,
  training_sizes,
  validation_sizes,
)
from rest_jax.pipeline.sizes import Dial


def derive(
  asked: sizes.Asked,
  prompts: sizes.Prompts,
  sampling: machine.Machine,
  training: machine.Machine,
  *,
  samples: bool = True,
  trains: bool = True,
) -> dict[str, Dial]:
  """The sizes of sampling, of D_val and of training, each with its reason.

  Args:
    asked: the dials that are set.
    prompts: of the run's problems.
    sampling: the devices of one worker.
    training: the devices of the M-step, and of D_val.
    samples: whether the sizes of sampling are wanted.
    trains: whether those of training are.

  Raises:
    ConfigurationError: the model does not fit into the devices' memory.
  """
  found = {}
  if samples:
    found |= sampling_sizes.derive(asked, prompts, sampling)
    found |= _validation(asked, prompts, sampling, training, found)
  if trains:
    found |= training_sizes.derive(asked, prompts, training)
    found |= own_defaults.schedule(asked, prompts, found)
  return found


def _validation(
  asked: sizes.Asked,
  prompts: sizes.Prompts,
  sampling: machine.Machine,
  training: machine.Machine,
  found: Mapping[str, Dial],
) -> dict[str, Dial]:
  """The sizes of D_val, which is sampled on the devices of the training."""
  greedy = found['GREEDY_GROUPS']
  unit = math.lcm(training.devices, sampling.devices)
  rows = sizes.multiple(greedy.value, unit)
  tensor = validation_sizes.tensor(asked, training, rows)
  fitting = validation_sizes.fitting_rows(
    *(asked, training),
    split=tensor.value,
    rows=rows,
    prompts=prompts,
    bucket=found['PROMPT_BUCKET'].value,
  )
  return {
    'GREEDY_GROUPS': greedy._replace(value=max(unit, fitting // unit * unit)),
    'DVAL_MESH_TENSOR': tensor,
  }
