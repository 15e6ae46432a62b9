"""Sums, products, powers and roots of normal forms, with the work counted.

algebra.py says what a normal form is.
"""

from fractions import Fraction

from rest_jax.rewards.math import Undecided, Work, roots
from rest_jax.rewards.math.spelling import Number, Sum, leading, spell

MAX_BITS = 24_000  # of one integer; 2006! has 19,000
MAX_TERMS = 200  # of one sum
_WORD = 1 << 32  # smaller ones are multiplied at no cost worth counting
IMAGINARY = ('i',)  # the atom of the imaginary unit


def is_free(form: Sum) -> bool:
  """Whether the form has only independent atoms: equal iff identical."""
  return all(atom[0] != 'o' for monomial in form for atom, _ in monomial)


def constant(form: Sum) -> Number | None:
  """The rational number that the form is, or None."""
  if not form:
    return 0
  if len(form) == 1 and () in form:
    return form[()]
  return None


def scaled(form: Sum, factor: Number) -> Sum:
  """The form times a number."""
  return {
    monomial: _reduced(coefficient * factor)
    for monomial, coefficient in form.items()
  }


def _reduced(number: Number) -> Number:
  if type(number) is int:
    return number
  return number.numerator if number.denominator == 1 else number


class FormArithmetic:
  """Works out normal forms; Undecided where the work is spent."""

  def __init__(self, work: Work):
    self._spend = work.spend

  def add(self, a: Sum, b: Sum) -> Sum:
    """The sum of two forms."""
    self._spend(len(b))
    total = dict(a)
    for monomial, coefficient in b.items():
      value = total.get(monomial)
      if value is not None:
        coefficient = self._checked(_reduced(value + coefficient))
      if coefficient:
        total[monomial] = coefficient
      else:
        del total[monomial]
    if len(total) > MAX_TERMS:
      raise Undecided(f'more than {MAX_TERMS} terms')
    return total

  def _checked(self, number: Number) -> Number:
    bits = number.numerator.bit_length() + number.denominator.bit_length()
    if bits > 64:
      if bits > MAX_BITS:
        raise Undecided(f'a number of more than {MAX_BITS} bits')
      self._spend(bits // 32)
    return number

  def multiply(self, a: Sum, b: Sum) -> Sum:
    """The product of two forms."""
    if len(a) == 1 and () in a and len(b) == 1 and () in b:
      return {(): self._times(a[()], b[()])}
    self._spend(2 + 2 * len(a) * len(b))
    total: Sum = {}
    for left, left_value in a.items():
      for right, right_value in b.items():
        value = self._times(left_value, right_value)
        monomial, factor = self._join(left, right)
        if factor != 1:
          value = self._times(value, factor)
        value = _reduced(total.get(monomial, 0) + value)
        if value:
          total[monomial] = value
        else:
          total.pop(monomial, None)
    if len(total) > MAX_TERMS:
      raise Undecided(f'more than {MAX_TERMS} terms')
    return total

  def _times(self, a: Number, b: Number) -> Number:
    if type(a) is type(b) is int and -_WORD < a < _WORD and -_WORD < b < _WORD:
      return a * b
    bits = a.numerator.bit_length() + b.numerator.bit_length()
    bits += a.denominator.bit_length() + b.denominator.bit_length()
    if bits > MAX_BITS:
      raise Undecided(f'a number of more than {MAX_BITS} bits')
    if bits > 128:
      self._spend(bits // 16)
    return _reduced(a * b)

  def _join(self, a: tuple, b: tuple) -> tuple[tuple, Number]:
    """The product of two monomials: a monomial and a number."""
    if not a or not b:
      return a or b, 1
    powers = dict(a)
    factor: Number = 1
    for atom, power in b:
      power = _reduced(powers.get(atom, 0) + power)
      if atom[0] == 'p' and power >= 1:
        factor, power = factor * atom[1], power - 1
      elif atom == IMAGINARY and power == 2:
        factor, power = -factor, 0
      if power:
        powers[atom] = power
      else:
        powers.pop(atom, None)
    return tuple(sorted(powers.items())), factor

  def inverse(self, form: Sum) -> Sum:
    """One over a form; roots and i are taken out of the denominator."""
    above: Sum = {(): 1}
    for _ in range(4):  # one root (or i) below the line at a time
      if not form:
        raise Undecided('a division by zero')
      if len(form) == 1:
        return self.multiply(above, self._inverse_monomial(form))
      conjugate = _conjugate(form)
      if conjugate is None:
        break
      above = self.multiply(above, conjugate)
      form = self.multiply(form, conjugate)
    if len(form) == 1:
      return self.multiply(above, self._inverse_monomial(form))
    if not form:
      raise Undecided('a division by zero')
    factor = leading(form)
    self._checked(factor)
    monic = scaled(form, Fraction(1) / factor)
    inverse = {
      ((('o', f'({spell(monic)})'), -1),): _reduced(1 / Fraction(factor))
    }
    return self.multiply(above, inverse)

  def _inverse_monomial(self, form: Sum) -> Sum:
    ((monomial, coefficient),) = form.items()
    value = _reduced(1 / Fraction(coefficient))
    powers = []
    for atom, power in monomial:
      if atom[0] == 'p':  # 1 / p^q = p^(1-q) / p
        powers.append((atom, 1 - power))
        value = _reduced(Fraction(value) / atom[1])
      elif atom == IMAGINARY:
        powers.append((atom, 1))
        value = -value
      else:
        powers.append((atom, -power))
    return {tuple(powers): value}

  def integer_power(self, base: Sum, exponent: int) -> Sum:
    """A form to an integer power."""
    if not base and exponent <= 0:
      raise Undecided('zero to a power that is not positive')
    if exponent < 0:
      return self.integer_power(self.inverse(base), -exponent)
    if len(base) == 1:
      return self._monomial_power(base, exponent)
    if not base:
      return base
    result: Sum = {(): 1}
    for _ in range(exponent):
      result = self.multiply(result, base)
    return result

  def _monomial_power(self, base: Sum, exponent: int) -> Sum:
    ((monomial, coefficient),) = base.items()
    bits = coefficient.numerator.bit_length() - 1
    bits = max(bits, coefficient.denominator.bit_length() - 1, 0)
    if (bits + 1) * exponent > MAX_BITS and coefficient not in (1, -1):
      raise Undecided('a power of too many digits')
    self._spend(1 + bits * exponent // 16)
    value = coefficient**exponent
    powers = []
    for atom, power in monomial:
      total = _reduced(Fraction(power * exponent))
      if atom[0] == 'p':
        whole = total.numerator // total.denominator
        if whole * atom[1].bit_length() > MAX_BITS:
          raise Undecided('a power of too many digits')
        value, total = value * atom[1] ** whole, _reduced(total - whole)
      elif atom == IMAGINARY:
        value, total = value * (-1) ** (exponent // 2 % 2), exponent % 2
      if total:
        powers.append((atom, total))
    return {tuple(powers): value}

  def root(self, form: Sum, power: Fraction) -> Sum:
    """A form to the power 1/k."""
    number = constant(form)
    if number is not None:
      return self._number_root(number, power)
    if len(form) == 1:
      ((monomial, coefficient),) = form.items()
      # sqrt(12 x) = 2 sqrt(3) x^(1/2); sqrt(x^2) is not x
      if coefficient > 0 and len(monomial) == 1:
        atom, exponent = monomial[0]
        if atom[0] in ('v', 'pi') and exponent == 1:
          outer = self._number_root(coefficient, power)
          return self.multiply(outer, {((atom, power),): 1})
    return opaque(f'({spell(form)})^({power})')

  def _number_root(self, number: Number, power: Fraction) -> Sum:
    if not number:
      return {}
    degree = power.denominator
    if number < 0:
      if degree == 2:
        return self.multiply(
          {((IMAGINARY, 1),): 1}, self._number_root(-number, power)
        )
      if degree % 2:
        return scaled(self._number_root(-number, power), -1)
      raise Undecided('an even root of a negative number')
    # a/b to the 1/k is (a b^(k-1))^(1/k) / b
    below = number.denominator
    if (
      below.bit_length() * degree > 2_000
      or number.numerator.bit_length() > 2_000
    ):
      raise Undecided('a root of too many digits')
    inside = number.numerator * below ** (degree - 1)
    self._spend(40)
    value: Number = Fraction(1, below)
    powers = []
    for prime, count in roots.factors(inside).items():
      value *= prime ** (count // degree)
      rest = Fraction(count % degree, degree)
      if rest:
        powers.append((('p', prime), rest))
    return {tuple(sorted(powers)): _reduced(value)}


def _conjugate(form: Sum) -> Sum | None:
  """a - b sqrt(p) of a + b sqrt(p), for one prime or i; None without one."""
  for monomial in form:
    for atom, power in monomial:
      if atom == IMAGINARY or (atom[0] == 'p' and power == Fraction(1, 2)):
        return {
          other: -value if (atom, power) in other else value
          for other, value in form.items()
        }
  return None


def opaque(text: str) -> Sum:
  """The form of a part that has no form of its own: one atom."""
  if len(text) > 2_000:
    raise Undecided('too long a part')
  return {((('o', text), 1),): 1}
