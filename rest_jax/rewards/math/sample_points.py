"""Where two expressions are compared: points on both sides of every corner.

Two analytic expressions that agree at random points agree. |x - 5| and 5 - x
agree at all points on one side of 5 only: an absolute value, an even root, a
fractional power and an inverse function have corners. Their arguments, where
they are rational functions, are cut at all their zeros and poles, and every
piece gets a point. Along random lines where there are several variables.
"""

import dataclasses
import hashlib
import itertools
from collections.abc import Callable
from decimal import Decimal

from rest_jax.rewards.math import Undecided, trees
from rest_jax.rewards.math.trees import Tree

MODERATE = 4  # points of size 0.3 to 2.3
_WIDE = 2  # and of size 10 to 70
_LINES = 3
_MAX_DEGREE = 8  # of a polynomial that is cut at its zeros
_MAX_CUTS = 80
# Sizes of the points that are tried where an argument is not rational.
_GRID = (0.004, 0.06, 0.4, 3.5, 17.0, 230.0, 41_000.0)
_BISECTIONS = 60
_ZERO, _ROUNDING, _LARGEST = Decimal(0), Decimal('1e-50'), Decimal('1e100')

Polynomial = tuple[Decimal, ...]  # coefficients, the constant one first


@dataclasses.dataclass(frozen=True, slots=True)
class Point:
  """Values of the variables.

  Attributes:
    values: by name.
    required: whether the comparison fails where a value is out of reach here.
  """

  values: dict[str, Decimal]
  required: bool


def points(
  a: Tree,
  b: Tree,
  names: list[str],
  seed: bytes,
  constant: Callable[[Tree], Decimal],
) -> list[Point]:
  """The points at which two expressions have to agree.

  Args:
    a: one expression.
    b: the other.
    names: the variables of both; one point without any.
    seed: depends on both expressions, so that no answer can be made to fit.
    constant: the value of an expression without variables.

  Raises:
    Undecided: too many points would be needed.
  """
  if not names:
    return [Point({}, True)]
  found = [
    Point(moderate(names, seed, index), True) for index in range(MODERATE)
  ]
  for index in range(_WIDE):
    values = moderate(names, seed, MODERATE + index)
    scale = 30 if index % 2 else -30
    found.append(Point({x: v * scale for x, v in values.items()}, False))
  corners = [*_corners(a), *_corners(b)]
  if corners:
    found += _around(corners, names, seed, constant)
  return found


def moderate(names: list[str], seed: bytes, index: int) -> dict[str, Decimal]:
  """Values of size 0.3 to 2.3: positive at two points, then of any sign."""
  point = {}
  for name in names:
    digest = hashlib.sha256(seed + bytes([index]) + name.encode()).digest()
    value = Decimal(int.from_bytes(digest[:6], 'big')) / 2**47 + Decimal('0.3')
    if index >= 2 and digest[6] % 2:
      value = -value
    point[name] = value
  return point


def _corners(tree: Tree) -> list[Tree]:
  """The arguments with variables at whose zeros a part is not analytic."""
  found, left = [], [tree]
  while left:
    part = left.pop()
    inner = None
    if part[0] == 'abs':
      inner = part[1]
    elif part[0] == 'root':
      inner = part[2]
    elif part[0] == 'pow' and not trees.is_integer(part[2]):
      inner = part[1]
    elif part[0] == 'fn' and part[1].startswith('arc'):
      inner = part[2]
    if inner is not None and trees.variables(inner):
      found.append(inner)
    left.extend(trees.children(part))
  return found


def _around(
  corners: list[Tree],
  names: list[str],
  seed: bytes,
  constant: Callable[[Tree], Decimal],
) -> list[Point]:
  """Points between the zeros of the corners' arguments, and of many sizes."""
  found = []
  for index in range(1 if len(names) == 1 else _LINES):
    start = moderate(names, seed, 100 + index)
    slope = moderate(names, seed, 200 + index)
    if len(names) == 1:
      start, slope = {names[0]: Decimal(0)}, {names[0]: Decimal(1)}
    elif index:
      start = {name: value / 10 for name, value in start.items()}
    line = _Line(start, slope, constant)
    cuts, complete = set(), True
    for corner in corners:
      quotient = line.quotient(corner)
      if quotient is None:
        complete = False
        continue
      for polynomial in quotient:
        cuts.update(_cuts(tuple(map(float, polynomial))))
    if len(cuts) > _MAX_CUTS:
      raise Undecided('an expression of too many pieces')
    share = 0.3 + seed[index] / 640  # 0.3 to 0.7 of each piece
    found += [
      Point(line.at(t), required)
      for t, required in _between(sorted(cuts), share)
    ]
    sizes = _GRID[2:6:2] if complete else _GRID
    for size in sizes:
      for t in (size * (1 + share), -size * (1.1 + share)):
        found.append(Point(line.at(t), False))
  return found


