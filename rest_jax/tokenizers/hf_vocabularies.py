"""Vocabularies of open-weights models: tokenizer.json, and the one in a GGUF.

A GGUF file holds pieces, merges (or scores) and the *name* of the rule that
cuts text into words before merging; the rules known here are in `_WORDS`.
Needs the extra `hf` (tokenizers, gguf).
"""

import functools
import importlib
import json
import os
from collections.abc import Callable, Sequence
from typing import Any

from rest_jax.artifacts import storage
from rest_jax.config import configuration
from rest_jax.tokenizers import vocabularies

_LLAMA3 = (
  r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}"
  r'| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+'
)
# tokenizer.ggml.pre: (regular expression or None for GPT-2's, digits one by
# one, whether a word that is a piece is taken without merging).
_WORDS = {
  'default': (None, False, False),
  'gpt-2': (None, False, False),
  'smollm': (None, True, False),
  'starcoder': (None, True, False),
  'llama-bpe': (_LLAMA3, False, True),
  'qwen2': (_LLAMA3.replace('{1,3}', ''), False, False),
}
_NORMAL, _UNKNOWN, _CONTROL, _USER_DEFINED, _BYTE = 1, 2, 3, 4, 6


def from_gguf(spec: str, path: storage.PathLike) -> vocabularies.Vocabulary:
  """The tokenizer in a GGUF file's metadata.

  Raises:
    ConfigurationError: a kind of tokenizer that is not known here.
  """
  if storage.is_remote(path):
    raise configuration.ConfigurationError(
      f'vocabulary {spec}: a GGUF file is read in place; copy it to a local '
      'disk first.'
    )
  reader = _need('gguf').GGUFReader(os.fspath(path))

  def get(name: str, default: Any = None) -> Any:
    field = reader.fields.get(f'tokenizer.ggml.{name}')
    return default if field is None else field.contents()

  kind, pieces = get('model'), get('tokens')
  types = get('token_type', [_NORMAL] * len(pieces or ()))
  pre = get('pre', 'default')
  if kind == 'gpt2' and pre in _WORDS:
    tokenizer = _byte_level(pieces, get('merges'), pre)
    table = [byte_level_bytes(piece) for piece in pieces]
  elif kind == 'llama':
    tokenizer = scored_bpe(pieces, get('scores'), types)
    table = [
      vocabularies.piece_bytes(piece, is_byte=type_ == _BYTE)
      for piece, type_ in zip(pieces, types, strict=True)
    ]
  else:
    raise configuration.ConfigurationError(
      f'vocabulary {spec}: tokenizer {kind!r} with words {pre!r}; allowed: '
      f"'llama', or 'gpt2' with {' | '.join(_WORDS)}. Set VOCABULARY to the "
      "model's tokenizer.json."
    )
  specials = {}
  for token, (piece, type_) in enumerate(zip(pieces, types, strict=True)):
    if type_ == _CONTROL:
      specials[piece] = token
      table[token] = b''
    elif type_ == _USER_DEFINED:
      table[token] = piece.encode()
      _add_plain(tokenizer, piece)
  add_bos = get('add_bos_token', kind == 'llama' or pre == 'llama-bpe')
  content = [kind, pre, pieces, types, get('merges'), get('eos_token_id')]
  return vocabularies.Vocabulary(
    spec=spec,
    encoder=vocabularies.without_dummy_prefix(_encoder(tokenizer), table),
    table=table,
    eos_id=_valid_eos(spec, get('eos_token_id'), len(pieces)),
    bos_id=int(get('bos_token_id')) if add_bos else None,
    specials=specials,
    digest=vocabularies.digest_of(
      json.dumps([*content, bool(add_bos)], default=float).encode()
    ),
  )


def gguf_chat_template(path: storage.PathLike) -> str | None:
  """The Jinja chat template in a GGUF file's metadata, if it has one."""
  fields = _need('gguf').GGUFReader(os.fspath(path)).fields
  field = fields.get('tokenizer.chat_template')
  return None if field is None else field.contents()


def from_tokenizer_json(
  spec: str, path: storage.Path
) -> vocabularies.Vocabulary:
  """A Hugging Face tokenizer.json.

  EOS is what the tokenizer_config.json or generation_config.json beside it
  says.
  """
  text = path.read_text()
  tokenizer = _need('tokenizers').Tokenizer.from_str(text)
  tokenizer.encode_special_tokens = True  # in a text they are plain text
  tokenizer.no_truncation()
  tokenizer.no_padding()
  content = json.loads(text)
  added = {item['id']: item for item in content.get('added_tokens', ())}
  specials = {i['content']: i['id'] for i in added.values() if i['special']}
  to_bytes = _piece_rule(spec, content)
  table = []
  for token in range(tokenizer.get_vocab_size(with_added_tokens=True)):
    piece = tokenizer.id_to_token(token)
    if token in added:
      item = added[token]
      table.append(b'' if item['special'] else item['content'].encode())
    else:
      table.append(b'' if piece is None else to_bytes(piece))
  eos_id = _named_eos(path.parent, specials)
  return vocabularies.Vocabulary(
    spec=spec,
    encoder=vocabularies.without_dummy_prefix(_encoder(tokenizer), table),
    table=table,
    eos_id=_valid_eos(spec, eos_id, len(table)),
    bos_id=_added_bos(tokenizer, set(specials.values())),
    specials=specials,
    digest=vocabularies.digest_of(f'{eos_id} {text}'.encode()),
  )


