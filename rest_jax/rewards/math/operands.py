"""The operands of an expression: numbers, names, brackets, functions, matrices.

expressions.py takes what stands between them: sums, products and powers.
"""

from rest_jax.rewards.math import Undecided, units
from rest_jax.rewards.math.tokens import Token
from rest_jax.rewards.math.trees import Tree

MAX_DEPTH = 60  # of calls; two or three for a bracket
END: Token = ('end of text', None)
_CALLED = frozenset('fgh')  # f(4 - x) is no product
_CLOSING = {'(': ')', '[': ']'}
_BARE_MATRICES = frozenset(('array', 'matrix', 'smallmatrix'))
_MATRICES = frozenset(('pmatrix', 'bmatrix', 'vmatrix', 'matrix', 'Bmatrix'))


class OperandParser:
  """Takes operands off a list of tokens; the base of ExpressionParser."""

  def __init__(self, tokens: list[Token]):
    self._tokens = [*tokens, END]
    self._at = 0
    self._depth = 0
    self._bars = 0  # open |
    self._unit = ''

  def peek(self) -> Token:
    return self._tokens[self._at]

  def _next(self) -> Token:
    token = self._tokens[self._at]
    self._at += 1
    return token

  def _op(self) -> str | None:
    kind, value = self._tokens[self._at]
    return value if kind == 'op' else None

  def _take(self, op: str) -> bool:
    if self._op() == op:
      self._at += 1
      return True
    return False

  def _deeper(self) -> None:
    self._depth += 1
    if self._depth > MAX_DEPTH:
      raise Undecided(f'deeper than {MAX_DEPTH}')

  def _expect(self, op: str) -> None:
    if not self._take(op):
      raise Undecided(f'{op!r} expected, got {self.peek()[1]!r}')

  def _set_unit(self, name: str) -> None:
    if name == units.OTHER and self._unit:
      return
    if name.startswith('/') and self._unit:  # $5 per hour
      self._unit += name
      return
    if self._unit and self._unit != name:
      raise Undecided(f'two units, {self._unit} and {name}')
    self._unit = self._unit or name

  # What ExpressionParser adds: operands hold expressions.

  def _sum(self) -> Tree:
    raise NotImplementedError

  def _power(self) -> Tree:
    raise NotImplementedError

  def _implicit(self, factors: list[Tree]) -> None:
    raise NotImplementedError

  def _argument(self, digits: bool = False) -> Tree:
    """What a command or ^ applies to: a group or one token.

    Args:
      digits: whether a bare number may have several: x^10, but not \\sqrt12.
    """
    self._deeper()
    argument = self._bare_argument(digits)
    self._depth -= 1
    return argument

  def _bare_argument(self, digits: bool) -> Tree:
    kind, value = self.peek()
    if self._take('{'):
      inner = self._sum()
      self._expect('}')
      return inner
    if kind == 'num' and (digits or value in range(10)):
      self._at += 1
      return ('num', value)
    if kind in ('let', 'const'):
      return self._name_or_constant()
    if digits and kind == 'op' and value == '(':
      return self._primary()
    if digits and self._take('-'):
      return negative(self._argument(digits=True))
    if kind == 'fn' and value in ('frac', 'root'):
      return self._primary()
    raise Undecided(f'the argument {value!r}')

  def _primary(self) -> Tree:
    self._deeper()
    primary = self._bare_primary()
    self._depth -= 1
    return primary

  def _bare_primary(self) -> Tree:
    kind, value = self.peek()
    if kind == 'num':
      self._at += 1
      if self._op() == '_':
        raise Undecided('a number in a base')
      return ('num', value)
    if kind in ('let', 'const', 'name'):
      return self._name_or_constant()
    if kind == 'fn':
      self._at += 1
      return self._function(value)
    if kind == 'begin':
      return self._matrix()
    if kind == 'op':
      if value in ('(', '['):
        return self._bracket()
      if value == '{':
        return self._argument()
      if value == '\\{':
        self._at += 1
        if self._take('\\}'):
          return ('set', ())
        return ('set', self._items('\\}'))
      if value == '|':
        return self._absolute()
      if value == '$':
        self._at += 1
        self._set_unit('dollar')
        return self._primary()
    raise Undecided(f'{value!r} where a value was expected')

  def _name_or_constant(self) -> Tree:
    kind, name = self._next()
    if kind == 'const' and self._op() not in ('_', "'"):
      return ('const', name)
    while True:
      if self._take("'"):
        name += "'"
      elif self._take('_'):
        name += '_' + _subscript(self._argument(digits=True))
      else:
        break
    if name[0] in _CALLED and len(name) == name.count("'") + 1:
      if self._op() == '(':
        self._at += 1
        return ('call', name, self._items(')'))
    return ('let', name)

  def _bracket(self) -> Tree:
    start = self._next()[1]
    if self.peek()[0] == 'begin':
      matrix = self._matrix(bracket=start)
      self._expect(_CLOSING[start])
      return matrix
    bars, self._bars = self._bars, 0
    items = [self._sum()]
    while self._take(','):
      items.append(self._sum())
    self._bars = bars
    end = self._op()
    if end not in (')', ']'):
      raise Undecided(f'{end!r} where a bracket should close')
    self._at += 1
    if len(items) > 1:
      return ('seq', start, end, tuple(items))
    if _CLOSING[start] != end:
      raise Undecided('half an interval')
    return items[0]

  def _items(self, end: str) -> tuple[Tree, ...]:
    bars, self._bars = self._bars, 0
    items = [self._sum()]
    while self._take(','):
      items.append(self._sum())
    self._bars = bars
    self._expect(end)
    return tuple(items)

  def _absolute(self) -> Tree:
    self._at += 1
    if self.peek()[0] == 'begin':
      matrix = self._matrix(bracket='|')
      self._expect('|')
      return matrix
    if self._bars:
      raise Undecided('nested bars')
    self._bars += 1
    inner = self._sum()
    self._bars -= 1
    self._expect('|')
    return ('abs', inner)

  def _function(self, name: str) -> Tree:
    if name == 'frac':
      above = self._argument()
      return ('div', above, self._argument())
    if name == 'binom':
      above = self._argument()
      return ('binom', above, self._argument())
    if name == 'root':
      return self._root()
    base, power = None, None
    if name == 'log' and self._take('_'):
      base = self._argument(digits=True)
    if self._take('^'):
      power = self._argument(digits=True)
    if power == ('num', -1) or power == ('neg', ('num', 1)):
      if name not in ('sin', 'cos', 'tan'):
        raise Undecided('an inverse function')
      name, power = 'arc' + name, None
    argument = self._function_argument()
    if name == 'log':
      tree = ('log', base or ('num', 10), argument)
    elif name == 'exp':
      tree = ('pow', ('const', 'e'), argument)
    else:
      tree = ('fn', name, argument)
    return tree if power is None else ('pow', tree, power)

  def _root(self) -> Tree:
    degree = ('num', 2)
    if self._take('['):
      degree = self._sum()
      self._expect(']')
    if self._op() == '(':  # sqrt(2), typed without LaTeX
      return ('root', degree, self._primary())
    return ('root', degree, self._argument())

  def _function_argument(self) -> Tree:
    """x of 'sin x', 5x of 'sin 5x cos y', the bracket of 'sin (x + y)'."""
    if self._op() in ('(', '[', '{'):
      argument = self._primary()
      if argument[0] == 'seq':
        raise Undecided('a function of a tuple')
      if self._op() in ('^', '!'):
        raise Undecided('a power behind an argument')
      return argument
    factors = [self._power()]
    while True:
      kind, value = self.peek()
      root = kind == 'fn' and value in ('frac', 'root')
      if kind in ('let', 'const', 'num') or root:
        self._implicit(factors)
      else:
        break
    if self._op() in ('/', '*', 'div'):
      raise Undecided('an operator behind an argument')
    return factors[0] if len(factors) == 1 else ('mul', tuple(factors))

  def _matrix(self, bracket: str = '') -> Tree:
    """A matrix; of an array only the brackets around it say that it is one."""
    environment = self._next()[1]
    known = _BARE_MATRICES if bracket else _MATRICES
    if environment not in known:
      raise Undecided(f'the environment {environment}')
    rows, row = [], [self._sum()]
    while True:
      if self._take('&'):
        row.append(self._sum())
      elif self._take('\\\\'):
        rows.append(tuple(row))
        row = []
        if self.peek()[0] == 'end':
          break
        row = [self._sum()]
      else:
        break
    if row:
      rows.append(tuple(row))
    if self._next() != ('end', environment):
      raise Undecided('a matrix without an end')
    if len({len(row) for row in rows}) != 1:
      raise Undecided('a matrix of unequal rows')
    bars = environment == 'vmatrix' or bracket == '|'
    kind = 'vmatrix' if bars else 'matrix'
    return ('matrix', kind, tuple(rows))


def negative(tree: Tree) -> Tree:
  """A tree with the other sign; of a number, that number."""
  if tree[0] == 'num' and tree[1] >= 0:
    return ('num', -tree[1])
  return ('neg', tree)  # -(-7) is still to be worked out


def _subscript(tree: Tree) -> str:
  if tree[0] in ('num', 'let', 'const'):
    return str(tree[1])
  raise Undecided('a subscript')
