"""Models, problems and machines that sizes are derived for."""

from rest_jax.executors import machine, topologies
from rest_jax.executors.machine import Machine
from rest_jax.models.architecture import DecoderConfig
from rest_jax.pipeline import (
  sampling_sizes,
  sizes,
  training_sizes,
  validation_sizes,
)

GIB = 2**30
SMOLLM2 = DecoderConfig(
  vocab_size=49152,
  num_layers=30,
  embed_dim=576,
  num_heads=9,
  num_kv_heads=3,
  head_dim=64,
  mlp_dim=1536,
  max_length=8192,
)
LLAMA_8B = DecoderConfig(
  vocab_size=128256,
  num_layers=32,
  embed_dim=4096,
  num_heads=32,
  num_kv_heads=8,
  head_dim=128,
  mlp_dim=14336,
  max_length=8192,
  tie_embeddings=False,
  dtype='bfloat16',
)
LAPTOP = Machine(kind='cpu', devices=1, device_bytes=8 * GIB, name='CPU')
GPU = Machine(kind='gpu', devices=1, device_bytes=60 * GIB, name='GPU')
POD = machine.of_slices(topologies.parse('v5e:16x16', 'POD'))


def asked(model=SMOLLM2, **changes):
  return sizes.Asked(
    **{
      'model': model,
      'num_samples': 8,
      'max_decode_length': 96,
      'solutions_kept': 10,
    }
    | changes
  )


def prompts(train=(50,) * 45, evaluated=(50,) * 15, validated=5):
  return sizes.Prompts(train=train, evaluated=evaluated, validated=validated)


def values(asked, prompts, machine):
  """{dial: value} of all sizes that are derived."""
  work = asked, prompts, machine
  found = sampling_sizes.derive(*work) | training_sizes.derive(*work)
  found['DVAL_MESH_TENSOR'] = validation_sizes.tensor(
    asked, machine, found['GREEDY_GROUPS'].value
  )
  return {name: dial.value for name, dial in found.items()}
