"""The value of an expression at a point, to 60 digits, over the complex plane.

A value is a pair of Decimals, the real and the imaginary part. Variables take
real values; a point at which an expression is not defined over the reals (the
root of something negative) is skipped, since x^(1/2) says nothing there.

Values are called equal to 40 digits, so nothing may be lost before: a sum whose
terms cancel, or of which one is tiny beside another, is Undecided, and so is a
function so near its value at 0 or at 1 that what it was given does not show.
1 + 10^-100 is never taken for 1, nor e^(10^-41), nor cos(10^-25).
"""

import decimal
import hashlib
from collections.abc import Mapping
from decimal import Decimal

from rest_jax.rewards.math import (
  Undecided,
  Work,
  algebra,
  form_arithmetic,
  sample_points,
  spelling,
  trees,
  trigonometry,
)
from rest_jax.rewards.math.spelling import Number
from rest_jax.rewards.math.trees import Tree
from rest_jax.rewards.math.trigonometry import Undefined

_EQUAL = Decimal('1e-40')  # relative
_CANCELS = Decimal('1e-15')
_LOST = Decimal('1e-20')
_MAX_DIGITS = 20  # of a number as it was written, without zeros at its end
_MAX_EXPONENT = 20_000
_TRANSCENDENTAL = 25  # operations that a sine or logarithm counts for
_INTEGER_FUNCTION = 100  # that a factorial counts for

Value = tuple[Decimal, Decimal]
_ZERO, _ONE = Decimal(0), Decimal(1)


def equal(a: Tree, b: Tree, work: Work) -> bool:
  """Whether two expressions agree wherever both are defined.

  Args:
    a: one expression.
    b: the other.
    work: what may be spent on them.

  Raises:
    Undecided: a value is out of reach, or too few points are defined.
  """
  names = sorted(trees.variables(a) | trees.variables(b))
  seed = hashlib.sha256(f'{spelling.show(a)} {spelling.show(b)}'.encode())
  agreed = 0

  def constant(tree: Tree) -> Decimal:
    real, imaginary = _Evaluation({}, work).value(tree)
    if imaginary:
      raise Undecided('a complex number beside a variable')
    return real

  with decimal.localcontext(trigonometry.CONTEXT):
    try:
      points = sample_points.points(a, b, names, seed.digest(), constant)
    except (Undefined, decimal.DecimalException, OverflowError) as error:
      raise Undecided('a value out of range') from error
    for point in points:
      try:
        left = _Evaluation(point.values, work).value(a)
        right = _Evaluation(point.values, work).value(b)
      except Undefined:
        if not names:
          raise Undecided('not a real number') from None
        continue
      except (Undecided, decimal.DecimalException, OverflowError) as error:
        if point.required:
          raise Undecided('a value out of range') from error
        continue
      if not _close(left, right):
        return False
      agreed += 1
  if agreed < min(2, len(points)):
    raise Undecided('defined at too few points')
  return True


def _close(a: Value, b: Value) -> bool:
  scale = max(abs(a[0]), abs(a[1]), abs(b[0]), abs(b[1]))
  if not scale:
    return True
  return max(abs(a[0] - b[0]), abs(a[1] - b[1])) <= _EQUAL * scale


