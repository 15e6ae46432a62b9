"""One table says what a path of a model holds, and who reads it."""

import importlib
import re

import pytest

from rest_jax.artifacts import model_formats
from rest_jax.config import configuration


def test_every_reader_that_the_table_names_is_there():
  """Each has the functions that the table's docstring promises."""
  pytest.importorskip('tokenizers')
  pytest.importorskip('gguf')
  for row in model_formats.FORMATS:
    for package, module, functions in (
      ('models.checkpoints', row.weights, ('load',)),
      ('models.checkpoints', row.network, ('network',)),
      ('artifacts', row.bytes_of, ('digested', 'digest')),
      ('tokenizers', row.vocabulary, ('load', 'chat_template')),
    ):
      if module is not None:
        reader = importlib.import_module(f'rest_jax.{package}.{module}')
        for name in functions:
          assert callable(getattr(reader, name)), (row.name, name)


def test_no_other_module_asks_for_a_suffix(root):
  """Suffixes stand in the table alone; messages may name them."""
  found = []
  for path in (root / 'rest_jax').rglob('*.py'):
    if path.name == 'model_formats.py':
      continue
    for number, line in enumerate(path.read_text().splitlines(), 1):
      asks = 'suffix' in line or 'endswith' in line or 'glob(' in line
      if asks and re.search(r"\.(gguf|safetensors|model)'", line):
        found.append(f'{path.name}:{number}')
  assert not found


@pytest.mark.parametrize(
  'name, weights, vocabulary',
  [
    ('m.gguf', 'gguf', 'gguf'),
    ('M.GGUF', 'gguf', 'gguf'),
    ('hf', 'safetensors', 'tokenizer_json'),
    ('trained', 'train', None),
    ('tokenizer.model', None, 'sentencepiece'),
    ('hf/tokenizer.json', None, 'tokenizer_json'),
    ('notes.txt', None, None),
    ('empty', None, None),
  ],
)
def test_a_path_is_in_the_format_of_its_name_or_its_files(
  tmp_path, name, weights, vocabulary
):
  for folder, file in (
    ('hf', 'model.safetensors'),
    ('hf', 'tokenizer.json'),
    ('trained', 'manifest.json'),
  ):
    (tmp_path / folder).mkdir(exist_ok=True)
    (tmp_path / folder / file).write_bytes(b'')
  (tmp_path / 'empty').mkdir()
  for file in ('m.gguf', 'M.GGUF', 'tokenizer.model', 'notes.txt'):
    (tmp_path / file).write_bytes(b'')
  path = tmp_path / name
  found = model_formats.of_vocabulary(path)
  assert (found and found.name) == vocabulary
  if weights is not None:
    assert model_formats.of_weights(path).name == weights
  else:
    with pytest.raises(configuration.ConfigurationError) as caught:
      model_formats.of_weights(path)
    for row in model_formats.FORMATS:
      assert (row.described in str(caught.value)) == bool(row.weights)


def test_a_file_that_is_missing_holds_no_checkpoint(tmp_path):
  with pytest.raises(configuration.ConfigurationError, match='nowhere.gguf'):
    model_formats.of_weights(tmp_path / 'nowhere.gguf')


def test_a_name_of_the_hub_says_to_download_it(monkeypatch, tmp_path):
  from rest_jax.tokenizers import vocabulary_files

  monkeypatch.chdir(tmp_path)
  for load in (model_formats.of_weights, vocabulary_files.load):
    with pytest.raises(configuration.ConfigurationError, match='hf download'):
      load('HuggingFaceTB/SmolLM2-135M')
    with pytest.raises(configuration.ConfigurationError) as caught:
      load('runs/x/iteration_01')
    assert 'hf download' not in str(caught.value)
