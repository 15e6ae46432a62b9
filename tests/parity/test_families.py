"""Every family against transformers, on random weights.

The models are made by transformers' own classes, saved by `save_pretrained`,
and read here as a user's folder is: config.json, names and shapes, and then the
logits of prompts that are longer than the sliding window, in a packed row, in
cached decoding, and on eight devices.
"""

import dataclasses
import functools
import math
import tempfile

import jax
import jax.numpy as jnp
import numpy as np
import parity_packages
import pytest

from rest_jax.distributed import partitioning
from rest_jax.models import decoding, network
from rest_jax.models.checkpoints import described, policies

torch = parity_packages.need('torch')
transformers = parity_packages.need('transformers')

V, LENGTH, PROMPT = 96, 24, 13
SMALL = dict(
  vocab_size=V,
  hidden_size=32,
  intermediate_size=48,
  num_hidden_layers=2,
  num_attention_heads=4,
  num_key_value_heads=2,
  head_dim=16,
  max_position_embeddings=64,
)
LLAMA3 = {
  'rope_type': 'llama3',
  'rope_theta': 500.0,
  'factor': 8.0,
  'low_freq_factor': 1.0,
  'high_freq_factor': 4.0,
  'original_max_position_embeddings': 16,
}
GEMMA3_ROPE = {
  'full_attention': {
    'rope_type': 'linear',
    'factor': 8.0,
    'rope_theta': 1000.0,
  },
  'sliding_attention': {'rope_type': 'default', 'rope_theta': 100.0},
}
PLAIN_ROPE = {'rope_type': 'default', 'rope_theta': 500.0}
# Class of transformers, and what differs from SMALL.
MODELS = {
  'llama 2': ('Llama', dict(num_key_value_heads=4)),
  'llama 3': ('Llama', dict(rope_parameters=LLAMA3)),
  'llama, tied, exact gelu': (
    'Llama',
    dict(tie_word_embeddings=True, hidden_act='gelu'),
  ),
  'mistral without a window': ('Mistral', dict(sliding_window=None)),
  'mistral': ('Mistral', dict(sliding_window=7)),
  'qwen 2': ('Qwen2', dict(rope_parameters=PLAIN_ROPE)),
  'qwen 2 with late windows': (
    'Qwen2',
    dict(
      num_hidden_layers=3,
      use_sliding_window=True,
      sliding_window=7,
      max_window_layers=2,
    ),
  ),
  'qwen 3': ('Qwen3', dict(tie_word_embeddings=True)),
  'gemma, one key head': ('Gemma', dict(num_key_value_heads=1)),
  'gemma 2': (
    'Gemma2',
    dict(
      num_hidden_layers=5,
      sliding_window=7,
      query_pre_attn_scalar=24,
      attn_logit_softcapping=2.0,
      final_logit_softcapping=3.0,
    ),
  ),
  'gemma 3': (
    'Gemma3Text',
    dict(sliding_window=7, num_hidden_layers=8, rope_parameters=GEMMA3_ROPE),
  ),
}


@functools.cache
def made(name):
  """(a folder of `save_pretrained`, ids, the model's logits of each id)."""
  kind, changes = MODELS[name]
  config = getattr(transformers, f'{kind}Config')(**SMALL | changes)
  config._attn_implementation = 'eager'
  torch.manual_seed(0)
  kind = kind.removesuffix('Text')
  model = getattr(transformers, f'{kind}ForCausalLM')(config).eval()
  with torch.no_grad():
    for weight in model.parameters():
      # Norms and biases start at constants, which would hide a mix-up.
      weight.add_(torch.randn_like(weight) * 0.2)
    ids = torch.randint(0, V, (2, LENGTH), generator=torch.manual_seed(1))
    logits = model(ids).logits.numpy()
  folder = tempfile.TemporaryDirectory()
  model.save_pretrained(folder.name)
  return folder, ids.numpy(), logits


@functools.cache
def loaded(name, **mesh_shape):
  """(network, mesh, its weights there), from the folder alone."""
  folder = made(name)[0].name
  devices = jax.devices()[: math.prod(mesh_shape.values())]
  mesh = partitioning.make_mesh(partitioning.MeshConfig(**mesh_shape), devices)
  config = described.network(folder)
  return config, mesh, policies.load(folder, config, mesh)


@functools.partial(jax.jit, static_argnums=(0, 1))
def full(config, mesh, params, tokens, positions, segments):
  net = network.Decoder(config)
  with partitioning.use(mesh):
    x, _ = net.apply(params, tokens, positions, segments)
    return net.apply(params, x, method='logits')


def rows_of(ids):
  """Rows (tokens, positions, segments): one with half a sequence before it."""
  first, second = ids
  before, padding = 5, LENGTH + 5
  tokens = np.zeros((2, padding), np.int32)
  positions, segments = np.zeros_like(tokens), np.zeros_like(tokens)
  tokens[0, :LENGTH], segments[0, :LENGTH] = first, 1
  positions[0, :LENGTH] = np.arange(LENGTH)
  tokens[1] = np.concatenate([first[:before], second])
  positions[1] = np.concatenate([np.arange(before), np.arange(LENGTH)])
  segments[1] = np.repeat([1, 2], [before, LENGTH])
  return tokens, positions, segments


@pytest.mark.parametrize('name', MODELS)
@pytest.mark.parametrize('devices', [1, 8])
def test_packed_rows_have_the_logits_of_transformers(name, devices):
  _, ids, expected = made(name)
  shape = {'data': 1, 'fsdp': 1, 'tensor': 1}
  if devices == 8:
    shape = {'data': 2, 'fsdp': 2, 'tensor': 2}
    if described.network(made(name)[0].name).num_kv_heads == 1:
      shape = {'data': 2, 'fsdp': 4, 'tensor': 1}  # one head is in one piece
  rows = [np.tile(array, (4, 1)) for array in rows_of(ids)]
  got = full(*loaded(name, **shape), *rows)
  for row in range(0, 8, 2):
    whole, packed = got[row, :LENGTH], got[row + 1]
    np.testing.assert_allclose(whole, expected[0], atol=2e-4)
    np.testing.assert_allclose(packed[:5], expected[0, :5], atol=2e-4)
    np.testing.assert_allclose(packed[5:], expected[1], atol=2e-4)


@pytest.mark.parametrize('name', MODELS)
def test_cached_decoding_has_the_logits_of_transformers(name):
  _, ids, expected = made(name)
  config, _, params = loaded(name, data=1, fsdp=1, tensor=1)
  lengths = jnp.asarray([PROMPT, PROMPT - 4])
  # One place more than the longest prompt: padding must not count.
  prompts = jnp.asarray(ids[:, : PROMPT + 1])
  prefill = jax.jit(decoding.prefill, static_argnums=0)
  cache, first = prefill(config, params, prompts, lengths)
  for loop in ('unroll', 'scan'):
    looped = dataclasses.replace(config, decode_loop=loop)
    step = jax.jit(functools.partial(decoding.step, looped))
    logits = first
    suffix = decoding.empty_suffix(config, 2, 1, LENGTH - PROMPT)
    for time in range(LENGTH - PROMPT):
      for group, length in enumerate(np.asarray(lengths)):
        np.testing.assert_allclose(
          logits[group].reshape(V),
          expected[group, length + time - 1],
          atol=2e-4,
        )
      tokens = jnp.asarray([[ids[g, n + time]] for g, n in enumerate(lengths)])
      logits, suffix = step(
        params, tokens, jnp.int32(time), cache, lengths, suffix
      )
