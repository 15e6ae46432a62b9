"""From tokens to trees, by recursive descent of bounded depth.

trees.py says what a tree is. What LaTeX leaves open is refused, not guessed:
1/2x, sin x/2, sqrt12.
"""

from fractions import Fraction

from rest_jax.rewards.math import Undecided
from rest_jax.rewards.math.operands import OperandParser, negative
from rest_jax.rewards.math.trees import Tree

_OPERANDS = frozenset(('num', 'let', 'name', 'const', 'fn', 'begin'))


class ExpressionParser(OperandParser):
  """Takes expressions off a list of tokens."""

  def _sum(self) -> Tree:
    self._deeper()
    terms = [self._term(first=True)]
    while True:
      op = self._op()
      if op == '+':
        self._at += 1
        terms.append(self._term())
      elif op == '-':
        self._at += 1
        terms.append(negative(self._term()))
      elif op in ('pm', 'mp'):
        self._at += 1
        terms.append(('pm', 1 if op == 'pm' else -1, self._term()))
      elif op == 'cup':
        if len(terms) > 1:
          raise Undecided('a union of sums')
        sets = [terms[0]]
        while self._take('cup'):
          sets.append(self._primary())
        if any(kind not in ('seq', 'set') for kind, *_ in sets):
          raise Undecided('a union of what are no sets')
        terms = [('union', tuple(sets))]
        break
      else:
        break
    self._depth -= 1
    return terms[0] if len(terms) == 1 else ('add', tuple(terms))

  def _term(self, first: bool = False) -> Tree:
    sign = self._signs() if first or self._op() in ('+', '-') else 1
    if first and self._op() in ('pm', 'mp'):
      if sign < 0:
        raise Undecided('-+-')
      kind = 1 if self._next()[1] == 'pm' else -1
      return ('pm', kind, self._product())
    product = self._product()
    return product if sign > 0 else negative(product)

  def _signs(self) -> int:
    sign, count = 1, 0
    while self._op() in ('+', '-'):
      sign = -sign if self._next()[1] == '-' else sign
      count += 1
      if count > 2:
        raise Undecided('more than two signs')
    return sign

  def _product(self) -> Tree:
    factors = [self._power()]
    divided = False
    while True:
      op = self._op()
      if op == '*':
        self._at += 1
        factors.append(self._signed_power())
      elif op == 'div':
        # a quotient that is still to be worked out, so no fraction
        self._at += 1
        factors.append(('pow', self._signed_power(), ('num', -1)))
      elif op == '/':
        self._at += 1
        below = self._signed_power()
        if self._starts_factor():
          raise Undecided('what is below the slash is not clear')
        above = factors[0] if len(factors) == 1 else ('mul', tuple(factors))
        if above[0] == 'num' and divided:
          raise Undecided('two slashes')
        factors, divided = [('div', above, below)], True
      elif self._starts_factor():
        self._implicit(factors)
      else:
        break
    return factors[0] if len(factors) == 1 else ('mul', tuple(factors))

  def _implicit(self, factors: list[Tree]) -> None:
    """A factor without an operator: 2x, (x+1)(x-1), or the mixed 6 3/4."""
    kind, value = self.peek()
    after = self._tokens[self._at - 1]
    factor = self._power()
    if kind == 'num':
      # '6 3/4': two numbers and a slash
      if after[0] == 'num' and len(factors) == 1 and self._take('/'):
        below = self._power()
        self._mixed(factors, ('div', factor, below))
        return
      raise Undecided('a number behind a factor')
    last = factors[-1]
    numbers = factor[0] == 'div' and factor[1][0] == factor[2][0] == 'num'
    if last[0] == 'num' and after[0] == 'num' and numbers and value != '(':
      self._mixed(factors, factor)  # 3(1/2) is a product
      return
    if last[0] in ('fn', 'log') and after != ('op', ')') and kind != 'fn':
      raise Undecided('the end of the argument is not clear')
    factors.append(factor)

  def _mixed(self, factors: list[Tree], fraction: Tree) -> None:
    whole, above, below = factors[-1][1], fraction[1], fraction[2]
    values = [whole, above[1] if above[0] == 'num' else None]
    values.append(below[1] if below[0] == 'num' else None)
    if not all(isinstance(value, int) for value in values):
      raise Undecided('not a mixed number')
    if len(factors) > 1 or not 0 < values[1] < values[2]:
      raise Undecided('not a mixed number')
    factors[-1] = ('num', whole + Fraction(values[1], values[2]))

  def _starts_factor(self) -> bool:
    kind, value = self._tokens[self._at]
    if kind == 'op':
      return value in ('(', '[', '{', '\\{') or (
        value == '|' and not self._bars
      )
    return kind in _OPERANDS

  def _signed_power(self) -> Tree:
    sign = self._signs()
    power = self._power()
    return power if sign > 0 else negative(power)

  def _power(self) -> Tree:
    base = self._primary()
    seen = set()  # x^2^3 and 5!! are open; (x^2)^3 is not
    while True:
      op = self._op()
      if op in seen:
        raise Undecided(f'{op!r} twice')
      if op in ('!', '^'):
        seen.add(op)
      if op == '!':
        self._at += 1
        base = ('fact', base)
      elif op == '%':
        self._at += 1
        self._set_unit('percent')
      elif op == 'deg':
        self._at += 1
        base = ('deg', base)
        self._set_unit('degree')
      elif op == '^':
        self._at += 1
        if self._degrees():
          base = ('deg', base)
          self._set_unit('degree')
          continue
        base = ('pow', base, self._argument(digits=True))
      else:
        return base

  def _degrees(self) -> bool:
    if self._take('deg'):
      return True
    if self._tokens[self._at : self._at + 3] == [
      ('op', '{'),
      ('op', 'deg'),
      ('op', '}'),
    ]:
      self._at += 3
      return True
    return False
