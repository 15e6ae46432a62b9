"""tokenizer.json files, against the library that made them."""

import json

import pytest

from rest_jax.config import configuration
from rest_jax.tokenizers import vocabularies, vocabulary_files

tokenizers = pytest.importorskip('tokenizers')
pytest.importorskip('gguf')

from small_tokenizers import SPECIALS, TEXTS, byte_level, plain  # noqa: E402


def test_a_tokenizer_json_encodes_as_the_library_does(tmp_path):
  tokenizer = byte_level()
  tokenizer.post_processor = tokenizers.processors.TemplateProcessing(
    single='<|start|> $A', special_tokens=[('<|start|>', 1)]
  )
  tokenizer.save(str(tmp_path / 'tokenizer.json'))
  with pytest.raises(configuration.ConfigurationError, match='eos_token'):
    vocabulary_files.load(str(tmp_path))
  (tmp_path / 'tokenizer_config.json').write_text('{"eos_token": "<|end|>"}')
  vocabulary = vocabulary_files.load(str(tmp_path))
  assert (vocabulary.bos_id, vocabulary.eos_id) == (1, 2)
  assert vocabulary.specials == {name: i for i, name in enumerate(SPECIALS)}
  for text in TEXTS:
    assert vocabulary.encode(text) == plain(tokenizer, text)
    assert vocabulary.decode(vocabulary.encode(text)) == text


def test_every_byte_has_its_stand_in():
  letters = set(tokenizers.pre_tokenizers.ByteLevel.alphabet())
  found = {vocabularies.byte_level_bytes(letter) for letter in letters}
  assert found == {bytes([byte]) for byte in range(256)}


def saved(folder, *, added=(), **files):
  """A folder with the byte-level tokenizer, and JSON files beside it."""
  folder.mkdir(exist_ok=True)
  tokenizer = byte_level()
  content = json.loads(tokenizer.to_str())
  for id_, text, special in added:
    content['added_tokens'].append(
      {
        'id': id_,
        'content': text,
        'special': special,
        'single_word': False,
        'lstrip': False,
        'rstrip': False,
        'normalized': False,
      }
    )
  (folder / 'tokenizer.json').write_text(json.dumps(content))
  for name, value in files.items():
    (folder / f'{name}.json').write_text(json.dumps(value))
  return str(folder)


@pytest.mark.parametrize(
  'files, expected',
  [
    # The tokenizer's own is first, whatever the order of the model's.
    (
      {
        'tokenizer_config': {'eos_token': '<|end|>'},
        'generation_config': {'eos_token_id': [0, 2, 1]},
      },
      (2, 0, 1),
    ),
    ({'generation_config': {'eos_token_id': [1, 2]}}, (1, 2)),
    ({'generation_config': {'eos_token_id': 2}}, (2,)),
    (
      {
        'generation_config': {'eos_token_id': [2]},
        'config': {'eos_token_id': [0, 2]},
      },
      (2, 0),
    ),
    ({'special_tokens_map': {'eos_token': {'content': '<|end|>'}}}, (2,)),
    (
      {
        'tokenizer_config': {'eos_token': '<|absent|>'},
        'config': {'eos_token_id': 1},
      },
      (1,),
    ),
  ],
)
def test_every_id_that_some_file_names_ends_a_text(tmp_path, files, expected):
  vocabulary = vocabulary_files.load(saved(tmp_path / 'm', **files))
  assert vocabulary.eos_ids == expected
  assert vocabulary.eos_id == expected[0]


def test_more_ids_that_end_a_text_leave_the_identity_as_it_was(tmp_path):
  """A run that stands was prepared when only the first was read."""
  config = {'eos_token': '<|end|>'}
  one = saved(tmp_path / 'a', tokenizer_config=config)
  more = saved(
    tmp_path / 'b',
    tokenizer_config=config,
    generation_config={'eos_token_id': [2, 0]},
  )
  assert vocabulary_files.load(one).digest == vocabulary_files.load(more).digest


@pytest.mark.parametrize('bad', [[2, 100_000], -1, ['two']])
def test_an_id_that_is_none_of_the_tokenizer_is_refused(tmp_path, bad):
  folder = saved(tmp_path / 'm', generation_config={'eos_token_id': bad})
  with pytest.raises(
    configuration.ConfigurationError, match='generation_config.json'
  ):
    vocabulary_files.load(folder)


@pytest.mark.parametrize('pieces_too', [True, False])
def test_added_tokens_beyond_a_gap_have_their_ids(tmp_path, pieces_too):
  """Against the library, which gives them where the pieces list them too."""
  last = byte_level().get_vocab_size()
  more = {'<|im_end|>': last + 50, '<tool>': last + 70}
  folder = saved(
    tmp_path / 'm',
    added=[(more['<|im_end|>'], '<|im_end|>', True)]
    + [(more['<tool>'], '<tool>', False)],
    tokenizer_config={'eos_token': '<|im_end|>'},
  )
  file = tmp_path / 'm' / 'tokenizer.json'
  content = json.loads(file.read_text())
  content['model']['vocab'] |= more
  library = tokenizers.Tokenizer.from_str(json.dumps(content))
  if pieces_too:
    file.write_text(json.dumps(content))
  vocabulary = vocabulary_files.load(folder)
  assert library.token_to_id('<|im_end|>') == last + 50
  assert vocabulary.eos_id == vocabulary.specials['<|im_end|>'] == last + 50
  assert vocabulary.size == last + 71
  for text in [*TEXTS, 'use <tool> now']:
    assert vocabulary.encode(text) == plain(library, text)
    assert vocabulary.decode(vocabulary.encode(text)) == text
  assert last + 70 in vocabulary.encode('use <tool> now')
  assert vocabulary.decode([last + 10, last + 50]) == ''
