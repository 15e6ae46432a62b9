"""The one number in a short text, exactly, and its one spelling.

The words around a number may name what is counted; they may not change it.
LaTeX around it is taken off: \\(42\\), \\boxed{42}, 42\\text{ apples}.

Bounded by construction: the text is short, every expression is linear, and
digits are counted before they are converted.
"""

import re
from decimal import Decimal
from fractions import Fraction

from rest_jax.rewards import number_words
from rest_jax.rewards.math import units

MAX_TEXT = 200  # characters
MAX_DIGITS = 40  # of a number
_SPACED_SIGN = re.compile(r'-\s+(?=[0-9.])')
# Minus sign, en dash, full-width hyphen.
_MINUS = str.maketrans({'\u2212': '-', '\u2013': '-', '\uff0d': '-'})
_CURRENCY = re.compile('[$\u20ac\u00a3]')
_SPACED_GROUPS = re.compile(
  '(?<![0-9.,/])[0-9]{1,3}(?:[ \u00a0\u2009\u202f][0-9]{3})+(?![0-9])'
)
# How Python and JSON spell a small or large float: 1e-05, 1.5e+22.
_FLOAT = re.compile(r'[-+]?[0-9]{1,40}(?:\.[0-9]{1,40})?[eE][-+]?[0-9]{1,3}')
# A word of the answer: what may stand around a number, and the number.
_OPEN, _CLOSE = ':=([{"\'`*~\u2248', '.,;:!?}])"\'`*\u00b0'
_NUMBER = re.compile(
  r'(?P<sign>[-+]?)'
  r'(?P<whole>[0-9]{1,3}(?:,[0-9]{3})+|[0-9]+)?'
  r'(?:\.(?P<decimals>[0-9]*))?'
  r'(?:/(?P<denominator>[0-9]+))?'
  r'(?P<unit>%|[A-Za-z]*)'
)
_PLAIN = re.compile(r'-?[0-9][0-9,]*(?:\.[0-9]+)?')
_WORD = re.compile(r"[A-Za-z][A-Za-z']*")

# LaTeX around a number, in the order in which it is taken off.
_LATEX = (
  (re.compile(r'\{,\}|,\\!'), ','),
  (re.compile(r'(?<=[0-9])\\[,!](?=[0-9]{3})'), ''),
  (re.compile(r'\^\{?\\circ\}?'), ' '),
  (
    re.compile(r'\\[dt]?frac\{(-?[0-9]{1,40})\}\{([0-9]{1,40})\}'),
    r' \1/\2 ',
  ),
  (re.compile(r'\\([$%#&])'), r'\1'),
  (re.compile(r'\\(?:[()\[\],;:! ]|q?quad(?![a-z]))'), ' '),
  (
    re.compile(
      r'\\(?:boxed|fbox|mbox|text(?:bf|it|rm|normal)?|math(?:bf|rm|it|sf)'
      r'|underline|bf|rm|displaystyle|large|Large|approx)(?![A-Za-z])'
    ),
    ' ',
  ),
  (re.compile(r'\}\^'), '^'),
  (re.compile(r'[{}]'), ' '),
)
_UNIT_POWER = re.compile(
  r'(?<![A-Za-z])([A-Za-z]{1,12})(?:\s?\^\s?[23](?![0-9])|[\u00b2\u00b3])'
)
# Words that say nothing between a number and a word that changes it.
_LINKS = frozenset(
  'a an and of by the to whole times point dot from power over less more '
  'than'.split()
)
_BESIDE = (
  number_words.CARDINALS | number_words.FRACTIONS | number_words.MULTIPLES
)
_BEFORE = _BESIDE | number_words.OPERATORS
_ANYWHERE = number_words.SCALES | number_words.HEDGES
_BEHIND = number_words.OPERATIONS | {'zero', 'negative'}
# 'more than 5', 'all but 5'.
_BOUNDS = frozenset(
  'than least most but except excluding besides under over below above beyond '
  'almost nearly barely within before after'.split()
)


