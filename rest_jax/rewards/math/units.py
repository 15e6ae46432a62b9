"""Units: which words may follow a value, and which of them mean the same.

A unit that only one side states is ignored: the question has named it. Two that
differ make two answers differ, and nothing is ever converted. Words that are no
unit (boxes, ways) differ from every unit, but not from each other.
"""

# One row per unit; every spelling of it, singular and plural.
_SPELLINGS = """
mm millimeter millimeters millimetre millimetres
cm centimeter centimeters centimetre centimetres
dm decimeter decimeters
m meter meters metre metres
km kilometer kilometers kilometre kilometres
inch inches
ft foot feet
yd yard yards
mi mile miles
acre acres
g gm gram grams
kg kilogram kilograms kilo kilos
lb lbs pound pounds
oz ounce ounces
ton tons
ml milliliter milliliters
l liter liters litre litres
gallon gallons gal
quart quarts
cup cups
s sec secs second seconds
min minute minutes mins
hr hrs hour hours
day days
week weeks
month months
year years yr yrs
mph
kph kmph
am
pm
degree degrees deg
radian radians rad
dollar dollars usd
cent cents
euro euros
percent
unit units
joule joules
newton newtons
watt watts
"""
_UNITS = {
  word: row.split()[0] for row in _SPELLINGS.split('\n') for word in row.split()
}
_POWERS = {'square': 2, 'sq': 2, 'squared': 2, 'cubic': 3, 'cubed': 3}
# As a word these say that the answer is not simply the value before them.
_NOT_UNITS = frozenset(
  'or not nor either neither between about approximately roughly around is are '
  'isnt if when only except but than least most more less over under minus '
  'plus times hundred thousand million billion trillion dozen half third '
  'quarter maybe possibly no none all any unless without up to from'.split()
)
MAX_WORDS = 5
OTHER = '?'  # 'boxes', 'ways': never compared among themselves


def plain(word: str) -> bool:
  """Whether a run of letters outside \\text is read as a unit, not as x*y."""
  return len(word) > 1 and word in _UNITS


def known(word: str) -> bool:
  """Whether a word in roman letters is a unit; 'e' is none."""
  return word in _UNITS


def name(words: tuple[str, ...], power: int = 1) -> str | None:
  """The unit that words mean: 'cm^2'; OTHER for words that are no known unit.

  Args:
    words: what follows a value, in lower case.
    power: the exponent behind them.

  Returns:
    None where the words do more than to name a unit ('or', 'million').
  """
  if len(words) > MAX_WORDS or _NOT_UNITS.intersection(words):
    return None
  known = []
  for word in words:
    if word in _POWERS:
      power *= _POWERS[word]
    elif word in _UNITS:
      known.append(_UNITS[word])
  if len(known) != 1:
    return OTHER
  return known[0] if power == 1 else f'{known[0]}^{power}'


def differ(a: str, b: str) -> bool:
  """Whether both sides state a unit, and not the same."""
  return bool(a) and bool(b) and a != b
