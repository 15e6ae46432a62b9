"""Weights that the train stage saved: Orbax checkpoints in a stage's folder."""

from typing import Any

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

PARAMS = 'params'  # the item of a checkpoint that holds the weights


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


def load(source: storage.PathLike, model: DecoderConfig, target: Any) -> Any:
  """The weights of the step that the train stage chose, on the mesh.

  Args:
    source: the stage's folder.
    model: the network; its shapes are those of the target.
    target: jax.ShapeDtypeStructs with shardings (policies.abstract).

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
