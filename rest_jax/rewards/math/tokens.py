"""From LaTeX to tokens: what is typed becomes what is meant.

A token is a pair (kind, value):

    num     int or Fraction           let     a variable's name ('x', 'theta')
    name    a run of capitals ('AB')  word    a lower-case word
    fn      a function ('sin', 'frac', 'root', 'binom', 'ln', ...)
    const   'pi', 'e', 'i', 'inf'     begin, end   an environment
    op      + - * / ^ _ ! = < > <= >= != ~ ( ) [ ] { } \\{ \\} | , ; : & \\\\
            pm mp cup in div deg % $ '

Spacing, sizes and fonts are dropped. A command that is not listed here raises
Undecided: the list is the whitelist of what a model may write.
"""

import re
from fractions import Fraction

from rest_jax.rewards.math import Undecided, latex_commands, units

MAX_TOKENS = 400
MAX_DIGITS = 300  # of one number

_TOKEN = re.compile(
  r'(?P<repeating>[0-9]*\.[0-9]*\\(?:overline|bar)\{[0-9]+\})'
  r'|(?P<thousands>[0-9]{1,3}(?:(?:\{,\}|,\s*\\!\s*|\\,)[0-9]{3})+(?![0-9])'
  r'(?:\.[0-9]+)?)'
  r'|(?P<num>[0-9]+(?:\.[0-9]+)?|\.[0-9]+)'
  r'|(?P<command>\\(?:[A-Za-z]+|.))'
  r'|(?P<letters>[A-Za-z]+)'
  r"|(?P<op>[-+*/^_!=<>()\[\]{}|,;:&%'])"
  r'|(?P<space>[\s$~]+)'
)
_ROMAN_UNIT = re.compile(r'\s*\{(?:\s|~|\\[,;: ])*([a-z]{1,12})\s*\}')
_NOT_DIGITS = re.compile(r'[^0-9.]')
_TEXT_TOKEN = re.compile(
  r'(?P<num>[0-9]+(?:\.[0-9]+)?)|(?P<letters>[A-Za-z]+)'
  r'|(?P<op>[-+*/^_!=<>(),;:])|(?P<space>[\s.$]+|\\[ ,]|~)'
)
_RATE = re.compile(r'([a-z]{1,12}) ?/ ?([a-z]{1,12})')
_BLACKBOARD = re.compile(r'\s*(?:\{\s*([A-Z])\s*\}|([A-Z])(?![A-Za-z]))')
_COLUMNS = re.compile(r'\s*\{[lcr|\s]*\}')

# Words too short to be told from a product of variables otherwise.
_SHORT_WORDS = frozenset(
  'yes no odd one two six ten red may mon tue wed thu fri sat sun'.split()
)

_TEXT_SIGN = re.compile(r'\\[$% ,]')
_LETTER_UNITS = frozenset('mgsl')  # 5\text{ m}

Token = tuple[str, object]


def tokenize(text: str) -> list[Token]:
  """All tokens of an answer.

  Raises:
    Undecided: an unknown command or character, or too many of them.
  """
  found: list[Token] = []
  position, end = 0, len(text)
  while position < end:
    match = _TOKEN.match(text, position)
    if match is None:
      raise Undecided(f'the character {text[position]!r}')
    position = match.end()
    kind, value = match.lastgroup, match.group()
    if kind == 'space':
      continue
    if kind == 'op':
      found.append(('op', value))
    elif kind == 'num':
      found.append(('num', number(value)))
      if value.isdigit() and _splits(found):
        position = match.start() + 1  # \frac12: one digit is one argument
        found[-1] = ('num', int(value[0]))
    elif kind == 'letters':
      _letters(value, found)
    elif kind == 'command':
      position = _command(value[1:], text, position, found)
    elif kind == 'thousands':
      found.append(('num', number(_NOT_DIGITS.sub('', value))))
    else:
      found.append(('num', _repeating(value)))
    if len(found) > MAX_TOKENS:
      raise Undecided(f'more than {MAX_TOKENS} tokens')
  return found


def number(text: str) -> int | Fraction:
  """The value of ASCII digits with at most one point."""
  if len(text) > MAX_DIGITS:
    raise Undecided(f'more than {MAX_DIGITS} digits')
  whole, point, decimals = text.partition('.')
  if not point:
    return int(whole)
  value = Fraction(int(whole + decimals), 10 ** len(decimals))
  return value if value.denominator > 1 else value.numerator


def _repeating(text: str) -> Fraction:
  head, _, tail = text.partition('\\')
  whole, _, decimals = head.partition('.')
  period = tail[tail.index('{') + 1 : -1]
  if len(text) > MAX_DIGITS:
    raise Undecided(f'more than {MAX_DIGITS} digits')
  value = Fraction(int(period), 10 ** len(period) - 1)
  return (int((whole + decimals) or '0') + value) / 10 ** len(decimals)


def _splits(found: list[Token]) -> bool:
  """Whether the number read last is a bare argument of \\frac or \\binom."""
  if len(found) < 2:
    return False
  before = found[-2]
  if before in (('fn', 'frac'), ('fn', 'binom')):
    return True
  # the second argument, behind a first of one digit: \frac1 23
  if before[0] == 'num' and len(found) > 2:
    return found[-3] in (('fn', 'frac'), ('fn', 'binom'))
  return False


