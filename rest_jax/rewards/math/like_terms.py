"""Terms and factors of an expression that are to be put together.

2x + 3x, 2x * 3x, x^3 / x and 5 pi + 3 pi; not (x - 3)^2 + 4, where only numbers
could be.
"""

from rest_jax.rewards.math import Undecided, Work, algebra, trees
from rest_jax.rewards.math.spelling import Sum
from rest_jax.rewards.math.trees import Tree

_LEAVES = frozenset(('num', 'let', 'const'))


def found(tree: Tree, work: Work) -> bool:
  """Whether an expression has terms or factors to be put together.

  Args:
    tree: an expression.
    work: what may be spent on the normal forms of its parts.

  Raises:
    Undecided: the work is spent.
  """
  return _may_share(tree) and _has_like_terms(tree, work)


def _may_share(tree: Tree) -> bool:
  """False where no name stands twice and no product has two compound factors.

  Much cheaper than the normal forms of all terms.
  """
  names: set[Tree] = set()
  left = [tree]
  while left:
    part = left.pop()
    if part[0] in ('let', 'const'):
      if part in names:
        return True
      names.add(part)
      continue
    inner = trees.children(part)
    if part[0] in ('mul', 'call'):
      compound = sum(child[0] not in _LEAVES for child in inner)
      if compound > 1 or part[0] == 'call':
        return True
    left += inner
  return False


def _has_like_terms(tree: Tree, work: Work) -> bool:
  """Whether terms or factors are to be put together: 2x+3x, 2x*3x, x^3/x.

  Not (x-3)^2 + 4, where only numbers could be.
  """
  kind = tree[0]
  if kind in ('neg', 'div'):
    parts = trees.children(tree)
    if kind == 'div' and _share_variable(parts, work):
      return True
  elif kind == 'add':
    parts = tree[1]
    seen: set[tuple] = set()
    for term in parts:
      found = {
        monomial
        for monomial in _form(term, work)
        if any(atom[0] in ('v', 'pi', 'o') for atom, _ in monomial)
      }
      if seen & found:
        return True
      seen |= found
  elif kind == 'mul':
    parts = tree[1]
    rooted = [part for part in parts if _is_root(part)]
    others = [part for part in parts if not _is_root(part)]
    if _share_variable(rooted, work) or _share_variable(others, work):
      return True
  else:
    return False
  return any(_has_like_terms(part, work) for part in parts)


def _is_root(tree: Tree) -> bool:
  return tree[0] == 'root' or (
    tree[0] == 'pow' and not trees.is_integer(tree[2])
  )


def _share_variable(factors: list[Tree], work: Work) -> bool:
  """Whether one variable stands in two factors that are single terms."""
  if len(factors) < 2:
    return False
  seen: set[tuple] = set()
  numbers = 0
  for factor in factors:
    form = _form(factor, work)
    if len(form) != 1:
      continue
    ((monomial, number),) = form.items()
    found = {atom for atom, _ in monomial if atom[0] in ('v', 'pi')}
    if seen & found:
      return True
    seen |= found
    numbers += bool(found) and abs(number) != 1
  return numbers > 1


def _form(tree: Tree, work: Work) -> Sum:
  if tree[0] == 'let':  # the usual factor, at no cost
    return {((('v', tree[1]), 1),): 1}
  if tree[0] == 'num':
    return {(): tree[1]}
  try:
    return algebra.normal_form(tree, work)
  except Undecided:
    return {}
