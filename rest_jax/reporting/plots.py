"""Charts as hand-written SVG: lines, grouped bars and stacked bars.

A chart is a string that stands inside an HTML page. Its colours are classes
(`s0`, `s1`, ...) whose values the page sets for its light and its dark theme,
from a palette that colour-blind readers can tell apart; series differ in dash
and marker as well. Charts are drawn 440 units wide, so that their text stays
readable on a phone. Every mark has its exact numbers as a tooltip.
"""

import dataclasses
import html
from collections.abc import Mapping, Sequence

from rest_jax.reporting.axes import (
  BOTTOM,
  HEIGHT,
  LEFT,
  RIGHT,
  TOP,
  WIDTH,
  Axis,
  frame,
  x_scale,
  y_scale,
)

NUM_STYLES = 8
_MARKERS = ('circle', 'square', 'triangle', 'diamond')
_DASHES = ('', '7 3', '2 3', '9 3 2 3')


@dataclasses.dataclass(frozen=True, kw_only=True)
class Point:
  """A value with its interval.

  Attributes:
    x: position; for bars the index of the group.
    y: the value.
    low, high: its confidence interval, or None.
    note: added to the tooltip, such as 'n = 500'.
  """

  x: float
  y: float
  low: float | None = None
  high: float | None = None
  note: str = ''


@dataclasses.dataclass(frozen=True, kw_only=True)
class Series:
  """Points of one colour.

  Attributes:
    name: in the legend.
    points: in the order in which they are joined.
    style: number of its colour, marker and dash.
    markers: whether each point is marked.
    horizontal: a single point drawn as a line over the whole width.
  """

  name: str
  points: Sequence[Point]
  style: int
  markers: bool = True
  horizontal: bool = False


def line_chart(
  title: str,
  series: Sequence[Series],
  *,
  x: Axis,
  y: Axis,
  verticals: Sequence[tuple[float, str]] = (),
) -> str:
  """Lines with error bars.

  Args:
    title: read by screen readers; the page shows its own heading.
    series: at least one, with at least one point in all.
    x, y: the axes.
    verticals: (x, text) of dashed vertical lines, such as a chosen step.

  Returns:
    An svg element.
  """
  flat = [point for one in series for point in one.points]
  assert flat, title
  xs = [p.x for one in series if not one.horizontal for p in one.points]
  xs += [position for position, _ in verticals]
  xs += [position for position, _ in x.ticks or ()]
  x_map, x_ticks = x_scale(xs or [0.0], x)
  y_map, y_ticks = y_scale(_extent(flat), y)
  body = [frame(x, y, x_map, x_ticks, y_map, y_ticks)]
  for position, text in verticals:
    at = x_map(position)
    body.append(
      f'<line class="mark" x1="{at:.1f}" x2="{at:.1f}" y1="{TOP}" '
      f'y2="{HEIGHT - BOTTOM}"><title>{_escape(text)}</title></line>'
    )
  for one in series:
    draw = _horizontal if one.horizontal else _line
    body.append(draw(one, x_map, y_map, x, y))
  return _svg(title, ''.join(body))


def bar_chart(
  title: str,
  groups: Sequence[str],
  series: Sequence[Series],
  *,
  x: Axis,
  y: Axis,
) -> str:
  """Grouped vertical bars with error bars; a point's x is its group.

  Args:
    title: read by screen readers.
    groups: names of the groups, from left to right.
    series: one bar of each in every group.
    x, y: the axes; x.ticks are the groups.

  Returns:
    An svg element.
  """
  flat = [point for one in series for point in one.points]
  assert flat, title
  width = (WIDTH - LEFT - RIGHT) / len(groups)
  ticks = [(index, name) for index, name in enumerate(groups)]

  def x_map(value: float) -> float:
    return LEFT + width * (value + 0.5)

  y = dataclasses.replace(y, from_zero=True)
  y_map, y_ticks = y_scale(_extent(flat), y)
  body = [frame(x, y, x_map, ticks, y_map, y_ticks)]
  bar = 0.8 * width / max(1, len(series))
  for number, one in enumerate(series):
    for point in one.points:
      left = x_map(point.x) - 0.4 * width + bar * number
      top = y_map(point.y)
      tip = f'{one.name}, {groups[int(point.x)]}: {_tip(point, y)}'
      body.append(
        f'<rect class="{_style(one)}" x="{left:.1f}" y="{top:.1f}" '
        f'width="{0.92 * bar:.1f}" height="{y_map(0) - top:.1f}">'
        f'<title>{_escape(tip)}</title></rect>'
      )
      body.append(_error_bar(point, left + 0.46 * bar, y_map, 'ink'))
  return _svg(title, ''.join(body))


