"""The vocabulary of a Hugging Face tokenizer.json, and of the files beside it.

The tokenizer.json says how text becomes ids. Which of them ends a text stands
in tokenizer_config.json (or special_tokens_map.json), generation_config.json
and config.json of the same folder. Needs the extra `hf` (tokenizers).
"""

import json
import os
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from rest_jax.artifacts import storage
from rest_jax.config import configuration
from rest_jax.tokenizers import piece_models, vocabularies

NAME = 'tokenizer.json'
_CONFIG = 'tokenizer_config.json'
# Later files give way to earlier ones.
_NAMED = (_CONFIG, 'special_tokens_map.json')
_NUMBERED = ('generation_config.json', 'config.json')


def load(spec: str, path: storage.Path) -> vocabularies.Vocabulary:
  """The vocabulary of a tokenizer.json.

  Args:
    spec: what the user gave, for errors.
    path: the file, or the folder that holds it.

  Raises:
    ConfigurationError: the tokenizer cannot write any text exactly, or the
      files beside it name no end of sequence.
  """
  path = _file(path)
  text = path.read_text()
  content = json.loads(text)
  added = {item['id']: item for item in content.get('added_tokens', ())}
  tokenizer = _tokenizer(content, added)
  specials = {i['content']: i['id'] for i in added.values() if i['special']}
  table = _table(spec, tokenizer, content, added)
  names = _names(path.parent)
  own = specials.get(names.get('eos_token', ''))
  if own is None:
    own = tokenizer.token_to_id(names.get('eos_token', ''))
  eos_ids = _eos_ids(spec, path.parent, own, len(table))
  # Only the first: so that an identity from before the others were read stays.
  first = eos_ids[0]
  return vocabularies.Vocabulary(
    spec=spec,
    encoder=vocabularies.without_dummy_prefix(_encoder(tokenizer), table),
    table=table,
    eos_id=first,
    more_eos_ids=eos_ids[1:],
    bos_id=_added_bos(tokenizer, specials),
    specials=specials,
    names=names,
    digest=vocabularies.digest_of(f'{first} {text}'.encode()),
  )


def metadata(path: storage.Path) -> dict[str, Any]:
  """The tokenizer in the words of GGUF: the keys 'tokenizer.ggml.…'.

  Args:
    path: the file, or the folder that holds it.

  Raises:
    ConfigurationError: of a kind that GGUF has no name for.
  """
  path = _file(path)
  content = json.loads(path.read_text())
  vocabulary = load(os.fspath(path), path)
  found = piece_models.from_tokenizer_json(os.fspath(path), content)
  pieces = found['tokens']
  ids = {
    'bos_token_id': vocabulary.names.get('bos_token'),
    'unknown_token_id': vocabulary.names.get('unk_token'),
    'padding_token_id': vocabulary.names.get('pad_token'),
  }
  found |= {name: pieces.index(p) for name, p in ids.items() if p in pieces}
  ends = ('eos_token_id', 'eot_token_id', 'eom_token_id')
  found |= dict(zip(ends, vocabulary.eos_ids, strict=False))
  found |= {
    'add_bos_token': vocabulary.bos_id is not None,
    'add_eos_token': False,
    'add_space_prefix': False,
  }
  result = {f'tokenizer.ggml.{name}': value for name, value in found.items()}
  template = chat_template(path)
  return result | ({'tokenizer.chat_template': template} if template else {})


def chat_template(path: storage.Path) -> str | None:
  """The Jinja chat template beside a tokenizer.json; None if there is none.

  Args:
    path: the file, or the folder that holds it.
  """
  folder = path if path.is_dir() else path.parent
  if (folder / 'chat_template.jinja').exists():
    return (folder / 'chat_template.jinja').read_text()
  if not (folder / _CONFIG).exists():
    return None
  value = storage.read_json(folder / _CONFIG).get('chat_template')
  if isinstance(value, list):  # several by name
    value = next((v['template'] for v in value if v['name'] == 'default'), None)
  return value


def _file(path: storage.Path) -> storage.Path:
  return path / NAME if path.is_dir() else path


def _tokenizer(content: dict, added: Mapping[int, dict]) -> Any:
  """The library's tokenizer, in which special tokens are plain text."""
  pieces = content['model'].get('vocab')
  if isinstance(pieces, dict):
    # The library numbers an added token anew if there is a gap before its id
    # and the model's own pieces lack it. The file's number is the model's.
    for id_, item in added.items():
      if not item['special']:
        pieces.setdefault(item['content'], id_)
  make = vocabularies.need('tokenizers').Tokenizer.from_str
  tokenizer = make(json.dumps(content))
  tokenizer.encode_special_tokens = True
  tokenizer.no_truncation()
  tokenizer.no_padding()
  return tokenizer


