"""Vocabularies: text to token ids and back, exactly.

Whatever its origin, a vocabulary here is an encoder and a table of the bytes
of every id. Decoding joins those bytes, so the decoding of a prefix is a
prefix of the decoding (up to the last, incomplete UTF-8 character), no space
is lost at the start of a completion, and stop strings can be looked for while
tokens arrive.

    spec                                   what it is
    'bytes'                                UTF-8 bytes, EOS = 256
    FILE.model                             SentencePiece
    FILE.gguf                              the tokenizer in a GGUF file
    tokenizer.json, or a folder with one   Hugging Face tokenizers

Limits: a SentencePiece or Hugging Face model that normalises text (T5, XLNet,
Gemma's Unicode forms) decodes to the normalised text; the character U+2581 is
a space to SentencePiece.
"""

import hashlib
import os
import posixpath
import re
from collections.abc import Callable, Iterable, Mapping, Sequence

from rest_jax import configuration, storage

BYTES = 'bytes'
_SPACE = '\u2581'  # SentencePiece's
_GUARD = '\ue000'  # private use: in no piece, so it merges with nothing
_UNKNOWN = '\ufffd'.encode()


class Vocabulary:
  """An encoder and the bytes of each id.

  Attributes:
    spec: what `load` was given.
    size: number of ids; the model may have more rows.
    eos_id: ends a document or a completion.
    bos_id: starts every prompt; None where the vocabulary wants none.
    specials: text to id of the special tokens; `encode` never yields them.
    unk_id: stands for what the vocabulary cannot write; None where it can
      write everything.
    digest: identity of the content, wherever the file lies.
  """

  def __init__(
    self,
    *,
    spec: str,
    encoder: Callable[[str], Sequence[int]],
    table: Sequence[bytes],
    eos_id: int,
    bos_id: int | None,
    specials: Mapping[str, int],
    digest: str,
    unk_id: int | None = None,
  ):
    self.spec = spec
    self.size = len(table)
    self.eos_id = eos_id
    self.bos_id = bos_id
    self.specials = dict(specials)
    self.unk_id = unk_id
    self.digest = digest
    self._encoder = encoder
    self._table = table

  def encode(self, text: str) -> list[int]:
    """The ids of a text; special tokens in it are plain text."""
    return [int(token) for token in self._encoder(text)] if text else []

  def decode_bytes(self, ids: Iterable[int]) -> bytes:
    """The bytes of ids; special tokens and ids beyond the table have none."""
    size, table = self.size, self._table
    return b''.join(table[i] for i in ids if 0 <= i < size)

  def decode(self, ids: Iterable[int]) -> str:
    """The text of ids; invalid UTF-8 becomes U+FFFD."""
    return self.decode_bytes(ids).decode('utf-8', errors='replace')

  def split_specials(self, text: str) -> list[str | int]:
    """A text cut at its special tokens: plain texts, and their ids between."""
    if not self.specials:
      return [text] if text else []
    longest_first = sorted(self.specials, key=len, reverse=True)
    pattern = '(' + '|'.join(re.escape(name) for name in longest_first) + ')'
    pieces = re.split(pattern, text)
    return [
      self.specials.get(piece, piece) if index % 2 else piece
      for index, piece in enumerate(pieces)
      if piece
    ]


def resolve(spec: str, base: storage.PathLike | None = None) -> str:
  """The spec with its path made absolute.

  Args:
    spec: see the module's docstring.
    base: the folder that a relative path starts from; the working directory
      by default. In a task card that is the folder of its problems.
  """
  if spec == BYTES or storage.is_remote(spec):
    return spec
  if base is None:
    return os.path.abspath(spec)
  base = os.fspath(base)
  if storage.is_remote(base):  # object stores do not know '..'
    scheme, _, path = base.partition('://')
    return f'{scheme}://{posixpath.normpath(posixpath.join(path, spec))}'
  return os.path.abspath(os.path.join(base, spec))


def load(spec: str, *, base: storage.PathLike | None = None) -> Vocabulary:
  """Loads a vocabulary.

  Args:
    spec: 'bytes', or the path of a *.model, *.gguf or tokenizer.json file, or
      of a folder that holds a tokenizer.json.
    base: see `resolve`.

  Raises:
    ConfigurationError: the file is not there, or of no known kind.
  """
  spec = resolve(spec, base)
  if spec == BYTES:
    return _bytes_vocabulary()
  path = storage.path(spec)
  if not path.exists():
    raise configuration.ConfigurationError(
      f'vocabulary {spec}: not there. Allowed: {BYTES}, or the path of a '
      '*.model, *.gguf or tokenizer.json file, or of a folder with one.'
    )
  if path.is_dir():
    path = path / 'tokenizer.json'
    if not path.exists():
      raise configuration.ConfigurationError(
        f'vocabulary {spec}: the folder holds no tokenizer.json.'
      )
  if path.suffix == '.model':
    return _sentencepiece_vocabulary(spec, path.read_bytes())
  from rest_jax.tasks import hf_vocabularies

  if path.suffix == '.gguf':
    return hf_vocabularies.from_gguf(spec, path)
  if path.suffix == '.json':
    return hf_vocabularies.from_tokenizer_json(spec, path)
  raise configuration.ConfigurationError(
    f'vocabulary {spec}: unknown kind {path.suffix!r}. Allowed: {BYTES}, '
    '*.model, *.gguf, *.json, or a folder with a tokenizer.json.'
  )


