r"""Texts as tokens, and the hashes of their n-grams.

A token is what two copies of a text agree on: a word, a number, an operator,
or a LaTeX command, in lower case (Unicode NFKC). Other punctuation, spaces,
braces and the commands that only arrange a formula are dropped; an identifier
is split at its underscores. A drawing ([asy] ... [/asy], as in MATH) is one
token: its coordinates are no prose, and most drawings begin alike.
"""

import hashlib
import re
import unicodedata
from collections.abc import Iterable

import numpy as np

_DRAWING = re.compile(r'\[asy\](.*?)\[/asy\]', re.DOTALL)
_DROPPED = re.compile(
  r"['\u2018\u2019\u00ad\u200b-\u200f\u2060\ufeff]"  # don't; invisible ones
  r'|(?<=[0-9]),(?=[0-9]{3}(?![0-9]))'  # 1,000
  r'|(?<=[^\W\d_])-(?=[^\W\d_])'  # well-known
  r'|-{2,}|\\\\'  # a dash; the end of a row in LaTeX
  r'|\\(?:left|right|[bB]igg?[lr]?|displaystyle|textstyle|limits|quad|qquad)'
  r'(?![a-z])'
)
_TOKEN = re.compile(
  r'\\[a-z]+'  # a LaTeX command
  r'|[0-9]+(?:\.[0-9]+)?'
  # A sign of Chinese or Japanese, which put no spaces between words.
  r'|[\u3040-\u30ff\u3400-\u4dbf\u4e00-\u9fff]'
  r'|[^\W\d_\u3040-\u30ff\u3400-\u4dbf\u4e00-\u9fff]'
  r'[^\W_\u3040-\u30ff\u3400-\u4dbf\u4e00-\u9fff]*'
  r'|[-+*/%<>=\u00b1\u00d7\u00f7\u2190-\u22ff]+'
)
_SAME = {'\\dfrac': '\\frac', '\\tfrac': '\\frac', '\u2212': '-'}
# A gram is sum(token[j] * _STEP ** j), modulo 2 ** 64; _BACK undoes a step.
_STEP = 0x9E3779B97F4A7C15
_BACK = pow(_STEP, -1, 1 << 64)


def tokens(text: str) -> list[str]:
  """The tokens of a text, in order; see the module's docstring."""
  text = unicodedata.normalize('NFKC', text).lower()
  text = _DRAWING.sub(_drawing, text)
  found = _TOKEN.findall(_DROPPED.sub(_gap, text))
  return [_SAME.get(token, token) for token in found]


def _gap(match: re.Match) -> str:
  """What a dropped piece leaves: a space where it stood between two words."""
  return ' ' if match.group()[0] in '-\\' else ''


def _drawing(match: re.Match) -> str:
  content = ' '.join(_TOKEN.findall(match.group(1)))
  return f' asy{hashlib.blake2b(content.encode(), digest_size=8).hexdigest()} '


class Encoder:
  """Texts to arrays; remembers the hash of each token that it has met."""

  def __init__(self):
    self._hashes = _Hashes()

  def __call__(self, texts: Iterable[str]) -> 'Grams':
    """The tokens of the texts, hashed; no gram reaches over a text's end."""
    rows, lengths = [], [0]
    for text in texts:
      found = tokens(text)
      lengths.append(len(found))
      rows += map(self._hashes.__getitem__, found)
    return Grams(np.array(rows, np.uint64), np.cumsum(lengths))


class Grams:
  """Hashed tokens of some texts, and the hashes of all their n-grams.

  The same tokens have the same hash wherever they stand, in this process and
  in any other. Two different n-grams share a hash by a chance of 2**-64 or
  so: of 10**7 against 10**6, any two do once in two million times.

  Attributes:
    offsets: (texts + 1,) where each text's tokens begin among all tokens.
    lengths: (texts,) tokens of each.
    text_of: (tokens,) the text that a token is in.
  """

  def __init__(self, tokens_T: np.ndarray, offsets: np.ndarray):
    self.offsets, self.lengths = offsets, np.diff(offsets)
    self.text_of = np.repeat(np.arange(len(self.lengths)), self.lengths)
    # Sums from the first token on, so that a gram of any length is a
    # difference of two of them, moved back to the start of the text.
    self._powers = _powers(_BACK, len(tokens_T))
    steps = _powers(_STEP, len(tokens_T))
    self._sums = np.zeros(len(tokens_T) + 1, np.uint64)
    np.cumsum(tokens_T * steps, out=self._sums[1:])

  def of(self, n: int) -> tuple[np.ndarray, np.ndarray]:
    """(hashes, first tokens) of all n-grams."""
    starts = np.arange(max(0, len(self.text_of) - n + 1))
    inside = starts + n <= self.offsets[1:][self.text_of[starts]]
    return self._hashed(starts[inside], n), starts[inside]

  def whole(self) -> np.ndarray:
    """(texts,) the hash of all of a text's tokens as one gram."""
    hashes = np.zeros(len(self.lengths), np.uint64)
    some = np.flatnonzero(self.lengths)
    hashes[some] = self._hashed(self.offsets[some], self.lengths[some])
    return hashes

  def _hashed(self, starts: np.ndarray, n: int | np.ndarray) -> np.ndarray:
    sums = self._sums[starts + n] - self._sums[starts]
    value = sums * self._powers[starts]
    value += np.asarray(n, np.uint64) * np.uint64(_STEP)  # lengths differ
    # The finaliser of SplitMix64 (Steele et al. 2014): all bits depend on all.
    value ^= value >> np.uint64(30)
    value *= np.uint64(0xBF58476D1CE4E5B9)
    value ^= value >> np.uint64(27)
    value *= np.uint64(0x94D049BB133111EB)
    return value ^ (value >> np.uint64(31))


class _Hashes(dict):
  """Token to its hash, computed once."""

  def __missing__(self, token: str) -> int:
    digest = hashlib.blake2b(token.encode(), digest_size=8).digest()
    value = self[token] = int.from_bytes(digest, 'little')
    return value


def _powers(base: int, size: int) -> np.ndarray:
  """base ** (0, 1, ..., size - 1) modulo 2 ** 64."""
  powers = np.full(size, base, np.uint64)
  powers[:1] = 1
  return np.cumprod(powers, out=powers)
