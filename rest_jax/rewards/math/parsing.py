"""From tokens to an answer's entries: what stands between its commas.

An entry is an expression or a chain of relations with its unit, a ratio, or
words.
"""

from typing import NamedTuple

from rest_jax.rewards.math import Undecided, units
from rest_jax.rewards.math.expressions import ExpressionParser
from rest_jax.rewards.math.operands import END
from rest_jax.rewards.math.tokens import Token
from rest_jax.rewards.math.trees import Tree

RELATIONS = frozenset(('=', '<', '>', '<=', '>=', '!=', '~', 'in'))


class Item(NamedTuple):
  """One entry of an answer.

  Attributes:
    sides: the expressions of a chain of relations; one where there is none.
    relations: what stands between the sides.
    unit: what `units.name` says of the words behind them; '' without any.
    text: the words of an answer that is text; sides is () then.
    ratio: the parts of a ratio or a time, 9:24; sides is () then.
  """

  sides: tuple[Tree, ...] = ()
  relations: tuple[str, ...] = ()
  unit: str = ''
  text: str = ''
  ratio: tuple[Tree, ...] = ()


class Parsed(NamedTuple):
  """An answer's entries and what separates them: ',', 'or'; '' for one."""

  items: tuple[Item, ...]
  separator: str


def parse(tokens: list[Token]) -> Parsed:
  """The whole answer.

  Raises:
    Undecided: it is not of the grammar, or too deep.
  """
  parser = _Parser(tokens)
  parsed = parser.answer()
  if parser.peek() is not END:
    raise Undecided(f'{parser.peek()[1]!r} was not expected')
  return parsed


class _Parser(ExpressionParser):
  """Takes a whole answer off a list of tokens."""

  def answer(self) -> Parsed:
    items, separators = [self._item()], set()
    while True:
      separator = self._separator()
      if not separator:
        break
      separators.add(separator)
      items.append(self._item())
    # 'a, b and c' is one list; 'a, b or c' may be a choice.
    separators.discard('and')
    if len(separators) > 1 and 'or' not in separators:
      raise Undecided('a list of lists')
    kind = 'or' if 'or' in separators else ','
    return Parsed(tuple(items), kind if len(items) > 1 else '')

  def _separator(self) -> str:
    found = ''
    for op in (',', ';'):
      if self._take(op):
        found = op
        break
    kind, value = self.peek()
    if kind == 'word' and value in ('or', 'and'):
      self._at += 1
      return value
    return found

  def _item(self) -> Item:
    self._unit = ''
    if self.peek()[0] == 'word':
      item = self._text()
      if item is not None:
        return item
    self._take('~')
    sides, relations = [self._sum()], []
    self._units()
    while self._op() in RELATIONS:
      relations.append(self._next()[1])
      sides.append(self._sum())
      self._units()
    if self._op() == ':':
      if relations:
        raise Undecided('a ratio in a relation')
      while self._take(':'):
        sides.append(self._sum())
      self._units()
      return Item(ratio=tuple(sides), unit=self._unit)
    return Item(tuple(sides), tuple(relations), self._unit)

  def _text(self) -> Item | None:
    """An answer in words; None (nothing taken) for 'Area = 5'."""
    start, words = self._at, []
    while self.peek()[0] in ('word', 'num', 'let', 'name', 'const'):
      if self.peek() in (('word', 'or'), ('word', 'and')):
        break
      words.append(str(self._next()[1]).lower())
    if self._op() == '=' and all(
      kind == 'word' for kind, _ in self._tokens[start : self._at]
    ):
      self._at += 1
      self._deeper()
      return self._item()
    if not words:
      raise Undecided('a list without a first entry')
    return Item(text=' '.join(words))

  def _units(self) -> None:
    words = []
    while self.peek()[0] == 'word' and self.peek()[1] not in ('or', 'and'):
      words.append(self._next()[1])
    if not words:
      return
    power = 1
    if self._take('^'):
      argument = self._argument()
      if argument not in (('num', 2), ('num', 3)):
        raise Undecided('a power of a unit')
      power = argument[1]
    name = units.name(tuple(words), power)
    if name is None:
      raise Undecided(f'the words {" ".join(words)!r}')
    self._set_unit(name)
