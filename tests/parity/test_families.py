"""Every family against transformers, on random weights.

The models are made by transformers' own classes, saved by `save_pretrained`,
and read here as a user's folder is: config.json, names and shapes, and then the
logits of prompts that are longer than the sliding window, in a packed row, in
cached decoding, and on eight devices.
"""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from rest_jax.distributed import partitioning
from rest_jax.models import decoding, network
from rest_jax.models.checkpoints import described, policies

torch = pytest.importorskip('torch', reason='pip install the extra parity')
transformers = pytest.importorskip('transformers')

V, LENGTH, PROMPT = 96, 24, 13
SMALL = dict(
  vocab_size=V,
  hidden_size=32,
  intermediate_size=48,
  num_hidden_layers=5,
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
    dict(use_sliding_window=True, sliding_window=7, max_window_layers=3),
  ),
  'qwen 3': ('Qwen3', dict(tie_word_embeddings=True)),
  'gemma, one key head': ('Gemma', dict(num_key_value_heads=1)),
  'gemma 2': (
    'Gemma2',
    dict(
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
def made(name, **more):
  """(the model of transformers, ids, its logits of each id)."""
  kind, changes = MODELS[name]
  config = getattr(transformers, f'{kind}Config')(**SMALL | changes | more)
  kind = {'Gemma3Text': 'Gemma3'}.get(kind, kind)
  config._attn_implementation = 'eager'
  torch.manual_seed(0)
  model = getattr(transformers, f'{kind}ForCausalLM')(config).eval()
  with torch.no_grad():
    for weight in model.parameters():
      # Norms and biases start at constants, which would hide a mix-up.
      weight.add_(torch.randn_like(weight) * 0.2)
    ids = torch.randint(0, V, (2, LENGTH), generator=torch.manual_seed(1))
    logits = model(ids).logits
  return model, ids.numpy(), logits.numpy()


@pytest.fixture(params=MODELS)
def case(request, tmp_path):
  model, ids, logits = made(request.param)
  model.save_pretrained(tmp_path / 'm')
  return tmp_path / 'm', ids, logits


def loaded(folder, mesh_shape=(1, 1, 1)):
  devices = jax.devices()[: int(np.prod(mesh_shape))]
  sizes = dict(zip(partitioning.AXES, mesh_shape, strict=True))
  mesh = partitioning.make_mesh(partitioning.MeshConfig(**sizes), devices)
  config = described.network(folder)
  return config, mesh, policies.load(folder, config, mesh)


@functools.partial(jax.jit, static_argnums=(0, 1))
def full(config, mesh, params, tokens, positions, segments):
  net = network.Decoder(config)
  with partitioning.use(mesh):
    x, _ = net.apply(params, tokens, positions, segments)
    return net.apply(params, x, method='logits')


def test_a_whole_sequence_has_the_logits_of_transformers(case):
  folder, ids, expected = case
  config, mesh, params = loaded(folder)
  places = np.broadcast_to(np.arange(LENGTH), ids.shape)
  got = full(config, mesh, params, ids, places, np.ones_like(ids))
  np.testing.assert_allclose(got, expected, atol=2e-4)
  # Two sequences in one row, the second further from the row's start.
  row = np.concatenate([ids[0, :5], ids[1]])[None]
  places = np.concatenate([np.arange(5), np.arange(LENGTH)])[None]
  segments = np.repeat([1, 2], [5, LENGTH])[None]
  got = full(config, mesh, params, row, places, segments)
  np.testing.assert_allclose(got[0, :5], expected[0, :5], atol=2e-4)
  np.testing.assert_allclose(got[0, 5:], expected[1], atol=2e-4)


@pytest.mark.parametrize('decode_loop', ['unroll', 'scan'])
def test_cached_decoding_has_the_logits_of_transformers(case, decode_loop):
  import dataclasses

  folder, ids, expected = case
  config, mesh, params = loaded(folder)
  config = dataclasses.replace(config, decode_loop=decode_loop)
  lengths = jnp.asarray([PROMPT, PROMPT - 4])
  prefill, step = (
    jax.jit(function, static_argnums=0)
    for function in (decoding.prefill, decoding.step)
  )
  # One place more than the longest prompt: padding must not count.
  prompts = jnp.asarray(ids[:, : PROMPT + 1])
  cache, logits = prefill(config, params, prompts, lengths)
  suffix = decoding.empty_suffix(config, 2, 1, LENGTH - PROMPT)
  for time in range(LENGTH - PROMPT):
    for group, length in enumerate(np.asarray(lengths)):
      row = logits[group].reshape(V)
      np.testing.assert_allclose(
        row, expected[group, length + time - 1], atol=2e-4
      )
    tokens = jnp.asarray([[ids[g, n + time]] for g, n in enumerate(lengths)])
    logits, suffix = step(
      config, params, tokens, jnp.int32(time), cache, lengths, suffix
    )


@pytest.mark.parametrize(
  'mesh_shape', [(1, 8, 1), (2, 2, 2)], ids=['fsdp', 'all three']
)
def test_eight_devices_have_the_logits_of_transformers(case, mesh_shape):
  folder, ids, expected = case
  if mesh_shape[2] > described.network(folder).num_kv_heads:
    pytest.skip('one key head cannot be split')
  config, mesh, params = loaded(folder, mesh_shape)
  ids = np.tile(ids, (4, 1))
  places = np.broadcast_to(np.arange(LENGTH), ids.shape)
  got = full(config, mesh, params, ids, places, np.ones_like(ids))
  np.testing.assert_allclose(got, np.tile(expected, (4, 1, 1)), atol=2e-4)