def _letters(run: str, found: list[Token]) -> None:
  lower = run.lower()
  if lower in ('or', 'and'):
    found.append(('word', lower))
  elif len(run) == 1:
    found.append(('const', run) if run in ('e', 'i') else ('let', run))
  elif run == 'pi':
    found.append(('const', 'pi'))
  elif run in latex_commands.GREEK:
    found.append(('let', run))
  elif run in latex_commands.PLAIN_FUNCTIONS:
    found.append(('fn', latex_commands.PLAIN_FUNCTIONS[run]))
  elif run.isupper():
    found.append(('name', run))
  elif len(run) > 3 or units.plain(lower) or lower in _SHORT_WORDS:
    found.append(('word', lower))
  else:
    for letter in run:
      _letters(letter, found)


def _command(name: str, text: str, position: int, found: list[Token]) -> int:
  """Adds what a command means; returns where the text goes on."""
  if name == 'mathrm':  # of a unit it is text: 5\,\mathrm{m}
    match = _ROMAN_UNIT.match(text, position)
    if match and units.known(match[1]):
      found.append(('word', match[1]))
      return match.end()
    return position
  if name in latex_commands.SPACES:
    return position
  if name in latex_commands.OPERATORS:
    found.append(('op', latex_commands.OPERATORS[name]))
  elif name in latex_commands.FUNCTIONS:
    found.append(('fn', latex_commands.FUNCTIONS[name]))
  elif name in latex_commands.CONSTANTS:
    found.append(('const', latex_commands.CONSTANTS[name]))
  elif name in latex_commands.GREEK:
    found.append(('let', name))
  elif name in latex_commands.TEXTS:
    content, end = _group(text, position, nested=True)
    if '\\' in _TEXT_SIGN.sub('', content) or '{' in content:
      return position  # \textbf{\underline{7}}: the group is read as it is
    _text(content, found)
    return end
  elif name in latex_commands.COLORS:
    for _ in range(latex_commands.COLORS[name]):
      _, position = _group(text, _optional(text, position))
  elif name in latex_commands.PHANTOMS:
    _, position = _group(text, position)
  elif name in ('begin', 'end'):
    content, position = _group(text, position)
    found.append((name, content))
    if content == 'array' and name == 'begin':
      match = _COLUMNS.match(text, position)
      position = match.end() if match else position
  elif name in ('emptyset', 'varnothing'):
    found += [('op', '\\{'), ('op', '\\}')]
  elif name == 'overline':
    content, after = _group(text, position)
    if not (content.isascii() and content.isalpha() and content.isupper()):
      raise Undecided('\\overline')
    return position  # a segment: its name is in the group
  elif name in ('mathbb', 'Bbb'):
    match = _BLACKBOARD.match(text, position)
    if match is None:
      raise Undecided('the set \\mathbb')
    _number_set(match[1] or match[2], found)
    return match.end()
  elif name in latex_commands.NUMBER_SETS:
    _number_set(latex_commands.NUMBER_SETS[name], found)
  else:
    raise Undecided(f'the command \\{name}')
  return position


def _number_set(letter: str, found: list[Token]) -> None:
  """All real numbers, as an interval; or the name of another set."""
  if letter != 'R':
    found.append(('let', f'\\mathbb{{{letter}}}'))
    return
  inf = ('const', 'inf')
  for token in (('op', '('), ('op', '-'), inf, ('op', ','), inf, ('op', ')')):
    found.append(token)


def _optional(text: str, position: int) -> int:
  """Where the text goes on behind an argument in brackets, as [rgb]."""
  if text[position : position + 1] != '[':
    return position
  end = text.find(']', position)
  return position if end < 0 else end + 1


def _group(
  text: str, position: int, *, nested: bool = False
) -> tuple[str, int]:
  """The next argument and where it ends.

  Args:
    text: the answer.
    position: where the argument begins.
    nested: whether the end does not matter where there are braces within it.
  """
  while position < len(text) and text[position] == ' ':
    position += 1
  if text[position : position + 1] != '{':
    return text[position : position + 1], position + 1
  end = text.find('}', position)
  if end < 0 or ('{' in text[position + 1 : end] and not nested):
    raise Undecided('braces within text')
  return text[position + 1 : end], end + 1


def _text(content: str, found: list[Token]) -> None:
  r"""What stands in \text{...}: letters, numbers and words."""
  if content.strip() in _LETTER_UNITS and found:
    found.append(('word', content.strip()))
    return
  rate = _RATE.fullmatch(content.strip())
  if rate and units.known(rate[1]) and units.known(rate[2]):
    found += [('word', rate[1]), ('word', 'per'), ('word', rate[2])]
    return
  content = content.replace('a.m.', ' am ').replace('p.m.', ' pm ')
  content = content.replace('\\$', '').replace('\\%', ' percent ')
  position = 0
  while position < len(content):
    match = _TEXT_TOKEN.match(content, position)
    if match is None:
      raise Undecided(f'the character {content[position]!r} in text')
    position = match.end()
    kind, value = match.lastgroup, match.group()
    if kind == 'num':
      found.append(('num', number(value)))
    elif kind == 'op':
      found.append(('op', value))
    elif kind == 'letters':
      if len(value) == 1:
        found.append(('let', value))
      elif value.isupper() and value not in ('AM', 'PM', 'OR', 'AND'):
        found.append(('name', value))
      else:
        found.append(('word', value.lower()))
