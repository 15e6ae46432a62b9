"""Charts: where each mark stands. templates/charts.html.jinja draws them.

A chart is SVG inside the HTML page and takes its colours from the page's style
sheet: classes `s0`, `s1`, … hold a palette that colour-blind readers can tell
apart, for the light and the dark theme. Series also differ in dash and marker.
Charts are 440 units wide, so that their text stays readable on a phone. The
exact numbers of a mark are its tooltip, and `table` gives them to those who
cannot see the chart.

No plotting library draws them. matplotlib was tried: its SVG has fixed colours
and no tooltips, is four times as large, and importing it takes a second.
"""

import dataclasses
import functools
import math
from collections.abc import Mapping, Sequence
from typing import Any

from rest_jax.reporting import formatting

NUM_STYLES = 8  # colours of the style sheet
WIDTH, HEIGHT = 440, 270
LEFT, RIGHT, TOP, FLOOR = 52, 428, 12, 226  # the edges of the plotted area
_MAX_ROWS = 25  # of a chart's table


@dataclasses.dataclass(frozen=True, kw_only=True)
class Axis:
  """What an axis shows.

  Attributes:
    label: its name, with the unit.
    ticks: (position, text) pairs; None chooses round numbers.
    log2: positions are drawn by their logarithm.
    percent: values are fractions, shown as percentages.
  """

  label: str
  ticks: Sequence[tuple[float, str]] | None = None
  log2: bool = False
  percent: bool = False

  def text(self, value: float, digits: int = 1) -> str:
    """A value as a reader sees it."""
    if self.percent:
      return f'{100 * value:.{digits}f}%'
    return dict(self.ticks or ()).get(value, formatting.number(value))


@dataclasses.dataclass(frozen=True, kw_only=True)
class Point:
  """A value with its interval.

  Attributes:
    x: its position; in a bar chart the index of its group.
    y: the value.
    low: the lower end of its confidence interval, or None.
    high: the upper end; None if and only if `low` is.
    note: added to the tooltip, such as 'n = 500'.
    ringed: a ring around it marks it among the others.
  """

  x: float
  y: float
  low: float | None = None
  high: float | None = None
  note: str = ''
  ringed: bool = False

  def text(self, y: Axis) -> str:
    """Value and interval, such as `70.0% [66.0, 74.0]`."""
    if self.low is None:
      return y.text(self.y)
    low, high = (y.text(end).rstrip('%') for end in (self.low, self.high))
    return f'{y.text(self.y)} [{low},\u00a0{high}]'


@dataclasses.dataclass(frozen=True, kw_only=True)
class Series:
  """Points that belong together.

  Attributes:
    name: shown in the legend.
    points: in the order in which a line joins them.
    style: number of its colour, marker and dash.
    markers: whether the points of a line are marked; a lone point always is.
    horizontal: its one point is drawn as a line over the whole width.
  """

  name: str
  points: Sequence[Point] = ()
  style: int
  markers: bool = True
  horizontal: bool = False

  @property
  def is_marked(self) -> bool:
    """Whether its points are marked."""
    return not self.horizontal and (self.markers or len(self.points) == 1)