class _Evaluation:
  """Evaluates trees at one point."""

  def __init__(self, point: Mapping[str, Decimal], work: Work):
    self._point = point
    self._work = work

  def value(self, tree: Tree) -> Value:
    self._work.spend(1)
    kind = tree[0]
    if kind in ('fn', 'log', 'pow', 'root'):
      self._work.spend(_TRANSCENDENTAL)
    if kind == 'num':
      return _literal(tree[1]), _ZERO
    if kind == 'let':
      return self._point[tree[1]], _ZERO
    if kind == 'const':
      return self._constant(tree[1])
    if kind == 'add':
      return _sum([self.value(term) for term in tree[1]])
    if kind == 'neg':
      real, imaginary = self.value(tree[1])
      return -real, -imaginary
    if kind == 'mul':
      product = self.value(tree[1][0])
      for factor in tree[1][1:]:
        product = _times(product, self.value(factor))
      return product
    if kind == 'div':
      return _times(self.value(tree[1]), _inverse(self.value(tree[2])))
    if kind == 'pow':
      return self._power(tree)
    if kind == 'root':
      degree, _ = self.value(tree[1])
      return self._root(self.value(tree[2]), degree)
    if kind == 'deg':
      return self.value(tree[1])
    if kind == 'abs':
      real, imaginary = self.value(tree[1])
      return (real * real + imaginary * imaginary).sqrt(), _ZERO
    if kind in ('fn', 'log'):
      return self._function(tree)
    self._work.spend(_INTEGER_FUNCTION)
    number = form_arithmetic.constant(
      algebra.normal_form(tree, self._work)
    )  # 5!, binomials
    if number is None:
      raise Undecided(kind)
    return _decimal(number), _ZERO

  def _constant(self, name: str) -> Value:
    if name == 'pi':
      return trigonometry.PI, _ZERO
    if name == 'e':
      return _ONE.exp(), _ZERO
    if name == 'i':
      return _ZERO, _ONE
    raise Undecided('infinity in an expression')

  def _power(self, tree: Tree) -> Value:
    base, exponent = self.value(tree[1]), self.value(tree[2])
    if exponent[1] or abs(exponent[0]) > _MAX_EXPONENT:
      if tree[1] == ('const', 'e') and abs(exponent[0]) <= _MAX_EXPONENT:
        size = trigonometry.exponential(exponent[0])
        sine, cosine = trigonometry.sine_cosine(exponent[1])
        return size * cosine, size * sine
      raise Undecided('an exponent')
    if exponent[0] == exponent[0].to_integral_value():
      return _integer_power(base, int(exponent[0]))
    if tree[2][0] == 'div' and tree[2][2][0] == 'num':
      degree = Decimal(tree[2][2][1].numerator)
      if tree[2][2][1].denominator == 1 and (base[1] or base[0] < 0):
        root = self._root(base, degree)
        return _integer_power(root, int(self.value(tree[2][1])[0]))
    if base[1] or base[0] <= 0:
      raise Undefined
    return trigonometry.exponential(base[0].ln() * exponent[0]), _ZERO

  def _root(self, value: Value, degree: Decimal) -> Value:
    real, imaginary = value
    if degree == 2:
      if not imaginary and real >= 0:
        return real.sqrt(), _ZERO
      if self._point:
        raise Undefined
      size = (real * real + imaginary * imaginary).sqrt()
      left = ((size + real) / 2).sqrt() if imaginary else _ZERO
      right = ((size - real) / 2).sqrt()
      return left, right.copy_sign(imaginary) if imaginary else right
    if imaginary or degree != degree.to_integral_value() or degree < 2:
      raise Undecided('a root')
    if not real:
      return _ZERO, _ZERO
    if real < 0 and not degree % 2:
      raise Undefined
    root = trigonometry.exponential(abs(real).ln() / degree)
    return root.copy_sign(real), _ZERO

  def _function(self, tree: Tree) -> Value:
    name = tree[1] if tree[0] == 'fn' else 'log'
    real, imaginary = self.value(tree[2])
    if imaginary:
      raise Undecided('a function of a complex number')
    if name in ('ln', 'log'):
      if real <= 0:
        raise Undefined
      if name == 'ln':
        return trigonometry.logarithm(real), _ZERO
      base, imaginary = self.value(tree[1])
      if imaginary or base <= 0 or base == 1:
        raise Undefined
      return trigonometry.logarithm(real) / trigonometry.logarithm(base), _ZERO
    if trees.has_degrees(tree[2]):
      real = real * trigonometry.PI / 180
    return trigonometry.function(name, real), _ZERO


def _literal(number: Number) -> Decimal:
  """A number as it was written; Undecided where it has too many digits.

  1.00...01 x and x would be equal at every point that is looked at.
  """
  for part in (number.numerator, number.denominator):
    if part.bit_length() > 64:
      digits = Decimal(part).normalize().as_tuple().digits
      if len(digits) > _MAX_DIGITS:
        raise Undecided(f'a number of more than {_MAX_DIGITS} digits')
  return _decimal(number)


def _decimal(number: Number) -> Decimal:
  if number.denominator == 1:
    return +Decimal(number.numerator)
  return Decimal(number.numerator) / Decimal(number.denominator)


def _sum(values: list[Value]) -> Value:
  parts = []
  for index in (0, 1):
    terms = [abs(value[index]) for value in values if value[index]]
    total = sum((value[index] for value in values), _ZERO)
    if len(terms) > 1:
      largest = max(terms)
      if min(terms) < largest * _LOST:
        raise Undecided('a term that is lost beside another')
      if abs(total) < largest * _CANCELS:
        raise Undecided('terms that cancel')
    parts.append(total)
  return parts[0], parts[1]


def _times(a: Value, b: Value) -> Value:
  if not a[1] and not b[1]:
    return a[0] * b[0], _ZERO
  return a[0] * b[0] - a[1] * b[1], a[0] * b[1] + a[1] * b[0]


def _inverse(value: Value) -> Value:
  real, imaginary = value
  if not imaginary:
    if not real:
      raise Undefined
    return 1 / real, _ZERO
  size = real * real + imaginary * imaginary
  return real / size, -imaginary / size


def _integer_power(base: Value, exponent: int) -> Value:
  if exponent < 0:
    return _inverse(_integer_power(base, -exponent))
  if not exponent and not base[0] and not base[1]:
    raise Undefined
  result = (_ONE, _ZERO)
  while exponent:
    if exponent & 1:
      result = _times(result, base)
    exponent >>= 1
    if exponent:
      base = _times(base, base)
  return result
