"""Reading and comparing answers written in LaTeX, without a CAS.

The modules in the order in which an answer passes them:

    extraction   completion -> the text of its answer
    tokens       text -> tokens
    parsing      tokens -> a tree (lists, tuples, intervals, relations, sums)
    algebra      a tree -> its exact normal form, where it has one
    numeric      a tree -> its value at a point, to 60 digits
    reading      text -> an Answer: its kind, canonical spelling and parts
    comparing    two Answers -> equal or not

Nothing here calls eval, ast or a CAS. Whatever is not understood raises
`Undecided`; such an answer equals only its own text. Every stage counts what it
does and gives up at a limit, so that time and memory are bounded by
construction: no signal, no process.
"""


class Undecided(ValueError):
  """The text is not understood, or too large to be worked out."""
