r"""Whether a box is the whole of its expression.

Of -\boxed{3}, 10^{\boxed{3}}, \boxed{3}\pi and '\boxed{3} million' the box is
only a part, and '\boxed{3} or 4' hedges: 3 is not what was said. A relation
before the box, a unit, a base or a modulus behind it belong to its answer.
"""

import re

from rest_jax.rewards import number_words
from rest_jax.rewards.math import units

_WINDOW = 80  # characters looked at on either side
_SPACING = r'(?:\s|\\[,;:! ]|\\q?quad(?![A-Za-z])|~|&)'
_SPACES = re.compile(f'{_SPACING}*')
_SPACE_BEFORE = re.compile(f'{_SPACING}+$')
_OPERATOR_BEFORE = re.compile(
  r'[/^]$|[A-Za-z0-9})]_$|[0-9)}]\s?\*$|[0-9]$'
  r'|[\^_]\{$'
  r'|\\(?:cdot|times|div|pm|mp|ast|sqrt|[dtc]?frac|log|ln|sin|cos|tan|exp|not)$'
  r'|\\[dtc]?frac\s?(?:\{[^{}]*\})?\{$|\\sqrt\s?(?:\[[^\[\]]*\])?\{$'
  r'|[A-Za-z0-9)}]\s?\+$'
)
_NEGATED = re.compile(
  r"(?:\b(?:not|negative|minus|neither|nor|half|twice|double|plus)|n't)"
  r'(?:\s|\\\\|[${(~}]|\\[(\[,; ])*$',
  re.IGNORECASE,
)
_NEGATIONS = (
  'not',
  'negative',
  'minus',
  'neither',
  'nor',
  'half',
  'twice',
  'double',
  'plus',
  "n't",
)
_FILL = ' \t\n$({~}[\\,;'
_NEUTRAL = frozenset(('$', ':', '.', ';', '', '>', '<'))
# A dash between words, or the bullet of a list: no minus sign.
_DASH = re.compile(r'(?:^|\n)\s*-\s+$|(?<!\\)\b[A-Za-z]{2,}[:.]?\s+-\s+$')
_BEHIND = re.compile(
  r'\^(?!\s?\{?\s?\\circ)|!(?=\s?(?:\$|\\[)\]]|[-+*/^0-9]))'
  r'|[-+/](?=\s?[0-9\\(])|[-+/](?=\s?[A-Za-z]\b)|\*(?=\s?[0-9A-Za-z\\(])'
  r'|[0-9]|\.[0-9]|,[0-9]|\([-0-9a-z]{1,3}[-+*^)]'
  r'|\\(?:cdot|times|div|pm|mp|ast|pi|sqrt|[dtc]?frac|sin|cos|tan|ln|log'
  r'|binom|over|choose)(?![A-Za-z])'
)
_LETTER = re.compile(r'([A-Za-z])(?![A-Za-z])')
_SPACE_BEHIND = re.compile(f'(?:{_SPACING}|[,$*}}]|\\\\[)\\]])*')
_WORD = re.compile(
  r'(?:\((?=[a-z]))?(?:\\(?:text|mbox|mathrm|textbf)\s?\{)?\s*([A-Za-z]+)'
)
_CHANGING = (
  number_words.SCALES
  | number_words.FRACTIONS.difference(('quarter', 'quarters'))  # coins
  | number_words.OPERATIONS.difference(('mod', 'modulo'))
  | {'or'}
)


def is_part(text: str, start: int, end: int) -> bool:
  """Whether what stands around a box makes another answer of it.

  Args:
    text: the completion.
    start: where the box begins.
    end: where it ends.
  """
  before = text[max(0, start - _WINDOW) : start]
  if before and _changed_before(before):
    return True
  behind = text[end : end + _WINDOW]
  return bool(behind) and _changed_behind(behind)


def _changed_before(before: str) -> bool:
  stripped = before.rstrip()
  last = stripped[-1:]
  if last == '=':
    return False  # nearly always
  words = stripped.rstrip(_FILL).lower()
  if words.endswith(_NEGATIONS) and _NEGATED.search(before):
    return True
  if last == '-' or stripped.endswith(('-$', '-\\(')):
    return not _DASH.search(before)
  if last in _NEUTRAL:
    return False
  stripped = _SPACE_BEFORE.sub('', stripped)
  if stripped[-1:].isdigit():  # '2\boxed{3}', but not 'Step 2 \boxed{3}'
    return len(stripped) == len(before)
  return bool(_OPERATOR_BEFORE.search(stripped, max(0, len(stripped) - 40)))


def _changed_behind(behind: str) -> bool:
  if behind.startswith(('$.', '.\n', '.$', '.\\')):
    return False  # the end of a sentence, nearly always
  space = _SPACES.match(behind).end()
  rest = behind[space:]
  match = _BEHIND.match(rest)
  # '\boxed{3}5' and '\boxed{3},000', but not '\boxed{3} 5'
  if match and not (space and match.group()[-1].isdigit()):
    return True
  letter = _LETTER.match(behind)
  if letter and not units.known(letter[1].lower()):
    return True
  word = _WORD.match(behind[_SPACE_BEHIND.match(behind).end() :])
  return bool(word) and word[1].lower() in _CHANGING
