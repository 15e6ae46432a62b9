"""Whether two answers say the same.

The comparison is not symmetric: a reference may leave more to be worked out
than an answer (2^100 - 2), but an answer no more than its reference, and a
reference may state its value twice (0.56 = 56%), which in an answer is a hedge.
"""

from rest_jax.rewards.math import (
  Undecided,
  Work,
  form_arithmetic,
  numeric,
  trees,
  units,
)
from rest_jax.rewards.math.answers import Answer

MAX_PARTS = 40
_WORK = 5_000  # for the evaluations of one pair of answers


def equal(reference: Answer, answer: Answer) -> bool:
  """Whether an answer says what its reference says."""
  return _Comparison().equal(reference, answer)


class _Comparison:
  """Compares one pair of answers."""

  def __init__(self):
    self._work = Work(_WORK)

  def equal(self, reference: Answer, answer: Answer) -> bool:
    if reference.kind != answer.kind:
      return self._other_kinds(reference, answer)
    if units.differ(reference.unit, answer.unit):
      return False
    if _names_differ(reference, answer):
      return self._equations(reference, answer)
    if reference.kind == 'number':
      return reference.value == answer.value
    if reference.canonical == answer.canonical:
      return True
    if reference.kind == 'expression':
      if self._expressions(reference, answer):
        return True
      if answer.undone.exceeds(reference.undone):
        return False  # y = x + x + 1
      return self._equations(reference, answer)
    if reference.kind in ('tuple', 'matrix', 'named', 'ratio'):
      return _same_shape(reference, answer) and all(
        map(self.equal, reference.parts, answer.parts)
      )
    if reference.kind in ('set', 'union'):
      return self._unordered(reference, answer)
    return False  # by their spelling alone: equation, order, chain, text, ...

  def _other_kinds(self, reference: Answer, answer: Answer) -> bool:
    if reference.kind == 'chain':
      return any(self.equal(part, answer) for part in reference.parts)
    if answer.kind == 'chain':
      return False
    if {reference.kind, answer.kind} == {'number', 'expression'}:
      if units.differ(reference.unit, answer.unit):
        return False
      if _names_differ(reference, answer):
        return False
      return self._expressions(reference, answer)
    if reference.kind == 'tuple' and answer.kind == 'set':
      return self._assignments(reference, answer)
    if reference.kind == 'set' and answer.listing is not None:
      return self.equal(reference, answer.listing)
    if answer.kind == 'set' and reference.listing is not None:
      return self.equal(reference.listing, answer)
    return self._equations(reference, answer)

  def _assignments(self, reference: Answer, answer: Answer) -> bool:
    """x = 2, y = 3 against (2, 3): the names in their alphabetical order."""
    if reference.shape != '()' or len(reference.parts) != len(answer.parts):
      return False
    names = [part.shape for part in answer.parts if part.kind == 'named']
    if len(set(names)) != len(answer.parts) or not all(
      len(name) == 1 and name.islower() for name in names
    ):
      return False
    parts = sorted(answer.parts, key=lambda part: part.shape)
    return all(
      self.equal(expected, part.parts[0])
      for expected, part in zip(reference.parts, parts, strict=True)
    )

  def _equations(self, reference: Answer, answer: Answer) -> bool:
    """y = 2x + 1 against 2x - y + 1 = 0."""
    left = reference.equation or reference
    right = answer.equation or answer
    if left.kind == right.kind == 'equation':
      return left.canonical == right.canonical
    return False

  def _expressions(self, reference: Answer, answer: Answer) -> bool:
    if answer.undone.exceeds(reference.undone):
      return False
    if _has_other_variables(reference, answer):
      return False
    left, right = reference.form, answer.form
    if left is not None and right is not None:
      if left == right:
        return True
      if form_arithmetic.is_free(left) and form_arithmetic.is_free(right):
        return False
    try:
      return numeric.equal(reference.tree, answer.tree, self._work)
    except Undecided:
      return False

  def _unordered(self, reference: Answer, answer: Answer) -> bool:
    """Each part has its equal, one to one."""
    if len(reference.parts) != len(answer.parts):
      return False
    if len(reference.parts) > MAX_PARTS:
      return False
    spelled = [part.canonical for part in answer.parts]
    left = list(answer.parts)
    rest = []
    for part in reference.parts:
      if part.canonical in spelled and self.equal(
        part, left[spelled.index(part.canonical)]
      ):
        index = spelled.index(part.canonical)
        del spelled[index], left[index]
      else:
        rest.append(part)
    for part in rest:
      for index, other in enumerate(left):
        if self.equal(part, other):
          del left[index]
          break
      else:
        return False
    return True


def _names_differ(reference: Answer, answer: Answer) -> bool:
  a, b = reference.name, answer.name
  return bool(a) and bool(b) and a != b


def _has_other_variables(reference: Answer, answer: Answer) -> bool:
  """Whether a variable is left that the reference has not: x + 1 - x for 1."""
  try:
    names = trees.variables(answer.tree) - trees.variables(reference.tree)
  except Undecided:  # f(x) and the like, which their normal forms compare
    return False
  return bool(names)


def _same_shape(reference: Answer, answer: Answer) -> bool:
  return reference.shape.removesuffix('order') == answer.shape.removesuffix(
    'order'
  ) and len(reference.parts) == len(answer.parts)
