"""From an answer's text to what it says: its kind, spelling and parts.

Kinds: number, expression, tuple (also an interval), set (also a list), union,
matrix, equation, order (inequalities), named (one of several 'AB = 9'), chain
(1 = 2, or about), ratio, based (2516_8), text, opaque (not understood: equal
only to its own text).
"""

import dataclasses
import functools
import re
from fractions import Fraction

from rest_jax.rewards.latex import Undecided, algebra, numeric, parsing
from rest_jax.rewards.latex.parsing import Item, Tree
from rest_jax.rewards.latex.tokens import number, tokenize

MAX_ANSWER = 500  # characters; MATH's longest answer has 170
_CACHE = 1 << 12  # answers

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
_INFINITIES = {
  ('const', 'inf'): 'infinity',
  ('neg', ('const', 'inf')): '-infinity',
}
_EDGE = re.compile(
  r'(?:\\[!,;: ]|\\(?:displaystyle|textstyle|q?quad)(?![A-Za-z])|\s)+'
)
_MATH = (('$$', '$$'), ('$', '$'), ('\\(', '\\)'), ('\\[', '\\]'))
_WORDS = (
  'zero one two three four five six seven eight nine ten eleven twelve'
).split()
_SPACING = re.compile(r'\s+|\\[!,;: ]|\\(?:left|right|quad|qquad)(?![A-Za-z])')
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
  '\u00a0': ' ',
  '\u2009': ' ',
  '\u202f': ' ',
}
_ROOT = re.compile('\u221a([0-9]+|[a-z])')


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Answer:
  """What an answer says.

  Attributes:
    kind: see above.
    canonical: one spelling for all answers that say the same.
    value: of a number.
    tree: of a number or an expression.
    form: its normal form, where it has one.
    undone: what it leaves to be worked out, see algebra.undone.
    parts: of what has parts.
    shape: what tells apart composites with the same parts: brackets, ...
    unit: '' where none is known.
    name: the left side of 'x = 5'.
    equation: 'y = 2x + 1' as an equation; None where it says a value.
    listing: '70,110' read as a list.
  """

  kind: str
  canonical: str
  value: int | Fraction | None = None
  tree: Tree | None = None
  form: algebra.Sum | None = None
  undone: int = 0
  parts: tuple['Answer', ...] = ()
  shape: str = ''
  unit: str = ''
  name: str = ''
  equation: 'Answer | None' = None
  listing: 'Answer | None' = None


@functools.lru_cache(maxsize=_CACHE)
def read(text: str) -> Answer | None:
  """Reads an answer; None where there is none or it is too long."""
  if len(text) > MAX_ANSWER:
    return None
  text = clean(text)
  if not text:
    return None
  try:
    return _plain_number(text) or _based_number(text) or _parsed(tokenize(text))
  except Undecided:
    return Answer(kind='opaque', canonical=_SPACING.sub('', text))


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
      text = _trimmed(text)
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


def _trimmed(text: str) -> str:
  """Without commands for spaces at either end."""
  match = _EDGE.match(text)
  if match:
    text = text[match.end() :]
  while len(text) > 1 and text[-2] == '\\' and text[-1] in '!,;: ':
    text = text[:-2].rstrip(' ')
  return text


