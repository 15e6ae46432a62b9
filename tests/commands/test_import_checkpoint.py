"""rest-jax import: once, whole or not at all, read on any mesh."""

import json
import pathlib
import shutil
import subprocess
import sys

import jax
import numpy as np
import published_llama
import pytest
import small_tokenizers
from meshes import mesh

from rest_jax.artifacts import (
  file_digests,
  model_formats,
  orbax_files,
  storage,
  weight_digests,
)
from rest_jax.commands import import_checkpoint, models
from rest_jax.config import configuration
from rest_jax.models.checkpoints import described, orbax_items, policies
from rest_jax.tokenizers import vocabulary_files


@pytest.fixture
def source(tmp_path):
  """A published folder in bfloat16, with its tokenizer."""
  path = published_llama.write_safetensors(
    tmp_path / 'published',
    published_llama.matrices(tied=False),
    dtype='bfloat16',
    files=2,
    config={'max_position_embeddings': 32, 'eos_token_id': 2, 'vocab_size': 64},
  )
  return pathlib.Path(path)


@pytest.fixture
def base(source, tmp_path):
  import_checkpoint.import_checkpoint(source, tmp_path / 'base')
  return tmp_path / 'base'


def tensors(path):
  config = described.network(path)
  return published_llama.read(policies.opened(path, config), config)


def digest(path):
  return weight_digests.digest(path, file_digests.Cache())


def test_a_base_is_its_source_in_its_own_dtype(source, base, capsys):
  assert model_formats.of_weights(base).name == 'orbax'
  assert described.network(base) == described.network(source)
  assert digest(base) == digest(source)  # no value was changed
  found = orbax_items.leaves(base / orbax_files.PARAMS)
  assert {str(leaf.dtype) for leaf in found.values()} == {'bfloat16'}
  for key, value in tensors(source).items():
    np.testing.assert_array_equal(tensors(base)[key], value)
  models.run([str(base)])
  assert f'{base}: orbax' in capsys.readouterr().out


@pytest.mark.parametrize('sizes', [(1, 1, 1), (2, 2, 2), (1, 8, 1)])
def test_a_base_is_restored_on_any_mesh_in_any_dtype(source, base, sizes):
  config = described.network(base)
  for dtype in ('float32', 'bfloat16'):
    want = policies.load(source, config, mesh(1, 1, 1), dtype=dtype)
    got = policies.load(base, config, mesh(*sizes), dtype=dtype)
    jax.tree.map(np.testing.assert_array_equal, got, want)
    kinds = {str(leaf.dtype) for leaf in jax.tree.leaves(got)}
    assert kinds == {dtype}
  shards = got['params']['embedding'].sharding
  assert len(shards.device_set) == np.prod(sizes)


def test_a_base_in_another_dtype_is_another_model(source, tmp_path):
  full = published_llama.write_safetensors(
    tmp_path / 'full',
    published_llama.matrices(tied=True),
    config={'max_position_embeddings': 32},
  )
  import_checkpoint.import_checkpoint(full, tmp_path / 'a')
  import_checkpoint.import_checkpoint(full, tmp_path / 'b', dtype='bfloat16')
  assert digest(tmp_path / 'a') == digest(full)
  assert digest(tmp_path / 'b') != digest(full)


def test_importing_again_does_nothing_and_another_source_is_refused(
  source, base, capsys
):
  before = {p: p.stat().st_mtime_ns for p in base.rglob('*')}
  import_checkpoint.import_checkpoint(source, base)
  assert 'imported already' in capsys.readouterr().out
  assert before == {p: p.stat().st_mtime_ns for p in base.rglob('*')}
  with pytest.raises(configuration.ConfigurationError, match='not what would'):
    import_checkpoint.import_checkpoint(source, base, dtype='float32')


def test_a_folder_of_something_else_is_refused(source, tmp_path):
  (tmp_path / 'base').mkdir()
  (tmp_path / 'base' / 'thesis.tex').write_text('mine')
  with pytest.raises(configuration.ConfigurationError, match='not empty'):
    import_checkpoint.import_checkpoint(source, tmp_path / 'base')
  assert (tmp_path / 'base' / 'thesis.tex').read_text() == 'mine'


