"""The vocabulary in the metadata of a GGUF file (llama.cpp).

A GGUF file holds pieces, merges (or scores) and the *name* of the rule that
cuts text into words before merging. The rule itself is not in the file; the
names known here are in `_WORDS`. Needs the extra `hf` (tokenizers, gguf).
"""

import json
from collections.abc import Callable, Sequence
from typing import Any

from rest_jax.artifacts import gguf_files, storage
from rest_jax.config import configuration
from rest_jax.tokenizers import vocabularies

_LLAMA3 = (
  r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}"
  r'| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+'
)
# tokenizer.ggml.pre: (regular expression or None for GPT-2's, digits one by
# one, whether a word that is a piece is taken without merging).
_WORDS = {
  'gpt-2': (None, False, False),
  'smollm': (None, True, False),
  'starcoder': (None, True, False),
  'llama-bpe': (_LLAMA3, False, True),
  'llama3': (_LLAMA3, False, True),
  'llama-v3': (_LLAMA3, False, True),
  'qwen2': (_LLAMA3.replace('{1,3}', ''), False, False),
}
# llama.cpp adds BOS to these where the file does not say.
_WITH_BOS = ('llama-bpe', 'llama3', 'llama-v3')
_UNNAMED = 'default'  # what converters wrote that did not know the rule
_NORMAL, _UNKNOWN, _CONTROL, _USER_DEFINED, _BYTE = 1, 2, 3, 4, 6
# The end of a document, of a turn, and of a message that calls a tool.
_EOS = ('eos_token_id', 'eot_token_id', 'eom_token_id')
# Names of special tokens in chat templates, and their metadata keys.
_NAMES = {
  'bos_token': 'bos_token_id',
  'eos_token': 'eos_token_id',
  'unk_token': 'unknown_token_id',
  'pad_token': 'padding_token_id',
}


def load(spec: str, path: storage.PathLike) -> vocabularies.Vocabulary:
  """The tokenizer in a GGUF file's metadata.

  Args:
    spec: what the user gave, for errors.
    path: the file, on a local disk.

  Raises:
    ConfigurationError: the file is not readable, or a kind of tokenizer or a
      rule for words that is not known here.
  """
  reader = gguf_files.open_reader(path)

  def get(name: str, default: Any = None) -> Any:
    return gguf_files.field(reader, f'tokenizer.ggml.{name}', default)

  kind, pieces, merges = get('model'), get('tokens'), get('merges')
  types = get('token_type', [_NORMAL] * len(pieces or ()))
  pre = get('pre', _UNNAMED)
  if kind == 'gpt2' and pre in _WORDS:
    tokenizer = _byte_level(pieces, merges, pre)
    table = [vocabularies.byte_level_bytes(piece) for piece in pieces]
  elif kind == 'llama':
    tokenizer = scored_bpe(pieces, get('scores'), types)
    table = [
      vocabularies.piece_bytes(piece, is_byte=type_ == _BYTE)
      for piece, type_ in zip(pieces, types, strict=True)
    ]
  else:
    raise _unknown_kind(spec, kind, pre)
  specials = {}
  for token, (piece, type_) in enumerate(zip(pieces, types, strict=True)):
    if type_ == _CONTROL:
      specials[piece] = token
      table[token] = b''
    elif type_ == _USER_DEFINED:
      table[token] = piece.encode()
      _add_plain(tokenizer, piece)
  size = len(pieces)
  eos_ids = [
    vocabularies.checked_eos(f'{spec}: tokenizer.ggml.{name}', get(name), size)
    for name in _EOS
    if name == _EOS[0] or get(name) is not None
  ]
  ids = {name: get(key) for name, key in _NAMES.items()}
  add_bos = get('add_bos_token', kind == 'llama' or pre in _WITH_BOS)
  # Of the EOS ids only the first: so that an identity from before the others
  # were read stays.
  content = [kind, pre, pieces, types, merges, get('eos_token_id')]
  return vocabularies.Vocabulary(
    spec=spec,
    encoder=vocabularies.without_dummy_prefix(_encoder(tokenizer), table),
    table=table,
    eos_id=eos_ids[0],
    more_eos_ids=eos_ids[1:],
    bos_id=int(get('bos_token_id')) if add_bos else None,
    specials=specials,
    names={
      name: pieces[id_]
      for name, id_ in ids.items()
      if id_ is not None and 0 <= id_ < size
    },
    digest=vocabularies.digest_of(
      json.dumps([*content, bool(add_bos)], default=float).encode()
    ),
  )


def chat_template(path: storage.PathLike) -> str | None:
  """The Jinja chat template in a GGUF file's metadata, if it has one."""
  reader = gguf_files.open_reader(path)
  return gguf_files.field(reader, 'tokenizer.chat_template')


def _unknown_kind(
  spec: str, kind: Any, pre: str
) -> configuration.ConfigurationError:
  way_out = "Set VOCABULARY to the model's tokenizer.json."
  if kind == 'gpt2' and pre == _UNNAMED:
    return configuration.ConfigurationError(
      f'vocabulary {spec}: the file does not say how text is cut into words '
      f'(tokenizer.ggml.pre is missing or {_UNNAMED!r}), and another rule '
      f'gives other ids than the model was trained with. {way_out} Or convert '
      'the model again with a newer llama.cpp.'
    )
  return configuration.ConfigurationError(
    f'vocabulary {spec}: tokenizer {kind!r} with words {pre!r}; allowed: '
    f"'llama', or 'gpt2' with {' | '.join(_WORDS)}. {way_out}"
  )


def _byte_level(pieces: Sequence[str], merges: Sequence[str], pre: str) -> Any:
  tokenizers = vocabularies.need('tokenizers')
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
) -> Any:
  """SentencePiece's byte-pair model from its pieces and their scores.

  SentencePiece merges the pair of neighbours whose union has the best score.
  So the merges are all pairs of pieces that make a piece, best first.

  Args:
    pieces: by id.
    scores: of the pieces; the greatest is merged first.
    types: of the pieces, in GGUF's numbers.

  Returns:
    A tokenizers.Tokenizer.
  """
  tokenizers = vocabularies.need('tokenizers')
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


def _add_plain(tokenizer: Any, piece: str) -> None:
  """Adds a token that a text may contain; it is never cut."""
  tokenizers = vocabularies.need('tokenizers')
  token = tokenizers.AddedToken(piece, special=False, normalized=False)
  tokenizer.add_tokens([token])


def _encoder(tokenizer: Any) -> Callable[[str], Sequence[int]]:
  return lambda text: tokenizer.encode(text, add_special_tokens=False).ids