def spell_value(value: int | Fraction) -> str:
  """A number's canonical spelling: a decimal where it ends, else a fraction."""
  if value.denominator == 1 or value.denominator.bit_length() > 100:
    return algebra.spell_number(value)
  rest, twos, fives = value.denominator, 0, 0
  while rest % 2 == 0:
    rest, twos = rest // 2, twos + 1
  while rest % 5 == 0:
    rest, fives = rest // 5, fives + 1
  if rest != 1 or value.numerator.bit_length() > 200:
    return algebra.spell_number(value)
  places = max(twos, fives)
  digits = str(abs(value.numerator) * 10**places // value.denominator)
  digits = digits.rjust(places + 1, '0')
  sign = '-' if value < 0 else ''
  return f'{sign}{digits[:-places]}.{digits[-places:]}'


def _number(value: int | Fraction, unit: str = '') -> Answer:
  if value.denominator == 1:
    value = value.numerator
  return Answer(
    kind='number',
    canonical=spell_value(value),
    value=value,
    tree=('num', value),
    form={(): value} if value else {},
    unit=unit,
  )


def _plain_number(text: str) -> Answer | None:
  """The quick way for most answers."""
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
  answer = _number(
    -value if match['sign'] or match['late_sign'] else value, unit
  )
  if match['thousands'] and '.' not in text and not unit:
    entries = tuple(_number(int(part)) for part in text.split(','))
    answer = dataclasses.replace(answer, listing=_set(entries))
  return answer


def _quotient(above: int | Fraction, below: int | Fraction) -> Fraction:
  if not below:
    raise Undecided('a division by zero')
  return Fraction(above) / below


def _based_number(text: str) -> Answer | None:
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
    return _plain_number(text.partition('_')[0])
  spelled = f'{sign}{whole.lstrip("0") or "0"}'
  if decimals:
    spelled += f'.{decimals}'
  return Answer(kind='based', canonical=f'{spelled}_{base}')


def _parsed(tokens: list) -> Answer:
  parsed = parsing.parse(tokens)
  answers: list[Answer] = []
  for item in parsed.items:
    answers.extend(_signs(item))
  if len(answers) == 1:
    return answers[0]
  if parsed.separator == 'or' and all(
    answer.kind == 'tuple' and answer.shape.endswith('order')
    for answer in answers
  ):
    names = {answer.name for answer in answers}
    if len(names) == 1:
      return _union(tuple(answers), name=names.pop())
  names = {answer.name for answer in answers}
  if len(names) > 1:
    answers = [_named(answer) for answer in answers]
    names = {''}
  return _set(tuple(answers), name=names.pop())


def _named(answer: Answer) -> Answer:
  canonical = f'{answer.name}={answer.canonical}'
  return Answer(
    kind='named', canonical=canonical, parts=(answer,), shape=answer.name
  )


def _signs(item: Item) -> list[Answer]:
  """The item, once for each sign of its one +-."""
  count = sum(_count_signs(tree) for tree in item.sides)
  if not count or item.sides[-1][0] == 'set':
    return [_item(item)]
  if count > 1 or item.relations not in ((), ('=',), ('in',)):
    raise Undecided('more than one +-')
  return [
    _item(
      dataclasses.replace(
        item, sides=tuple(_signed(tree, sign) for tree in item.sides)
      )
    )
    for sign in (1, -1)
  ]


def _both_signs(tree: Tree) -> tuple[Tree, ...]:
  count = _count_signs(tree)
  if count > 1:
    raise Undecided('more than one +-')
  return (_signed(tree, 1), _signed(tree, -1)) if count else (tree,)


def _count_signs(tree: Tree) -> int:
  count = int(tree[0] == 'pm')
  for part in tree[1:]:
    if isinstance(part, tuple) and part:
      if isinstance(part[0], tuple):
        count += sum(_count_signs(inner) for inner in part if inner)
      else:
        count += _count_signs(part)
  return count


def _signed(tree: Tree, sign: int) -> Tree:
  """The tree with +- as + (sign 1) or as - (sign -1)."""
  if tree[0] == 'pm':
    inner = _signed(tree[2], sign)
    return inner if tree[1] * sign > 0 else ('neg', inner)
  return tuple(
    part
    if not isinstance(part, tuple) or not part
    else tuple(_signed(inner, sign) for inner in part)
    if isinstance(part[0], tuple)
    else _signed(part, sign)
    for part in tree
  )


def _item(item: Item) -> Answer:
  if item.text:
    if item.text in _WORDS:
      return _number(_WORDS.index(item.text))
    return Answer(kind='text', canonical=item.text)
  if item.ratio:
    parts = tuple(_leaf(tree) for tree in item.ratio)
    spelled = ':'.join(part.canonical for part in parts)
    return Answer(kind='ratio', canonical=spelled, parts=parts, unit=item.unit)
  if not item.relations:
    return _with_unit(_leaf(item.sides[0]), item.unit)
  return _with_unit(_relation(item.sides, item.relations), item.unit)


def _with_unit(answer: Answer, unit: str) -> Answer:
  return dataclasses.replace(answer, unit=unit) if unit else answer


def _leaf(tree: Tree) -> Answer:
  """An expression, a tuple, an interval, a set, a union or a matrix."""
  kind = tree[0]
  if kind == 'seq':
    parts = tuple(_leaf(part) for part in tree[3])
    return _tuple(parts, tree[1], tree[2])
  if kind == 'set':
    return _set(
      tuple(_leaf(part) for item in tree[1] for part in _both_signs(item)),
      braces=True,
    )
  if kind == 'union':
    return _union(tuple(_leaf(part) for part in tree[1]))
  if kind == 'matrix':
    rows = tuple(
      _tuple(tuple(_leaf(part) for part in row), '[', ']') for row in tree[2]
    )
    spelled = ','.join(row.canonical for row in rows)
    return Answer(
      kind='matrix',
      canonical=f'{tree[1]}[{spelled}]',
      parts=rows,
      shape=tree[1],
    )
  if tree in _INFINITIES:
    return Answer(kind='infinity', canonical=_INFINITIES[tree])
  return _expression(tree)


def _expression(tree: Tree) -> Answer:
  undone = algebra.undone(tree)
  try:
    form = algebra.normal_form(tree)
  except Undecided:
    form = None
  if form is None or undone:
    return Answer(
      kind='expression',
      canonical=show(tree),
      tree=tree,
      form=form,
      undone=undone,
    )
  value = algebra.constant(form)
  if value is not None:
    return dataclasses.replace(_number(value), tree=tree)
  return Answer(
    kind='expression', canonical=algebra.spell(form), tree=tree, form=form
  )


def show(tree: Tree) -> str:
  """An expression as it was written, but for the order of sums and products."""
  kind = tree[0]
  if kind == 'num':
    return algebra.spell_number(tree[1])
  if kind in ('let', 'const'):
    return str(tree[1])
  if kind in ('add', 'mul'):
    sign = '+' if kind == 'add' else '*'
    return f'({sign.join(sorted(show(part) for part in tree[1]))})'
  if kind == 'call':
    return f'{tree[1]}({",".join(show(part) for part in tree[2])})'
  parts = [show(part) if isinstance(part, tuple) else part for part in tree[1:]]
  return f'{kind}({",".join(parts)})'


def _tuple(
  parts: tuple[Answer, ...],
  start: str,
  end: str,
  *,
  name: str = '',
  order=False,
) -> Answer:
  spelled = ','.join(part.canonical for part in parts)
  return Answer(
    kind='tuple',
    canonical=f'{start}{spelled}{end}',
    parts=parts,
    shape=start + end + ('order' if order else ''),
    name=name,
  )


def _set(
  parts: tuple[Answer, ...], *, braces: bool = False, name: str = ''
) -> Answer:
  """Several values in any order; one value is that value, braces or not."""
  if braces:  # a set has every element once
    parts = tuple({part.canonical: part for part in parts}.values())
  if len(parts) == 1:
    return parts[0]
  parts = tuple(sorted(parts, key=lambda part: part.canonical))
  spelled = ','.join(part.canonical for part in parts)
  return Answer(kind='set', canonical=f'{{{spelled}}}', parts=parts, name=name)


def _union(parts: tuple[Answer, ...], name: str = '') -> Answer:
  parts = tuple(sorted(parts, key=lambda part: part.canonical))
  spelled = ' u '.join(part.canonical for part in parts)
  return Answer(kind='union', canonical=spelled, parts=parts, name=name)


def _relation(sides: tuple[Tree, ...], relations: tuple[str, ...]) -> Answer:
  if relations == ('in',):
    return dataclasses.replace(_leaf(sides[1]), name=_name(sides[0]) or '?')
  if relations == ('=',):
    return _equality(*sides)
  if all(relation in ('<', '<=') for relation in relations):
    return _order(sides, relations)
  if all(relation in ('>', '>=') for relation in relations):
    flipped = tuple(relation.replace('>', '<') for relation in relations[::-1])
    return _order(sides[::-1], flipped)
  parts = tuple(_leaf(side) for side in sides)
  if relations == ('!=',):
    spelled = '!='.join(sorted(part.canonical for part in parts))
    return Answer(kind='opaque', canonical=spelled)
  pieces = [parts[0].canonical]
  for relation, part in zip(relations, parts[1:], strict=True):
    pieces += [relation, part.canonical]
  values = tuple(
    part for part, side in zip(parts, sides, strict=True) if not _name(side)
  )
  return Answer(kind='chain', canonical=' '.join(pieces), parts=values)


def _equality(left: Tree, right: Tree) -> Answer:
  """x = 5 is 5; y = 2x + 1 is 2x + 1 and an equation; 2 = 3 a chain."""
  if not _name(left) and _name(right):
    left, right = right, left
  name = _name(left)
  if name:
    inner = _variables(left)
    value = _leaf(right)
    free = _variables(right)
    if not free & inner or left[0] == 'call' or left[0] == 'mul':
      equation = _equation(left, right) if free else None
      return dataclasses.replace(value, name=name, equation=equation)
  equation = _equation(left, right)
  if equation is None:
    parts = (_leaf(left), _leaf(right))
    spelled = ' = '.join(part.canonical for part in parts)
    return Answer(kind='chain', canonical=spelled, parts=parts)
  return equation


def _equation(left: Tree, right: Tree) -> Answer | None:
  """left - right = 0, its first coefficient 1; None without variables."""
  if not (_variables(left) | _variables(right)):
    return None
  tree = ('add', (left, ('neg', right)))
  form = algebra.normal_form(tree)
  if algebra.constant(form) is not None:
    raise Undecided('an equation that says nothing')
  form = algebra.scaled(form, Fraction(1) / algebra.leading(form))
  return Answer(
    kind='equation', canonical=f'{algebra.spell(form)}=0', form=form
  )


def _order(sides: tuple[Tree, ...], relations: tuple[str, ...]) -> Answer:
  """An interval where one name lies between numbers; else a chain of <."""
  named = [index for index, side in enumerate(sides) if _name(side)]
  others = [side for index, side in enumerate(sides) if index not in named]
  if len(named) == 1 and not any(_variables(side) for side in others):
    index, name = named[0], _name(sides[named[0]])
    low, high = ('neg', ('const', 'inf')), ('const', 'inf')
    start, end = '(', ')'
    if index > 0:
      low, start = (
        sides[index - 1],
        '[' if relations[index - 1] == '<=' else '(',
      )
    if index < len(sides) - 1:
      high, end = sides[index + 1], ']' if relations[index] == '<=' else ')'
    if len(sides) - 1 == (index > 0) + (index < len(sides) - 1):
      parts = (_leaf(low), _leaf(high))
      return _tuple(parts, start, end, name=name, order=True)
  if len(sides) == 2:
    form = algebra.normal_form(('add', (sides[0], ('neg', sides[1]))))
    if algebra.constant(form) is not None:
      raise Undecided('an inequality of numbers')
    form = algebra.scaled(form, 1 / abs(Fraction(algebra.leading(form))))
    spelled = f'{algebra.spell(form)}{relations[0]}0'
    return Answer(kind='order', canonical=spelled)
  pieces = [_leaf(sides[0]).canonical]
  for relation, side in zip(relations, sides[1:], strict=True):
    pieces += [relation, _leaf(side).canonical]
  return Answer(kind='order', canonical=' '.join(pieces))


def _name(tree: Tree) -> str:
  """What may stand before '= value': x, AB, f(x), P(x); '' for the rest."""
  if tree[0] == 'let':
    return tree[1]
  if tree[0] == 'call':
    return show(tree)
  if tree[0] == 'mul' and len(tree[1]) == 2:
    if all(part[0] == 'let' for part in tree[1]):  # P(x); xy = 5 is none
      first, second = (part[1] for part in tree[1])
      if first.isupper() or first in ('angle', 'triangle'):
        return f'{first} {second}'
  return ''


def _variables(tree: Tree) -> set[str]:
  if tree[0] in ('seq', 'set', 'union', 'matrix'):
    return set()
  if tree[0] == 'call':
    return {show(tree)}
  try:
    return numeric.variables(tree)
  except Undecided:
    return {'f()'}
