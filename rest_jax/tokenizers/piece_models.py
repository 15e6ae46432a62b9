"""Tokenizers built from pieces, and merges or scores, by llama.cpp's names.

Byte-level BPE cuts a text into words first. GGUF files name that rule, the rule
itself is not in the file: `RULES` has those that are known here. Needs the
extra `hf` (tokenizers).
"""

import json
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, NamedTuple

from rest_jax.config import configuration
from rest_jax.tokenizers import vocabularies

_KEY = 'tokenizer.ggml.'
# Types of pieces, in GGUF's numbers.
NORMAL, UNKNOWN, CONTROL, USER_DEFINED, UNUSED, BYTE = range(1, 7)
_LLAMA3 = (
  r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}"
  r'| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+'
)


class Rule(NamedTuple):
  """How a text is cut into words before its bytes are merged.

  Attributes:
    pattern: regular expression of a word; None for GPT-2's.
    digits: whether each digit is a word.
    whole_words: whether a word that is a piece is taken without merging.
  """

  pattern: str | None = None
  digits: bool = False
  whole_words: bool = False


# By tokenizer.ggml.pre.
RULES = {
  'gpt-2': Rule(),
  'smollm': Rule(digits=True),
  'starcoder': Rule(digits=True),
  'llama-bpe': Rule(_LLAMA3, whole_words=True),
  'llama3': Rule(_LLAMA3, whole_words=True),
  'llama-v3': Rule(_LLAMA3, whole_words=True),
  'qwen2': Rule(_LLAMA3.replace('{1,3}', '')),
}


def built(metadata: Mapping[str, Any]) -> Any:
  """The tokenizer that GGUF's metadata describe.

  Args:
    metadata: the keys 'tokenizer.ggml.…' of a file; the model is 'llama', or
      'gpt2' with a rule of RULES.

  Returns:
    A tokenizers.Tokenizer, to which special tokens in a text are plain text.
  """
  pieces, types = metadata[f'{_KEY}tokens'], types_of(metadata)
  if metadata[f'{_KEY}model'] == 'llama':
    tokenizer = scored_bpe(pieces, metadata[f'{_KEY}scores'], types)
  else:
    merges = metadata[f'{_KEY}merges']
    tokenizer = byte_level(pieces, merges, metadata[f'{_KEY}pre'])
  add_plain(
    tokenizer,
    [p for p, t in zip(pieces, types, strict=True) if t == USER_DEFINED],
  )
  return tokenizer


def types_of(metadata: Mapping[str, Any]) -> list[int]:
  """The types of the pieces, by id."""
  pieces = metadata[f'{_KEY}tokens']
  return list(metadata.get(f'{_KEY}token_type', [NORMAL] * len(pieces)))


def bytes_of(metadata: Mapping[str, Any]) -> list[bytes]:
  """The bytes of every id; special tokens have none."""
  scored = metadata[f'{_KEY}model'] == 'llama'

  def of_piece(piece: str, kind: int) -> bytes:
    if kind == CONTROL:
      return b''
    if scored:
      return vocabularies.piece_bytes(piece, is_byte=kind == BYTE)
    if kind == USER_DEFINED:
      return piece.encode()
    return vocabularies.byte_level_bytes(piece)

  pieces = metadata[f'{_KEY}tokens']
  return [
    of_piece(piece, kind)
    for piece, kind in zip(pieces, types_of(metadata), strict=True)
  ]


def byte_level(pieces: Sequence[str], merges: Sequence[str], pre: str) -> Any:
  """A byte-level BPE tokenizer (GPT-2's and those after it).

  Args:
    pieces: by id, in GPT-2's stand-ins for bytes.
    merges: 'left right', the first is merged first.
    pre: a name of RULES.

  Returns:
    A tokenizers.Tokenizer.
  """
  tokenizers = vocabularies.need('tokenizers')
  rule = RULES[pre]
  tokenizer = tokenizers.Tokenizer(
    tokenizers.models.BPE(
      vocab={piece: token for token, piece in enumerate(pieces)},
      merges=[tuple(merge.split(' ')) for merge in merges],
      ignore_merges=rule.whole_words,
    )
  )
  tokenizer.pre_tokenizer = _cutter(rule)
  tokenizer.decoder = tokenizers.decoders.ByteLevel()
  return tokenizer


