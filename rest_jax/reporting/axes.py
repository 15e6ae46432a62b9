"""The axes of a chart: scales, round ticks, and their SVG."""

import dataclasses
import html
import math
from collections.abc import Callable, Sequence

WIDTH, HEIGHT = 440, 270
LEFT, RIGHT, TOP, BOTTOM = 52, 12, 12, 44


@dataclasses.dataclass(frozen=True, kw_only=True)
class Axis:
  """What an axis says.

  Attributes:
    label: with its unit.
    ticks: (position, text) pairs; None chooses them.
    log2: positions are drawn by their logarithm.
    percent: values are fractions, shown as percentages.
    from_zero: the axis holds zero.
  """

  label: str
  ticks: Sequence[tuple[float, str]] | None = None
  log2: bool = False
  percent: bool = False
  from_zero: bool = False

  def text(self, value: float, digits: int = 1) -> str:
    """A value on this axis, for a person."""
    if self.percent:
      return f'{100 * value:.{digits}f}%'
    return f'{value:.4g}'


def nice_ticks(low: float, high: float, count: int = 5) -> list[float]:
  """Round numbers (1, 2 or 5 times a power of ten) that span low..high.

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


def y_scale(
  extent: tuple[float, float], axis: Axis
) -> tuple[Callable[[float], float], Sequence[tuple[float, str]]]:
  """(value -> height in the chart, labelled ticks) for values of an extent."""
  low, high = extent
  if axis.from_zero:
    low, high = min(low, 0.0), max(high, 0.0)
  ticks = nice_ticks(low, high)
  if axis.percent:  # a share never leaves 0..1, whatever the rounding
    ticks = [t for t in ticks if -1e-9 <= t <= 1 + 1e-9]
    ticks = ticks if len(ticks) > 1 else [0.0, 1.0]
  bottom, top = min(ticks[0], low), max(ticks[-1], high)
  digits = 0 if len(ticks) < 2 or ticks[1] - ticks[0] > 0.0099 else 1
  scale = (HEIGHT - TOP - BOTTOM) / (top - bottom)
  return (
    lambda value: HEIGHT - BOTTOM - (value - bottom) * scale,
    [(tick, axis.text(tick, digits)) for tick in ticks],
  )


def x_scale(
  values: Sequence[float], axis: Axis
) -> tuple[Callable[[float], float], Sequence[tuple[float, str]]]:
  """(value -> place from the left, labelled ticks) that hold all values."""
  place = math.log2 if axis.log2 else float
  low, high = place(min(values)), place(max(values))
  if high <= low:
    low, high = low - 1, high + 1
  pad = 0.04 * (high - low)
  low, high = low - pad, high + pad
  scale = (WIDTH - LEFT - RIGHT) / (high - low)
  ticks = axis.ticks
  if ticks is None:
    ticks = [
      (tick, f'{tick:g}')
      for tick in nice_ticks(min(values), max(values))
      if low <= tick <= high
    ]
  return lambda value: LEFT + (place(value) - low) * scale, ticks


def frame(x: Axis, y: Axis, x_map, x_ticks, y_map, y_ticks) -> str:
  """Grid, ticks and labels of both axes as SVG."""
  out, floor = [], HEIGHT - BOTTOM
  for value, text in y_ticks:
    at = y_map(value)
    out.append(
      f'<line class="grid" x1="{LEFT}" x2="{WIDTH - RIGHT}" y1="{at:.1f}" '
      f'y2="{at:.1f}"/><text class="tick" x="{LEFT - 6}" y="{at + 4:.1f}" '
      f'text-anchor="end">{html.escape(text)}</text>'
    )
  for value, text in x_ticks:
    out.append(
      f'<text class="tick" x="{x_map(value):.1f}" y="{floor + 16}" '
      f'text-anchor="middle">{html.escape(text)}</text>'
    )
  middle = (TOP + floor) / 2
  out.append(
    f'<line class="axis" x1="{LEFT}" x2="{WIDTH - RIGHT}" y1="{floor}" '
    f'y2="{floor}"/><text class="label" x="{(LEFT + WIDTH - RIGHT) / 2}" '
    f'y="{HEIGHT - 8}" text-anchor="middle">{html.escape(x.label)}</text>'
    f'<text class="label" transform="translate(13 {middle}) rotate(-90)" '
    f'text-anchor="middle">{html.escape(y.label)}</text>'
  )
  return ''.join(out)
