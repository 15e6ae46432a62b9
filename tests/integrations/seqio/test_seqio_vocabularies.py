"""Our vocabularies in SeqIO's form: same ids, same texts, in graphs too."""

import json
import pickle

import numpy as np
import pytest
import seqio
import tensorflow as tf

from rest_jax.integrations.seqio.seqio_vocabularies import SeqioVocabulary
from rest_jax.tasks import prompts
from rest_jax.tasks.synthetic import arithmetic
from rest_jax.tokenizers import sentencepiece_vocabularies

TEXTS = (
  'def f(x):\n\tif x:\n\t\treturn  {"k": [1, 20, 300]}\r\n\n\n',
  '    indented by four, then\n  by two; trailing  ',
  ' \\frac{2}{3} = 0.6666, 1,234,567 and $-17$',
  'Grüße, Δx ≥ 0, 日本語, 😀👩‍👩‍👧, e\u0301 \ufb01 \u00a0',
  '',
  '!',
)


def byte_level_json(folder):
  """A tokenizer.json in which id 0 is '!', as in GPT-2's and Llama 3's."""
  tokenizers = pytest.importorskip('tokenizers')
  cut = tokenizers.pre_tokenizers
  letters = sorted(cut.ByteLevel.alphabet())
  assert letters[0] == '!'
  tokenizer = tokenizers.Tokenizer(
    tokenizers.models.BPE({c: i for i, c in enumerate(letters)}, [])
  )
  tokenizer.pre_tokenizer = cut.ByteLevel(add_prefix_space=False)
  tokenizer.decoder = tokenizers.decoders.ByteLevel()
  tokenizer.add_special_tokens(['<|end|>'])
  tokenizer.save(str(folder / 'tokenizer.json'))
  (folder / 'tokenizer_config.json').write_text(
    json.dumps({'eos_token': '<|end|>'})
  )
  return str(folder)


@pytest.fixture(scope='module')
def specs(tmp_path_factory, request):
  folder = tmp_path_factory.mktemp('vocabularies')
  trained = folder / 'v.model'
  config = arithmetic.ArithmeticConfig()
  lines = [
    line
    for page in config.documents(0, 0, 100)
    for line in prompts.document_text(config.prompt, page).splitlines()
  ]
  sentencepiece_vocabularies.train(lines, 400, trained)
  shared = request.config.rootpath.parent / 'shared' / 'data'
  mistral = shared / 'tokenizers' / 'mistral-v1.model'
  return {
    'bytes': 'bytes',
    'trained': str(trained),
    'mistral': str(mistral) if mistral.exists() else None,
    'json': byte_level_json(folder),
  }


@pytest.fixture(params=['bytes', 'trained', 'mistral', 'json'])
def vocabulary(request, specs):
  spec = specs[request.param]
  if spec is None:
    pytest.skip('../shared/data/tokenizers is not here')
  return SeqioVocabulary(spec)


def decoded(vocabulary, ids):
  return vocabulary.decode_tf(tf.constant(ids, tf.int32)).numpy().decode()


def test_ids_and_texts_are_those_of_the_vocabulary_itself(vocabulary):
  ours = vocabulary.vocabulary
  assert vocabulary.vocab_size == ours.size
  assert (vocabulary.bos_id, vocabulary.eos_id) == (ours.bos_id, ours.eos_id)
  for text in TEXTS:
    ids = vocabulary.encode(text)
    assert ids == ours.encode(text)
    assert vocabulary.encode_tf(tf.constant(text)).numpy().tolist() == ids
    for more in ([], [ours.eos_id], [ours.eos_id, 0, 0, *ids]):
      assert vocabulary.decode([*ids, *more]) == text
      assert vocabulary.decode(np.array([*ids, *more], np.int32)) == text
      assert decoded(vocabulary, [*ids, *more]) == text


