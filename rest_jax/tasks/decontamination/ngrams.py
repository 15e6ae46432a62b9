r"""Splits texts into tokens, and hashes their n-grams.

Tokens are chosen such that two copies of a text with another layout give the
same ones. A token is a word, a number, an operator or a LaTeX command, in lower
case (Unicode NFKC). Other punctuation, spaces, braces and the LaTeX commands
for layout are dropped; an identifier is split at its underscores. A drawing
([asy] ... [/asy], as in MATH) is a single token, because most drawings begin
with the same code.
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
# The hash of a gram is made of sum(token[j] * _STEP ** j) modulo 2 ** 64; _BACK
# is the inverse of _STEP.
_STEP = 0x9E3779B97F4A7C15
_BACK = pow(_STEP, -1, 1 << 64)


def tokens(text: str) -> list[str]:
  """The tokens of a text, in order; see the module's docstring."""
  text = unicodedata.normalize('NFKC', text).lower()
  text = _DRAWING.sub(_drawing, text)
  found = _TOKEN.findall(_DROPPED.sub(_gap, text))
  return [_SAME.get(token, token) for token in found]


def _gap(match: re.Match) -> str:
  """What replaces a dropped piece: a space if it separated two words."""
  return ' ' if match.group()[0] in '-\\' else ''


def _drawing(match: re.Match) -> str:
  """A token for a drawing: a hash of its code."""
  content = ' '.join(_TOKEN.findall(match.group(1)))
  return f' asy{hashlib.blake2b(content.encode(), digest_size=8).hexdigest()} '


class Encoder:
  """Turns texts into hashed tokens; caches the hash of each token."""

  def __init__(self):
    self._hashes = _Hashes()

  def __call__(self, texts: Iterable[str]) -> 'Grams':
    """The hashed tokens of the texts. No gram spans two texts."""
    rows, lengths = [], [0]
    for text in texts:
      found = tokens(text)
      lengths.append(len(found))
      rows += map(self._hashes.__getitem__, found)
    return Grams(np.array(rows, np.uint64), np.cumsum(lengths))


class Grams:
  """Hashed tokens of some texts, and the hashes of all their n-grams.

  Equal n-grams have equal hashes, in every process. Two different n-grams have
  the same hash with a probability of about 2**-64: in a comparison of 10**7
  with 10**6 grams, any two do in one of two million comparisons.

  Attributes:
    offsets: (texts + 1,) the index of each text's first token.
    lengths: (texts,) the number of tokens of each text.
    text_of: (tokens,) the index of the text that a token is in.
  """

  def __init__(self, tokens_T: np.ndarray, offsets: np.ndarray):
    """Args:
    tokens_T: (tokens,) uint64, the hashes of all texts' tokens.
    offsets: see the class.
    """
    self.offsets, self.lengths = offsets, np.diff(offsets)
    self.text_of = np.repeat(np.arange(len(self.lengths)), self.lengths)
    # Prefix sums: the sum of a gram of any length is a difference of two of
    # them, multiplied by a power of _BACK so that it does not depend on where
    # the gram stands.
    self._powers = _powers(_BACK, len(tokens_T))
    steps = _powers(_STEP, len(tokens_T))
    self._sums = np.zeros(len(tokens_T) + 1, np.uint64)
    np.cumsum(tokens_T * steps, out=self._sums[1:])

  def of(self, n: int) -> tuple[np.ndarray, np.ndarray]:
    """(hashes, index of the first token) of all n-grams."""
    starts = np.arange(max(0, len(self.text_of) - n + 1))
    inside = starts + n <= self.offsets[1:][self.text_of[starts]]
    return self._hashed(starts[inside], n), starts[inside]

  def whole(self) -> np.ndarray:
    """(texts,) the hash of all tokens of a text as one gram; 0 for no token."""
    hashes = np.zeros(len(self.lengths), np.uint64)
    some = np.flatnonzero(self.lengths)
    hashes[some] = self._hashed(self.offsets[some], self.lengths[some])
    return hashes

  def _hashed(self, starts: np.ndarray, n: int | np.ndarray) -> np.ndarray:
    sums = self._sums[starts + n] - self._sums[starts]
    value = sums * self._powers[starts]
    # Grams of different lengths get different hashes even if their sums agree.
    value += np.asarray(n, np.uint64) * np.uint64(_STEP)
    # The finaliser of SplitMix64 (Steele et al. 2014): every bit of the result
    # depends on every bit of the sum.
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
