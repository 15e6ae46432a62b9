"""Vocabularies: text to token ids and back, exactly.

Whatever its origin, a vocabulary here is an encoder and a table of the bytes
of every id. Decoding joins those bytes, so the decoding of a prefix is a
prefix of the decoding (up to the last, incomplete UTF-8 character), no space
is lost at the start of a completion, and stop strings can be looked for while
tokens arrive. vocabulary_files.py loads one.
"""

import functools
import hashlib
import importlib
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

from rest_jax.config import configuration

BYTES = 'bytes'
_SPACE = '\u2581'  # SentencePiece's
_GUARD = '\ue000'  # private use: in no piece, so it merges with nothing


class Vocabulary:
  """An encoder and the bytes of each id.

  Attributes:
    spec: what `load` was given.
    size: number of ids; the model may have more rows.
    eos_id: ends a document or a completion; training appends it.
    eos_ids: every id that ends a completion, eos_id first. Chat models have
      several: the end of a document and the end of a turn.
    bos_id: starts every prompt; None where the tokenizer adds none.
    specials: text to id of the special tokens; `encode` never yields them.
    names: text of the special tokens that chat templates call by name, such as
      'bos_token'.
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
    more_eos_ids: Sequence[int] = (),
    names: Mapping[str, str] | None = None,
  ):
    self.spec = spec
    self.size = len(table)
    self.eos_id = eos_id
    self.eos_ids = tuple(dict.fromkeys([eos_id, *more_eos_ids]))
    self.bos_id = bos_id
    self.specials = dict(specials)
    self.names = dict(names or {})
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

  def shown(self, ids: Iterable[int]) -> str:
    """The text of ids for a person: special tokens by their names."""
    names = {token: name for name, token in self.specials.items()}
    pieces, plain = [], []
    for token in [*ids, None]:
      if token is not None and token not in names:
        plain.append(token)
        continue
      pieces.append(self.decode(plain))
      pieces.append(names.get(token, ''))
      plain = []
    return ''.join(pieces)

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


@functools.cache
def _byte_of() -> dict[str, int]:
  """GPT-2's printable stand-ins for bytes: 'Ġ' is a space."""
  printable = [*range(33, 127), *range(161, 173), *range(174, 256)]
  others = [byte for byte in range(256) if byte not in printable]
  result = {chr(byte): byte for byte in printable}
  return result | {chr(256 + i): byte for i, byte in enumerate(others)}


def byte_level_bytes(piece: str) -> bytes:
  """The bytes of a byte-level piece (GPT-2's), one character a byte."""
  table = _byte_of()
  if any(character not in table for character in piece):
    return piece.encode()  # an added piece, written as it is
  return bytes(table[character] for character in piece)


def checked_eos(where: str, eos_id: Any, size: int) -> int:
  """An end-of-sequence id; raises unless it is an id of the vocabulary.

  Args:
    where: the vocabulary and what names the id, for the error.
    eos_id: as read from a file; None where it names none.
    size: of the vocabulary.
  """
  try:
    number = int(eos_id)
  except (TypeError, ValueError):
    number = -1
  if not 0 <= number < size:
    raise configuration.ConfigurationError(
      f'vocabulary {where}: end-of-sequence id is {eos_id!r}; expected one of '
      f'0..{size - 1}. The file belongs to another model, or is incomplete.'
    )
  return number


def need(name: str) -> Any:
  """Imports an optional package; raises ConfigurationError if it is missing."""
  try:
    return importlib.import_module(name)
  except ImportError as error:
    raise configuration.ConfigurationError(
      f'this vocabulary needs the package {name}: pip install '
      f"'rest_jax[hf]' ({error})."
    ) from error


def digest_of(data: bytes) -> str:
  """The identity of a vocabulary's content."""
  return hashlib.sha256(data).hexdigest()[:32]
