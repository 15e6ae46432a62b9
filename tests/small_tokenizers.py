"""Small tokenizers as published models have them, and files that hold them."""

import json

import gguf
import tokenizers

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
  if pre is not None:
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
  if 'eot' in fields:
    writer.add_eot_token_id(fields['eot'])
  if 'eom' in fields:
    writer.add_eom_token_id(fields['eom'])
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
