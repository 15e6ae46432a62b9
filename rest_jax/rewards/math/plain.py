"""Cleaning an answer's text, and the quick way for plain numbers.

Four of five answers to MATH are one number, which one regular expression reads.
"""

import re
from fractions import Fraction

from rest_jax.rewards.math import Undecided, answers
from rest_jax.rewards.math.answers import Answer
from rest_jax.rewards.math.tokens import MAX_DIGITS, number

_NUMBER = re.compile(
  r'(?P<sign>-?) ?(?P<dollar>\\\$)? ?(?P<late_sign>-?)'
  r'(?:(?P<number>[0-9]+(?:\.[0-9]+)?|\.[0-9]+)'
  r'(?: ?/ ?(?P<below>[0-9]+))?'
  r'|(?P<thousands>[0-9]{1,3}(?:,[0-9]{3})+(?:\.[0-9]+)?)'
  r'|\\[dtc]?frac\{(?P<over>-?[0-9]+)\}\{(?P<under>[0-9]+)\})'
  r'(?P<unit> ?\\%|\^\{?\\circ\}?)?'
)
_BASED = re.compile(
  r'(-?)([0-9A-Z]+)(?:\.([0-9A-Z]+))?_(?:([0-9])|\{ ?([0-9]{1,2}) ?\})'
)
_BASE_TEXT = re.compile(r'\\(?:text(?:bf|rm)?|mbox)\{([0-9A-Z]+)\}(?=_)')
_HALF_DAY = re.compile(r'(?<![A-Za-z])([ap])\.m(?![A-Za-z])\.?')
_EDGE = re.compile(
  r'(?:\\[!,;: ]|\\(?:displaystyle|textstyle|q?quad)(?![A-Za-z])|\s)+'
)
# A command that sets how what follows it looks, up to its argument.
_DRESS = re.compile(
  r'\\(?:(?:text)?color(?:\[[a-z]+\])?\s*\{[^{}]*\}'
  r'|(?:tiny|scriptsize|footnotesize|small|normalsize|large|Large|LARGE|huge'
  r'|Huge|displaystyle|underline|ensuremath)(?![A-Za-z]))\s*'
)
_BRACE = re.compile(r'\\.|[{}]', re.DOTALL)
_MATH = (('$$', '$$'), ('$', '$'), ('\\(', '\\)'), ('\\[', '\\]'))
# What is written for a sign of LaTeX. Any other character that is not ASCII
# makes an answer opaque: no digit, letter or space has a second spelling.
_UNICODE = {
  '\u2212': '-',
  '\u00d7': '\\times ',
  '\u00b7': '\\cdot ',
  '\u22c5': '\\cdot ',
  '\u00f7': '\\div ',
  '\u00b1': '\\pm ',
  '\u00b0': '^\\circ ',
  '\u00b2': '^2',
  '\u00b3': '^3',
  '\u03c0': '\\pi ',
  '\u03b8': '\\theta ',
  '\u221e': '\\infty ',
  '\u2264': '\\le ',
  '\u2265': '\\ge ',
  '\u2260': '\\ne ',
  '\u222a': '\\cup ',
  '\u2208': '\\in ',
  '\u2205': '\\emptyset ',
  '\u211d': '\\mathbb{R}',
  '\u00a0': ' ',
  '\u2009': ' ',
  '\u202f': ' ',
}
_ROOT = re.compile('\u221a([0-9]+|[a-z])')


def clean(text: str) -> str:
  """Without what surrounds an answer: dollars, full stops, spaces."""
  text = text.strip()
  if not text.isascii():
    text = _ROOT.sub(r'\\sqrt{\1}', text)
    for character, command in _UNICODE.items():
      text = text.replace(character, command)
    text = text.strip()
  if '.m' in text:
    text = _HALF_DAY.sub(r'\1m', text)
  for _ in range(3):
    before = text
    if '\\' in text:
      text = _unwrapped(_trimmed(text))
    elif text[:2] == '**' and text[-2:] == '**':
      text = text[2:-2]
    text = text.rstrip('.,;: \n')
    for start, end in _MATH:
      if text.startswith(start) and text.endswith(end) and text != start:
        inner = text[len(start) : -len(end)]
        # '$3$ or $4$' are two; '5\$' ends with a dollar of money
        if start not in inner and not text.endswith('\\$'):
          text = inner.strip()
    if text == before:
      break
  return text


def _unwrapped(text: str) -> str:
  """Without a size, a colour or a font that is set for the whole answer."""
  for _ in range(4):
    if text[:2] == '{\\':  # {\color{red} 3}
      text = _whole_group(text) or text
    match = _DRESS.match(text)
    if match is None:
      break
    text = text[match.end() :]
    if text[:1] == '{':
      inner = _whole_group(text)
      if inner is None:
        break
      text = inner
  return text


def _whole_group(text: str) -> str | None:
  """What stands in the braces around the whole text; None without them."""
  depth = 0
  for match in _BRACE.finditer(text):
    brace = match.group()
    depth += (brace == '{') - (brace == '}')
    if not depth:
      return text[1:-1].strip() if match.end() == len(text) else None
  return None


def _trimmed(text: str) -> str:
  """Without commands for spaces at either end."""
  match = _EDGE.match(text)
  if match:
    text = text[match.end() :]
  while len(text) > 1 and text[-2] == '\\' and text[-1] in '!,;: ':
    text = text[:-2].rstrip(' ')
  return text


def plain_number(text: str) -> Answer | None:
  """One number with its unit; None for anything else."""
  if text.isdigit() and text.isascii() and len(text) <= MAX_DIGITS:
    return answers.of_number(int(text))  # most answers
  match = _NUMBER.fullmatch(text)
  if match is None:
    return None
  if match['number']:
    value = number(match['number'])
    if match['below']:
      value = _quotient(value, number(match['below']))
  elif match['thousands']:
    value = number(match['thousands'].replace(',', ''))
  else:
    over = match['over']
    value = number(over.lstrip('-'))
    value = _quotient(
      -value if over[0] == '-' else value, number(match['under'])
    )
  unit = match['unit'] or ''
  if unit:
    unit = 'percent' if '%' in unit else 'degree'
  if match['dollar']:
    if unit:
      raise Undecided('two units')
    unit = 'dollar'
  answer = answers.of_number(
    -value if match['sign'] or match['late_sign'] else value, unit
  )
  if match['thousands'] and '.' not in text and not unit and ',0' not in text:
    entries = tuple(answers.of_number(int(part)) for part in text.split(','))
    answer = answer._replace(listing=answers.of_set(entries))
  return answer


def _quotient(above: int | Fraction, below: int | Fraction) -> Fraction:
  if not below:
    raise Undecided('a division by zero')
  return Fraction(above) / below


def based_number(text: str) -> Answer | None:
  """A number in a base: 2516_8; a base is part of the number."""
  if '_' not in text:
    return None
  match = _BASED.fullmatch(_BASE_TEXT.sub(r'\1', text).replace(' ', ''))
  if match is None:
    return None
  sign, whole, decimals, short, long = match.groups()
  base = int(short or long)
  digits = [int(digit, 36) for digit in whole + (decimals or '')]
  if not 2 <= base <= 36 or max(digits) >= base:
    return None
  if base == 10:
    return plain_number(text.partition('_')[0])
  spelled = f'{sign}{whole.lstrip("0") or "0"}'
  if decimals:
    spelled += f'.{decimals}'
  return Answer(kind='based', canonical=f'{spelled}_{base}')
