"""Writes the files of a tokenizer as Hugging Face has them: a folder's worth.

transformers' AutoTokenizer, vLLM and this package read them: tokenizer.json,
tokenizer_config.json and generation_config.json.
"""

from collections.abc import Mapping, Sequence
from typing import Any

from rest_jax.artifacts import model_formats, storage
from rest_jax.config import configuration
from rest_jax.tokenizers import (
  piece_models,
  tokenizer_json,
  vocabularies,
  vocabulary_files,
)

CONFIG, GENERATION = 'tokenizer_config.json', 'generation_config.json'
# What is copied from a folder that has a tokenizer.json.
COPIED = (
  tokenizer_json.NAME,
  CONFIG,
  'special_tokens_map.json',
  'added_tokens.json',
  'chat_template.jinja',
  'chat_template.json',
  'tokenizer.model',
  'vocab.json',
  'merges.txt',
)
_KEY = 'tokenizer.ggml.'
_NAMES = {
  'bos_token': 'bos_token_id',
  'eos_token': 'eos_token_id',
  'unk_token': 'unknown_token_id',
  'pad_token': 'padding_token_id',
}
# Texts that tokenizers disagree about: what is written must agree on them.
PROBES = (
  'Q: Tom has 12 apples, gives away 5.\nA: 12 - 5 = 7 \\boxed{7}\n',
  '  two spaces,   three,\ttab\t\ttabs\n\n\nlines\n',
  "I'll don't we're 1234567 3.14 x_1^2 <h1>t</h1>",
  'naïve café 日本語 Привет 😀👩‍👩‍👧 \u00a0\u200b e\u0301',
  'def f(x):\n    return x  # 007\n\r\n',
  'a' * 40 + ' ' * 17 + '!?...---==',
)


def write(
  vocabulary: vocabularies.Vocabulary,
  folder: storage.Path,
  *,
  eos_ids: Sequence[int] = (),
  max_length: int | None = None,
) -> list[str]:
  """Writes a tokenizer's files, and reads them back.

  Args:
    vocabulary: as vocabulary_files.load gave it; `spec` says where it lies.
    folder: where; generation_config.json names the ids that end a text.
    eos_ids: that end a text beside the tokenizer's own, before these.
    max_length: longest text that the model reads, in tokens.

  Returns:
    The names of the files.

  Raises:
    ConfigurationError: the tokenizer cannot be written so that it gives the
      same ids.
  """
  spec = vocabulary.spec
  ends = list(dict.fromkeys([*eos_ids, *vocabulary.eos_ids]))
  source = storage.path(spec)
  home = source if source.is_dir() else source.parent
  if (home / tokenizer_json.NAME).exists() and (
    source.is_dir() or source.name == tokenizer_json.NAME
  ):
    names = [name for name in COPIED if (home / name).exists()]
    for name in names:
      storage.write_bytes(folder / name, (home / name).read_bytes())
  else:
    names = _written(
      vocabulary_files.metadata(spec),
      folder,
      adds_bos=vocabulary.bos_id is not None,
      max_length=max_length,
    )
    row = model_formats.of_file_name(spec)
    if row is not None and row.name == model_formats.SENTENCEPIECE:
      names.append('tokenizer.model')
      storage.write_bytes(folder / names[-1], source.read_bytes())
  generation = {}
  if home == source and (home / GENERATION).exists():
    generation = storage.read_json(home / GENERATION)
  generation['eos_token_id'] = ends[0] if len(ends) == 1 else ends
  if vocabulary.bos_id is not None:
    generation['bos_token_id'] = vocabulary.bos_id
  pad = vocabulary.specials.get(vocabulary.names.get('pad_token', ''))
  if pad is not None:
    generation.setdefault('pad_token_id', pad)
  storage.write_json(folder / GENERATION, generation)
  require_same(vocabulary, folder)
  return [*names, GENERATION]


def require_same(
  vocabulary: vocabularies.Vocabulary, written: storage.PathLike
) -> None:
  """Raises unless a written tokenizer gives the ids of the one it was made of.

  Args:
    vocabulary: that one.
    written: what vocabulary_files.load takes.

  Raises:
    ConfigurationError: they differ on one of PROBES.
  """
  back = vocabulary_files.load(str(written))
  for text in PROBES:
    here, there = vocabulary.encode(text), back.encode(text)
    if here != there:
      raise configuration.ConfigurationError(
        f'{vocabulary.spec}: this tokenizer cannot be written in the format '
        f'that is wanted: the text {text!r} would be {there[:20]}, not '
        f'{here[:20]}. Give the tokenizer in that format: --tokenizer=PATH.'
      )


def _written(
  metadata: Mapping[str, Any],
  folder: storage.Path,
  *,
  adds_bos: bool,
  max_length: int | None,
) -> list[str]:
  """tokenizer.json and tokenizer_config.json of GGUF's metadata."""
  tokenizers = vocabularies.need('tokenizers')
  pieces, types = metadata[f'{_KEY}tokens'], piece_models.types_of(metadata)
  tokenizer = piece_models.built(metadata)
  named = {
    name: metadata[_KEY + key]
    for name, key in _NAMES.items()
    if 0 <= metadata.get(_KEY + key, -1) < len(pieces)
  }
  unknown = named.get('unk_token')
  tokenizer.add_special_tokens(
    [
      tokenizers.AddedToken(piece, special=True, normalized=False)
      for id_, (piece, kind) in enumerate(zip(pieces, types, strict=True))
      if kind == piece_models.CONTROL
      or (kind == piece_models.UNKNOWN and id_ == unknown)
    ]
  )
  if adds_bos:
    bos = pieces[named['bos_token']]
    tokenizer.post_processor = tokenizers.processors.TemplateProcessing(
      single=[bos, '$A'],
      pair=[bos, '$A', f'{bos}:1', '$B:1'],
      special_tokens=[(bos, named['bos_token'])],
    )
  storage.write_bytes(
    folder / tokenizer_json.NAME, tokenizer.to_str(pretty=True).encode()
  )
  content: dict[str, Any] = {
    'tokenizer_class': 'PreTrainedTokenizerFast',
    'add_bos_token': adds_bos,
    'add_eos_token': False,
    'clean_up_tokenization_spaces': False,
    'model_input_names': ['input_ids', 'attention_mask'],
    **{name: pieces[id_] for name, id_ in named.items()},
  }
  if max_length is not None:
    content['model_max_length'] = max_length
  template = metadata.get('tokenizer.chat_template')
  if template is not None:
    content['chat_template'] = template
  storage.write_json(folder / CONFIG, content)
  return [tokenizer_json.NAME, CONFIG]
