"""MATH's reference answers, and other ways to write each of them.

The data lie outside the repository (../shared), for tests that skip without.
A rewriting takes an answer and gives the same answer written otherwise, or None
where it does not apply. They work on text alone, and know nothing of the code
under test.
"""

import fractions
import json
import pathlib
import random
import re

SHARED = pathlib.Path(__file__).resolve().parents[2] / 'shared'
MATH = SHARED / 'data' / 'math'
HOSTILE = SHARED / 'data' / 'hostile' / 'cases.jsonl'

_INTEGER = re.compile(r'-?[0-9]+')
_FRACTION = re.compile(r'(-?)\\[dt]?frac\{([0-9]+)\}\{([0-9]+)\}')
_DIGIT_FRACTION = re.compile(r'\\frac\{([0-9])\}\{([0-9])\}(?![0-9])')
_VALUE = re.compile(r'[-0-9.]+|-?\\frac\{[0-9]+\}\{[0-9]+\}')
_PLAIN = re.compile(r'[-+0-9a-z^(){} ]+')


def last_box(solution: str) -> str:
  """The content of the last box, found by counting braces."""
  start = solution.rfind('\\boxed')
  rest = solution[start + 6 :]
  if not rest.startswith('{'):
    return rest.split('$')[0].strip()
  depth = 0
  for index, character in enumerate(rest):
    depth += (character == '{') - (character == '}')
    if not depth:
      return rest[1:index]
  raise ValueError(solution)


def problems() -> list[tuple[str, str]]:
  """(solution, answer) of MATH's train and test, but for two empty boxes."""
  found = []
  for split in ('train', 'test'):
    for line in (MATH / f'{split}.jsonl').read_text().splitlines():
      solution = json.loads(line)['solution']
      answer = last_box(solution)
      if answer:
        found.append((solution, answer))
  return found


def _replace(old, new):
  return lambda text: text.replace(old, new) if old in text else None


def _unless(*signs):
  """Applies where none of the signs occurs."""

  def wrap(function):
    return lambda text: (
      None if any(sign in text for sign in signs) else function(text)
    )

  return wrap


def _left_right(text):
  if '\\left' in text or '(' not in text or text.count('(') != text.count(')'):
    return None
  if '[' in text or ']' in text or '\\text' in text:
    return None
  return text.replace('(', '\\left(').replace(')', '\\right)')


def _decimal(text):
  match = _FRACTION.fullmatch(text)
  if not match or not int(match[3]):
    return None
  value = fractions.Fraction(int(match[2]), int(match[3]))
  for places in range(1, 7):
    if (value * 10**places).denominator == 1:
      digits = str(int(value * 10**places)).rjust(places + 1, '0')
      return f'{match[1]}{digits[:-places]}.{digits[-places:]}'
  return None


def _bare_point(text):
  decimal = text if re.fullmatch(r'-?0\.[0-9]+', text) else _decimal(text)
  if decimal and re.match(r'-?0\.', decimal):
    return decimal.replace('0.', '.', 1)
  return None


def _thousands(separator):
  def rewrite(text):
    if _INTEGER.fullmatch(text) and abs(int(text)) >= 1000:
      return f'{int(text):,}'.replace(',', separator)
    return None

  return rewrite


def _mixed(text):
  match = _FRACTION.fullmatch(text)
  if not match:
    return None
  above, below = int(match[2]), int(match[3])
  if above < below or above % below == 0:
    return None
  return f'{match[1]}{above // below}\\frac{{{above % below}}}{{{below}}}'


def _unmixed(text):
  match = re.fullmatch(r'(-?)([0-9]+) ?\\frac\{([0-9]+)\}\{([0-9]+)\}', text)
  if not match:
    return None
  sign, whole, above, below = match.groups()
  return f'{sign}\\frac{{{int(whole) * int(below) + int(above)}}}{{{below}}}'


def _unreduced(text):
  match = _FRACTION.fullmatch(text)
  if not match:
    return None
  return f'{match[1]}\\frac{{{3 * int(match[2])}}}{{{3 * int(match[3])}}}'


