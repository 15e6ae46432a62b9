"""What an expression leaves to be worked out.

An answer may not leave more undone than its reference: to write the question
again (5!, sin 60 degrees, 2 + 3, (3x - 8) + (5x + 7)) is no answer to it.

Left alone is what is only another usual form: 15/6 for 5/2, a decimal for a
fraction, sqrt(242) for 11 sqrt(2), a product of polynomials for its expansion.
"""

from fractions import Fraction
from typing import NamedTuple

from rest_jax.rewards.math import (
  Undecided,
  Work,
  algebra,
  form_arithmetic,
  like_terms,
  roots,
  trees,
)
from rest_jax.rewards.math.spelling import Sum
from rest_jax.rewards.math.trees import Tree

ARITHMETIC = 1  # 2+3, 0.5/3, sqrt(4), i^2, (1+i)(1-i); 5+x-x
POWER = 2  # 2^10; but 3*10^8 is a number
FUNCTION = 4  # 5!, sin(60 degrees), e^(i pi)
TERMS = 8  # 2x+3x, 2x*3x, x^3/x
_TEN = ('num', 10)
_LEAVES = frozenset(('num', 'let', 'const'))


class Undone(NamedTuple):
  """What is left: kinds of work, and how many functions of numbers."""

  kinds: int = 0
  functions: int = 0

  def exceeds(self, other: 'Undone') -> bool:
    """Whether something is left that the other does not leave.

    Terms to be put together count only beside an expression that is worked out.
    """
    left = self.kinds & ~other.kinds
    if other.kinds:
      left &= ~TERMS
    return bool(left) or self.functions > other.functions


NOTHING = Undone()


class _Part(NamedTuple):
  """What is left in a part of an expression, and what kind of part it is.

  Attributes:
    kinds: of work that is left.
    functions: of numbers.
    constant: without variables.
    rational: a number without roots, pi, e and i by its form alone.
    complex: constant, and i stands in it.
    complex_sum: a sum of that kind, such as 2 + i, or a product with one.
  """

  kinds: int = 0
  functions: int = 0
  constant: bool = True
  rational: bool = False
  complex: bool = False
  complex_sum: bool = False


_RATIONAL, _CONSTANT = _Part(rational=True), _Part()
_VARIABLE, _IMAGINARY = _Part(constant=False), _Part(complex=True)


def undone(tree: Tree, form: Sum | None, work: Work) -> Undone:
  """What an expression leaves to be worked out.

  Args:
    tree: an expression.
    form: its normal form; None where it has none.
    work: what may be spent.

  Raises:
    Undecided: it is no expression, or too much work.
  """
  inner = tree[1] if tree[0] == 'neg' else tree
  if not _is_negated_twice(tree) and (
    inner[0] in _LEAVES or _is_fraction(inner)
  ):
    return NOTHING  # most answers; the rest says the same
  part = _part(tree, work)
  kinds = part.kinds
  if not part.rational and form is not None:
    if form_arithmetic.constant(form) is not None:
      kinds |= ARITHMETIC  # (sqrt(2))^2, x+5-x: the value is a plain number
    elif not kinds and like_terms.found(tree, work):
      kinds |= TERMS
  if not kinds and not part.functions:
    return NOTHING
  return Undone(kinds, part.functions)


def _part(tree: Tree, work: Work) -> _Part:
  kind = tree[0]
  if kind == 'num':
    return _RATIONAL
  if kind == 'let':
    return _VARIABLE
  if kind == 'const':
    return _IMAGINARY if tree[1] == 'i' else _CONSTANT
  if kind in ('neg', 'deg'):
    part = _part(tree[1], work)
    return _with(part, ARITHMETIC) if _is_negated_twice(tree) else part
  if kind == 'call':
    return _VARIABLE
  if kind not in _RULES:
    raise Undecided(f'{kind} is no expression')
  parts = [_part(child, work) for child in trees.children(tree)]
  return _RULES[kind](tree, parts, _joined(parts), work)


def _joined(parts: list[_Part]) -> _Part:
  """What is left in several parts together."""
  kinds = functions = 0
  constant = rational = True
  imaginary = sums = False
  for part in parts:
    kinds |= part.kinds
    functions += part.functions
    constant = constant and part.constant
    rational = rational and part.rational
    imaginary = imaginary or part.complex
    sums = sums or part.complex_sum
  if not kinds and not functions and not (constant and imaginary):
    if rational and constant:
      return _RATIONAL
    return _CONSTANT if constant else _VARIABLE
  return _Part(
    kinds=kinds,
    functions=functions,
    constant=constant,
    rational=rational,
    complex=constant and imaginary,
    complex_sum=constant and sums,
  )


def _is_fraction(tree: Tree) -> bool:
  return tree[0] == 'div' and all(map(trees.is_integer, tree[1:]))


def _is_negated_twice(tree: Tree) -> bool:
  """-(-7)"""
  inner = tree[1]
  return tree[0] == 'neg' and inner[0] == 'num' and inner[1] < 0


def _with(part: _Part, kinds: int, **changes) -> _Part:
  if not changes and not kinds & ~part.kinds:
    return part
  return part._replace(kinds=part.kinds | kinds, **changes)