def _cutter(rule: Rule) -> Any:
  """The pre-tokenizer of a rule."""
  tokenizers = vocabularies.need('tokenizers')
  cut = tokenizers.pre_tokenizers
  parts = [cut.Digits(individual_digits=True)] if rule.digits else []
  if rule.pattern is not None:
    parts.append(cut.Split(tokenizers.Regex(rule.pattern), 'isolated'))
  parts.append(
    cut.ByteLevel(add_prefix_space=False, use_regex=not rule.pattern)
  )
  return cut.Sequence(parts)


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
  normal = {
    p: ids[p] for p, t in zip(pieces, types, strict=True) if t == NORMAL
  }
  merges = [
    (-scores[token], token, piece[:cut], piece[cut:])
    for piece, token in normal.items()
    for cut in range(1, len(piece))
    if piece[:cut] in normal and piece[cut:] in normal
  ]
  unknown = [p for p, t in zip(pieces, types, strict=True) if t == UNKNOWN]
  tokenizer = tokenizers.Tokenizer(
    tokenizers.models.BPE(
      vocab=ids,
      merges=[(left, right) for *_, left, right in sorted(merges)],
      unk_token=unknown[0] if unknown else None,
      fuse_unk=True,
      byte_fallback=BYTE in types,
    )
  )
  tokenizer.normalizer = tokenizers.normalizers.Replace(' ', '\u2581')
  join = tokenizers.decoders
  tokenizer.decoder = join.Sequence(
    [join.Replace('\u2581', ' '), join.ByteFallback(), join.Fuse()]
  )
  return tokenizer


def add_plain(tokenizer: Any, pieces: Iterable[str]) -> None:
  """Adds tokens that a text may contain; they are never cut.

  They are looked for after spaces have become U+2581, where they do: a piece
  of several spaces is written with that character.
  """
  tokenizers = vocabularies.need('tokenizers')
  normalized = tokenizer.normalizer is not None
  tokenizer.add_tokens(
    [
      tokenizers.AddedToken(piece, special=False, normalized=normalized)
      for piece in pieces
    ]
  )


def from_tokenizer_json(
  where: str, content: Mapping[str, Any]
) -> dict[str, Any]:
  """Pieces, types and merges or scores of a Hugging Face tokenizer.json.

  Args:
    where: for errors.
    content: of the file.

  Returns:
    'model', 'pre', 'tokens', 'token_type', and 'merges' or 'scores'.

  Raises:
    ConfigurationError: it is not byte-pair encoding, or cuts words by a rule
      that is not in RULES.
  """
  model = content['model']
  if model['type'] != 'BPE':
    raise _not_named(where, f'a {model["type"]} model')
  added = {row['id']: row for row in content.get('added_tokens', ())}
  names = {id_: piece for piece, id_ in model['vocab'].items()}
  names |= {id_: row['content'] for id_, row in added.items()}
  tokens, types = [], []
  scored = '"ByteLevel"' not in json.dumps(
    [content.get('pre_tokenizer'), content.get('decoder')]
  )
  for id_ in range(max(names) + 1):
    piece = names.get(id_)
    tokens.append(f'[PAD{id_}]' if piece is None else piece)
    if piece is None:
      types.append(UNUSED)
    elif scored and piece == model.get('unk_token'):
      types.append(UNKNOWN)
    elif id_ in added:
      types.append(CONTROL if added[id_]['special'] else USER_DEFINED)
    else:
      is_byte = scored and len(piece) == 6 and piece.startswith('<0x')
      types.append(BYTE if is_byte else NORMAL)
  merges = [
    tuple(m.split(' ')) if isinstance(m, str) else tuple(m)
    for m in model['merges']
  ]
  found = {'tokens': tokens, 'token_type': types}
  if scored:
    # What is merged first has the greatest score.
    ranks: dict[str, int] = {}
    for rank, pair in enumerate(merges):
      ranks.setdefault(''.join(pair), rank)
    scores = [-float(ranks.get(piece, len(merges))) for piece in tokens]
    return found | {'model': 'llama', 'pre': 'default', 'scores': scores}
  return found | {
    'model': 'gpt2',
    'pre': _rule_name(where, content),
    'merges': [' '.join(pair) for pair in merges],
  }


def _rule_name(where: str, content: Mapping[str, Any]) -> str:
  """llama.cpp's name of how a tokenizer.json cuts words."""
  whole = content.get('pre_tokenizer') or {}
  parts = whole.get('pretokenizers', [whole])
  pattern, digits, known = None, False, True
  for part in parts:
    if part.get('type') == 'Digits' and part['individual_digits']:
      digits = True
    elif part.get('type') == 'Split':
      pattern = part['pattern'].get('Regex')
      known &= part['behavior'] == 'Isolated' and not part['invert']
    elif part.get('type') == 'ByteLevel':
      known &= not part['add_prefix_space']
      known &= part.get('use_regex', True) == (pattern is None)
    else:
      known = False
  rule = Rule(pattern, digits, bool(content['model'].get('ignore_merges')))
  for name, candidate in RULES.items():
    if known and candidate == rule:
      return name
  raise _not_named(where, f'words cut by {json.dumps(whole)[:300]}')


def _not_named(where: str, what: str) -> configuration.ConfigurationError:
  return configuration.ConfigurationError(
    f'{where}: {what}, for which GGUF has no name that is known here; known: '
    f'SentencePiece-like byte pairs, and byte-level ones with the words of '
    f'{", ".join(RULES)}. Give a GGUF file of the same model: '
    '--tokenizer=FILE.gguf.'
  )
