"""Weights that the train stage saved: Orbax checkpoints in a stage's folder.

A folder of an M-step with LoRA holds adapters only. Its manifest says which
model they belong to; policies.py loads that one and merges them into it.
"""

import os
from typing import Any, NamedTuple

from rest_jax.artifacts import (
  manifests,
  run_paths,
  storage,
  weight_digests,
)
from rest_jax.config import configuration
from rest_jax.models import architecture
from rest_jax.models.architecture import DecoderConfig
from rest_jax.models.checkpoints import orbax_items
from rest_jax.models.lora import LoraConfig

PARAMS = 'params'  # the item of a checkpoint that holds what was trained
BASE = 'base'  # of a manifest's record: the model that adapters belong to
_RUN = '../../'  # of a run, from <run>/<model>/checkpoints


class AdapterBase(NamedTuple):
  """The model that a folder of adapters belongs to.

  Attributes:
    path: where it lies.
    digest: what it was when they were trained (policies.digest).
    config: of the adapters.
  """

  path: storage.Path
  digest: str
  config: LoraConfig


def network(source: storage.PathLike) -> DecoderConfig:
  """The network of a folder of the train stage, as its fingerprint says.

  Raises:
    ConfigurationError: an older version described networks in another way.
  """
  made = manifests.load(source, stage='train').fingerprint['semantic']
  try:
    return architecture.from_semantics(made['model'])
  except TypeError as error:
    raise configuration.ConfigurationError(
      f'{source}: trained by a version of rest_jax that described networks in '
      f'another way ({error}). Bind MODEL yourself.'
    ) from error


def adapter_base(source: storage.PathLike) -> AdapterBase | None:
  """The model that the adapters in a folder of the train stage belong to.

  Args:
    source: the stage's folder.

  Returns:
    None where it holds a whole model.
  """
  manifest = manifests.load(source, stage='train')
  semantic = manifest.fingerprint['semantic']
  # Runs of earlier versions have no field `lora`.
  made = semantic.get('config', {}).get('lora', {})
  if not made.get('rank'):
    return None
  base = manifest.recorded[BASE]
  if base.startswith(_RUN):
    run_dir = storage.absolute(source).parent.parent
    base = run_dir / base.removeprefix(_RUN)
  return AdapterBase(
    storage.path(base),
    manifest.fingerprint['inputs']['init'],
    LoraConfig(**made),
  )


def base_to_record(folder: storage.PathLike, base: storage.PathLike) -> str:
  """How a folder of adapters names the model that they belong to.

  Relative where both lie in the same run, which can then be moved.

  Args:
    folder: <run>/<model>/checkpoints.
    base: the model's path.
  """
  run_dir = os.fspath(storage.absolute(folder).parent.parent).rstrip('/')
  place = os.fspath(storage.absolute(base))
  if place.startswith(f'{run_dir}/'):
    return _RUN + place.removeprefix(f'{run_dir}/')
  return place


def load(source: storage.PathLike, model: DecoderConfig, target: Any) -> Any:
  """What the train stage saved of the step that it chose, on the mesh.

  Args:
    source: the stage's folder.
    model: the network; its shapes are those of the target.
    target: jax.ShapeDtypeStructs with shardings, of the parameters
      (policies.abstract) or of adapters (models/adapters.py).

  Raises:
    ConfigurationError: the checkpoint does not fit the target.
  """
  del model
  return orbax_items.restore(chosen_step(source) / PARAMS, target)


def opened(source: storage.PathLike, config: DecoderConfig) -> orbax_items.Item:
  """Opens the step that the train stage chose, to read it array by array.

  Args:
    source: the stage's folder.
    config: the network.

  Raises:
    ConfigurationError: the checkpoint is of another network, or damaged.
  """
  return orbax_items.opened(chosen_step(source) / PARAMS, config)


def same_as(source: storage.PathLike) -> str | None:
  """The model that an M-step gave back unchanged: base or iteration_NN.

  Args:
    source: any path.

  Returns:
    None where it holds no checkpoint of the train stage, or a trained one.
  """
  manifest = manifests.load_if_done(source)
  found = manifest.statistics.get(weight_digests.SAME_AS) if manifest else None
  if found is None:
    return None
  number = found['iteration']
  return run_paths.iteration(number) if number else run_paths.BASE


def iteration(source: storage.PathLike) -> int:
  """The iteration of the loop that made the weights; 0: the base, or SFT."""
  manifest = manifests.load(source, stage='train')
  own = manifest.fingerprint['semantic']['iteration']
  return manifest.statistics.get(weight_digests.SAME_AS, {}).get(
    'iteration', own
  )


def chosen_step(folder: storage.PathLike) -> storage.Path:
  """The chosen step's folder inside a finished folder of the train stage."""
  manifest = manifests.load(folder, stage='train')
  return storage.path(folder) / manifest.statistics['chosen']
