"""A table of the page as a CSV file, inside a link (a data: URI).

The file holds what the table shows, in a form that spreadsheets and pandas
read: shares are fractions (70.0% is 0.700), thousands have no commas, a dash
is an empty cell, and an interval has two columns of its own. The numbers with
all their digits are in results.json.
"""

import csv
import html.parser
import io
import re
import urllib.parse
from collections.abc import Sequence

_NUMBER = r'[+-]?(?:\d{1,3}(?:,\d{3})+|\d+)(?:\.\d+)?(?:e[+-]?\d+)?'
_VALUE = re.compile(rf'({_NUMBER})(%?)')
_ESTIMATE = re.compile(rf'({_NUMBER})(%?) \[({_NUMBER}), ({_NUMBER})\]')


def csv_link(rows: str, header: Sequence[str]) -> str:
  """The link whose target is the CSV of a table.

  Args:
    rows: the HTML of its rows.
    header: its columns.
  """
  text = csv_text(header, _Cells(str(rows)).rows)
  return f'data:text/csv;charset=utf-8,{urllib.parse.quote(text)}'


def csv_name(caption: str) -> str:
  """A file name such as `math_test_by_level.csv`."""
  words = re.sub(r'[^a-z0-9]+', '_', caption.lower())
  return f'{words[:60].strip("_") or "table"}.csv'


def csv_text(header: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
  """The CSV of a table.

  Args:
    header: the columns.
    rows: cells as the page shows them.
  """
  wide = [
    any(_ESTIMATE.fullmatch(row[i]) for row in rows if i < len(row))
    for i in range(len(header))
  ]
  lines = [
    [
      f'{_text(name)}{end}'
      for name, is_wide in zip(header, wide, strict=True)
      for end in (('', ' low', ' high') if is_wide else ('',))
    ]
  ]
  for row in rows:
    cells = zip(row, wide, strict=False)
    lines.append([value for cell, w in cells for value in _values(cell, w)])
  out = io.StringIO()
  csv.writer(out, lineterminator='\r\n').writerows(lines)
  return out.getvalue()


def _values(cell: str, wide: bool) -> list[str]:
  """The cell's value; value, low and high where the column has intervals."""
  found = _ESTIMATE.fullmatch(cell)
  if found:
    value, unit, *ends = found.groups()
    return [_number(one, unit) for one in (value, *ends)]
  found = _VALUE.fullmatch(cell)
  value = _number(*found.groups()) if found else _text(cell)
  return [value, '', ''] if wide else [value]


def _number(text: str, unit: str) -> str:
  """A number without commas; a percentage becomes a fraction."""
  text = text.replace(',', '')
  if not unit:
    return text
  decimals = len(text.partition('.')[2]) + 2
  return f'{float(text) / 100:.{decimals}f}'


def _text(cell: str) -> str:
  """A text that no spreadsheet takes for a formula; '' for a dash."""
  if cell == '–':
    return ''
  return f"'{cell}" if cell[:1] in ('=', '+', '-', '@') else cell


class _Cells(html.parser.HTMLParser):
  """The texts of a table's cells.

  Attributes:
    rows: of cells.
  """

  def __init__(self, rows: str):
    super().__init__(convert_charrefs=True)
    self.rows: list[list[str]] = []
    self._cell: list[str] | None = None
    self.feed(rows)
    self.close()

  def handle_starttag(self, tag: str, attrs: object) -> None:
    if tag == 'tr':
      self.rows.append([])
    elif tag in ('td', 'th'):
      self._cell = []

  def handle_data(self, data: str) -> None:
    if self._cell is not None:
      self._cell.append(data)

  def handle_endtag(self, tag: str) -> None:
    if tag in ('td', 'th') and self._cell is not None:
      text = ' '.join(''.join(self._cell).split())  # no-break spaces too
      self.rows[-1].append(text)
      self._cell = None
