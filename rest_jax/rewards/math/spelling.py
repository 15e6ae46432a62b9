"""One spelling for each normal form, number and tree."""

import hashlib
from fractions import Fraction

from rest_jax.rewards.math.trees import Tree

Number = int | Fraction
Sum = dict[tuple, Number]  # a normal form, see algebra.py


def spell(form: Sum) -> str:
  """One spelling of a normal form: '3*x^2-1/2'."""
  if not form:
    return '0'
  pieces = []
  for monomial in sorted(form, key=_order):
    coefficient = form[monomial]
    atoms = '*'.join(_spell_power(atom, power) for atom, power in monomial)
    if not atoms:
      piece = spell_number(coefficient)
    elif coefficient in (1, -1):
      piece = atoms if coefficient == 1 else f'-{atoms}'
    else:
      piece = f'{spell_number(coefficient)}*{atoms}'
    pieces.append(piece if piece[0] == '-' or not pieces else f'+{piece}')
  return ''.join(pieces)


def spell_number(number: Number) -> str:
  """A rational number in at most some 100 characters, one for each value."""
  if number.denominator == 1:
    return _spell_integer(number.numerator)
  below = _spell_integer(number.denominator)
  return f'{_spell_integer(number.numerator)}/{below}'


def _spell_integer(number: int) -> str:
  if number.bit_length() <= 200:
    return str(number)
  twos = (number & -number).bit_length() - 1
  if number.bit_length() - twos <= 200:
    return f'{number >> twos}*2^{twos}'
  digest = hashlib.sha256(hex(number).encode()).hexdigest()[:16]
  return f'{"-" if number < 0 else ""}int({number.bit_length()} bits, {digest})'


def _spell_power(atom: tuple, power: Number) -> str:
  name = str(atom[-1])
  if power == 1:
    return name
  spelled = spell_number(power)  # str() refuses more than 4,300 digits
  return (
    f'{name}^{spelled}' if power.denominator == 1 else f'{name}^({spelled})'
  )


def _order(monomial: tuple) -> tuple:
  degree = sum(power for atom, power in monomial if atom[0] == 'v')
  return (-degree, [(atom, -power) for atom, power in monomial])


def leading(form: Sum) -> Number:
  """The coefficient of the monomial that is spelled first."""
  return form[min(form, key=_order)]


def spell_value(value: int | Fraction) -> str:
  """A number's canonical spelling: a decimal where it ends, else a fraction."""
  if value.denominator == 1 or value.denominator.bit_length() > 100:
    return spell_number(value)
  rest, twos, fives = value.denominator, 0, 0
  while rest % 2 == 0:
    rest, twos = rest // 2, twos + 1
  while rest % 5 == 0:
    rest, fives = rest // 5, fives + 1
  if rest != 1 or value.numerator.bit_length() > 200:
    return spell_number(value)
  places = max(twos, fives)
  digits = str(abs(value.numerator) * 10**places // value.denominator)
  digits = digits.rjust(places + 1, '0')
  sign = '-' if value < 0 else ''
  return f'{sign}{digits[:-places]}.{digits[-places:]}'


def show(tree: Tree) -> str:
  """An expression as it was written, but for the order of sums and products."""
  kind = tree[0]
  if kind == 'num':
    return spell_number(tree[1])
  if kind in ('let', 'const'):
    return str(tree[1])
  if kind in ('add', 'mul'):
    sign = '+' if kind == 'add' else '*'
    return f'({sign.join(sorted(show(part) for part in tree[1]))})'
  if kind == 'call':
    return f'{tree[1]}({",".join(show(part) for part in tree[2])})'
  parts = [show(part) if isinstance(part, tuple) else part for part in tree[1:]]
  return f'{kind}({",".join(parts)})'