def test_graphs_know_the_shapes_and_decode_batches(vocabulary):
  dataset = tf.data.Dataset.from_tensor_slices(list(TEXTS))
  dataset = dataset.map(vocabulary.encode_tf)
  assert dataset.element_spec == tf.TensorSpec([None], tf.int32)
  rows = dataset.padded_batch(
    len(TEXTS), padded_shapes=[300], padding_values=vocabulary.eos_id
  ).map(vocabulary.decode_tf)
  assert rows.element_spec == tf.TensorSpec([None], tf.string)
  (texts,) = rows.as_numpy_iterator()
  assert [text.decode() for text in texts] == list(TEXTS)
  ragged = vocabulary.encode_tf(tf.constant(TEXTS))
  assert [r.tolist() for r in ragged.numpy()] == [
    vocabulary.encode(text) for text in TEXTS
  ]
  assert [t.decode() for t in vocabulary.decode_tf(ragged).numpy()] == list(
    TEXTS
  )
  nothing = vocabulary.decode_tf(tf.zeros([0, 7], tf.int32))
  assert nothing.shape == [0] and nothing.dtype == tf.string


def test_zeros_at_the_end_are_padding_unless_zero_is_text(vocabulary):
  ids = vocabulary.encode('12 + 3')
  text = vocabulary.vocabulary.decode([0])
  padding = not vocabulary.pad_is_text
  assert padding == (vocabulary.vocabulary.spec.endswith('.model'))
  for decode in (vocabulary.decode, lambda ids: decoded(vocabulary, ids)):
    rest = '' if padding else text * 2
    assert decode([*ids, 0, 0]) == f'12 + 3{rest}'
    assert decode([0, *ids]) == f'{text}12 + 3'  # no padding, so no guess


def test_ids_beyond_the_table_have_no_text(vocabulary):
  more = SeqioVocabulary(vocabulary.vocabulary, extra_ids=5)
  assert more.vocab_size == vocabulary.vocab_size + 5
  ids = more.encode('ab')
  beyond = [more.vocab_size - 1, *ids, more.vocab_size + 7]
  assert more.decode(beyond) == decoded(more, beyond) == 'ab'


def test_equal_content_is_one_vocabulary_to_a_mixture(specs, tmp_path):
  copy = tmp_path / 'copy.model'
  with open(specs['trained'], 'rb') as file:
    copy.write_bytes(file.read())
  one, same = SeqioVocabulary(specs['trained']), SeqioVocabulary(str(copy))
  other = SeqioVocabulary('bytes')
  assert one == same and hash(one) == hash(same) and one != other
  assert one != SeqioVocabulary(specs['trained'], extra_ids=1)
  assert other != seqio.ByteVocabulary()

  def mixture(*members):
    tasks = [
      seqio.Task(
        f'test_vocabulary_{index}',
        seqio.FunctionDataSource(
          lambda split, shuffle_files: tf.data.Dataset.from_tensors(
            {'targets': 'x'}
          ),
          ['train'],
        ),
        {'targets': seqio.Feature(member)},
        [seqio.preprocessors.tokenize],
      )
      for index, member in enumerate(members)
    ]
    return seqio.Mixture('test_vocabulary', tasks, default_rate=1)

  found = mixture(one, same).get_dataset(split='train', num_epochs=1)
  assert next(found.as_numpy_iterator())['targets'].tolist() == one.encode('x')
  with pytest.raises(ValueError, match='same vocabulary'):
    mixture(one, other).get_dataset(split='train')


def test_seqio_tokenizes_with_eos_and_a_pickle_is_the_same(vocabulary):
  features = {'targets': seqio.Feature(vocabulary)}
  dataset = seqio.preprocessors.tokenize_and_append_eos(
    tf.data.Dataset.from_tensors({'targets': TEXTS[0]}), features
  )
  (row,) = dataset.as_numpy_iterator()
  assert row['targets'].tolist() == [
    *vocabulary.encode(TEXTS[0]),
    vocabulary.eos_id,
  ]
  again = pickle.loads(pickle.dumps(vocabulary))
  assert again == vocabulary and again.encode('a b') == vocabulary.encode('a b')
