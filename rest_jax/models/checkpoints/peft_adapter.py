"""Writes LoRA adapters in the format of Hugging Face's peft.

    FOLDER/adapter_config.json          rank, alpha, which modules
    FOLDER/adapter_model.safetensors    lora_A (rank, in), lora_B (out, rank)

`peft.PeftModel.from_pretrained(base, FOLDER)` and servers that take such
adapters (vLLM, for one) add them to the base that they were trained on.
"""

import os
from collections.abc import Iterator
from typing import Any

import numpy as np

from rest_jax.artifacts import storage
from rest_jax.config import configuration
from rest_jax.distributed import multihost
from rest_jax.models import adapters, lora, matrices
from rest_jax.models.architecture import DecoderConfig
from rest_jax.models.checkpoints import families
from rest_jax.models.lora import LoraConfig

CONFIG, WEIGHTS = 'adapter_config.json', 'adapter_model.safetensors'


def write(
  arrays: Any,
  model: DecoderConfig,
  config: LoraConfig,
  base_name: str,
  folder: storage.PathLike,
) -> None:
  """Writes the adapters. Collective: every process must call it.

  Args:
    arrays: the adapters, as models/adapters.py makes them.
    model: the network that they belong to.
    config: of the adapters.
    base_name: where peft finds the base's published weights: a folder, or a
      name of the Hugging Face hub.
    folder: output; made if missing.

  Raises:
    ConfigurationError: the package safetensors is not installed.
  """
  try:
    from safetensors import numpy as safetensors_numpy
  except ImportError as error:
    raise configuration.ConfigurationError(
      f'{folder}: writing safetensors needs a package that is not installed '
      "here. Run pip install 'rest_jax[hf]'."
    ) from error
  tensors = dict(_tensors(arrays, model, config))
  if not multihost.is_writer():
    return
  folder = storage.path(folder)
  storage.write_bytes(
    folder / WEIGHTS,
    safetensors_numpy.save(tensors, metadata={'format': 'pt'}),
  )
  storage.write_json(folder / CONFIG, _config(model, config, base_name))


def _tensors(
  arrays: Any, model: DecoderConfig, config: LoraConfig
) -> Iterator[tuple[str, np.ndarray]]:
  """(name, matrix) of peft's tensors, float32."""
  for one in lora.adapted(model, config):
    pair = adapters.pair(arrays, one)
    inputs = int(np.prod(matrices.shape(model, one.matrix.inputs)))
    rank = config.rank
    a = multihost.fetch(pair['a']).reshape(len(one.layers), inputs, rank)
    b = multihost.fetch(pair['b']).reshape(len(one.layers), rank, -1)
    for index, layer in enumerate(one.layers):
      name = f'base_model.model.{_module(model, one, layer)}'
      # Published matrices are (out, in), and so are both of an adapter.
      yield f'{name}.lora_A.weight', np.ascontiguousarray(a[index].T)
      yield f'{name}.lora_B.weight', np.ascontiguousarray(b[index].T)


def _module(model: DecoderConfig, one: lora.AdaptedMatrix, layer: int) -> str:
  """Hugging Face's name of a layer's matrix, 'model.layers.3.mlp.up_proj'."""
  name = one.path.rpartition('/')[2]
  return families.hf_name(model, name, layer).removesuffix('.weight')


def _config(
  model: DecoderConfig, config: LoraConfig, base_name: str
) -> dict[str, Any]:
  """The content of adapter_config.json."""
  return {
    'peft_type': 'LORA',
    'task_type': 'CAUSAL_LM',
    'base_model_name_or_path': os.fspath(base_name),
    'r': config.rank,
    'lora_alpha': config.alpha,
    'lora_dropout': 0.0,
    'target_modules': _targets(model, config),
    'bias': 'none',
    'fan_in_fan_out': False,
    'inference_mode': True,
  }


def _targets(model: DecoderConfig, config: LoraConfig) -> list[str]:
  """Which modules have an adapter, as peft matches them: by their names' ends.

  Where all layers have the same, a name is that of the matrix alone (q_proj):
  programs other than peft expect that. Else it begins with the layer's number.
  """
  modules: dict[int, list[str]] = {}
  for one in lora.adapted(model, config):
    for layer in one.layers:
      modules.setdefault(layer, []).append(_module(model, one, layer))
  short = {
    layer: sorted(name.rpartition('.')[2] for name in names)
    for layer, names in modules.items()
  }
  first = next(iter(short.values()))
  if len(short) == model.num_layers and all(
    names == first for names in short.values()
  ):
    return first
  return [
    name.removeprefix('model.')
    for layer in sorted(modules)
    for name in modules[layer]
  ]
