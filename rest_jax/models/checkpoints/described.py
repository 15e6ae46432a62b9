"""The network that a checkpoint describes, read without its weights or jax."""

import importlib

from rest_jax.artifacts import model_formats, storage
from rest_jax.models.architecture import DecoderConfig


def network(source: storage.PathLike) -> DecoderConfig:
  """The network of a checkpoint, from its own description.

  Args:
    source: a path in one of the formats that hold weights.

  Returns:
    Its sizes; how it is computed (dtype, remat) is DecoderConfig's default.

  Raises:
    ConfigurationError: no checkpoint is there, or its description is missing,
      incomplete, or of a network that is not implemented.
  """
  module = model_formats.of_weights(source).network
  reader = importlib.import_module(f'rest_jax.models.checkpoints.{module}')
  return reader.network(storage.path(source))
