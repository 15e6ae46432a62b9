"""A model with its LoRA adapters merged in, read tensor by tensor."""

import math
from typing import Any

import ml_dtypes
import numpy as np

from rest_jax.models import adapters, lora
from rest_jax.models.architecture import DecoderConfig
from rest_jax.models.checkpoints import weights
from rest_jax.models.lora import LoraConfig

_DTYPES = {'float32': np.float32, 'bfloat16': ml_dtypes.bfloat16}


class Merged:
  """W + alpha / rank * A B of each adapted matrix, as a weights.Source.

  The sum is made as policies.load makes it for sampling: W is rounded to the
  network's dtype first, and so is the sum.
  """

  def __init__(
    self,
    base: weights.Source,
    arrays: Any,
    model: DecoderConfig,
    config: LoraConfig,
  ):
    """Args:
    base: the model that the adapters belong to.
    arrays: the adapters, as models/adapters.py makes them.
    model: the network.
    config: of the adapters.
    """
    self._base, self._config = base, config
    self._dtype = _DTYPES[model.dtype]
    self._pairs = {
      f'params/{one.path}': adapters.pair(arrays, one)
      for one in lora.adapted(model, config)
    }

  def read(
    self, tensor: weights.Tensor, rows: slice, columns: slice
  ) -> np.ndarray:
    """See weights.Source."""
    block = self._base.read(tensor, rows, columns)
    block = self._rounded(np.asarray(block, np.float32))
    pair = self._pairs.get(tensor.path)
    if pair is None:
      return block
    a, b = (np.asarray(pair[name][tensor.index]) for name in 'ab')
    a = a.reshape(math.prod(tensor.inputs), -1)[columns]
    b = b.reshape(a.shape[1], -1)[:, rows]
    change = (a @ (b * self._config.scale)).T  # published: (out, in)
    return self._rounded(block + change.astype(np.float32))

  def _rounded(self, values: np.ndarray) -> np.ndarray:
    rounded = values.astype(self._dtype, copy=False)
    return rounded.astype(np.float32, copy=False)