def _sum(tree: Tree, parts: list[_Part], joined: _Part, work: Work) -> _Part:
  del work
  left = 0
  if sum(part.rational for part in parts) > 1:
    left = ARITHMETIC
  if joined.complex:
    # (2 + i) - (1 - i), 3(1 + i) + 2: i is in a sum within the sum, or twice
    plain = sum(part.complex for part in parts) == 1
    if joined.complex_sum or (not plain and _twice_i(tree)):
      left = ARITHMETIC
    return _with(joined, left, complex_sum=True)
  return _with(joined, left)


def _twice_i(tree: Tree) -> bool:
  """Whether two terms are a number times i: 2i + 3i; but not i + sqrt(2) i."""
  found = 0
  for term in tree[1]:
    term = term[1] if term[0] == 'neg' else term
    factors = term[1] if term[0] == 'mul' else (term,)
    found += (
      all(factor[0] == 'num' or factor == ('const', 'i') for factor in factors)
      and ('const', 'i') in factors
    )
  return found > 1


def _product(
  tree: Tree, parts: list[_Part], joined: _Part, work: Work
) -> _Part:
  del work
  left = 0
  if sum(part.rational for part in parts) > 1 and not _is_scientific(tree):
    left = ARITHMETIC
  if sum(part.complex for part in parts) > 1:
    left = ARITHMETIC
  return _with(joined, left)


def _is_scientific(tree: Tree) -> bool:
  """3 * 10^8, with at most one other number."""
  if len(tree[1]) != 2:
    return False
  mantissa, power = tree[1]
  mantissa = mantissa[1] if mantissa[0] == 'neg' else mantissa
  return mantissa[0] == 'num' and power[0] == 'pow' and power[1] == _TEN


def _quotient(
  tree: Tree, parts: list[_Part], joined: _Part, work: Work
) -> _Part:
  del work
  left = 0
  if parts[1].complex:
    left = ARITHMETIC  # (1 + i) / (2 - i)
  for child, part in zip(tree[1:], parts, strict=True):
    child = child[1] if child[0] == 'neg' else child
    if joined.rational and part.rational and not _is_whole(child):
      left = ARITHMETIC  # 2.4/6, (1/2)/3
  return _with(joined, left)


def _is_whole(tree: Tree) -> bool:
  return tree[0] == 'pow' or (tree[0] == 'num' and tree[1].denominator == 1)


def _power(tree: Tree, parts: list[_Part], joined: _Part, work: Work) -> _Part:
  base, exponent = tree[1], tree[2]
  if exponent == ('num', 0) or (parts[0].complex and parts[1].constant):
    return _with(joined, ARITHMETIC)  # x^0, i^5, (1 + i)^2
  if base == ('const', 'e') and parts[1].complex:
    return _with(joined, FUNCTION, functions=joined.functions + 1)
  if not joined.rational:
    return joined
  degree = _degree(exponent)
  if degree > 1:
    flags = _root_kinds(base, ('num', degree), work)
    return _with(joined, flags, rational=False)
  if base == _TEN and trees.is_integer(exponent):
    return joined
  return _with(joined, POWER)


def _degree(exponent: Tree) -> int:
  """3 of the exponent 2/3; 2 of 0.5; 1 where it is an integer."""
  exponent = exponent[1] if exponent[0] == 'neg' else exponent
  if exponent[0] == 'num':
    return exponent[1].denominator
  if exponent[0] == 'div' and exponent[2][0] == 'num' and exponent[2][1]:
    above = exponent[1][1] if exponent[1][0] == 'num' else 1
    return (Fraction(above) / exponent[2][1]).denominator
  return 1


def _root(tree: Tree, parts: list[_Part], joined: _Part, work: Work) -> _Part:
  if parts[1].complex:
    return _with(joined, ARITHMETIC)
  if not joined.rational:
    return joined
  kinds = _root_kinds(tree[2], tree[1], work)
  return _with(joined, kinds, rational=False)


def _root_kinds(inside: Tree, degree: Tree, work: Work) -> int:
  """ARITHMETIC if the root is rational, as that of 4 and of 8/27."""
  number = form_arithmetic.constant(algebra.normal_form(inside, work))
  power = form_arithmetic.constant(algebra.normal_form(degree, work))
  if number is None or not isinstance(power, int) or not 2 <= power <= 100:
    return ARITHMETIC
  if number.numerator.bit_length() + number.denominator.bit_length() > 2_000:
    return ARITHMETIC
  work.spend(40)
  above = roots.is_power(abs(number.numerator), power)
  below = roots.is_power(number.denominator, power)
  return ARITHMETIC if above and below else 0


def _function(
  tree: Tree, parts: list[_Part], joined: _Part, work: Work
) -> _Part:
  """A function of numbers; log_2 3 counts as its two logarithms."""
  del parts, work
  if not joined.constant:
    return joined._replace(rational=False)
  count = {'binom': 3, 'log': 1 if tree[1] == _TEN else 2}.get(tree[0], 1)
  return _with(
    joined,
    FUNCTION,
    functions=joined.functions + count,
    rational=tree[0] in ('fact', 'binom', 'abs') and joined.rational,
  )


_RULES = {
  'add': _sum,
  'mul': _product,
  'div': _quotient,
  'pow': _power,
  'root': _root,
  'fact': _function,
  'abs': _function,
  'fn': _function,
  'log': _function,
  'binom': _function,
}
