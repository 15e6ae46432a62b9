"""Weights that the train stage saved: Orbax checkpoints in a stage's folder."""

from typing import Any

from rest_jax.artifacts import manifests, storage
from rest_jax.config import configuration
from rest_jax.models.architecture import DecoderConfig

PARAMS = 'params'  # the item of a checkpoint that holds the weights


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
  return restore(chosen_step(source) / PARAMS, target)


def chosen_step(folder: storage.PathLike) -> storage.Path:
  """The chosen step's folder inside a finished folder of the train stage."""
  manifest = manifests.load(folder, stage='train')
  return storage.path(folder) / manifest.statistics['chosen']


def restore(source: storage.PathLike, target: Any) -> Any:
  """Reads one item of an Orbax checkpoint into the target's shardings.

  Args:
    source: the item's folder.
    target: jax.ShapeDtypeStructs with shardings.

  Raises:
    ConfigurationError: the item has other shapes than the target.
  """
  import orbax.checkpoint as ocp

  try:
    with ocp.StandardCheckpointer() as checkpointer:
      return checkpointer.restore(storage.absolute(source), target)
  except (ValueError, KeyError) as error:
    raise configuration.ConfigurationError(
      f'{source}: does not fit the network that MODEL binds: {error}'
    ) from error