def stacked_bars(
  title: str,
  rows: Sequence[tuple[str, Mapping[str, int]]],
  classes: Mapping[str, int],
) -> str:
  """Horizontal bars of 100%, one per row, a segment per class.

  Args:
    title: read by screen readers.
    rows: (name, count of each class).
    classes: from left to right, each with its style.

  Returns:
    An svg element.
  """
  step, bar, left = 40, 18, 4
  height = step * len(rows) + 26
  scale = WIDTH - left - RIGHT
  body = []
  for index, (name, counts) in enumerate(rows):
    top, at, total = step * index + 18, float(left), sum(counts.values())
    body.append(
      f'<text class="tick" x="{left}" y="{top - 5}">{_escape(name)}, '
      f'n = {total:,}</text>'
    )
    for label, style in classes.items():
      share = counts.get(label, 0) / total if total else 0.0
      if not share:
        continue
      tip = f'{name}: {label} {100 * share:.1f}% ({counts[label]:,})'
      body.append(
        f'<rect class="s{style % NUM_STYLES} segment" x="{at:.1f}" y="{top}" '
        f'width="{share * scale:.1f}" height="{bar}">'
        f'<title>{_escape(tip)}</title></rect>'
      )
      if share > 0.09:
        body.append(
          f'<text class="on s{style % NUM_STYLES}t" x="{at + 4:.1f}" '
          f'y="{top + 13}">{100 * share:.0f}%</text>'
        )
      at += share * scale
  for share in (0, 0.5, 1):
    anchor = {0: 'start', 1: 'end'}.get(share, 'middle')
    body.append(
      f'<text class="tick" x="{left + share * scale:.1f}" y="{height - 6}" '
      f'text-anchor="{anchor}">{100 * share:.0f}%</text>'
    )
  return _svg(title, ''.join(body), height=height)


def legend(items: Sequence[Series], *, bars: bool = False) -> str:
  """The names of the series with their marks, as an HTML list."""
  rows = []
  for one in items:
    if bars:
      mark = f'<rect class="{_style(one)}" width="12" height="12" x="8" y="1"/>'
    else:
      mark = f'<path class="{_style(one)} line" {_dash(one)} d="M1 7H27"/>'
      if one.markers and not one.horizontal:
        mark += _marker(one, 14, 7, '')
    rows.append(
      f'<li><svg aria-hidden="true" width="28" height="14">{mark}</svg>'
      f'{_escape(one.name)}</li>'
    )
  return f'<ul class="legend">{"".join(rows)}</ul>'


def _extent(points: Sequence[Point]) -> tuple[float, float]:
  values = [p.y for p in points]
  for point in points:
    values += [v for v in (point.low, point.high) if v is not None]
  return min(values), max(values)


def _line(one: Series, x_map, y_map, x: Axis, y: Axis) -> str:
  at = [(x_map(p.x), y_map(p.y)) for p in one.points]
  if not at:
    return ''
  path = 'M' + 'L'.join(f'{a:.1f} {b:.1f}' for a, b in at)
  out = [f'<path class="{_style(one)} line" {_dash(one)} d="{path}"/>']
  if one.markers:
    for point, (a, b) in zip(one.points, at, strict=True):
      tip = f'{one.name}, {x.label} {point.x:g}: {_tip(point, y)}'
      out.append(_error_bar(point, a, y_map, _style(one)))
      out.append(_marker(one, a, b, tip))
  return ''.join(out)


def _horizontal(one: Series, x_map, y_map, x: Axis, y: Axis) -> str:
  (point,) = one.points
  at, out = y_map(point.y), ''
  if point.low is not None and point.high is not None:
    top, low = y_map(point.high), y_map(point.low)
    out = (
      f'<rect class="{_style(one)} band" x="{LEFT}" y="{top:.1f}" '
      f'width="{WIDTH - LEFT - RIGHT}" height="{low - top:.1f}"/>'
    )
  tip = _escape(f'{one.name}: {_tip(point, y)}')
  return (
    f'{out}<path class="{_style(one)} line" {_dash(one)} d="M{LEFT} {at:.1f}'
    f'H{WIDTH - RIGHT}"><title>{tip}</title></path>'
  )


def _error_bar(point: Point, at: float, y_map, style: str) -> str:
  if point.low is None or point.high is None:
    return ''
  low, high = y_map(point.low), y_map(point.high)
  return (
    f'<path class="{style} error" d="M{at:.1f} {low:.1f}V{high:.1f}'
    f'M{at - 3:.1f} {low:.1f}h6M{at - 3:.1f} {high:.1f}h6"/>'
  )


def _marker(one: Series, a: float, b: float, tip: str) -> str:
  path = {
    'circle': 'm-4 0a4 4 0 1 0 8 0a4 4 0 1 0 -8 0z',
    'square': 'm-3.5 -3.5h7v7h-7z',
    'triangle': 'm0 -5l4.5 8h-9z',
    'diamond': 'm0 -5l4.5 5l-4.5 5l-4.5 -5z',
  }[_MARKERS[one.style % len(_MARKERS)]]
  title = f'<title>{_escape(tip)}</title>' if tip else ''
  return (
    f'<path class="{_style(one)}" d="M{a:.1f} {b:.1f}{path}">{title}</path>'
  )


def _tip(point: Point, y: Axis) -> str:
  text = y.text(point.y)
  if point.low is not None and point.high is not None:
    text += f' [{y.text(point.low)}, {y.text(point.high)}]'
  return f'{text}, {point.note}' if point.note else text


def _style(one: Series) -> str:
  return f's{one.style % NUM_STYLES}'


def _dash(one: Series) -> str:
  dash = _DASHES[one.style % len(_DASHES)]
  return f'stroke-dasharray="{dash}"' if dash else ''


def _escape(text: str) -> str:
  return html.escape(text, quote=True)


def _svg(title: str, body: str, *, height: int = HEIGHT) -> str:
  return (
    f'<svg class="chart" role="img" viewBox="0 0 {WIDTH} {height}" '
    f'aria-label="{_escape(title)}"><title>{_escape(title)}</title>'
    f'{body}</svg>'
  )
