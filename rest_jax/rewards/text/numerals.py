"""The one number in a short text, exactly, and its one spelling.

Bounded by construction: the text is short, every expression is linear, and
digits are counted before they are converted.
"""

import re
from fractions import Fraction

MAX_TEXT = 200  # characters
MAX_DIGITS = 40  # of a number
_HEDGE = re.compile(r'\b(?:or|not|either|neither|between)\b', re.IGNORECASE)
_SCALE = re.compile(
  r'\b(?:dozen|hundred|thousand|million|billion|trillion)s?\b', re.IGNORECASE
)
_SPACED_SIGN = re.compile(r'(^|\s)-\s+(?=[$\d])')
_MINUS = str.maketrans({'\u2212': '-', '\u2013': '-'})  # minus sign, en dash
# A word of the answer: what may stand around a number, and the number.
_OPEN, _CLOSE = ':=\\{(["\'`*~≈', '.,;:!?}])"\'`*°$€£'
_NUMBER = re.compile(
  r'(?P<sign>[-+]?)[$€£]?(?P<late_sign>-?)'
  r'(?P<whole>[0-9]{1,3}(?:,[0-9]{3})+|[0-9]+)?'
  r'(?:\.(?P<decimals>[0-9]*))?'
  r'(?:/(?P<denominator>[0-9]+))?'
  r'(?P<unit>%|[A-Za-z]*)'
)


def parse_number(text: str) -> Fraction:
  """The one number in a short text, exactly.

  Raises:
    ValueError: saying why there is not exactly one.
  """
  if len(text) > MAX_TEXT:
    raise ValueError(f'more than {MAX_TEXT} characters behind the marker')
  text = _SPACED_SIGN.sub(r'\1-', text.translate(_MINUS))
  text = text.replace('\\$', '$').replace('\\boxed{', ' ').replace('\\%', '%')
  words = [word for word in text.split() if any(c.isdigit() for c in word)]
  if not words:
    raise ValueError('no number behind the marker')
  if len(words) > 1:
    raise ValueError(f'more than one number: {text[:60]!r}')
  if _HEDGE.search(text):
    raise ValueError(f'a hedge, not an answer: {text[:60]!r}')
  if _SCALE.search(text):
    raise ValueError(f'a number in words: {text[:60]!r}')
  return _parse_word(words[0])


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


def _parse_word(word: str) -> Fraction:
  match = _NUMBER.fullmatch(word.lstrip(_OPEN).rstrip(_CLOSE))
  if match is None or not (match['whole'] or match['decimals']):
    raise ValueError(f'not a number: {word[:60]!r}')
  if match['unit'] in ('k', 'K', 'M', 'B'):
    raise ValueError(f'a number in words: {word[:60]!r}')
  whole = (match['whole'] or '0').replace(',', '')
  decimals, denominator = match['decimals'] or '', match['denominator'] or '1'
  if len(whole) + len(decimals) > MAX_DIGITS or len(denominator) > MAX_DIGITS:
    raise ValueError(f'more than {MAX_DIGITS} digits')
  if int(denominator) == 0:
    raise ValueError(f'a division by zero: {word[:60]!r}')
  value = Fraction(int(whole + decimals), 10 ** len(decimals))
  value /= int(denominator)
  return -value if '-' in match['sign'] + match['late_sign'] else value
