"""A run keeps the vocabulary that it was prepared with."""

import json

import pytest

from rest_jax.artifacts import manifests, storage
from rest_jax.config import configuration
from rest_jax.tasks import problem_sets, run_vocabulary

pytest.importorskip('tokenizers')
pytest.importorskip('gguf')

from small_tokenizers import byte_level  # noqa: E402


@pytest.fixture
def model(tmp_path):
  folder = tmp_path / 'model'
  folder.mkdir()
  byte_level().save(str(folder / 'tokenizer.json'))
  (folder / 'tokenizer_config.json').write_text('{"eos_token": "<|end|>"}')
  return folder


def of_run(tmp_path, model):
  config = problem_sets.TaskConfig(vocabulary=str(model))
  folder = storage.path(tmp_path / 'run' / 'problems')
  return run_vocabulary.of_run(folder, [config], None, 0)


def test_other_ids_that_end_a_sequence_are_refused_in_a_run(tmp_path, model):
  """The cards that stand carry the old ones."""
  assert of_run(tmp_path, model).eos_ids == (2,)
  assert of_run(tmp_path, model).eos_ids == (2,)
  more = model / 'generation_config.json'
  more.write_text(json.dumps({'eos_token_id': [2, 0]}))
  with pytest.raises(configuration.ConfigurationError, match=r'\[2\].*\[2, 0'):
    of_run(tmp_path, model)
  more.unlink()
  assert of_run(tmp_path, model).eos_ids == (2,)


def test_a_run_from_before_several_ids_goes_on(tmp_path, model):
  of_run(tmp_path, model)
  done = manifests.load(tmp_path / 'run' / 'problems')
  old = {k: v for k, v in done.statistics.items() if k != 'eos_ids'}
  manifests.restate(done, old)
  (model / 'generation_config.json').write_text('{"eos_token_id": [2, 0]}')
  assert of_run(tmp_path, model).eos_ids == (2, 0)
