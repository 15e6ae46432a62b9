"""A tokenizer written in another format gives the same ids everywhere."""

import json

import pytest

from rest_jax.artifacts import storage
from rest_jax.config import configuration
from rest_jax.tokenizers import (
  hf_files,
  sentencepiece_vocabularies,
  tokenizer_json,
  vocabulary_files,
)

tokenizers = pytest.importorskip('tokenizers')
pytest.importorskip('gguf')

from small_tokenizers import (  # noqa: E402
  LINES,
  SPECIALS,
  TEXTS,
  byte_level,
  byte_level_gguf,
  write_gguf,
)

MORE = ['a  b   c', '\t\t x', '\n\n\n\ny', '0123 45', '\u00a0\u200b', '<h1>']


def smollm(tmp_path):
  return byte_level_gguf(tmp_path / 'm.gguf', byte_level(), bos=1, add_bos=True)


def gemma(tmp_path):
  """Scores, bytes, and texts of white space that are pieces of their own."""
  model = trained(tmp_path / 'base.model')
  found = sentencepiece_vocabularies.metadata(storage.path(model))
  pieces = found['tokenizer.ggml.tokens']
  types = found['tokenizer.ggml.token_type']
  scores = found['tokenizer.ggml.scores']
  more = ['\u2581\u2581', '\n\n', '\t\t', '<h1>']
  return write_gguf(
    tmp_path / 'g.gguf',
    model='llama',
    pre='default',
    pieces=[*pieces, *more, '<bos>'],
    types=[*types, *[4] * len(more), 3],
    scores=[*scores, *[-1000.0] * len(more), -1000.0],
    eos=1,
    bos=len(pieces) + len(more),
  )


def trained(path):
  sentencepiece_vocabularies.train(LINES, 330, path, pieces=['17'])
  return str(path)


def published(tmp_path):
  """A folder with a tokenizer.json and what lies beside one."""
  folder = tmp_path / 'published'
  folder.mkdir()
  byte_level().save(str(folder / 'tokenizer.json'))
  files = {
    'tokenizer_config.json': {'eos_token': '<|end|>', 'chat_template': 't'},
    'generation_config.json': {'eos_token_id': [2, 0], 'temperature': 0.6},
  }
  for name, content in files.items():
    (folder / name).write_text(json.dumps(content))
  return str(folder)


MAKERS = {
  'GGUF of bytes': smollm,
  'GGUF of scores': gemma,
  'SentencePiece': lambda tmp_path: trained(tmp_path / 'v.model'),
  'tokenizer.json': published,
}


@pytest.fixture(params=MAKERS)
def source(request, tmp_path):
  return vocabulary_files.load(MAKERS[request.param](tmp_path))


@pytest.fixture
def folder(source, tmp_path):
  (tmp_path / 'out').mkdir()
  hf_files.write(source, storage.path(tmp_path / 'out'), max_length=99)
  return tmp_path / 'out'


def test_a_written_folder_gives_the_same_ids(source, folder):
  back = vocabulary_files.load(str(folder))
  assert back.eos_ids == source.eos_ids
  assert back.bos_id == source.bos_id
  assert source.specials.items() <= back.specials.items()
  for text in [*TEXTS, *MORE]:
    assert back.encode(text) == source.encode(text), text
    assert back.decode(back.encode(text)) == text


def test_transformers_gives_the_same_ids_and_special_tokens(source, folder):
  transformers = pytest.importorskip('transformers')
  theirs = transformers.AutoTokenizer.from_pretrained(folder)
  for text in [*TEXTS, *MORE, *(f'a{name} b' for name in source.specials)]:
    ours = [
      id_
      for part in source.split_specials(text)
      for id_ in ([part] if isinstance(part, int) else source.encode(part))
    ]
    assert theirs.encode(text, add_special_tokens=False) == ours, text
    start = [] if source.bos_id is None else [source.bos_id]
    assert theirs.encode(text) == start + ours
  for name, piece in source.names.items():
    assert getattr(theirs, name) == piece


def test_a_tokenizer_goes_to_gguf_and_back(source, tmp_path):
  """Through the keys of a file: pieces, types, merges or scores, the rule."""
  found = vocabulary_files.metadata(source.spec)

  def get(name, default=None):
    return found.get(f'tokenizer.ggml.{name}', default)

  fields = {name: get(name) for name in ('merges', 'scores') if get(name)}
  if get('bos_token_id') is not None:
    fields |= {'bos': get('bos_token_id'), 'add_bos': get('add_bos_token')}
  path = write_gguf(
    tmp_path / 'back.gguf',
    model=get('model'),
    pre=get('pre'),
    pieces=get('tokens'),
    types=get('token_type'),
    eos=get('eos_token_id'),
    **fields,
  )
  back = vocabulary_files.load(path)
  assert (back.eos_id, back.bos_id) == (source.eos_id, source.bos_id)
  assert back.specials == source.specials
  for text in [*TEXTS, *MORE]:
    assert back.encode(text) == source.encode(text), text
  hf_files.require_same(source, path)


def test_what_lies_beside_a_tokenizer_json_comes_along(tmp_path):
  source = published(tmp_path)
  (tmp_path / 'out').mkdir()
  hf_files.write(
    vocabulary_files.load(source), storage.path(tmp_path / 'out'), eos_ids=[1]
  )
  back = vocabulary_files.load(str(tmp_path / 'out'))
  assert vocabulary_files.chat_template(str(tmp_path / 'out')) == 't'
  ids = json.loads((tmp_path / 'out' / 'generation_config.json').read_text())
  # The end of a turn, which the run's chats have, comes first.
  assert ids == {'eos_token_id': [1, 2, 0], 'temperature': 0.6}
  assert set(back.eos_ids) == {0, 1, 2}


def test_a_rule_that_gguf_has_no_name_for_is_refused(tmp_path):
  tokenizer = byte_level()
  cut = tokenizers.pre_tokenizers
  tokenizer.pre_tokenizer = cut.Sequence(
    [
      cut.Split(tokenizers.Regex('[0-9]{4}'), 'isolated'),
      cut.ByteLevel(add_prefix_space=False, use_regex=False),
    ]
  )
  tokenizer.save(str(tmp_path / 'tokenizer.json'))
  (tmp_path / 'tokenizer_config.json').write_text(
    json.dumps({'eos_token': SPECIALS[2]})
  )
  with pytest.raises(configuration.ConfigurationError, match='FILE.gguf'):
    tokenizer_json.metadata(storage.path(tmp_path))


def test_a_tokenizer_that_would_give_other_ids_is_refused(tmp_path):
  one = vocabulary_files.load(smollm(tmp_path))
  with pytest.raises(configuration.ConfigurationError, match='would be'):
    hf_files.require_same(one, trained(tmp_path / 'v.model'))
