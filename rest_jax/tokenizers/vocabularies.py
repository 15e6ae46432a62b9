"""Vocabularies: text to token ids and back, exactly.

Whatever its origin, a vocabulary here is an encoder and a table of the bytes
of every id. Decoding joins those bytes, so the decoding of a prefix is a
prefix of the decoding (up to the last, incomplete UTF-8 character), no space
is lost at the start of a completion, and stop strings can be looked for while
tokens arrive. vocabulary_files.py loads one.
"""

import hashlib
import re
from collections.abc import Callable, Iterable, Mapping, Sequence

BYTES = 'bytes'
_SPACE = '\u2581'  # SentencePiece's
_GUARD = '\ue000'  # private use: in no piece, so it merges with nothing


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


def utf8_bytes() -> Vocabulary:
  """The vocabulary of UTF-8 bytes: ids 0 to 255, and EOS = 256."""
  return Vocabulary(
    spec=BYTES,
    encoder=lambda text: text.encode(),
    table=[bytes([byte]) for byte in range(256)] + [b''],
    eos_id=256,
    bos_id=None,
    specials={'<eos>': 256},
    digest=BYTES,
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