@pytest.mark.parametrize('where', ['save', 'describe'])
def test_a_killed_import_is_no_checkpoint_and_is_made_anew(
  source, tmp_path, where
):
  """The process dies before the weights are written, or just after it."""
  script = (
    'import os\n'
    'from rest_jax.commands import import_checkpoint\n'
    'from rest_jax.models.checkpoints import orbax_base, orbax_items\n'
    f'module = orbax_items if {where!r} == "save" else orbax_base\n'
    f'setattr(module, {where!r}, lambda *_, **__: os._exit(9))\n'
    'import_checkpoint.run(["--from", "published", "--to", "base"])\n'
  )
  ended = subprocess.run([sys.executable, '-c', script], cwd=tmp_path)
  assert ended.returncode == 9
  with pytest.raises(configuration.ConfigurationError, match='no checkpoint'):
    model_formats.of_weights(tmp_path / 'base')
  import_checkpoint.import_checkpoint(source, tmp_path / 'base')
  assert digest(tmp_path / 'base') == digest(source)
  assert not list((tmp_path / 'base').glob('*started*'))


def test_files_that_are_missing_cut_off_or_altered_are_named(base):
  config = described.network(base)
  rows = orbax_files.description(base)['files']
  name = max(rows, key=lambda row: row['bytes'])['name']
  whole = (base / name).read_bytes()
  altered = bytearray(whole)
  altered[len(whole) // 2] ^= 1
  for data in (None, whole[:-1], bytes(altered)):
    if data is None:
      (base / name).unlink()
    else:
      (base / name).write_bytes(data)
    with pytest.raises(configuration.ConfigurationError, match=name):
      digest(base)
    with pytest.raises(configuration.ConfigurationError, match=name):
      policies.opened(base, config)
    if data != bytes(altered):
      with pytest.raises(configuration.ConfigurationError, match=name):
        policies.load(base, config, mesh(1, 1, 1))


def test_arrays_that_are_missing_or_extra_are_listed(base):
  params = base / orbax_files.PARAMS
  shapes = {
    path: leaf.shape for path, leaf in orbax_items.leaves(params).items()
  }
  shape = shapes.pop('params/blocks/query')
  shapes['params/blocks/query_bias'] = (3, 4)
  with pytest.raises(configuration.ConfigurationError) as caught:
    orbax_items.require_same(params, shapes)
  assert 'params/blocks/query_bias: not in the checkpoint' in str(caught.value)
  assert f'params/blocks/query: {shape}, nothing' in str(caught.value)


def test_another_network_of_the_same_shapes_is_refused(base):
  import dataclasses

  config = dataclasses.replace(described.network(base), rope_theta=7.0)
  with pytest.raises(configuration.ConfigurationError, match='rope_theta'):
    policies.load(base, config, mesh(1, 1, 1))


def test_an_incomplete_source_is_named_tensor_by_tensor(source, tmp_path):
  last = sorted(source.glob('*.safetensors'))[-1]
  length = int.from_bytes(last.read_bytes()[:8], 'little')
  header = json.loads(last.read_bytes()[8 : 8 + length])
  lost = next(name for name in header if name != '__metadata__')
  found = published_llama.matrices(tied=False)
  del found[lost]
  shutil.rmtree(source)
  published_llama.write_safetensors(
    source, found, config={'max_position_embeddings': 32}
  )
  with pytest.raises(configuration.ConfigurationError, match=f'{lost}: not in'):
    import_checkpoint.import_checkpoint(source, tmp_path / 'base')
  assert not (tmp_path / 'base').exists()


def test_the_tokenizer_comes_along(tmp_path):
  tokenizer = small_tokenizers.byte_level()
  size = tokenizer.get_vocab_size()
  rng = np.random.default_rng(0)
  found = published_llama.matrices(tied=True)
  found['model.embed_tokens.weight'] = rng.standard_normal(
    (size, published_llama.D)
  ).astype(np.float32)
  folder = tmp_path / 'published'
  published_llama.write_safetensors(
    folder, found, config={'max_position_embeddings': 32, 'vocab_size': size}
  )
  tokenizer.save(str(folder / 'tokenizer.json'))
  (folder / 'tokenizer_config.json').write_text(
    json.dumps({'eos_token': '<|end|>', 'chat_template': 'a template'})
  )
  import_checkpoint.import_checkpoint(folder, tmp_path / 'base')
  one, other = (
    vocabulary_files.load(str(p)) for p in (folder, tmp_path / 'base')
  )
  assert one.digest == other.digest and one.eos_ids == other.eos_ids
  assert vocabulary_files.chat_template(str(tmp_path / 'base')) == 'a template'
  assert (
    'tokenizer.json' in orbax_files.description(tmp_path / 'base')['tokenizer']
  )


def test_a_base_lies_in_a_bucket(source, bucket):
  target = f'{bucket}/models/base'
  import_checkpoint.import_checkpoint(source, target)
  config = described.network(target)
  got = policies.load(target, config, mesh(1, 4, 1))
  want = policies.load(source, config, mesh(1, 1, 1))
  jax.tree.map(np.testing.assert_array_equal, got, want)
  assert digest(target) == digest(source)
  assert not (storage.path(target) / 'import_started.json').exists()
