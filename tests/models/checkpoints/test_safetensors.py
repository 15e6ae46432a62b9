"""Folders of safetensors, written here byte by byte from known matrices."""

import numpy as np
import published_llama as published
import pytest

from rest_jax.config import configuration
from rest_jax.models.architecture import DecoderConfig
from rest_jax.models.checkpoints import safetensors as ours

TOKENS = [5, 1, 63, 30, 30, 2]


def network(tied=True, **changes):
  return DecoderConfig(**published.SIZES | changes, tie_embeddings=tied)


@pytest.mark.parametrize('tied, files', [(True, 1), (False, 3)])
def test_a_folder_gives_the_logits_of_its_matrices(tmp_path, tied, files):
  found = published.matrices(tied=tied)
  folder = published.write_safetensors(tmp_path / 'm', found, files=files)
  np.testing.assert_allclose(
    published.our_logits(folder, network(tied), TOKENS),
    published.forward(found, TOKENS),
    atol=2e-5,
  )


def test_safetensors_and_gguf_of_the_same_matrices_are_the_same(tmp_path):
  pytest.importorskip('gguf')
  from rest_jax.models.checkpoints import gguf

  found = published.matrices(tied=False)
  path = published.write_gguf(tmp_path / 'm.gguf', found)
  folder = published.write_safetensors(tmp_path / 'm', found)
  one = gguf.read_params(path, network(False))
  other = ours.read_params(folder, network(False))
  assert list(one) == list(other)
  for name in one:
    np.testing.assert_array_equal(one[name](), other[name]())


@pytest.mark.parametrize('dtype', ['bfloat16', 'float16'])
def test_half_precision_is_read_exactly(tmp_path, dtype):
  import ml_dtypes

  found = published.matrices(tied=True)
  folder = published.write_safetensors(tmp_path / 'm', found, dtype=dtype)
  kind = getattr(ml_dtypes, dtype, dtype)
  w = found['model.embed_tokens.weight']
  read = ours.read_params(folder, network())['params/embedding']()
  assert read.dtype == np.float32 and (read != w).any()
  np.testing.assert_array_equal(read, w.astype(kind).astype(np.float32))


def test_what_config_json_says_otherwise_is_listed(tmp_path):
  folder = published.write_safetensors(
    tmp_path / 'm',
    published.matrices(tied=True),
    config={'rms_norm_eps': 1e-6, 'hidden_act': 'gelu_pytorch_tanh'},
  )
  with pytest.raises(configuration.ConfigurationError) as caught:
    ours.read_params(folder, network(num_layers=5))
  for line in (
    'norm_epsilon: the file has 1e-06, MODEL binds 1e-05',
    'activation: the file has gelu_pytorch_tanh, MODEL binds silu',
    'num_layers: the file has 3, MODEL binds 5',
  ):
    assert line in str(caught.value)
  assert 'mlp_dim' not in str(caught.value)


def test_another_family_is_refused(tmp_path):
  folder = published.write_safetensors(
    tmp_path / 'm', published.matrices(tied=True), config={'model_type': 'bert'}
  )
  with pytest.raises(configuration.ConfigurationError, match="'bert'"):
    ours.read_params(folder, network())


def test_without_config_json_the_tensors_themselves_are_compared(tmp_path):
  found = published.matrices(tied=True)
  del found['model.norm.weight']
  found['model.layers.0.self_attn.q_proj.bias'] = np.zeros(32, np.float32)
  folder = published.write_safetensors(tmp_path / 'm', found, config=None)
  with pytest.raises(configuration.ConfigurationError) as caught:
    ours.read_params(folder, network(mlp_dim=40))
  for line in (
    'model.norm.weight: not in the file',
    'model.layers.0.mlp.up_proj.weight: the file has (64, 32), MODEL needs '
    '(40, 32)',
  ):
    assert line in str(caught.value)
  with pytest.raises(
    configuration.ConfigurationError,
    match='q_proj.bias: nothing in MODEL uses it',
  ):
    ours.read_params(folder, network())


def test_a_repeated_output_matrix_of_a_tied_model_is_not_needed(tmp_path):
  found = published.matrices(tied=False)
  folder = published.write_safetensors(
    tmp_path / 'm', found, config={'tie_word_embeddings': True}
  )
  read = ours.read_params(folder, network(tied=True))
  assert 'params/unembedding' not in read


def test_a_truncated_file_is_named(tmp_path):
  folder = published.write_safetensors(
    tmp_path / 'm', published.matrices(tied=True)
  )
  (file,) = (tmp_path / 'm').glob('*.safetensors')
  whole = file.read_bytes()
  ours.read_params(folder, network())
  for damaged in (whole[:-1], whole[:100], b'<html>not found</html>', b''):
    file.write_bytes(damaged)
    with pytest.raises(configuration.ConfigurationError, match='safetensors'):
      ours.read_params(folder, network())


def test_a_folder_on_an_object_store_is_read_the_same(tmp_path, bucket):
  import pathlib

  from rest_jax.artifacts import storage

  found = published.matrices(tied=True)
  local = published.write_safetensors(tmp_path / 'm', found)
  for file in pathlib.Path(local).iterdir():
    storage.write_bytes(f'{bucket}/m/{file.name}', file.read_bytes())
  read = ours.read_params(f'{bucket}/m', network())
  np.testing.assert_array_equal(
    read['params/embedding'](), found['model.embed_tokens.weight']
  )
