"""From an answer's text to what it says: its kind, spelling and parts."""

import functools
import re
from fractions import Fraction

from rest_jax.rewards.math import (
  Undecided,
  Work,
  algebra,
  answers,
  form_arithmetic,
  parsing,
  plain,
  spelling,
  trees,
  unevaluated,
  units,
)
from rest_jax.rewards.math.answers import Answer
from rest_jax.rewards.math.parsing import Item
from rest_jax.rewards.math.tokens import Token, tokenize
from rest_jax.rewards.math.trees import Tree

MAX_ANSWER = 500  # characters; MATH's longest answer has 159
_CACHE = 1 << 12  # answers
_WORK = 3_000  # for the normal forms of one answer
Trees = tuple[Tree, ...]

_TWO_SIGNS = frozenset((('op', 'pm'), ('op', 'mp')))
_INFINITIES = {
  ('const', 'inf'): 'infinity',
  ('neg', ('const', 'inf')): '-infinity',
}
_WORDS = (
  'zero one two three four five six seven eight nine ten eleven twelve'
).split()
_SPACING = re.compile(r'\s+|\\[!,;: ]|\\(?:left|right|quad|qquad)(?![A-Za-z])')


@functools.lru_cache(maxsize=_CACHE)
def read(text: str) -> Answer | None:
  """Reads an answer; None where there is none or it is too long."""
  if len(text) > MAX_ANSWER:
    return None
  text = plain.clean(text)
  if not text:
    return None
  try:
    quick = plain.plain_number(text) or plain.based_number(text)
    return quick or _Reader().answer(tokenize(text))
  except Undecided:
    return _opaque(_SPACING.sub('', text))


