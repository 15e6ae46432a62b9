"""Reading and comparing answers written in LaTeX, without a CAS.

The modules in the order in which an answer passes them:

    extraction   completion -> the text of its answer
    plain        text -> cleaned text; the quick way for plain numbers
    tokens       text -> tokens
    expressions  tokens -> trees of expressions, tuples, matrices
    parsing      tokens -> an answer's entries and relations
    algebra      a tree -> its exact normal form, where it has one
    undone       a tree -> what it leaves to be worked out
    numeric      a tree -> its value at a point, to 60 digits
    reading      text -> an Answer: its kind, spelling and parts
    comparing    two Answers -> equal or not

Nothing here calls eval, ast or a CAS. Whatever is not understood raises
`Undecided`; such an answer equals only its own text. Every stage counts what it
does (`Work`) and gives up at a limit, so that time and memory are bounded by
construction: no signal, no process.
"""


class Undecided(ValueError):
  """The text is not understood, or too large to be worked out."""


class Work:
  """What may still be done for one answer, or for one pair of them."""

  def __init__(self, units: int):
    self._left = units

  def spend(self, units: int) -> None:
    """Counts work of some microseconds per unit; Undecided at the limit."""
    self._left -= units
    if self._left < 0:
      raise Undecided('too much to work out')
