"""Folders of safetensors, written here byte by byte from known matrices."""

import json

import numpy as np
import published_llama as published
import pytest

from rest_jax.config import configuration
from rest_jax.models.checkpoints import policies
from rest_jax.models.checkpoints import safetensors as ours

TOKENS = [5, 1, 63, 30, 30, 2]


@pytest.mark.parametrize('tied, files', [(True, 1), (False, 3)])
def test_a_folder_gives_the_logits_of_its_matrices(tmp_path, tied, files):
  found = published.matrices(tied=tied)
  folder = published.write_safetensors(tmp_path / 'm', found, files=files)
  np.testing.assert_allclose(
    published.our_logits(folder, published.network(tied), TOKENS),
    published.forward(found, TOKENS),
    atol=2e-5,
  )


def test_safetensors_and_gguf_of_the_same_matrices_are_the_same(tmp_path):
  pytest.importorskip('gguf')
  from rest_jax.models.checkpoints import gguf

  found = published.matrices(tied=False)
  path = published.write_gguf(tmp_path / 'm.gguf', found)
  folder = published.write_safetensors(tmp_path / 'm', found)
  config = published.network(False)
  one = published.read(gguf.opened(path, config), config)
  other = published.read(ours.opened(folder, config), config)
  assert one.keys() == other.keys()
  for name in one:
    np.testing.assert_array_equal(one[name], other[name])


@pytest.mark.parametrize('dtype', ['bfloat16', 'float16'])
def test_half_precision_is_read_exactly(tmp_path, dtype):
  import ml_dtypes

  found = published.matrices(tied=True)
  folder = published.write_safetensors(tmp_path / 'm', found, dtype=dtype)
  kind = getattr(ml_dtypes, dtype, dtype)
  w = found['model.embed_tokens.weight']
  read = embedding(folder)
  assert read.dtype == kind and (read.astype(np.float32) != w).any()
  np.testing.assert_array_equal(read, w.astype(kind))


# ---- which files count ------------------------------------------------------


def embedding(folder):
  config = published.network()
  return published.read(ours.opened(folder, config), config)['embedding', None]


def stale(tmp_path, folder, name, **changes):
  """Another file in the folder: the same names, other values."""
  found = published.matrices(tied=True, seed=1) | changes
  other = published.write_safetensors(tmp_path / 'stale', found)
  [file] = (tmp_path / 'stale').glob('*.safetensors')
  file.rename(tmp_path / folder / name)
  return other


def write_index(folder, found, files=1):
  names = list(found)
  folder.joinpath('model.safetensors.index.json').write_text(
    json.dumps(
      {
        'weight_map': {
          name: f'model-{number + 1:05d}-of-{files:05d}.safetensors'
          for number in range(files)
          for name in names[number::files]
        }
      }
    )
  )


def test_the_index_says_which_file_counts(tmp_path):
  found = published.matrices(tied=True)
  folder = published.write_safetensors(tmp_path / 'm', found, files=2)
  before = policies.digest(folder)
  stale(tmp_path, 'm', 'zz-old.safetensors')
  with pytest.raises(configuration.ConfigurationError) as caught:
    ours.opened(folder, published.network())
  for name in ('zz-old.safetensors', 'model-0000', 'index.json'):
    assert name in str(caught.value)
  write_index(tmp_path / 'm', found, files=2)
  np.testing.assert_array_equal(
    embedding(folder), found['model.embed_tokens.weight']
  )
  assert policies.digest(folder) == before


def test_an_index_that_does_not_fit_its_files_is_refused(tmp_path):
  found = published.matrices(tied=True)
  folder = published.write_safetensors(tmp_path / 'm', found, files=2)
  write_index(tmp_path / 'm', found | {'model.extra.weight': None}, files=2)
  with pytest.raises(
    configuration.ConfigurationError, match='model.extra.weight.*does not hold'
  ):
    ours.opened(folder, published.network())
  (tmp_path / 'm' / 'model-00002-of-00002.safetensors').unlink()
  with pytest.raises(
    configuration.ConfigurationError, match='00002-of-00002.* named by'
  ):
    ours.opened(folder, published.network())


def test_a_missing_file_of_several_is_named_without_an_index(tmp_path):
  found = published.matrices(tied=True)
  folder = published.write_safetensors(tmp_path / 'm', found, files=3)
  (tmp_path / 'm' / 'model-00002-of-00003.safetensors').unlink()
  with pytest.raises(
    configuration.ConfigurationError, match='model-00002-of-00003.*not there'
  ):
    ours.opened(folder, published.network())