def _byte_level(pieces: Sequence[str], merges: Sequence[str], pre: str):
  tokenizers = _need('tokenizers')
  pattern, digits, ignore_merges = _WORDS[pre]
  tokenizer = tokenizers.Tokenizer(
    tokenizers.models.BPE(
      vocab={piece: token for token, piece in enumerate(pieces)},
      merges=[tuple(merge.split(' ')) for merge in merges],
      ignore_merges=ignore_merges,
    )
  )
  cut = tokenizers.pre_tokenizers
  rules = [cut.Digits(individual_digits=True)] if digits else []
  if pattern is not None:
    rules.append(cut.Split(tokenizers.Regex(pattern), 'isolated'))
  rules.append(cut.ByteLevel(add_prefix_space=False, use_regex=not pattern))
  tokenizer.pre_tokenizer = cut.Sequence(rules)
  return tokenizer


def scored_bpe(
  pieces: Sequence[str], scores: Sequence[float], types: Sequence[int]
):
  """SentencePiece's byte-pair model from its pieces and their scores.

  It merges the pair whose union has the best score; so the merges are all
  pairs of pieces that make a piece, best first.
  """
  tokenizers = _need('tokenizers')
  ids = {piece: token for token, piece in enumerate(pieces)}
  normal = {p: ids[p] for p, t in zip(pieces, types, strict=True) if t == 1}
  merges = [
    (-scores[token], token, piece[:cut], piece[cut:])
    for piece, token in normal.items()
    for cut in range(1, len(piece))
    if piece[:cut] in normal and piece[cut:] in normal
  ]
  unknown = [p for p, t in zip(pieces, types, strict=True) if t == _UNKNOWN]
  tokenizer = tokenizers.Tokenizer(
    tokenizers.models.BPE(
      vocab=ids,
      merges=[(left, right) for *_, left, right in sorted(merges)],
      unk_token=unknown[0] if unknown else None,
      fuse_unk=True,
      byte_fallback=_BYTE in types,
    )
  )
  tokenizer.normalizer = tokenizers.normalizers.Replace(' ', '\u2581')
  return tokenizer


@functools.cache
def _byte_of() -> dict[str, int]:
  """GPT-2's printable stand-ins for bytes: 'Ġ' is a space."""
  printable = [*range(33, 127), *range(161, 173), *range(174, 256)]
  others = [byte for byte in range(256) if byte not in printable]
  result = {chr(byte): byte for byte in printable}
  return result | {chr(256 + i): byte for i, byte in enumerate(others)}


def byte_level_bytes(piece: str) -> bytes:
  """The bytes of a byte-level piece."""
  table = _byte_of()
  if any(character not in table for character in piece):
    return piece.encode()  # an added piece, written as it is
  return bytes(table[character] for character in piece)


def _piece_rule(spec: str, content: dict) -> Callable[[str], bytes]:
  rules = json.dumps([content.get('pre_tokenizer'), content.get('decoder')])
  if '"ByteLevel"' in rules:
    return byte_level_bytes
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


def _add_plain(tokenizer, piece: str) -> None:
  tokenizers = _need('tokenizers')
  token = tokenizers.AddedToken(piece, special=False, normalized=False)
  tokenizer.add_tokens([token])


def _encoder(tokenizer) -> Callable[[str], Sequence[int]]:
  return lambda text: tokenizer.encode(text, add_special_tokens=False).ids


def _added_bos(tokenizer, special_ids: set[int]) -> int | None:
  """The special id that the tokenizer's post-processor puts first, if any."""
  ids = tokenizer.encode('a', add_special_tokens=True).ids
  return ids[0] if ids and ids[0] in special_ids else None


def _named_eos(folder: storage.Path, specials: dict[str, int]) -> int | None:
  path = folder / 'tokenizer_config.json'
  if path.exists():
    name = storage.read_json(path).get('eos_token')
    name = name.get('content') if isinstance(name, dict) else name
    if name in specials:
      return specials[name]
  for file in ('generation_config.json', 'config.json'):
    if (folder / file).exists():
      eos = storage.read_json(folder / file).get('eos_token_id')
      return eos[0] if isinstance(eos, list) else eos
  return None


def _valid_eos(spec: str, eos_id: Any, size: int) -> int:
  if eos_id is None or not 0 <= int(eos_id) < size:
    raise configuration.ConfigurationError(
      f'vocabulary {spec}: end-of-sequence id is {eos_id!r}; expected one of '
      f'0..{size - 1}. For a tokenizer.json, put the tokenizer_config.json '
      "with the model's eos_token beside it."
    )
  return int(eos_id)


def _need(name: str) -> Any:
  try:
    return importlib.import_module(name)
  except ImportError as error:
    raise configuration.ConfigurationError(
      f'this vocabulary needs the package {name}: pip install '
      f"'rest_jax[hf]' ({error})."
    ) from error