def parse_number(text: str) -> Fraction:
  """The one number in a short text, exactly.

  'negative' and 'minus' right before the number are its sign.

  Raises:
    ValueError: saying why there is not exactly one.
  """
  if len(text) > MAX_TEXT:
    raise ValueError(f'more than {MAX_TEXT} characters behind the marker')
  if _PLAIN.fullmatch(text):
    return _parse_word(text)  # most answers; the rest reads them alike
  text = _without_latex(text.translate(_MINUS))
  text = _SPACED_SIGN.sub('-', _CURRENCY.sub(' ', text))
  text = _SPACED_GROUPS.sub(lambda match: ''.join(match[0].split()), text)
  words = text.split()
  numbers = [
    index
    for index, word in enumerate(words)
    if any(character.isnumeric() for character in word)
  ]
  if not numbers:
    raise ValueError('no number behind the marker')
  if len(numbers) > 1:
    raise ValueError(f'more than one number: {text[:60]!r}')
  (at,) = numbers
  if at and words[at - 1].strip('-+') == '':
    raise ValueError(f'two signs: {text[:60]!r}')
  before = _lower_words(words[:at])
  negative = bool(before) and before[-1] in ('negative', 'minus')
  if negative:
    before.pop()
  _check_words(before, _lower_words(words[at + 1 :]), text)
  if words[at + 1 :] and words[at + 1].strip(_CLOSE) in (
    number_words.ABBREVIATED_SCALES
  ):
    raise ValueError(f'a number in words: {text[:60]!r}')
  number = _parse_word(words[at])
  if negative and (number < 0 or words[at][0] in '+-'):
    raise ValueError(f'two signs: {text[:60]!r}')
  return -number if negative else number


def parse_reference(text: str) -> Fraction:
  """The number that a reference says, which may be a float's spelling, 1e-05.

  Raises:
    ValueError: as parse_number.
  """
  text = text.strip()
  if _FLOAT.fullmatch(text):
    return Fraction(Decimal(text))
  return parse_number(text)


def canonical(number: Fraction) -> str:
  """A number's one spelling: '17', '-0.75', '1/3'.

  A terminating decimal where there is one (2 and 5 alone divide the
  denominator), else a reduced fraction.
  """
  if number.denominator == 1:
    return str(number.numerator)
  rest, twos, fives = number.denominator, 0, 0
  while rest % 2 == 0:
    rest, twos = rest // 2, twos + 1
  while rest % 5 == 0:
    rest, fives = rest // 5, fives + 1
  if rest != 1:
    return f'{number.numerator}/{number.denominator}'
  places = max(twos, fives)
  digits = str(abs(number.numerator) * 10**places // number.denominator)
  digits = digits.rjust(places + 1, '0')
  sign = '-' if number < 0 else ''
  return f'{sign}{digits[:-places]}.{digits[-places:]}'


def _without_latex(text: str) -> str:
  """The text without LaTeX around its number, and units without powers."""
  if '\\' in text or '{' in text:
    for pattern, replacement in _LATEX:
      text = pattern.sub(replacement, text)
    if '\\' in text:
      raise ValueError(f'a command that is not read: {text[:60]!r}')
  return _UNIT_POWER.sub(
    lambda match: match[1] if units.known(match[1].lower()) else match[0], text
  )


def _lower_words(words: list[str]) -> list[str]:
  """The words of letters, in lower case, without apostrophes."""
  found = _WORD.findall(' '.join(words))
  return [word.lower().replace("'", '') for word in found]


def _check_words(before: list[str], after: list[str], text: str) -> None:
  """Raises ValueError where a word beside the number changes it."""
  if "n't" in text or _ANYWHERE.intersection(before + after):
    raise ValueError(f'a number in words, or a hedge: {text[:60]!r}')
  if _BEHIND.intersection(after):
    raise ValueError(f'a number to be worked out: {text[:60]!r}')
  for words, changing in ((before[::-1], _BEFORE), (after, _BESIDE)):
    index = 0
    while index < len(words) and words[index] in _LINKS:
      index += 1
    if index < len(words) and words[index] in changing:
      raise ValueError(f'a number in words: {text[:60]!r}')
  if before and before[-1] in _BOUNDS:
    raise ValueError(f'a bound, not an answer: {text[:60]!r}')


def _parse_word(word: str) -> Fraction:
  match = _NUMBER.fullmatch(word.lstrip(_OPEN).rstrip(_CLOSE))
  if match is None or not (match['whole'] or match['decimals']):
    raise ValueError(f'not a number: {word[:60]!r}')
  unit = match['unit']
  if unit not in ('', '%') and not (
    units.known(unit) or (len(unit) > 1 and units.known(unit.lower()))
  ):
    raise ValueError(f'letters that are no unit: {word[:60]!r}')
  whole = (match['whole'] or '0').replace(',', '')
  decimals, denominator = match['decimals'] or '', match['denominator'] or '1'
  if len(whole) + len(decimals) > MAX_DIGITS or len(denominator) > MAX_DIGITS:
    raise ValueError(f'more than {MAX_DIGITS} digits')
  if int(denominator) == 0:
    raise ValueError(f'a division by zero: {word[:60]!r}')
  value = Fraction(int(whole + decimals), 10 ** len(decimals))
  value /= int(denominator)
  return -value if match['sign'] == '-' else value
