"""Units and counted things: which words may follow a value, and which differ.

A unit that only one side states is ignored: the question has named it. Two that
differ make two answers differ, and nothing is ever converted. Words for counted
things (boxes, ways) differ from every unit, but not from each other.

A word that is in none of these lists may change the value ('5 lakh'), so in an
answer it must also stand in the reference.
"""

from rest_jax.rewards import number_words

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
g gm gms gram grams
kg kgs kilogram kilograms kilo kilos
lb lbs pound pounds
oz ounce ounces
ton tons tonne tonnes
ml milliliter milliliters
l liter liters litre litres
gallon gallons gal
quart quarts
cup cups
s sec secs second seconds
min minute minutes mins
hr hrs h hour hours
day days
week weeks
month months
year years yr yrs
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
kilowatt kilowatts kw
hertz hz
kelvin
volt volts
amp amps ampere amperes
pint pints pt
fathom fathoms
furlong furlongs
mg milligram milligrams
kb
mb
gb
peso pesos
yen
rupee rupees
"""
_UNITS = {
  word: row.split()[0] for row in _SPELLINGS.split('\n') for word in row.split()
}
_SPEEDS = {'mph': 'mi/hr', 'kph': 'km/hr', 'kmph': 'km/hr', 'kmh': 'km/hr'}
_POWERS = {'square': 2, 'sq': 2, 'squared': 2, 'cubic': 3, 'cubed': 3}
# What the answers of problems in mathematics count.
_COUNTED = frozenset(
  f'{noun}{plural}'
  for noun in (
    'way choice integer number digit student people person term factor point '
    'value possibilitie option step multiple game solution letter member '
    'triangle square card ball player combination arrangement permutation '
    'probability chance side handshake apple girl boy coin page set element '
    'edge divisor word face vertice case place prime part group spot pie tile '
    'house marble diagonal rectangle orange row column worker child children '
    'sequence box boxe segment zero zeroe root round revolution banana problem '
    'question candie outfit book line shot piece ticket meal teacher cookie '
    'car cat dog cow chicken horse sheep bird fish pig duck animal pencil pen '
    'marker stamp sticker toy doll flower tree plant leave egg cake slice '
    'pizza burger sandwich sandwiche chocolate candy bottle can jar bag basket '
    'bucket barrel crate pack packet package carton case container glass '
    'glasse plate bowl spoon fork knive shirt sock shoe hat dress dresse skirt '
    'jacket pant tie brick block cube circle sphere cone cylinder polygon '
    'pentagon hexagon octagon quadrilateral parallelogram trapezoid rhombuse '
    'angle region path route road turn trip lap race match matche team league '
    'class classe school room table chair seat desk bed door window floor '
    'story storie building bridge bus buse train plane boat bike bicycle wheel '
    'truck passenger customer employee guest friend man men woman women adult '
    'kid baby babie parent brother sister cousin vote voter candidate judge '
    'committee club function relation equation inequalitie '
    'expression subset partition tuple matrice vector graph '
    'polynomial coefficient exponent intersection intercept asymptote symmetry '
    'symmetrie reflection rotation roll toss tosse flip draw selection outcome '
    'event color colour code password palindrome anagram string bit byte grid '
    'cell pixel mark grade test exam quiz quizze assignment page '
    'chapter lesson hit goal win loss losse point home run basket free throw '
    'task job worker machine computer phone program file photo picture video '
    'song movie show bead rope string ribbon stick nail bolt nut gear wire '
    'dime nickel penny pennie bill note share stock item object thing unit '
    'daps bacteria cell rabbit frog spider ant bee butterflie monkey lion '
    'tiger bear elephant giraffe snake turtle tourist visitor resident citizen '
    'soldier sailor pirate prisoner student freshman freshmen sophomore junior '
    'senior doctor nurse lawyer engineer artist actor singer dancer musician '
    'drop cupcake muffin donut doughnut bagel loave brownie pancake waffle '
    'cherrie strawberrie blueberrie grape lemon lime peach peache pear plum '
    'melon watermelon pumpkin potato potatoe tomato tomatoe carrot onion bean '
    'pea seed kernel grain crayon eraser ruler notebook folder envelope letter '
    'newspaper magazine poster painting statue candle lamp bulb battery '
    'batterie tank lollipop gumball jellybean balloon kite puzzle'
  ).split()
  for plural in ('', 's')
)
# Words that say nothing more beside a unit or a counted thing.
_PLAIN = frozenset(
  'different distinct possible positive ordered total real whole right such '
  'the a an in all each of per lattice prime consecutive red blue green white '
  'black yellow us small large new old other remaining'.split()
)
# 'or', 'million', 'tenths': the value is not the one before them.
_CHANGING = (
  number_words.CARDINALS
  | number_words.SCALES
  | number_words.FRACTIONS
  | number_words.HEDGES
  | number_words.OPERATIONS.difference(_POWERS)
)
MAX_WORDS = 5
OTHER = '?'  # 'boxes', 'ways': never compared among themselves


def plain(word: str) -> bool:
  """Whether a run of letters outside \\text is read as a unit, not as x*y."""
  return len(word) > 1 and (word in _UNITS or word in _SPEEDS)


def known(word: str) -> bool:
  """Whether a word in roman letters is a unit; 'e' is none."""
  return word in _UNITS or word in _SPEEDS


def name(words: tuple[str, ...], power: int = 1) -> str | None:
  """The unit that words mean.

  Args:
    words: what follows a value, in lower case.
    power: the exponent behind them.

  Returns:
    'cm^2'; 'mi/hr'; '/hr' for 'per hour'; OTHER for counted things; OTHER and
    the words for words that are not known ('?lakh'); None where the words do
    more than to name a unit ('or', 'million').
  """
  if len(words) > MAX_WORDS or _CHANGING.intersection(words):
    return None
  pieces, counted, squares = [], 0, 1
  for index, word in enumerate(words):
    if word in _POWERS:
      squares *= _POWERS[word]
    elif word in _UNITS:
      is_rate = index and words[index - 1] in ('per', 'an', 'a')
      pieces.append(('/' if is_rate else ' ') + _UNITS[word])
    elif word in _SPEEDS:
      pieces.append(' ' + _SPEEDS[word])
    elif word in _COUNTED:
      counted += 1
    elif word == 'of' and (pieces or counted):
      break  # 'cups of flour'
    elif word not in _PLAIN:
      return f'{OTHER}{" ".join(words)}'
  if squares > 1 and not pieces:
    return None  # '5 squared'
  if not pieces:
    return OTHER if counted else f'{OTHER}{" ".join(words)}'
  unit = ''.join(pieces).lstrip(' ')
  power *= squares
  return unit if power == 1 else f'{unit}^{power}'


def unknown(unit: str) -> bool:
  """Whether a unit is words that may say more than a unit."""
  return unit.startswith(OTHER) and unit != OTHER


def differ(reference: str, answer: str) -> bool:
  """Whether an answer's unit contradicts its reference's.

  True where both state one, and not the same; and for words that are not known
  and not the reference's.
  """
  if unknown(answer):
    return reference != answer
  if unknown(reference):
    reference = OTHER
  return bool(reference) and bool(answer) and reference != answer
