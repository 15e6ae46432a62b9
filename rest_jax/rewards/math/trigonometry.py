"""Pi, sines, their inverses, exp and log to 60 digits.

Where a function is nearly constant, what it was given is lost in its digits:
cos(10^-25) has 49 nines. Such a value is Undecided, never rounded.
"""

import decimal
from decimal import Decimal

from rest_jax.rewards.math import Undecided

DIGITS = 60
CONTEXT = decimal.Context(
  prec=DIGITS,
  Emax=100_000,
  Emin=-100_000,
  traps=[
    decimal.InvalidOperation,
    decimal.DivisionByZero,
    decimal.Overflow,
    decimal.Underflow,
  ],
)
_TINY = Decimal(10) ** (-DIGITS - 2)
_ZERO_LIKE = Decimal('1e-50')  # what sin(pi) is to 60 digits
_FLAT = Decimal('1e-10')  # nearer than this to a flat place is Undecided


class Undefined(Exception):
  """An expression that is not real, or has no value, at a point."""


def function(name: str, angle: Decimal) -> Decimal:
  """A trigonometric function, or the inverse of one, of a real number."""
  if name in ('arcsin', 'arccos', 'arctan'):
    _require_shown(angle)
    return inverse(name, angle)
  sine, cosine = sine_cosine(angle)
  above, below = {
    'sin': (sine, Decimal(1)),
    'cos': (cosine, Decimal(1)),
    'tan': (sine, cosine),
    'sec': (Decimal(1), cosine),
    'csc': (Decimal(1), sine),
    'cot': (cosine, sine),
  }[name]
  if abs(below) < _ZERO_LIKE or (above != 1 and abs(above) < _ZERO_LIKE):
    # a zero that is only nearly one; no answer of worth is written so
    raise Undefined
  return above / below


def exponential(exponent: Decimal) -> Decimal:
  """e to a power."""
  _require_shown(exponent)
  return exponent.exp()


def logarithm(value: Decimal) -> Decimal:
  """The natural logarithm of a positive number."""
  _require_shown(value - 1)
  return value.ln()


def _require_shown(distance: Decimal) -> None:
  """Raises Undecided for a tiny distance to where a function is flat."""
  if distance and abs(distance) < _FLAT:
    raise Undecided('a value that does not show in its function')


def sine_cosine(angle: Decimal) -> tuple[Decimal, Decimal]:
  """Sine and cosine, by their series at a sixteenth of the angle.

  Raises:
    Undecided: the angle is large, or very near to a multiple of pi/2 and not
      that multiple.
  """
  if abs(angle) > 10_000:
    raise Undecided('a large angle')
  _require_shown(angle)
  angle = angle % (2 * PI)
  small = angle / 16
  square = small * small
  term = sine = small
  for index in range(1, 60):
    term = -term * square / (2 * index * (2 * index + 1))
    sine += term
    if abs(term) < _TINY:
      break
  term = cosine = Decimal(1)
  for index in range(1, 60):
    term = -term * square / ((2 * index - 1) * 2 * index)
    cosine += term
    if abs(term) < _TINY:
      break
  for _ in range(4):
    sine, cosine = 2 * sine * cosine, cosine * cosine - sine * sine
  for value in (sine, cosine):
    if abs(value) > _ZERO_LIKE:
      _require_shown(value)
  return sine, cosine


def inverse(name: str, value: Decimal) -> Decimal:
  """arcsin, arccos or arctan of a number.

  Raises:
    Undefined: there is none.
    Undecided: it is too near to its largest value.
  """
  if name == 'arctan':
    if abs(value) * _FLAT > 1:
      raise Undecided('an inverse function of a large number')
    return _arctangent(value)
  if abs(value) > 1:
    raise Undefined
  _require_shown(1 - abs(value))
  if abs(value) == 1:
    sine = (PI / 2).copy_sign(value)
  else:
    sine = _arctangent(value / (1 - value * value).sqrt())
  return sine if name == 'arcsin' else PI / 2 - sine


def _arctangent(value: Decimal) -> Decimal:
  if abs(value) > 1:
    return (PI / 2).copy_sign(value) - _arctangent(1 / value)
  for _ in range(4):  # halve the angle
    value = value / (1 + (1 + value * value).sqrt())
  square, term, total = value * value, value, value
  for index in range(1, 60):
    term = -term * square
    total += term / (2 * index + 1)
    if abs(term) < _TINY:
      break
  return total * 16


def _machin() -> Decimal:
  with decimal.localcontext(CONTEXT) as context:
    context.prec = DIGITS + 10
    fifth, last = Decimal(1) / 5, Decimal(1) / 239
    total = Decimal(0)
    for factor, x in ((16, fifth), (-4, last)):
      term, square = x, x * x
      for index in range(60):
        total += factor * (-1) ** index * term / (2 * index + 1)
        term *= square
    return total


PI = _machin()
