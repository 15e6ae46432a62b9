"""The exact normal form of an expression.

A normal form is a sum: {monomial: coefficient}. A monomial is a sorted tuple
of (atom, exponent), a coefficient an int or a Fraction. Atoms are

    ('v', name)     a variable; exponents may be fractions
    ('p', prime)    a root of a prime; its exponent lies between 0 and 1
    ('pi',)         the circle's constant
    ('i',)          i, with exponent 1
    ('o', text)     anything else, by its own normal form: e, sin(x), 1/(x+1)

Sums over the first four are equal only if their normal forms are: the powers
are independent over the rationals. With atoms of the last kind, `numeric`
decides.

Work is counted; at a limit the expression has no normal form (Undecided).
"""

from fractions import Fraction
from math import comb, factorial

from rest_jax.rewards.math import Undecided, Work
from rest_jax.rewards.math.form_arithmetic import (
  IMAGINARY,
  FormArithmetic,
  constant,
  opaque,
  scaled,
)
from rest_jax.rewards.math.spelling import Sum, spell
from rest_jax.rewards.math.trees import Tree, has_degrees

MAX_FACTORIAL = 2_500
_PI = ('pi',)


def normal_form(tree: Tree, work: Work) -> Sum:
  """The normal form of an expression.

  Args:
    tree: an expression.
    work: what may be spent on it.

  Raises:
    Undecided: it has none within the limits, or is no expression.
  """
  return _Normal(work).form(tree)


class _Normal(FormArithmetic):
  """Builds normal forms from trees."""

  def form(self, tree: Tree) -> Sum:
    self._spend(1)
    kind = tree[0]
    if kind == 'num':
      return {(): tree[1]} if tree[1] else {}
    if kind == 'let':
      return {((('v', tree[1]), 1),): 1}
    if kind == 'const':
      return self._constant(tree[1])
    if kind == 'add':
      total: Sum = {}
      for term in tree[1]:
        total = self.add(total, self.form(term))
      return total
    if kind == 'neg':
      return scaled(self.form(tree[1]), -1)
    if kind == 'mul':
      product = self.form(tree[1][0])
      for factor in tree[1][1:]:
        product = self.multiply(product, self.form(factor))
      return product
    if kind == 'div':
      below = self.inverse(self.form(tree[2]))
      return self.multiply(self.form(tree[1]), below)
    if kind == 'pow':
      return self._power(tree[1], tree[2])
    if kind == 'root':
      degree = constant(self.form(tree[1]))
      if not isinstance(degree, int) or not 2 <= degree <= 100:
        raise Undecided('the degree of a root')
      return self.root(self.form(tree[2]), Fraction(1, degree))
    if kind == 'deg':
      return self.form(tree[1])
    return self._special(tree)

  def _special(self, tree: Tree) -> Sum:
    kind = tree[0]
    if kind == 'fact':
      number = constant(self.form(tree[1]))
      if not isinstance(number, int) or not 0 <= number <= MAX_FACTORIAL:
        raise Undecided('a factorial')
      self._spend(number // 4)
      return {(): factorial(number)}
    if kind == 'binom':
      n, k = (constant(self.form(part)) for part in tree[1:])
      if not isinstance(n, int) or not isinstance(k, int):
        raise Undecided('a binomial of what is no number')
      if not 0 <= k <= n <= MAX_FACTORIAL:
        raise Undecided('a large binomial')
      self._spend(k)
      return {(): comb(n, k)}
    if kind == 'abs':
      inner = self.form(tree[1])
      number = constant(inner)
      if number is not None:
        return {(): abs(number)} if number else {}
      return opaque(f'|{spell(inner)}|')
    if kind == 'fn':
      return opaque(f'{tree[1]}({self._argument(tree[2])})')
    if kind == 'log':
      base = spell(self.form(tree[1]))
      return opaque(f'log[{base}]({self._argument(tree[2])})')
    if kind == 'call':
      inner = ','.join(spell(self.form(part)) for part in tree[2])
      return opaque(f'{tree[1]}({inner})')
    raise Undecided(f'{kind} is no expression')

  def _argument(self, tree: Tree) -> str:
    return spell(self.form(tree)) + ('deg' if has_degrees(tree) else '')

  def _constant(self, name: str) -> Sum:
    if name == 'pi':
      return {((_PI, 1),): 1}
    if name == 'i':
      return {((IMAGINARY, 1),): 1}
    if name == 'e':
      return opaque('e')
    raise Undecided('infinity in an expression')

  def _power(self, base_tree: Tree, power_tree: Tree) -> Sum:
    power = self.form(power_tree)
    exponent = constant(power)
    base = self.form(base_tree)
    if exponent is None:
      return opaque(f'({spell(base)})^({spell(power)})')
    if isinstance(exponent, Fraction):
      if exponent.denominator > 100:
        raise Undecided('the denominator of an exponent')
      root = self.root(base, Fraction(1, exponent.denominator))
      return self.integer_power(root, exponent.numerator)
    return self.integer_power(base, exponent)