def train_sentencepiece(
  lines: Iterable[str], size: int, target: storage.PathLike
) -> None:
  """Trains a byte-pair vocabulary that can write any text exactly.

  Digits are single pieces, a newline is one piece, unknown characters are
  spelt in bytes, nothing is normalised. Single-threaded and with integer
  counts only: the same lines give the same file.

  Args:
    lines: the texts to learn from.
    size: number of ids; 260 of them are special tokens, bytes and newline.
    target: the *.model file to write.

  Raises:
    ConfigurationError: the lines do not have so many pieces in them.
  """
  import io

  import sentencepiece

  model = io.BytesIO()
  try:
    sentencepiece.SentencePieceTrainer.train(
      sentence_iterator=iter(lines),
      model_writer=model,
      model_type='bpe',
      vocab_size=size,
      character_coverage=1.0,
      normalization_rule_name='identity',
      add_dummy_prefix=False,
      remove_extra_whitespaces=False,
      split_digits=True,
      byte_fallback=True,
      allow_whitespace_only_pieces=True,
      user_defined_symbols=['\n'],
      unk_id=0,
      eos_id=1,
      bos_id=-1,
      pad_id=-1,
      max_sentence_length=1 << 20,
      num_threads=1,
      minloglevel=2,
    )
  except RuntimeError as error:
    raise configuration.ConfigurationError(
      f'vocab_size: got {size}; SentencePiece says: {error}.'
    ) from error
  storage.write_bytes(target, model.getvalue())


def _bytes_vocabulary() -> Vocabulary:
  return Vocabulary(
    spec=BYTES,
    encoder=lambda text: text.encode(),
    table=[bytes([byte]) for byte in range(256)] + [b''],
    eos_id=256,
    bos_id=None,
    specials={'<eos>': 256},
    digest=BYTES,
  )


def _sentencepiece_vocabulary(spec: str, data: bytes) -> Vocabulary:
  import sentencepiece

  try:
    model = sentencepiece.SentencePieceProcessor(model_proto=data)
  except RuntimeError as error:
    raise configuration.ConfigurationError(
      f'vocabulary {spec}: not a SentencePiece model ({error}).'
    ) from error
  table, specials = [], {}
  for token in range(model.vocab_size()):
    piece = model.id_to_piece(token)
    if model.is_control(token):
      specials[piece] = token
      table.append(b'')
    elif model.is_unknown(token):
      table.append(_UNKNOWN)
    else:
      table.append(piece_bytes(piece, is_byte=model.is_byte(token)))
  if model.eos_id() < 0:
    raise configuration.ConfigurationError(
      f'vocabulary {spec}: has no end-of-sequence id, and samples need one.'
    )
  return Vocabulary(
    spec=spec,
    encoder=without_dummy_prefix(model.encode, table),
    table=table,
    eos_id=model.eos_id(),
    bos_id=model.bos_id() if model.bos_id() >= 0 else None,
    specials=specials,
    digest=digest_of(data),
    unk_id=model.unk_id() if model.unk_id() >= 0 else None,
  )


def without_dummy_prefix(
  encoder: Callable[[str], Sequence[int]], table: Sequence[bytes]
) -> Callable[[str], Sequence[int]]:
  """The encoder, without the space that some models put before a text.

  A prompt is a concatenation of parts; a space before each would be new text.
  """

  if b''.join(table[token] for token in encoder('a')) != b' a':
    return encoder
  guard = list(encoder(_GUARD))

  def encode(text: str) -> Sequence[int]:
    ids = list(encoder(_GUARD + text))
    if ids[: len(guard)] != guard:  # both unknown, and merged into one
      return encoder(text)
    return ids[len(guard) :]

  return encode


def piece_bytes(piece: str, *, is_byte: bool) -> bytes:
  """The bytes of a SentencePiece piece; a byte piece is '<0x0A>'."""
  if is_byte:
    return bytes([int(piece[3:5], 16)])
  return piece.replace(_SPACE, ' ').encode()


def digest_of(data: bytes) -> str:
  """The identity of a vocabulary's content."""
  return hashlib.sha256(data).hexdigest()[:32]