def _table(
  spec: str, tokenizer: Any, content: dict, added: Mapping[int, dict]
) -> list[bytes]:
  """The bytes of every id up to the largest.

  Added tokens may lie beyond a gap (padding of the embedding, say); ids in the
  gap have no bytes, and no text gives them.
  """
  to_bytes = _piece_rule(spec, content)
  # Added tokens are no byte-level stand-ins; of the others each is a piece.
  byte_level = to_bytes is vocabularies.byte_level_bytes
  of_added = str.encode if byte_level else to_bytes
  special = {item['content'] for item in added.values() if item['special']}
  pieces = tokenizer.get_vocab(with_added_tokens=True).items()
  # A special token that the library numbered anew counts by the file's number.
  ids = [*added, *(id_ for piece, id_ in pieces if piece not in special)]
  table = []
  for token in range(max(ids, default=-1) + 1):
    piece = tokenizer.id_to_token(token)
    if token in added:
      item = added[token]
      table.append(b'' if item['special'] else of_added(item['content']))
    else:
      known = piece is not None and piece not in special
      table.append(to_bytes(piece) if known else b'')
  return table


def _piece_rule(spec: str, content: dict) -> Callable[[str], bytes]:
  """How the pieces of this tokenizer are written: piece to bytes."""
  rules = json.dumps([content.get('pre_tokenizer'), content.get('decoder')])
  if '"ByteLevel"' in rules:
    return vocabularies.byte_level_bytes
  if content['model']['type'] in ('BPE', 'Unigram') and (
    '\u2581' in json.dumps(content, ensure_ascii=False)
  ):
    fallback = '"ByteFallback"' in rules

    def spaced(piece: str) -> bytes:
      is_byte = fallback and len(piece) == 6 and piece.startswith('<0x')
      return vocabularies.piece_bytes(piece, is_byte=is_byte)

    return spaced
  raise configuration.ConfigurationError(
    f'vocabulary {spec}: a {content["model"]["type"]} tokenizer that is '
    'neither byte-level nor SentencePiece-like cannot write any text exactly.'
  )


def _encoder(tokenizer: Any) -> Callable[[str], Sequence[int]]:
  return lambda text: tokenizer.encode(text, add_special_tokens=False).ids


def _added_bos(tokenizer: Any, specials: Mapping[str, int]) -> int | None:
  """The special id that the tokenizer's post-processor puts first, if any."""
  ids = tokenizer.encode('a', add_special_tokens=True).ids
  first = ids[0] if ids else None
  if first in specials.values():
    return first
  # One that the library numbered anew has the file's number.
  return specials.get(tokenizer.id_to_token(first)) if ids else None


def _names(folder: storage.Path) -> dict[str, str]:
  """The special tokens by name, 'bos_token' and so on, as transformers does."""
  found: dict[str, str] = {}
  for file in _NAMED:
    if not (folder / file).exists():
      continue
    for name, value in storage.read_json(folder / file).items():
      value = value.get('content') if isinstance(value, dict) else value
      if name.endswith('_token') and isinstance(value, str):
        found.setdefault(name, value)
  return found


def _eos_ids(
  spec: str, folder: storage.Path, own: int | None, size: int
) -> list[int]:
  """All ids that end a text; the first is the one to train on.

  Args:
    spec: for errors.
    folder: of the tokenizer.json. After `own` come the ids of its
      generation_config.json and config.json, one or a list each: a chat model
      ends a turn with another token than a document.
    own: the id of the tokenizer's eos_token, if it names one.
    size: of the vocabulary.
  """
  found = [] if own is None else [(own, _CONFIG)]
  for file in _NUMBERED:
    if (folder / file).exists():
      ids = storage.read_json(folder / file).get('eos_token_id')
      ids = ids if isinstance(ids, list) else [ids]
      found += [(id_, file) for id_ in ids if id_ is not None]
  if not found:
    raise configuration.ConfigurationError(
      f'vocabulary {spec}: no file in {folder} names the end of a sequence. '
      f"Put the {_CONFIG} with the model's eos_token there, or the "
      'generation_config.json with its eos_token_id.'
    )
  return [
    vocabularies.checked_eos(f'{spec}: {file}', id_, size)
    for id_, file in found
  ]
