"""Where a policy's weights are found, and what identifies them."""

import dataclasses
import os
import re

import jax
import numpy as np
import published_llama as published
import pytest
import tiny_run

from rest_jax.artifacts import file_digests, safetensors_files, storage
from rest_jax.config import configuration
from rest_jax.distributed import multihost, partitioning
from rest_jax.models.architecture import DecoderConfig
from rest_jax.models.checkpoints import orbax_items, policies

CONFIG = DecoderConfig(**published.SIZES)


def mesh(number=1):
  config = partitioning.MeshConfig()
  return partitioning.make_mesh(config, jax.devices()[:number])


@pytest.fixture
def folder(tmp_path):
  return published.write_safetensors(
    tmp_path / 'm', published.matrices(tied=True)
  )


def test_weights_are_the_same_on_one_device_and_split_over_eight(folder):
  one = policies.load(folder, CONFIG, mesh())
  split = policies.load(folder, CONFIG, mesh(8))
  sizes = jax.tree.map(lambda w: w.addressable_shards[0].data.size, split)
  assert sum(jax.tree.leaves(sizes)) < CONFIG.num_parameters / 2
  jax.tree.map(np.testing.assert_array_equal, one, split)


def test_weights_are_cast_to_the_dtype_asked_for(folder):
  plain = policies.load(folder, CONFIG, mesh())
  half = policies.load(folder, CONFIG, mesh(), dtype='bfloat16')
  for w, short in zip(
    jax.tree.leaves(plain), jax.tree.leaves(half), strict=True
  ):
    assert (w.dtype, short.dtype) == (np.float32, jax.numpy.bfloat16)
    np.testing.assert_array_equal(w.astype('bfloat16'), short)


def test_a_digest_follows_the_weights_and_not_their_place(tmp_path, folder):
  found = published.matrices(tied=True)
  again = published.write_safetensors(tmp_path / 'again', found)
  found['model.norm.weight'][0] += 1e-3
  other = published.write_safetensors(tmp_path / 'other', found)
  digest = policies.digest(folder)
  assert digest == policies.digest(again) != policies.digest(other)


def test_weights_are_read_by_one_process_and_once_for_a_run(
  tmp_path, folder, monkeypatch
):
  told = []

  def from_writer(function):
    told.append(function())
    return 'of process 0'

  monkeypatch.setattr(multihost, 'from_writer', from_writer)
  monkeypatch.setenv(file_digests.CACHE, str(tmp_path / 'files.json'))
  for file in storage.path(folder).iterdir():
    os.utime(file, (1_000, 1_000))
  assert policies.digest(folder) == 'of process 0'
  monkeypatch.setattr(safetensors_files, 'digest', None)  # no second time
  policies.digest(folder)
  assert told[0] == told[1]


def test_a_place_without_weights_says_what_may_be_there(tmp_path):
  (tmp_path / 'empty').mkdir()
  for place in ('empty', 'nowhere', 'nowhere.gguf'):
    with pytest.raises(
      configuration.ConfigurationError, match=re.escape('.gguf file, or a')
    ) as caught:
      policies.load(tmp_path / place, CONFIG, mesh())
    assert place in str(caught.value)


def test_a_saved_policy_of_another_size_is_refused(tmp_path):
  import orbax.checkpoint as ocp

  params = tiny_run.fresh(CONFIG, seed=0)
  with ocp.StandardCheckpointer() as checkpointer:
    checkpointer.save(tmp_path / 'params', params)
  target = policies.abstract(CONFIG, mesh())
  read = orbax_items.restore(tmp_path / 'params', target)
  jax.tree.map(np.testing.assert_array_equal, read, params)
  wider = dataclasses.replace(CONFIG, mlp_dim=80)
  with pytest.raises(configuration.ConfigurationError, match='MODEL binds'):
    orbax_items.restore(tmp_path / 'params', policies.abstract(wider, mesh()))


def test_a_saved_policy_is_read_by_a_relative_path(tmp_path, monkeypatch):
  import orbax.checkpoint as ocp

  params = tiny_run.fresh(CONFIG, seed=0)
  with ocp.StandardCheckpointer() as checkpointer:
    checkpointer.save(tmp_path / 'params', params)
  monkeypatch.chdir(tmp_path)
  read = orbax_items.restore('params', policies.abstract(CONFIG, mesh()))
  jax.tree.map(np.testing.assert_array_equal, read, params)