@dataclasses.dataclass(frozen=True, kw_only=True)
class Chart:
  """Lines or grouped vertical bars, with error bars.

  Attributes:
    title: the heading above the chart.
    detail: what was measured, in small print.
    series: at least one, with at least one point in all.
    x: the horizontal axis; in a bar chart its ticks are (index, group).
    y: the vertical axis.
    bars: draws a bar for each point instead of a line through them.
    legend: whether the series are named below the chart.
  """

  title: str
  detail: str
  series: Sequence[Series]
  x: Axis
  y: Axis
  bars: bool = False
  legend: bool = True

  @functools.cached_property
  def y_ticks(self) -> list[tuple[float, str]]:
    """(value, text) of each horizontal grid line."""
    ticks = nice_ticks(*self._extent)
    if self.y.percent:  # a share stays within 0 and 1, whatever the rounding
      ticks = [tick for tick in ticks if -1e-9 <= tick <= 1 + 1e-9]
      ticks = ticks if len(ticks) > 1 else [0.0, 1.0]
    digits = 0 if ticks[1] - ticks[0] > 0.0099 else 1
    return [(tick, self.y.text(tick, digits)) for tick in ticks]

  @functools.cached_property
  def x_ticks(self) -> Sequence[tuple[float, str]]:
    """(position, text) along the horizontal axis."""
    if self.x.ticks is not None:
      return self.x.ticks
    low, high = self._x_range
    ticks = nice_ticks(min(self._xs), max(self._xs))
    return [(t, self.x.text(t)) for t in ticks if low <= t <= high]

  def y_at(self, value: float) -> float:
    """Where a value stands, from the top of the chart."""
    low = min(self.y_ticks[0][0], self._extent[0])
    high = max(self.y_ticks[-1][0], self._extent[1])
    return FLOOR - (value - low) * (FLOOR - TOP) / (high - low)

  def x_at(self, value: float) -> float:
    """Where a position stands, from the left of the chart."""
    low, high = self._x_range
    place = math.log2(value) if self.x.log2 else value
    return LEFT + (place - low) * (RIGHT - LEFT) / (high - low)

  @property
  def bar_width(self) -> float:
    """The width of a bar and the gap after it."""
    return 0.8 * (RIGHT - LEFT) / len(self.x_ticks) / len(self.series)

  def bar_at(self, x: float, number: int) -> float:
    """The left side of the bar of series `number` in group x."""
    return self.x_at(x) + self.bar_width * (number - len(self.series) / 2)

  @functools.cached_property
  def table(self) -> tuple[list[str], list[list[str]]]:
    """(header, rows): a row per position, a column per series."""
    cells = {}
    for column, one in enumerate(self.series):
      for point in thinned(one.points, _MAX_ROWS):
        # A horizontal line has no position: it gets the last row.
        place = math.inf if one.horizontal else point.x
        cells.setdefault(place, {})[column] = point.text(self.y)
    rows = [
      [
        formatting.NONE if x == math.inf else self.x.text(x),
        *(
          cells[x].get(column, formatting.NONE)
          for column in range(len(self.series))
        ),
      ]
      for x in sorted(cells)
    ]
    return [self.x.label, *(one.name for one in self.series)], rows

  @functools.cached_property
  def _extent(self) -> tuple[float, float]:
    points = [point for one in self.series for point in one.points]
    assert points, self.title
    values = [value for p in points for value in (p.y, p.low, p.high)]
    values = [v for v in values if v is not None] + [0.0] * self.bars
    return min(values), max(values)

  @functools.cached_property
  def _xs(self) -> list[float]:
    xs = [p.x for one in self.series if not one.horizontal for p in one.points]
    return xs + [x for x, _ in self.x.ticks or ()] or [0]

  @functools.cached_property
  def _x_range(self) -> tuple[float, float]:
    if self.bars:
      return -0.5, len(self.x_ticks) - 0.5
    places = [math.log2(x) if self.x.log2 else x for x in self._xs]
    low, high = min(places), max(places)
    pad = 0.04 * (high - low) or 1.0
    return low - pad, high + pad


@dataclasses.dataclass(frozen=True, kw_only=True)
class StackedBars:
  """Horizontal bars that are divided among classes, a bar per row.

  Attributes:
    title: the heading above the chart.
    detail: what was counted, in small print.
    rows: (name, count of each class).
    classes: from left to right, each with the number of its colour.
  """

  title: str
  detail: str
  rows: Sequence[tuple[str, Mapping[str, int]]]
  classes: Mapping[str, int]

  @property
  def table(self) -> tuple[list[str], list[list[Any]]]:
    """(header, rows): the counts."""
    rows = [
      [name, *(f'{counts.get(one, 0):,}' for one in self.classes)]
      for name, counts in self.rows
    ]
    return ['model', *self.classes], rows


def nice_ticks(low: float, high: float, count: int = 5) -> list[float]:
  """Round numbers (1, 2 or 5 times a power of ten) that span low..high.

  Args:
    low: the least value.
    high: the largest; may equal `low`.
    count: about how many steps.

  Returns:
    At least two ascending ticks; the first is <= low, the last is >= high.
  """
  if not high > low:
    pad = abs(low) * 0.1 or 0.5
    low, high = low - pad, high + pad
  rough = (high - low) / count
  power = 10 ** math.floor(math.log10(rough))
  step = next(m * power for m in (1, 2, 5, 10) if m * power >= rough * 0.999)
  first, last = math.floor(low / step + 1e-9), math.ceil(high / step - 1e-9)
  return [round(step * i, 12) for i in range(first, last + 1)]


def thinned(values: Sequence[Any], limit: int) -> list[Any]:
  """About `limit` of the values at most, evenly, the last one included."""
  stride = max(1, -(-len(values) // limit))
  return [*values[:-1][::stride], *values[-1:]]