def _reversed_list(text):
  if any(sign in text for sign in '()[]{}=$') or '\\!' in text:
    return None
  if re.fullmatch(r'[0-9]+,[0-9]{3}', text) or '\\text' in text:
    return None
  parts = re.split(r',(?:\\[ ,;])?', text)
  return ', '.join(parts[::-1]) if len(parts) > 1 else None


def _braces(text):
  changed = _reversed_list(text)
  parts = (changed or '').split(',')
  if changed is None or len({part.strip() for part in parts}) < len(parts):
    return None  # a set has every element once
  return f'\\{{{changed}\\}}'


def _flipped_sum(text):
  match = re.fullmatch(r'([0-9a-z^\\{}]+) ?\+ ?([0-9a-z^\\{}]+)', text)
  if not match or 'frac' in text or text.count('{') != text.count('}'):
    return None
  left, right = match.groups()
  if left.count('{') != left.count('}'):
    return None
  return f'{right} + {left}'


def _with_sign(command):
  def rewrite(text):
    changed = re.sub(r'([0-9]) ?(?=\\sqrt|\\pi|[a-z])', rf'\1\{command} ', text)
    if re.search(r'[\^_]|text|mbox|\\sin|\\frac[0-9]', text):
      return None
    return changed if changed != text else None

  return rewrite


def _value_only(prefix, suffix=''):
  return lambda text: (
    f'{prefix}{text}{suffix}' if _VALUE.fullmatch(text) else None
  )


def _spread(text):
  if not _PLAIN.fullmatch(text) or re.search('[a-z]{2}', text):
    return None
  return ' ' + re.sub(r'([-+()])', r' \1 ', text).strip() + ' '


def _squeezed(text):
  if '\\' in text or re.search(r'[0-9] +[0-9]|[a-z]{2}', text):
    return None
  return text.replace(' ', '') if ' ' in text else None


_TEXT = re.compile(r'\\(?:text|mbox|textnormal) ?\{([^{}]*)\}')


def _bare_word(text):
  match = _TEXT.fullmatch(text)
  if match and match[1].isalpha() and len(match[1]) not in (2, 3):
    return match[1]
  return None


def _without_unit(text):
  match = re.fullmatch(r'([0-9.]+)\s*\\(?:text|mbox) ?\{ ?[a-z ]+\.?\}', text)
  return match[1] if match else None


