"""The points sheet: completions as a CSV that a person grades, and back.

A row is a completion. Spreadsheet programs change a CSV when they save it, and
`read` accepts this: another delimiter, another end of line, a decimal comma,
rows in another order. Rows that are lost, doubled or edited are found, because
each row has a number such as `3 of 33` and a digest of its completion. A cell
that would run as a formula is written with an apostrophe before it, which
`read` removes.
"""

import csv
import dataclasses
import hashlib
import io
import re
from collections.abc import Iterable, Mapping, Sequence

from rest_jax.config import configuration
from rest_jax.reporting import page

COLUMNS = (
  'row',
  'problem_id',
  'sample_index',
  'finish_reason',
  'question',
  'completion',
  'max_points',
  'points',
  'comment',
  'digest',
)
CELL = 32_000  # characters; Excel holds 32,767 in a cell and drops the rest
# What a spreadsheet may take for a formula (OWASP: CSV injection), and our own.
_FORMULA = tuple("=+-@\t\n\uff1d\uff0b\uff0d\uff20'")
_FILLED_IN = ('max_points', 'points', 'comment')  # by the person
_SHOWN = 20  # errors at once


@dataclasses.dataclass(frozen=True, kw_only=True)
class Answer:
  """A completion that a person graded.

  Attributes:
    problem_id: the problem's id.
    sample_index: the number of the completion among the problem's samples.
    max_points: the most that its problem gives, above 0.
    points: from 0 to max_points.
    comment: free text of the person.
  """

  problem_id: str
  sample_index: int
  max_points: float
  points: float
  comment: str


def text_of(raw: str) -> str:
  """A text as a cell holds it, without the apostrophe.

  Lines end in \\n, control characters are replaced by their names, and a text
  that is longer than a cell can hold is cut, with a note of how much.
  """
  text = page.visible(_one_line_end(raw))
  if len(text) > CELL:
    text = f'{text[:CELL]}\n[cut: {len(text) - CELL:,} characters more]'
  return text


def write(
  rows: Sequence[Mapping[str, object]], max_points: float | None
) -> bytes:
  """The sheet as UTF-8 with a byte order mark, without which Excel guesses.

  Args:
    rows: with problem_id, sample_index, finish_reason, question, completion.
    max_points: of each problem; None leaves the cells empty.
  """
  out = io.StringIO()
  writer = csv.DictWriter(out, COLUMNS, lineterminator='\r\n')
  writer.writeheader()
  for number, row in enumerate(rows, 1):
    cells = {
      **row,
      'row': f'{number} of {len(rows)}',
      'question': text_of(str(row['question'])),
      'completion': text_of(str(row['completion'])),
      'max_points': '' if max_points is None else f'{max_points:g}',
    }
    cells['digest'] = _digest(cells)
    writer.writerow({name: _escape(cell) for name, cell in cells.items()})
  return out.getvalue().encode('utf-8-sig')


def read(data: bytes, where: str) -> list[Answer]:
  """The answers of a sheet, in the order of its `row`.

  Args:
    data: the file.
    where: its name, for messages.

  Raises:
    ConfigurationError: lists what is wrong, cell by cell.
  """
  names, table = _table(data, where)
  errors, answers, totals, tops = [], {}, set(), {}
  for number, cells in enumerate(table, 2):
    if not any(cells.values()):
      continue  # an empty line
    reader = _Reader(number, names, cells, errors)
    label = reader.label()
    answer = reader.answer(tops)
    if label is None:
      continue
    index, total = label
    totals.add(total)
    if index in answers:
      reader.error('row', f'{index} of {total} stands twice')
    answers[index] = answer
  _check_whole(set(answers), totals, errors)
  if errors:
    more = len(errors) - _SHOWN
    text = '\n'.join(f'  {line}' for line in errors[:_SHOWN])
    text += f'\n  … and {more} more' if more > 0 else ''
    raise configuration.ConfigurationError(
      f'{where}: nothing was imported. Mend these cells and import again:\n'
      f'{text}'
    )
  return [answers[index] for index in sorted(answers)]


def _table(data: bytes, where: str) -> tuple[list[str], list[dict[str, str]]]:
  try:
    text = data.decode('utf-8-sig')
  except UnicodeDecodeError as error:
    raise configuration.ConfigurationError(
      f'{where}: not UTF-8 ({error}). Save it as "CSV UTF-8".'
    ) from None
  first = re.split(r'[\r\n]', text, maxsplit=1)[0]
  delimiter = max(',;\t', key=first.count)
  try:
    lines = list(csv.reader(io.StringIO(text, newline=''), delimiter=delimiter))
  except csv.Error as error:
    raise configuration.ConfigurationError(
      f'{where}: not a CSV file ({error}).'
    ) from None
  names = [name.strip() for name in lines[0]] if lines else []
  missing = [name for name in COLUMNS if name not in names]
  if missing:
    raise configuration.ConfigurationError(
      f'{where}: the first line lacks {", ".join(missing)}; it must name '
      f'{", ".join(COLUMNS)}, as rest-jax grading-sheet --export writes it.'
    )
  padded = (line + [''] * len(names) for line in lines[1:])
  return names, [dict(zip(names, line, strict=False)) for line in padded]


