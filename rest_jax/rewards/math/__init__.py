"""Reading and comparing answers written in LaTeX.

The modules in the order in which an answer passes them:

    answer_extraction  completion -> the text of its answer
    box_context        whether a box is the whole of its expression
    plain              text -> cleaned text; the quick way for plain numbers
    tokens             text -> tokens; latex_commands and units are its tables
    operands, expressions
                       tokens -> trees (trees.py) of expressions and matrices
    parsing            tokens -> an answer's entries and relations
    algebra            a tree -> its exact normal form, where it has one;
                       form_arithmetic, roots and spelling work with forms
    unevaluated        a tree -> what it leaves to be worked out; like_terms
    reading            text -> an Answer (answers.py): kind, spelling and parts
    numeric            a tree -> its value at a point, to 60 digits;
                       sample_points says where, trigonometry adds functions
    comparison         two Answers -> equal or not
    math_answer        the grader: all of it

Nothing here calls eval, ast or a computer algebra system. Whatever is not
understood raises `Undecided`; such an answer equals only its own text. Every
stage counts what it does (`Work`) and gives up at a limit, so that time and
memory are bounded without signals or processes.
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
