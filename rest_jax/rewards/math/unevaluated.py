"""What an expression leaves to be worked out.

An answer may not leave more undone than its reference: to write the question
again (5!, sin 60 degrees, 2 + 3) is no answer to it.
"""

from rest_jax.rewards.math import Undecided, Work, algebra, roots
from rest_jax.rewards.math.trees import Tree

ARITHMETIC, FUNCTION = 1, 2


def undone(tree: Tree, work: Work) -> int:
  """What an expression leaves to be worked out: ARITHMETIC | FUNCTION.

  2+3, 2*3 and sqrt(4) leave arithmetic; 5!, sin(60 degrees) and log_2(8) a
  function of numbers. 2/4, 2^10, 3*10^8, 2*pi and sqrt(8) leave nothing.
  """
  return _undone(tree, work)[0]


def _undone(tree: Tree, work: Work) -> tuple[int, bool, bool]:
  """The flags; whether the tree is constant; whether it is rational."""
  kind = tree[0]
  if kind == 'num':
    return 0, True, True
  if kind in ('let', 'const'):
    return 0, kind == 'const', False
  if kind in ('add', 'mul'):
    parts = [_undone(part, work) for part in tree[1]]
    flags = 0
    for part in parts:
      flags |= part[0]
    rational = sum(part[2] for part in parts)
    if rational > 1 and not (kind == 'mul' and _is_scientific(tree)):
      flags |= ARITHMETIC
    return flags, all(part[1] for part in parts), rational == len(parts)
  if kind in ('neg', 'deg'):
    return _undone(tree[1], work)
  if kind in ('div', 'pow', 'root'):
    return _undone_quotient(tree, work)
  if kind in ('fact', 'abs'):
    flags, is_constant, _ = _undone(tree[1], work)
    return flags | (FUNCTION if is_constant else 0), is_constant, is_constant
  if kind in ('fn', 'log', 'binom'):
    parts = [
      _undone(part, work) for part in tree[1:] if isinstance(part, tuple)
    ]
    flags = 0
    for part in parts:
      flags |= part[0]
    is_constant = all(part[1] for part in parts)
    return flags | (FUNCTION if is_constant else 0), is_constant, False
  if kind == 'call':
    return 0, False, False
  raise Undecided(f'{kind} is no expression')


def _undone_quotient(tree: Tree, work: Work) -> tuple[int, bool, bool]:
  kind = tree[0]
  left, right = _undone(tree[1], work), _undone(tree[2], work)
  flags = left[0] | right[0]
  is_constant = left[1] and right[1]
  rational = left[2] and right[2]
  if kind == 'root' and rational:
    flags |= _root_flags(tree[2], tree[1], work)
    rational = False
  elif kind == 'pow' and rational and tree[2][0] == 'div':
    flags |= _root_flags(tree[1], tree[2][2], work)
    rational = False
  return flags, is_constant, rational


def _root_flags(inside: Tree, degree: Tree, work: Work) -> int:
  """ARITHMETIC if the root is rational, as that of 4 and of 8/27."""
  number = algebra.constant(algebra.normal_form(inside, work))
  power = algebra.constant(algebra.normal_form(degree, work))
  if number is None or not isinstance(power, int) or not 2 <= power <= 100:
    return ARITHMETIC
  if number.numerator.bit_length() + number.denominator.bit_length() > 2_000:
    return ARITHMETIC
  work.spend(40)
  above = roots.is_power(abs(number.numerator), power)
  below = roots.is_power(number.denominator, power)
  return ARITHMETIC if above and below else 0


def _is_scientific(tree: Tree) -> bool:
  """3 * 10^8, with at most one other number."""
  if len(tree[1]) != 2:
    return False
  mantissa, power = tree[1]
  mantissa = mantissa[1] if mantissa[0] == 'neg' else mantissa
  return mantissa[0] == 'num' and power[0] == 'pow' and power[1] == ('num', 10)