def _between(cuts: list[float], share: float) -> list[tuple[float, bool]]:
  """One point in each piece that the cuts leave, two at either end.

  Returns:
    Each with whether it is required: a piece that is next to nothing may be
    the rounding of one zero of even order, where values cancel.
  """
  if not cuts:
    return []
  size = max(1.0, *(abs(cut) for cut in cuts))
  found = []
  for low, high in itertools.pairwise(cuts):
    width = high - low
    if width > 1e-12 * size:
      found.append((low + width * share, width > 1e-5 * size))
  for distance in (size * share, 40 * size * share):
    found += [(cuts[0] - distance, True), (cuts[-1] + distance, True)]
  return found


def _cuts(polynomial: tuple[float, ...]) -> list[float]:
  """The real zeros of a polynomial and of all its derivatives, ascending."""
  if len(polynomial) < 2:
    return []
  inner = _cuts(tuple(i * c for i, c in enumerate(polynomial))[1:])
  bound = 1 + max(abs(c / polynomial[-1]) for c in polynomial[:-1])
  found = list(inner)
  # between two zeros of its derivative a polynomial has one zero at most
  for low, high in itertools.pairwise([-bound, *inner, bound]):
    left = _at(polynomial, low)
    if left * _at(polynomial, high) >= 0:
      continue
    for _ in range(_BISECTIONS):
      middle = (low + high) / 2
      if left * _at(polynomial, middle) > 0:
        low = middle
      else:
        high = middle
    found.append(low)
  return sorted(found)


def _at(polynomial: tuple[float, ...], t: float) -> float:
  value = 0.0
  for coefficient in reversed(polynomial):
    value = value * t + coefficient
  return value


@dataclasses.dataclass(frozen=True, slots=True)
class _Line:
  """The points start + t * slope, and what expressions are along them."""

  start: dict[str, Decimal]
  slope: dict[str, Decimal]
  constant: Callable[[Tree], Decimal]

  def at(self, t: float) -> dict[str, Decimal]:
    step = Decimal(t)
    return {
      name: value + step * self.slope[name]
      for name, value in self.start.items()
    }

  def quotient(self, tree: Tree) -> tuple[Polynomial, Polynomial] | None:
    """Numerator and denominator in t; None for what is not rational."""
    try:
      return self._quotient(tree)
    except OverflowError:
      return None

  def _quotient(self, tree: Tree) -> tuple[Polynomial, Polynomial] | None:
    kind = tree[0]
    if kind == 'let':
      coefficients = (self.start[tree[1]], self.slope[tree[1]])
      return coefficients, (Decimal(1),)
    if not trees.variables(tree):
      return _trimmed((self.constant(tree),)), (Decimal(1),)
    if kind == 'pow':
      return self._power(tree)
    if kind not in ('add', 'mul', 'neg', 'div'):
      return None
    parts = [self._quotient(part) for part in trees.children(tree)]
    if None in parts:
      return None
    above, below = parts[0]
    if kind == 'neg':
      return tuple(-c for c in above), below
    for over, under in parts[1:]:
      if kind == 'add':
        above = _sum(_product(above, under), _product(over, below))
        below = _product(below, under)
      elif kind == 'mul':
        above, below = _product(above, over), _product(below, under)
      else:
        above, below = _product(above, under), _product(below, over)
      if max(len(above), len(below)) > _MAX_DEGREE + 1:
        return None
    return above, below

  def _power(self, tree: Tree) -> tuple[Polynomial, Polynomial] | None:
    if not trees.is_integer(tree[2]):
      return None
    exponent = int(self.constant(tree[2]))
    base = self._quotient(tree[1])
    if base is None or abs(exponent) > _MAX_DEGREE:
      return None
    above = below = (Decimal(1),)
    for _ in range(abs(exponent)):
      above, below = _product(above, base[0]), _product(below, base[1])
      if max(len(above), len(below)) > _MAX_DEGREE + 1:
        return None
    return (below, above) if exponent < 0 else (above, below)


def _sum(a: Polynomial, b: Polynomial) -> Polynomial:
  pairs = itertools.zip_longest(a, b, fillvalue=_ZERO)
  return _trimmed(tuple(left + right for left, right in pairs))


def _product(a: Polynomial, b: Polynomial) -> Polynomial:
  found = [_ZERO] * max(len(a) + len(b) - 1, 0)
  for i, left in enumerate(a):
    for j, right in enumerate(b):
      found[i + j] += left * right
  return _trimmed(tuple(found))


def _trimmed(polynomial: Polynomial) -> Polynomial:
  """Without leading coefficients that are only rounding (60 digits)."""
  largest = max(map(abs, polynomial), default=_ZERO)
  if largest > _LARGEST:
    raise OverflowError
  end = len(polynomial)
  while end and abs(polynomial[end - 1]) <= largest * _ROUNDING:
    end -= 1
  return polynomial[:end]