class _Reader:
  """Reads one row of a sheet and adds what is wrong with it to `errors`."""

  def __init__(
    self,
    number: int,
    names: Sequence[str],
    cells: Mapping[str, str],
    errors: list[str],
  ):
    self._number, self._names, self._errors = number, names, errors
    self._cells = {
      name: cell if name in _FILLED_IN else _unescape(_one_line_end(cell))
      for name, cell in cells.items()
    }

  def error(self, name: str, text: str) -> None:
    column = self._names.index(name)
    letters = chr(ord('A') + column) if column < 26 else f'column {column + 1} '
    self._errors.append(f'cell {letters}{self._number} ({name}): {text}')

  def label(self) -> tuple[int, int] | None:
    """The number of the row and of all rows: (3, 33) for `3 of 33`."""
    words = self._cells['row'].split()
    if len(words) == 3 and words[0].isdecimal() and words[2].isdecimal():
      return int(words[0]), int(words[2])
    self.error('row', f"got {self._cells['row']!r}; expected such as '3 of 33'")
    return None

  def answer(self, tops: dict[str, float]) -> Answer | None:
    """The graded completion; None if anything is wrong with the row.

    Args:
      tops: max_points by problem id, so far; this row's is added.
    """
    before, cells = len(self._errors), self._cells
    if _digest(cells) != cells['digest'].strip():
      self.error(
        'completion',
        'this row is not as it was exported (its row, problem_id, '
        'sample_index, completion or digest was edited). Only max_points, '
        'points and comment may be; export again and copy the points',
      )
    top = self._amount('max_points')
    points = self._amount('points')
    if top is not None:
      if top == 0:
        self.error('max_points', 'got 0; allowed: above 0')
      known = tops.setdefault(cells['problem_id'], top)
      if known != top:
        self.error(
          'max_points',
          f'got {top:g}, and {known:g} in another row of {cells["problem_id"]}',
        )
      if points is not None and points > top:
        self.error('points', f'got {points:g}, above max_points ({top:g})')
    if len(self._errors) > before:
      return None
    return Answer(
      problem_id=cells['problem_id'],
      sample_index=int(cells['sample_index']),
      max_points=top,
      points=points,
      comment=cells['comment'],
    )

  def _amount(self, name: str) -> float | None:
    text = self._cells[name].strip()
    if not text:
      self.error(name, 'empty')
      return None
    try:
      value = float(text.replace(',', '.'))
    except ValueError:
      value = float('nan')
    if not 0 <= value < float('inf'):
      self.error(name, f'got {text!r}; expected a number from 0')
      return None
    return value


def _check_whole(there: set[int], totals: set[int], errors: list[str]) -> None:
  """Adds to `errors` that rows are missing, or are of several sheets."""
  if len(totals) > 1:
    of = ' and '.join(map(str, sorted(totals)))
    errors.append(
      f'rows of several sheets, of {of} rows: import each by itself'
    )
  elif totals:
    missing = sorted({*range(1, max(totals) + 1)} - there)
    if missing:
      shown = ', '.join(map(str, missing[:_SHOWN]))
      errors.append(f'rows are missing: {shown} of {max(totals)}')
  else:
    errors.append('it holds no row')


def _digest(cells: Mapping[str, object]) -> str:
  """A digest of the cells that must not be edited.

  It begins with a letter, so that no spreadsheet takes it for a number.
  """
  kept = [str(cells[name]) for name in ('row', 'problem_id', 'sample_index')]
  # A spreadsheet may drop spaces at the ends.
  kept.append(str(cells['completion']).strip())
  return f'd{hashlib.sha256(chr(0).join(kept).encode()).hexdigest()[:15]}'


def _one_line_end(text: str) -> str:
  return text.replace('\r\n', '\n').replace('\r', '\n')


def _escape(cell: object) -> str:
  text = str(cell)
  return f"'{text}" if text.startswith(_FORMULA) else text


def _unescape(cell: str) -> str:
  return cell.removeprefix("'")


def by_problem(answers: Iterable[Answer]) -> dict[str, list[Answer]]:
  """The graded completions of each problem, {problem id: [...]}."""
  found: dict[str, list[Answer]] = {}
  for answer in answers:
    found.setdefault(answer.problem_id, []).append(answer)
  return found
