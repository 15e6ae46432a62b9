"""What an answer says, and how each kind of it is spelled.

Kinds: number, expression, infinity, tuple (also an interval), set (also a
list), union, matrix, equation, order (inequalities), named (one of several
'AB = 9'), chain (1 = 2, or about), ratio, based (2516_8), text, opaque (not
understood: equal only to its own text).
"""

from fractions import Fraction
from typing import NamedTuple

from rest_jax.rewards.math.spelling import Sum, spell_value
from rest_jax.rewards.math.trees import Tree
from rest_jax.rewards.math.unevaluated import NOTHING, Undone


class Answer(NamedTuple):
  """What an answer says.

  Attributes:
    kind: one of those above.
    canonical: one spelling for all answers that say the same.
    value: of a number.
    tree: of a number or an expression.
    form: its normal form, where it has one.
    undone: what an expression leaves to be worked out.
    parts: of what has parts.
    shape: what tells apart composites with the same parts: brackets, ...
    unit: '' where none is known.
    name: the left side of 'x = 5'.
    equation: 'y = 2x + 1' as an equation; None where it says a value.
    listing: '70,110' read as a list.
  """

  kind: str
  canonical: str
  value: int | Fraction | None = None
  tree: Tree | None = None
  form: Sum | None = None
  undone: Undone = NOTHING
  parts: tuple['Answer', ...] = ()
  shape: str = ''
  unit: str = ''
  name: str = ''
  equation: 'Answer | None' = None
  listing: 'Answer | None' = None


def of_number(
  value: int | Fraction, unit: str = '', tree: Tree | None = None
) -> Answer:
  """A number, and the expression that it was written as."""
  if value.denominator == 1:
    value = value.numerator
  return Answer(
    kind='number',
    canonical=spell_value(value),
    value=value,
    tree=tree or ('num', value),
    form={(): value} if value else {},
    unit=unit,
  )


def of_name(answer: Answer) -> Answer:
  """One of several assignments, which keeps its name."""
  canonical = f'{answer.name}={answer.canonical}'
  return Answer(
    kind='named', canonical=canonical, parts=(answer,), shape=answer.name
  )


def of_tuple(
  parts: tuple[Answer, ...],
  start: str,
  end: str,
  *,
  name: str = '',
  order=False,
) -> Answer:
  """A tuple or an interval; order: one that was written as x < 5."""
  spelled = ','.join(part.canonical for part in parts)
  return Answer(
    kind='tuple',
    canonical=f'{start}{spelled}{end}',
    parts=parts,
    shape=start + end + ('order' if order else ''),
    name=name,
  )


def of_set(
  parts: tuple[Answer, ...], *, braces: bool = False, name: str = ''
) -> Answer:
  """Several values in any order; one value is that value, braces or not."""
  if braces:  # a set has every element once
    parts = tuple({part.canonical: part for part in parts}.values())
  if len(parts) == 1:
    return parts[0]
  parts = tuple(sorted(parts, key=lambda part: part.canonical))
  spelled = ','.join(part.canonical for part in parts)
  return Answer(kind='set', canonical=f'{{{spelled}}}', parts=parts, name=name)


def of_union(parts: tuple[Answer, ...], name: str = '') -> Answer:
  """A union of intervals and sets."""
  parts = tuple(sorted(parts, key=lambda part: part.canonical))
  spelled = ' u '.join(part.canonical for part in parts)
  return Answer(kind='union', canonical=spelled, parts=parts, name=name)