class _Reader:
  """Reads one answer and counts the work."""

  def __init__(self):
    self._work = Work(_WORK)

  def answer(self, tokens: list[Token]) -> Answer:
    parsed = parsing.parse(tokens)
    found: list[Answer] = []
    signed = not _TWO_SIGNS.isdisjoint(tokens)
    for item in parsed.items:
      found.extend(self._signs(item) if signed else [self._item(item)])
    if len(found) == 1:
      return found[0]
    if parsed.separator == 'or' and all(
      answer.kind == 'tuple' and answer.shape.endswith('order')
      for answer in found
    ):
      names = {answer.name for answer in found}
      if len(names) == 1:
        return answers.of_union(tuple(found), name=names.pop())
    names = {answer.name for answer in found if answer.name} or {''}
    if len(names) > 1:
      found = [answers.of_name(answer) for answer in found]
      names = {''}
    return answers.of_set(tuple(found), name=names.pop())

  def _signs(self, item: Item) -> list[Answer]:
    """The item, once for each sign of its one +-."""
    count = sum(trees.count(tree) for tree in item.sides)
    if not count or item.sides[-1][0] == 'set':
      return [self._item(item)]
    if count > 1 or item.relations not in ((), ('=',), ('in',)):
      raise Undecided('more than one +-')
    return [
      self._item(
        item._replace(
          sides=tuple(trees.signed(tree, sign) for tree in item.sides)
        )
      )
      for sign in (1, -1)
    ]

  def _item(self, item: Item) -> Answer:
    if item.text:
      if item.text in _WORDS:
        return answers.of_number(_WORDS.index(item.text))
      return Answer(kind='text', canonical=item.text)
    if item.ratio:
      parts = tuple(self._leaf(tree) for tree in item.ratio)
      spelled = ':'.join(part.canonical for part in parts)
      return Answer(
        kind='ratio', canonical=spelled, parts=parts, unit=item.unit
      )
    if not item.relations:
      return _with_unit(self._leaf(item.sides[0]), item.unit)
    return _with_unit(self._relation(item.sides, item.relations), item.unit)

  def _leaf(self, tree: Tree) -> Answer:
    """An expression, a tuple, an interval, a set, a union or a matrix."""
    kind = tree[0]
    if kind == 'seq':
      parts = tuple(self._leaf(part) for part in tree[3])
      return answers.of_tuple(parts, tree[1], tree[2])
    if kind == 'set':
      return answers.of_set(
        tuple(
          self._leaf(part) for item in tree[1] for part in trees.both(item)
        ),
        braces=True,
      )
    if kind == 'union':
      return answers.of_union(tuple(self._leaf(part) for part in tree[1]))
    if kind == 'matrix':
      rows = tuple(
        answers.of_tuple(tuple(self._leaf(part) for part in row), '[', ']')
        for row in tree[2]
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
    return self._expression(tree)

  def _expression(self, tree: Tree) -> Answer:
    try:
      form = algebra.normal_form(tree, self._work)
    except Undecided:
      form = None
    left = unevaluated.undone(tree, form, self._work)
    if form is None or left != unevaluated.NOTHING:
      return Answer(
        kind='expression',
        canonical=spelling.show(tree),
        tree=tree,
        form=form,
        undone=left,
      )
    value = form_arithmetic.constant(form)
    if value is not None:
      return answers.of_number(value, tree=tree)
    return Answer(
      kind='expression', canonical=spelling.spell(form), tree=tree, form=form
    )

  def _relation(
    self, sides: tuple[Tree, ...], relations: tuple[str, ...]
  ) -> Answer:
    if relations == ('in',):
      return self._leaf(sides[1])._replace(name=_name(sides[0]) or '?')
    if relations == ('=',):
      return self._equality(*sides)
    if all(relation in ('<', '<=') for relation in relations):
      return self._order(sides, relations)
    if all(relation in ('>', '>=') for relation in relations):
      flipped = tuple(
        relation.replace('>', '<') for relation in relations[::-1]
      )
      return self._order(sides[::-1], flipped)
    parts = tuple(self._leaf(side) for side in sides)
    if relations == ('!=',):
      spelled = '!='.join(sorted(part.canonical for part in parts))
      return _opaque(spelled)
    pieces = [parts[0].canonical]
    for relation, part in zip(relations, parts[1:], strict=True):
      pieces += [relation, part.canonical]
    values = tuple(
      part for part, side in zip(parts, sides, strict=True) if not _name(side)
    )
    return Answer(kind='chain', canonical=' '.join(pieces), parts=values)

  def _equality(self, left: Tree, right: Tree) -> Answer:
    """x = 5 is 5; y = 2x + 1 is 2x + 1 and an equation; 2 = 3 a chain."""
    if not _name(left) and _name(right):
      left, right = right, left
    name = _name(left)
    if name:
      inner = _variables(left)
      value = self._leaf(right)
      free = _variables(right)
      if not free & inner or left[0] == 'call' or left[0] == 'mul':
        equation = self._equation(left, right) if free else None
        return value._replace(name=name, equation=equation)
    equation = self._equation(left, right)
    if equation is None:
      parts = (self._leaf(left), self._leaf(right))
      spelled = ' = '.join(part.canonical for part in parts)
      return Answer(kind='chain', canonical=spelled, parts=parts)
    return equation

  def _equation(self, left: Tree, right: Tree) -> Answer | None:
    """left - right = 0, its first coefficient 1; None without variables."""
    if not (_variables(left) | _variables(right)):
      return None
    tree = ('add', (left, ('neg', right)))
    form = algebra.normal_form(tree, self._work)
    if form_arithmetic.constant(form) is not None:
      raise Undecided('an equation that says nothing')
    form = form_arithmetic.scaled(form, Fraction(1) / spelling.leading(form))
    return Answer(
      kind='equation', canonical=f'{spelling.spell(form)}=0', form=form
    )

  def _order(
    self, sides: tuple[Tree, ...], relations: tuple[str, ...]
  ) -> Answer:
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
        parts = (self._leaf(low), self._leaf(high))
        return answers.of_tuple(parts, start, end, name=name, order=True)
    if len(sides) == 2:
      form = algebra.normal_form(
        ('add', (sides[0], ('neg', sides[1]))), self._work
      )
      if form_arithmetic.constant(form) is not None:
        raise Undecided('an inequality of numbers')
      form = form_arithmetic.scaled(
        form, 1 / abs(Fraction(spelling.leading(form)))
      )
      spelled = f'{spelling.spell(form)}{relations[0]}0'
      return Answer(kind='order', canonical=spelled)
    pieces = [self._leaf(sides[0]).canonical]
    for relation, side in zip(relations, sides[1:], strict=True):
      pieces += [relation, self._leaf(side).canonical]
    return Answer(kind='order', canonical=' '.join(pieces))


def _opaque(text: str) -> Answer:
  # marked, so that '{1,2}' that was not understood is no vote for the set
  return Answer(kind='opaque', canonical=f'raw:{text}')


def _with_unit(answer: Answer, unit: str) -> Answer:
  if not unit:
    return answer
  canonical = answer.canonical
  if units.unknown(unit):  # words that may change the value are no vote for it
    canonical = f'{canonical} {unit}'
  return answer._replace(unit=unit, canonical=canonical)


def _name(tree: Tree) -> str:
  """What may stand before '= value': x, AB, f(x), P(x); '' for the rest."""
  if tree[0] == 'let':
    return tree[1]
  if tree[0] == 'call':
    return spelling.show(tree)
  if tree[0] == 'mul' and len(tree[1]) == 2:
    (kind, first, *_), (other, second, *_) = tree[1]
    if kind == 'let' and other in ('let', 'num'):  # P(x); xy = 5 is none
      if first.isupper() or first in ('angle', 'triangle'):
        return f'{first} {second}'
  if tree[0] == 'seq' and all(part[0] == 'let' for part in tree[3]):
    if list(tree[3]) != sorted(tree[3]):
      return ''  # (y, x) = (1, 2) is not (1, 2)
    return spelling.show(('call', '', tree[3]))  # (x, y) = (1, 2)
  return ''


def _variables(tree: Tree) -> set[str]:
  if tree[0] in ('seq', 'set', 'union', 'matrix'):
    return set()
  if tree[0] == 'call':
    return {spelling.show(tree)}
  try:
    return trees.variables(tree)
  except Undecided:
    return {'f()'}
