"""Every family against transformers, on random weights.

The models are made by transformers' own classes, saved by `save_pretrained`,
and read here as a user's folder is: config.json, names and shapes, and then the
logits of prompts that are longer than the sliding window, in a packed row, in
cached decoding, and on eight devices.
"""

import dataclasses
import functools
import tempfile

import cached_decoding
import jax
import meshes
import numpy as np
import pytest
from parity_models import LENGTH, MODELS, V, made

from rest_jax.distributed import partitioning
from rest_jax.models import network
from rest_jax.models.checkpoints import described, policies

PROMPT = 13
# Meshes.
ALONE = {'data': 1, 'fsdp': 1, 'tensor': 1}
CUBE = {'data': 2, 'fsdp': 2, 'tensor': 2}


@functools.cache
def folder_of(name):
  """A folder of `save_pretrained`; it lasts as long as the process."""
  folder = tempfile.TemporaryDirectory()
  made(name)[0].save_pretrained(folder.name)
  return folder


@functools.cache
def loaded(name, **mesh_shape):
  """(network, mesh, its weights there), from the folder alone."""
  folder = folder_of(name).name
  mesh = meshes.mesh(**mesh_shape)
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
  shape = ALONE if devices == 1 else CUBE
  if devices == 8:
    if described.network(folder_of(name).name).num_kv_heads == 1:
      shape = {'data': 2, 'fsdp': 4, 'tensor': 1}  # one head is in one piece
  rows = [np.tile(array, (4, 1)) for array in rows_of(ids)]
  got = full(*loaded(name, **shape), *rows)
  for row in range(0, 8, 2):
    whole, packed = got[row, :LENGTH], got[row + 1]
    np.testing.assert_allclose(whole, expected[0], atol=2e-4)
    np.testing.assert_allclose(packed[:5], expected[0, :5], atol=2e-4)
    np.testing.assert_allclose(packed[5:], expected[1], atol=2e-4)


@pytest.mark.parametrize(
  'name, shape',
  [
    *((name, ALONE) for name in MODELS),
    *((name, CUBE) for name in ('qwen 2', 'gemma 2', 'gemma 3')),
  ],
  ids=lambda value: (
    value if isinstance(value, str) else 'x'.join(map(str, value.values()))
  ),
)
def test_cached_decoding_has_the_logits_of_transformers(name, shape):
  _, ids, expected = made(name)
  ids, expected = np.tile(ids, (2, 1)), np.tile(expected, (2, 1, 1))
  groups = len(ids)
  config, mesh, params = loaded(name, **shape)
  lengths = [PROMPT, PROMPT - 4] * 2
  new = LENGTH - PROMPT
  # The prefix is read apart where all prompts begin alike: of one text. Scanned
  # layers compile faster; unrolled ones are looked at where they differ most.
  ways = [('scan', PROMPT // 2)]
  if name == 'gemma 3':
    ways.append(('unroll', 0))
  for loop, prefix in ways:
    looped = dataclasses.replace(config, decode_loop=loop)
    of_row = [0] * groups if prefix else range(groups)
    prompts = [
      ids[row][:length] for row, length in zip(of_row, lengths, strict=True)
    ]
    fed = cached_decoding.Fed(
      *(looped, params, prompts), new=new, prefix=prefix, mesh=mesh
    )
    for time in range(new):
      places = [length - 1 + time for length in lengths]
      logits = fed.feed(ids[of_row, places][:, None])
      wanted = expected[of_row, places]
      np.testing.assert_allclose(logits[:, 0, :V], wanted, atol=2e-4)
