"""Which lines of Python source begin inside a string or a bracket.

A rule about lines, such as "a body ends at the first line at the margin",
must not be applied to the lines of a docstring. This reads text only; it does
not parse.
"""

import re
from collections.abc import Iterable, Iterator

_PIECE = re.compile(
  r'(?P<long>\"\"\"|\'\'\')'
  r'|"(?:\\.|[^"\\])*"|\'(?:\\.|[^\'\\])*\''  # a string of one line
  r'|(?P<rest>["\'#].*)'  # a comment, or a string that is not closed
  r'|(?P<open>[(\[{])|(?P<close>[)\]}])'
)
_LONG_END = {
  mark: re.compile(rf'(?:\\.|[^\\])*?{mark}') for mark in ('"""', "'''")
}


class State:
  """What is open at a place between two lines.

  Attributes:
    quotes: the triple quotes of a string that is open; '' outside.
    depth: the number of brackets that are open.
  """

  def __init__(self):
    self.quotes = ''
    self.depth = 0

  @property
  def inside(self) -> bool:
    """Whether the next line goes on with a string or a bracket."""
    return bool(self.quotes) or self.depth > 0

  def feed(self, line: str) -> None:
    """Goes on to the end of a line."""
    place = 0
    while place < len(line):
      if self.quotes:
        end = _LONG_END[self.quotes].match(line, place)
        if end is None:
          return
        self.quotes, place = '', end.end()
        continue
      piece = _PIECE.search(line, place)
      if piece is None:
        return
      place = piece.end()
      if piece['long']:
        self.quotes = piece['long']
      elif piece['open']:
        self.depth += 1
      elif piece['close']:
        self.depth = max(0, self.depth - 1)


def with_state(lines: Iterable[str]) -> Iterator[tuple[str, bool]]:
  """(line, whether it begins inside a string or a bracket) of each line."""
  state = State()
  for line in lines:
    yield line, state.inside
    state.feed(line)
