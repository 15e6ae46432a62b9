"""A checkpoint says itself which network it is."""

import dataclasses
import json
import pathlib
import re
import subprocess
import sys

import published_llama as published
import pytest

from rest_jax.config import configuration
from rest_jax.models.architecture import RopeScaling
from rest_jax.models.checkpoints import described, gguf, safetensors

LLAMA3 = {
  'rope_type': 'llama3',
  'factor': 32.0,
  'low_freq_factor': 1.0,
  'high_freq_factor': 4.0,
  'original_max_position_embeddings': 8192,
}


@pytest.mark.parametrize('tied', [True, False])
def test_a_folder_describes_the_network_that_reads_it(tmp_path, tied):
  folder = published.write_safetensors(
    tmp_path / 'm',
    published.matrices(tied=tied),
    config={'max_position_embeddings': 32},
  )
  found = described.network(folder)
  assert found == published.network(tied)
  safetensors.opened(folder, found)


@pytest.mark.parametrize('tied', [True, False])
def test_a_gguf_file_describes_the_network_that_reads_it(tmp_path, tied):
  pytest.importorskip('gguf')
  path = published.write_gguf(
    tmp_path / 'm.gguf', published.matrices(tied=tied)
  )
  found = described.network(path)
  assert found == published.network(tied)
  gguf.opened(path, found)


def test_the_scaling_of_the_rotary_embedding_is_described(tmp_path):
  folder = published.write_safetensors(
    tmp_path / 'm',
    published.matrices(tied=True),
    config={'max_position_embeddings': 131072, 'rope_scaling': LLAMA3},
  )
  assert described.network(folder).rope_scaling == RopeScaling(
    kind='llama3', factor=32.0, low_freq_factor=1.0, high_freq_factor=4.0
  )


def test_transformers_defaults_stand_for_what_a_config_leaves_out(tmp_path):
  folder = pathlib.Path(
    published.write_safetensors(
      tmp_path / 'm', published.matrices(tied=False), config={}
    )
  )
  stated = json.loads((folder / 'config.json').read_text())
  for key in ('tie_word_embeddings', 'hidden_act'):
    del stated[key]  # false and silu where Llama's config.json lacks them
  stated['max_position_embeddings'] = 32
  (folder / 'config.json').write_text(json.dumps(stated))
  assert described.network(folder) == published.network(tied=False)


@pytest.mark.parametrize(
  'key', ['hidden_size', 'num_hidden_layers', 'max_position_embeddings']
)
def test_a_size_that_a_config_lacks_is_named(tmp_path, key):
  folder = published.write_safetensors(
    tmp_path / 'm',
    published.matrices(tied=True),
    config={'max_position_embeddings': 32, key: None},
  )
  with pytest.raises(configuration.ConfigurationError, match=f'lacks .*{key}'):
    described.network(folder)


def test_weights_without_a_config_say_what_is_missing(tmp_path):
  folder = published.write_safetensors(
    tmp_path / 'm', published.matrices(tied=True), config=None
  )
  with pytest.raises(
    configuration.ConfigurationError, match=re.escape('has no config.json')
  ):
    described.network(folder)


def test_a_window_of_attention_makes_every_layer_of_a_mistral_local(tmp_path):
  folder = published.write_safetensors(
    tmp_path / 'm',
    published.matrices(tied=True),
    config={
      'model_type': 'mistral',
      'max_position_embeddings': 32,
      'sliding_window': 16,
    },
  )
  assert described.network(folder) == dataclasses.replace(
    published.network(), layer_pattern=('local',), window=16
  )


def test_reading_a_description_does_not_import_jax(tmp_path):
  folder = published.write_safetensors(
    tmp_path / 'm',
    published.matrices(tied=True),
    config={'max_position_embeddings': 32},
  )
  script = (
    'import sys; from rest_jax.models.checkpoints import described; '
    f'described.network({folder!r}); print("jax" in sys.modules)'
  )
  out = subprocess.check_output([sys.executable, '-c', script], text=True)
  assert out.strip() == 'False'
