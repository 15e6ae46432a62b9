"""The fenced blocks of a completion, as people and models write them.

CommonMark's rules for ``` and ~~~, and beyond them: the fence's indentation,
and the mark of a list item before it, are taken off each line of the block; a
fence may open behind text on its line, and close behind the last line of code
or with text behind it; a fence with python's tag inside an open block closes
it and opens another. A block that is not closed ends with the text.
Within a string of three quotes there are no fences.

Text before the first fence counts as a block where it is code and that fence
closes it: the prompt had opened it.
"""

import dataclasses
import re

from rest_jax.rewards.code import source_lines

_OPENING = re.compile(
  r'(?P<before>[ \t]*(?:>[ \t]?|(?:[-*+]|\d{1,9}[.)])[ \t]+)*)'
  r'(?P<mark>`{3,}|~{3,})(?P<info>[^`\n]*)$'
)
_OPENING_BEHIND = re.compile(
  r'.*[^`\s](?P<before>[ \t]+)(?P<mark>`{3,})(?P<info>[^`\n]*)$'
)
_CLOSING_BEHIND = re.compile(r'(?P<code>.*[^`\s])[ \t]*(?P<mark>`{3,})[ \t]*$')
_PYTHON = re.compile(
  r'\{?\s*\.?(?:python|py|ipython|cpython)[\d.]*(?![\w.+#-])'
)
_CALLED_CODE = ('code', 'program', 'solution', 'answer')
# A line that begins so is a statement; most prose does not.
_STATEMENT = re.compile(
  r'(?:from[ \t]+[\w.]+[ \t]+import\b|import[ \t]+\w|(?:async[ \t]+)?def[ \t]'
  r'|class[ \t]+\w+[ \t]*[:(]|@\w|"""|\'\'\'|#|try:|if\b.*:|for\b.*:'
  r'|while\b.*:|with\b.*:|return\b|print[ \t]*\(|[\w.]+(?:\[.*?\])?[ \t]*'
  r'(?:[-+*/%&|^]|//|\*\*|<<|>>)?=(?!=)|\w+(?:[ \t]*,[ \t]*\w+)+[ \t]*=(?!=)'
  r'|[\w.]+\(.*\)[ \t]*$)'
)
PYTHON, NONE, OTHER = 'python', '', 'other'  # kinds of tags


@dataclasses.dataclass(slots=True)
class Block:
  """A fenced block.

  Attributes:
    tag: PYTHON, NONE or OTHER.
    text: without the fence; '' or lines with LF.
    fenced: False for code before a fence that closes it.
  """

  tag: str
  text: str
  fenced: bool = True


def blocks(text: str) -> list[Block]:
  """The blocks of a text, in their order; none where it has no fence."""
  if '```' not in text and '~~~' not in text:
    return []
  found, whole = _Scan(text, strings=True).blocks()
  # Quotes that are not closed hid the fences behind them.
  return found if whole else _Scan(text, strings=False).blocks()[0]


class _Scan:
  """One pass over the lines of a text."""

  def __init__(self, text: str, *, strings: bool):
    self._lines = text.split('\n')
    self._strings = strings
    self._found: list[Block] = []
    self._lead: list[str] | None = []  # lines before the first fence
    self._state = source_lines.State()

  def blocks(self) -> tuple[list[Block], bool]:
    """(the blocks, whether no string was open at the end)."""
    self._lead_is_code = _is_code(self._lines)
    number = 0
    while number < len(self._lines):
      number = self._outside(number)
    sound = not (self._strings and self._state.quotes)
    return self._found, sound

  def _outside(self, number: int) -> int:
    """Reads one line outside of blocks, or a block; the next line's number."""
    line = self._lines[number]
    lead = self._lead
    if lead is not None and self._lead_is_code:
      if self._strings and self._state.quotes:
        return self._keep(line, number)
      behind = _CLOSING_BEHIND.match(line)
      opening = _OPENING.match(line)
      if behind and not opening:
        self._state.feed(behind['code'])
        if not self._state.quotes:
          self._end_lead([*lead, behind['code']])
          return number + 1
      if opening and not opening['info'].strip() and self._odd(number):
        self._end_lead(lead)
        return number + 1
    opening = _OPENING.match(line) or _OPENING_BEHIND.match(line)
    if opening is None or not _may_open(opening, line):
      return self._keep(line, number)
    if lead and self._lead_is_code:
      self._found.append(Block(NONE, _joined(lead), fenced=False))
    self._lead = None
    return self._inside(number + 1, opening)

  def _keep(self, line: str, number: int) -> int:
    if self._lead is not None:
      self._lead.append(line)
      if self._lead_is_code:
        self._state.feed(line)
    return number + 1

  def _end_lead(self, lines: list[str]) -> None:
    self._found.append(Block(NONE, _joined(lines), fenced=False))
    self._lead = None
    self._state = source_lines.State()

  def _odd(self, number: int) -> bool:
    """Whether an odd number of fences follows: the first one closes."""
    count = sum(
      _OPENING.match(line) is not None for line in self._lines[number:]
    )
    return count % 2 == 1

  def _inside(self, number: int, opening: re.Match) -> int:
    """Reads a block; the number of the line behind it."""
    width = len(opening['before'].expandtabs()) if opening.re is _OPENING else 0
    quoted = '>' in opening['before']
    mark, tag = opening['mark'], _tag(opening['info'])
    self._state, body = source_lines.State(), []
    while number < len(self._lines):
      line = _unindented(self._lines[number], width, quoted)
      number += 1
      if not (self._strings and self._state.quotes):
        stripped = line.lstrip()
        if stripped.startswith(mark):
          self._found.append(Block(tag, _joined(body)))
          self._state = source_lines.State()
          rest = stripped.lstrip(mark[0]).strip()
          again = _tag(rest) == PYTHON and ' ' not in rest
          return number - 1 if again and rest else number
        behind = _CLOSING_BEHIND.match(line) if mark[0] == '`' else None
        if behind and len(behind['mark']) >= len(mark):
          self._state.feed(behind['code'])
          if not self._state.quotes:
            self._found.append(Block(tag, _joined([*body, behind['code']])))
            self._state = source_lines.State()
            return number
          body.append(line)
          continue
      body.append(line)
      self._state.feed(line)
    self._found.append(Block(tag, '\n'.join(body)))
    return number


def _may_open(opening: re.Match, line: str) -> bool:
  """Whether a fence behind text opens a block: text, then a short tag."""
  if opening.re is _OPENING:
    return True
  before = line[: opening.start('mark')].rstrip()
  return before.endswith(':') or _tag(opening['info']) == PYTHON


def _joined(lines: list[str]) -> str:
  return ''.join(f'{line}\n' for line in lines)


def _unindented(line: str, width: int, quoted: bool) -> str:
  """A line without as much of its indentation as the fence has."""
  if quoted:
    return re.sub(r'^[ \t]*>[ \t]?', '', line, count=1)
  taken = 0
  while taken < width and line[taken : taken + 1] in (' ', '\t'):
    taken += 1
  return line[taken:]


def _tag(info: str) -> str:
  info = info.strip().lower()
  if not info or info in _CALLED_CODE:
    return NONE
  return PYTHON if _PYTHON.match(info) else OTHER


def _is_code(lines: list[str]) -> bool:
  """Whether a text begins as code does: indented, or with a statement."""
  for line in lines:
    if _OPENING.match(line):
      return False
    if line.strip():
      return line[0].isspace() or is_statement(line)
  return False


def is_statement(line: str) -> bool:
  """Whether a line at the margin begins as a statement does."""
  return _STATEMENT.match(line) is not None