def test_mistrals_own_files_are_passed_over(tmp_path):
  found = published.matrices(tied=True)
  folder = published.write_safetensors(tmp_path / 'm', found)
  stale(tmp_path, 'm', 'consolidated.safetensors')
  np.testing.assert_array_equal(
    embedding(folder), found['model.embed_tokens.weight']
  )
  (tmp_path / 'm' / 'model-00001-of-00001.safetensors').unlink()
  with pytest.raises(configuration.ConfigurationError, match='consolidated'):
    ours.opened(folder, published.network())


@pytest.mark.parametrize('indexed', [True, False])
def test_an_adapter_is_refused_and_its_tensor_named(tmp_path, indexed):
  found = published.matrices(tied=True)
  folder = published.write_safetensors(tmp_path / 'm', found)
  if indexed:
    write_index(tmp_path / 'm', found)
  name = 'base_model.model.model.layers.0.self_attn.q_proj.lora_A.weight'
  part = {name: np.zeros((4, 32), np.float32)}
  published.write_safetensors(tmp_path / 'a', part)
  [file] = (tmp_path / 'a').glob('*.safetensors')
  file.rename(tmp_path / 'm' / 'adapter_model.safetensors')
  with pytest.raises(
    configuration.ConfigurationError, match='adapter_model.*lora_A'
  ):
    ours.opened(folder, published.network())


def test_another_family_is_refused(tmp_path):
  folder = published.write_safetensors(
    tmp_path / 'm', published.matrices(tied=True), config={'model_type': 'bert'}
  )
  with pytest.raises(configuration.ConfigurationError, match="'bert'"):
    ours.opened(folder, published.network())


def test_without_config_json_the_tensors_themselves_are_compared(tmp_path):
  found = published.matrices(tied=True)
  del found['model.norm.weight']
  found['model.layers.0.self_attn.q_proj.bias'] = np.zeros(32, np.float32)
  folder = published.write_safetensors(tmp_path / 'm', found, config=None)
  with pytest.raises(configuration.ConfigurationError) as caught:
    ours.opened(folder, published.network(mlp_dim=40))
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
    ours.opened(folder, published.network())


@pytest.mark.parametrize('stated', [True, None])
@pytest.mark.parametrize('kind', ['safetensors', 'gguf'])
def test_a_tied_model_drops_an_output_matrix_only_if_it_is_the_embedding(
  tmp_path, kind, stated, monkeypatch
):
  """Dropping another one would be another model, in silence."""
  reader = {
    'gguf': 'models.checkpoints.gguf',
    'safetensors': 'artifacts.safetensors_files',
  }[kind]
  # Of 64 rows, this many are compared at a time.
  monkeypatch.setattr(f'rest_jax.{reader}._ROWS', 10)
  found = published.matrices(tied=False)

  config = published.network(tied=True)

  def read(name):
    if kind == 'gguf':
      pytest.importorskip('gguf')
      from rest_jax.models.checkpoints import gguf

      path = published.write_gguf(tmp_path / f'{name}.gguf', found)
      return published.read(gguf.opened(path, config), config)
    folder = published.write_safetensors(
      tmp_path / name, found, config={'tie_word_embeddings': stated}
    )
    return published.read(ours.opened(folder, config), config)

  with pytest.raises(
    configuration.ConfigurationError, match='differs from .*embed'
  ):
    read('other')
  found['lm_head.weight'] = found['model.embed_tokens.weight'].copy()
  params = read('same')
  assert ('unembedding', None) not in params
  np.testing.assert_array_equal(
    params['embedding', None], found['lm_head.weight']
  )
  found['lm_head.weight'][-1, -1] += 1e-3  # beyond the first rows compared
  with pytest.raises(configuration.ConfigurationError, match='tie'):
    read('almost')


def test_a_truncated_file_is_named(tmp_path):
  folder = published.write_safetensors(
    tmp_path / 'm', published.matrices(tied=True)
  )
  (file,) = (tmp_path / 'm').glob('*.safetensors')
  whole = file.read_bytes()
  ours.opened(folder, published.network())
  for damaged in (whole[:-1], whole[:100], b'<html>not found</html>', b''):
    file.write_bytes(damaged)
    with pytest.raises(configuration.ConfigurationError, match='safetensors'):
      ours.opened(folder, published.network())


def test_a_folder_on_an_object_store_is_read_the_same(tmp_path, bucket):
  import pathlib

  from rest_jax.artifacts import storage

  found = published.matrices(tied=True)
  local = published.write_safetensors(tmp_path / 'm', found)
  for file in pathlib.Path(local).iterdir():
    storage.write_bytes(f'{bucket}/m/{file.name}', file.read_bytes())
  np.testing.assert_array_equal(
    embedding(f'{bucket}/m'), found['model.embed_tokens.weight']
  )
