"""Expressions as trees, and what can be asked of a tree.

A tree is a tuple that begins with its kind:

    ('num', value)              an int or Fraction as it was written
    ('let', name)               a variable, a point, a named segment
    ('const', name)             pi, e, i, inf
    ('add', terms) ('mul', factors) ('neg', t) ('div', t, t) ('pow', t, t)
    ('root', degree, t) ('fn', name, t) ('log', base, t) ('fact', t)
    ('binom', n, k) ('abs', t) ('call', name, arguments) ('deg', t)
    ('pm', sign, t)             +- t (sign 1) or -+ t (sign -1), a term
    ('seq', open, close, items) '(a, b)': a tuple or an interval
    ('set', items) ('union', sets) ('matrix', delimiter, rows)
"""

from rest_jax.rewards.math import Undecided

Tree = tuple


def children(tree: Tree) -> list[Tree]:
  """The trees that a tree is made of, from left to right."""
  found = []
  for part in tree[1:]:
    if type(part) is tuple and part:
      if type(part[0]) is tuple:
        found += part
      else:
        found.append(part)
  return found


def is_integer(tree: Tree) -> bool:
  """Whether a tree is an integer as it was written: 5, -5."""
  tree = tree[1] if tree[0] == 'neg' else tree
  return tree[0] == 'num' and tree[1].denominator == 1


def has_degrees(tree: Tree) -> bool:
  """Whether a degree sign stands somewhere in the tree."""
  return tree[0] == 'deg' or any(map(has_degrees, children(tree)))


def variables(tree: Tree) -> set[str]:
  """The names in an expression; a call f(x) counts as undecidable."""
  found, left = set(), [tree]
  while left:
    part = left.pop()
    if part[0] == 'let':
      found.add(part[1])
    elif part[0] == 'call':
      raise Undecided('a function that is not known')
    else:
      left.extend(children(part))
  return found


def both(tree: Tree) -> tuple[Tree, ...]:
  """The tree with + and with - for its +-; the tree alone without one."""
  found = count(tree)
  if found > 1:
    raise Undecided('more than one +-')
  return (signed(tree, 1), signed(tree, -1)) if found else (tree,)


def count(tree: Tree) -> int:
  """How many +- a tree has."""
  return int(tree[0] == 'pm') + sum(map(count, children(tree)))


def signed(tree: Tree, sign: int) -> Tree:
  """The tree with +- as + (sign 1) or as - (sign -1)."""
  if tree[0] == 'pm':
    inner = signed(tree[2], sign)
    return inner if tree[1] * sign > 0 else ('neg', inner)
  return tuple(
    part
    if not isinstance(part, tuple) or not part
    else tuple(signed(inner, sign) for inner in part)
    if isinstance(part[0], tuple)
    else signed(part, sign)
    for part in tree
  )
