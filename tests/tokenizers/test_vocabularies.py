"""Vocabularies: exact round trips, and decoding that can be cut anywhere."""

import json
import random

import pytest

from rest_jax.config import configuration
from rest_jax.tasks import prompts
from rest_jax.tasks.synthetic import arithmetic
from rest_jax.tokenizers import (
  sentencepiece_vocabularies,
  vocabularies,
  vocabulary_files,
)

TEXTS = (
  'Q: 12 pens, 345 more.\nA: 12+345=357.\n\n',
  ' a leading space',
  '  two, and a trailing one ',
  '\tif x:\n    return  "y"\r\n',
  'Grüße, Δx ≥ 0, 日本語, 😀👩‍👩‍👧',
  '\n\n\n',
  '<|im_start|>user</s><eos>',
  'e\u0301 \u00e9 \ufb01 \u00a0\u3000',  # would change under NFKC
)


@pytest.fixture(scope='module')
def trained(tmp_path_factory):
  path = tmp_path_factory.mktemp('vocabulary') / 'v.model'
  sentencepiece_vocabularies.train(lines(), 450, path)
  return path


def lines():
  config = arithmetic.ArithmeticConfig()
  return [
    line
    for page in config.documents(0, 0, 200)
    for line in prompts.document_text(config.prompt, page).splitlines()
  ]


@pytest.fixture(params=['bytes', 'trained'])
def vocabulary(request, trained):
  spec = 'bytes' if request.param == 'bytes' else str(trained)
  return vocabulary_files.load(spec)


def assert_exact(vocabulary, texts=TEXTS):
  for text in texts:
    ids = vocabulary.encode(text)
    assert vocabulary.decode(ids) == text
    assert all(0 <= token < vocabulary.size for token in ids)
    assert not set(ids) & set(vocabulary.specials.values())
  assert vocabulary.encode('') == []


def assert_prefixes_decode_to_prefixes(vocabulary, texts=TEXTS):
  for text in texts:
    ids = vocabulary.encode(text)
    for stop in range(len(ids) + 1):
      part = vocabulary.decode(ids[:stop])
      assert text.startswith(part.rstrip('\ufffd')), (text, stop)


def test_text_survives_the_round_trip(vocabulary):
  assert_exact(vocabulary)


def test_a_prefix_decodes_to_a_prefix_up_to_half_a_character(vocabulary):
  assert_prefixes_decode_to_prefixes(vocabulary)


def test_any_ids_decode_and_special_ones_to_nothing(vocabulary):
  draw = random.Random(0)
  for _ in range(50):
    ids = [draw.randrange(vocabulary.size + 5) for _ in range(20)]
    assert isinstance(vocabulary.decode(ids), str)
  ids = vocabulary.encode('ab')
  assert vocabulary.decode([*ids, vocabulary.eos_id]) == 'ab'
  assert vocabulary.decode([vocabulary.encode('é')[0]]) == (
    '\ufffd' if len(vocabulary.encode('é')) > 1 else 'é'
  )


def test_decoding_is_what_sentencepiece_decodes(trained):
  import sentencepiece

  model = sentencepiece.SentencePieceProcessor(model_file=str(trained))
  vocabulary = vocabulary_files.load(str(trained))
  for text in TEXTS:
    assert vocabulary.encode(text) == model.encode(text)
    assert vocabulary.decode(model.encode(text)) == model.decode(
      model.encode(text)
    )


def test_digits_and_newlines_are_single_ids(trained):
  vocabulary = vocabulary_files.load(str(trained))
  assert len(vocabulary.encode('2024')) == 4
  assert len(vocabulary.encode('\n\n')) == 2


def test_named_pieces_are_single_ids_wherever_they_stand(tmp_path):
  path = tmp_path / 'v.model'
  numbers = [str(number) for number in range(10, 21)]
  sentencepiece_vocabularies.train(lines(), 450, path, numbers)
  vocabulary = vocabulary_files.load(str(path))
  assert_exact(vocabulary)
  for number in numbers:
    (piece,) = vocabulary.encode(number)
    for text in (f'has {number} pens', f'{number}-4=6', f'={number}.'):
      assert vocabulary.encode(text).count(piece) == 1
  assert len(vocabulary.encode('21')) == 2


def test_training_twice_gives_the_same_file(trained, tmp_path):
  again = tmp_path / 'again.model'
  sentencepiece_vocabularies.train(lines(), 450, again)
  assert again.read_bytes() == trained.read_bytes()
  assert vocabulary_files.load(str(again)).digest == (
    vocabulary_files.load(str(trained)).digest
  )


def test_too_large_a_vocabulary_is_an_error_that_says_so(tmp_path):
  with pytest.raises(configuration.ConfigurationError, match='vocab_size'):
    sentencepiece_vocabularies.train(['a b', 'b a'], 5000, tmp_path / 'v.model')


def foreign_model(path, **options):
  import io

  import sentencepiece

  model = io.BytesIO()
  sentencepiece.SentencePieceTrainer.train(
    sentence_iterator=iter(lines()),
    model_writer=model,
    model_type='bpe',
    vocab_size=450,
    byte_fallback=True,
    minloglevel=2,
    **options,
  )
  path.write_bytes(model.getvalue())
  return vocabulary_files.load(str(path))


def test_a_foreign_model_adds_no_space_before_a_part(tmp_path):
  vocabulary = foreign_model(
    tmp_path / 'llama.model',
    normalization_rule_name='identity',
    remove_extra_whitespaces=False,
  )
  assert vocabulary.bos_id == 1 and vocabulary.eos_id == 2
  assert_exact(vocabulary)
  assert_prefixes_decode_to_prefixes(vocabulary)
  spaced, bare = vocabulary.encode(' The'), vocabulary.encode('The')
  assert spaced != bare


def test_a_spec_is_found_from_the_folder_of_its_problems(trained):
  problems = trained.parent / 'task' / 'train'
  spec = f'../../{trained.name}'
  assert vocabulary_files.load(spec, base=problems).size == 450
  assert vocabulary_files.resolve(
    '../../v.model', 'gs://b/run/problems/t/s'
  ) == ('gs://b/run/problems/v.model')


@pytest.mark.parametrize(
  'name, content', [('none.model', None), ('x.txt', b''), ('x.model', b'no')]
)
def test_a_bad_spec_is_an_error_that_names_it(tmp_path, name, content):
  if content is not None:
    (tmp_path / name).write_bytes(content)
  with pytest.raises(configuration.ConfigurationError, match=name):
    vocabulary_files.load(str(tmp_path / name))


def test_special_tokens_are_cut_out_longest_first():
  vocabulary = vocabularies.Vocabulary(
    spec='x',
    encoder=lambda text: text.encode(),
    table=[bytes([b]) for b in range(256)] + [b'', b''],
    eos_id=256,
    bos_id=None,
    specials={'<a>': 256, '<a><b>': 257},
    digest='x',
  )
  assert vocabulary.split_specials('x<a><b>y<a>') == ['x', 257, 'y', 256]
  assert json.dumps(vocabulary.encode('<a>'))  # plain ints, no special
  assert 256 not in vocabulary.encode('<a>')