REWRITINGS = {
  'itself': lambda text: text,
  'dfrac': _replace('\\frac', '\\dfrac'),
  'tfrac': _replace('\\frac', '\\tfrac'),
  'unbraced frac': lambda text: (
    _DIGIT_FRACTION.sub(r'\\frac\1\2', text)
    if _DIGIT_FRACTION.search(text)
    else None
  ),
  'slash': lambda text: (
    _FRACTION.sub(r'\1\2/\3', text) if _FRACTION.fullmatch(text) else None
  ),
  'left right': _left_right,
  'big': lambda text: (
    (_left_right(text) or '')
    .replace('\\left', '\\bigl')
    .replace('\\right', '\\bigr')
    or None
  ),
  'dollars': _unless('$')(lambda text: f'${text}$'),
  'full stop': lambda text: f'{text}.',
  'surrounding spaces': lambda text: f' \n{text}  ',
  'thin space': lambda text: f'\\,{text}\\;',
  'negative space': lambda text: f'\\!{text}\\!',
  'displaystyle': lambda text: f'\\displaystyle {text}',
  'nested box': lambda text: f'\\boxed{{{text}}}',
  'spread': _spread,
  'squeezed': _squeezed,
  'decimal': _decimal,
  'bare point': _bare_point,
  'trailing zero': lambda text: (
    f'{text}.0' if _INTEGER.fullmatch(text) else None
  ),
  'thousands ,': _thousands(','),
  'thousands {,}': _thousands('{,}'),
  'thousands ,\\!': _thousands(',\\!'),
  'mixed': _mixed,
  'unmixed': _unmixed,
  'unreduced': _unreduced,
  'x =': _value_only('x = '),
  'f(x) =': _value_only('f(x)='),
  'x in': lambda text: (
    f'x \\in {text}' if '\\infty' in text and '=' not in text else None
  ),
  'unit': _value_only('', '\\text{ cm}'),
  'square unit': _value_only('', '\\text{ cm}^2'),
  'roman unit': _value_only('', '\\,\\mathrm{cm}'),
  'degrees': _value_only('', '^\\circ'),
  'braced degrees': _value_only('', '^{\\circ}'),
  'percent': _value_only('', '\\%'),
  'dollar sign': _value_only('\\$'),
  'no dollar sign': _replace('\\$', ''),
  'no percent': _replace('\\%', ''),
  'no degrees': lambda text: (
    re.sub(r'\^\{?\\circ\}?', '', text)
    if '\\circ' in text and not re.search('sin|cos|tan|csc|_', text)
    else None
  ),
  'no unit': _without_unit,
  'bare word': _bare_word,
  'mbox': _replace('\\text{', '\\mbox{'),
  'textbf': _replace('\\text{', '\\textbf{'),
  'parenthesised letter': lambda text: (
    f'(\\text{{{text[6:-1]}}})'
    if re.fullmatch(r'\\text\{[A-E]\}', text)
    else None
  ),
  'reversed list': _reversed_list,
  'braced list': _braces,
  'flipped sum': _flipped_sum,
  'cdot': _with_sign('\\cdot'),
  'times': _with_sign('\\times'),
  'unbraced sqrt': lambda text: (
    re.sub(r'\\sqrt\{([0-9])\}', r'\\sqrt\1 ', text)
    if re.search(r'\\sqrt\{[0-9]\}', text)
    else None
  ),
  'bmatrix': _replace('pmatrix', 'bmatrix'),
  'braced exponent': lambda text: (
    re.sub(r'\^([0-9a-z])', r'^{\1}', text)
    if re.search(r'\^[0-9a-z]', text)
    else None
  ),
}


def kind(answer: str) -> str:
  """A rough type, by text alone."""
  if _INTEGER.fullmatch(answer):
    return 'integer'
  if 'matrix' in answer:
    return 'matrix'
  if 'text' in answer or 'mbox' in answer:
    return 'text'
  if '\\cup' in answer or re.search(r'[\[(].*,.*[\])]', answer):
    return 'tuple'
  if ',' in answer and '\\!' not in answer:
    return 'list'
  if _FRACTION.fullmatch(answer):
    return 'fraction'
  if re.search('[a-z]', re.sub(r'\\[a-z]+', '', answer)):
    return 'variables'
  return 'real'


def wrong_pairs(answers: list[str], count: int, seed: int):
  """(reference, other) of the same rough type and different text."""
  draw = random.Random(seed)
  by_kind = {}
  for answer in answers:
    by_kind.setdefault(kind(answer), []).append(answer)
  kinds = sorted(by_kind)
  found = []
  while len(found) < count:
    pool = by_kind[draw.choice(kinds)]
    reference, other = draw.choice(pool), draw.choice(pool)
    if reference != other:
      found.append((reference, other))
  return found


def near_misses(answer: str, draw: random.Random) -> list[str]:
  """The answer with one digit, one sign or one bracket changed."""
  found = []
  digits = [index for index, c in enumerate(answer) if c in '0123456789']
  if digits:
    index = draw.choice(digits)
    digit = str((int(answer[index]) + draw.randint(1, 9)) % 10)
    found.append(answer[:index] + digit + answer[index + 1 :])
  signs = [index for index, c in enumerate(answer) if c in '+-']
  if signs:
    index = draw.choice(signs)
    sign = '-' if answer[index] == '+' else '+'
    found.append(answer[:index] + sign + answer[index + 1 :])
  elif answer[:1] in '123456789' and answer:
    found.append(f'-{answer}')
  if re.search(r'\[.*,.*\]', answer):
    found.append(answer.replace(']', ')', 1))
  return found
