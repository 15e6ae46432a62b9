"""English words that make another number of the number beside them.

'5 million', 'half of 5', '5 squared' and 'minus 5' are not 5. The graders of
texts and of mathematics read no number in words; these lists say beside which
words a number in digits is not read either.
"""

_UNITS = (
  'zero one two three four five six seven eight nine ten eleven twelve '
  'thirteen fourteen fifteen sixteen seventeen eighteen nineteen'
).split()
_TENS = 'twenty thirty forty fifty sixty seventy eighty ninety'.split()
# The numbers from 0 to 19 and the tens, in words.
CARDINALS = frozenset([*_UNITS, *_TENS])

# '5 million', '5 dozen', '5 tens': a multiple, wherever it stands.
SCALES = frozenset(
  f'{word}{plural}'
  for word in (
    'hundred thousand million billion trillion quadrillion quintillion '
    'zillion googol lakh lac crore dozen gross myriad mil thou tens'
  ).split()
  for plural in ('', 's')
)
# The same, cut short: '5 bn', '5k'. Lower-case m, g, b stand for units.
ABBREVIATED_SCALES = frozenset(
  'k K M MM B T bn Bn BN mn Mn mln bln tn trn'.split()
)

# '5 tenths', 'a third of 5'.
FRACTIONS = frozenset(
  f'{word}{plural}'
  for word in (
    'half halve third quarter fourth fifth sixth seventh eighth ninth tenth '
    'eleventh twelfth sixteenth twentieth fiftieth hundredth thousandth '
    'millionth billionth'
  ).split()
  for plural in ('', 's')
)
# 'twice 5', '5 pairs'.
MULTIPLES = frozenset(
  'twice thrice double triple quadruple doubles triples couple couples pair '
  'pairs score scores twin twins trio trios'.split()
)
# '5 squared', '5 apples minus one', '5 divided by two': behind a number.
OPERATIONS = frozenset(
  'plus minus squared cubed factorial divided multiplied doubled tripled '
  'quadrupled halved negated modulo mod point'.split()
)
# 'minus 5', 'the square root of 5': before a number.
OPERATORS = frozenset(
  'plus minus negative square squared cube root roots reciprocal inverse '
  'opposite log logarithm ln sqrt sine cosine tangent'.split()
)
# '5 or so', 'not 5', 'anything but 5': perhaps another answer.
HEDGES = frozenset(
  'or not nor either neither between anything alternatively maybe perhaps '
  'possibly unless isnt cannot wrong incorrect'.split()
)
